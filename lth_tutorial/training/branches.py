"""Networks of any kind side by side: each on a stream of its own, all in one recording.

A small network does not fill a GPU, and what is no plain sequence of layers cannot be stacked.
But independent kernels of one CUDA graph run at the same time, so R networks become R branches of
one step: the branches leave the main stream at the forward pass and come back to it with their
logits; backward, PyTorch runs every operation on the stream of its forward pass. Loss, optimiser
and masks are common.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from lth_tutorial.networks.calls import copied
from lth_tutorial.training.config import TrainConfig
from lth_tutorial.training.groups import SingleModel, copy_into, may_be_random

_ENOUGH = 8


class Lanes:
    """Streams of a GPU on which independent work runs side by side; a plain loop on a CPU."""

    def __init__(self, n: int, device: torch.device) -> None:
        self.device = device
        parallel = device.type == "cuda" and n > 1
        self.streams = [torch.cuda.Stream(device) for _ in range(n)] if parallel else []

    def __call__(
        self, calls: Sequence[Callable[[], Tensor]], inputs: Sequence[Tensor] = ()
    ) -> list[Tensor]:
        """Return what the calls return; what was asked for before is done before them.

        Args:
            inputs: tensors made on the main stream that the calls read and autograd may keep. Their
                memory is used again only when all streams are done with them: autograd frees them
                when it has *asked* for the last operation that reads them, not when that is done.
        """
        if not self.streams:
            return [call() for call in calls]
        main, results = torch.cuda.current_stream(self.device), []
        for tensor in inputs:
            for stream in self.streams:
                tensor.record_stream(stream)
        for stream in self.streams:
            stream.wait_stream(main)
        for stream, call in zip(self.streams, calls, strict=True):
            with torch.cuda.stream(stream):
                results.append(call())
        for stream in self.streams:
            main.wait_stream(stream)
        return results


ONE_BY_ONE = Lanes(1, torch.device("cpu"))
"""For an evaluation, which takes many examples at once: one network fills the device, and all of
them together might not fit."""


class Branches:
    """Copies of networks of one structure, trained side by side.

    Attributes:
        tensors: the state, replicate dimension first; the copies' own tensors are views of it.
        channels_last: whether kernels and activations lie in memory with the channels of a pixel
            side by side, in which order a GPU convolves fastest in reduced precision.
    """

    is_random, is_recordable = False, True

    def __init__(self, models: Sequence[nn.Module], *, channels_last: bool = False) -> None:
        """Take networks that `can_branch`; they get their weights back at `write_back`."""
        self.models, self.size, self.channels_last = list(models), len(models), channels_last
        copies = [copied(model) for model in self.models]
        self.singles = [SingleModel(each) for each in copies]
        self.tensors = _shared(copies, channels_last)
        self.parameters = {
            f"{i}/{name}": parameter
            for i, each in enumerate(self.singles)
            for name, parameter in each.parameters.items()
        }
        device = next(iter(self.tensors.values())).device
        self.lanes = Lanes(self.size, device)

    def set_training(self, training: bool) -> None:
        """Switch between training and evaluation behaviour (dropout, batch norm)."""
        for each in self.singles:
            each.set_training(training)

    def restore_modes(self) -> None:
        """Put every module back into the mode in which it arrived."""
        for each in self.singles:
            each.restore_modes()

    def logits(self, x: Tensor) -> Tensor:
        """Map [replicates, batch, …] to [replicates, batch, classes]."""
        lanes = self.lanes if torch.is_grad_enabled() else ONE_BY_ONE
        return torch.cat(lanes([partial(self._one, x, i) for i in range(self.size)], [x]))

    def _one(self, x: Tensor, i: int) -> Tensor:
        return self.singles[i].logits(in_order(x[i], channels_last=self.channels_last)[None])

    def leaves(self, name: str) -> list[Tensor]:
        """Return every replicate's own parameter of a name; none if there is no such."""
        return [each.parameters[name] for each in self.singles if name in each.parameters]

    def state(self) -> dict[str, Tensor]:
        """Return live views of the state with the replicate dimension first."""
        return {name: tensor.detach() for name, tensor in self.tensors.items()}

    def write_back(self) -> None:
        """Copy the trained weights into the models that arrived."""
        copy_into(self.models, self.tensors)


@torch.no_grad()
def _shared(models: Sequence[nn.Module], channels_last: bool) -> dict[str, Tensor]:
    """Put the states of models into common tensors [models, …], the models' own become views."""
    states = [model.state_dict(keep_vars=True) for model in models]
    common: dict[str, Tensor] = {}
    known: dict[int, Tensor] = {}  # a tensor that stands in two places stays one
    for name, first in states[0].items():
        if id(first) not in known:
            joined = torch.stack([state[name].detach() for state in states])
            if channels_last and first.ndim == 4:
                joined = joined.movedim(2, -1).contiguous().movedim(-1, 2)
            known[id(first)] = joined
            for state, own in zip(states, joined, strict=True):
                state[name].data = own
        common[name] = known[id(first)]
    return common


def in_order(x: Tensor, *, channels_last: bool) -> Tensor:
    """Return a batch of images in an order in memory; anything else as it is."""
    return x.contiguous(memory_format=torch.channels_last) if channels_last and x.ndim == 4 else x


def structure(model: nn.Module) -> tuple:
    """Return what models that train side by side have in common: layers and shapes."""
    shapes = tuple((name, tuple(t.shape)) for name, t in model.state_dict().items())
    return str(model), shapes


def can_branch(models: Sequence[nn.Module]) -> bool:
    """Return whether models can be trained side by side on a GPU, in one recording.

    They have one structure, and a forward pass that is the same every time.
    """
    parameters = [p for model in models for p in model.parameters()]
    on_gpu = bool(parameters) and all(p.is_cuda for p in parameters)
    random = any(map(may_be_random, models))
    return on_gpu and not random and len(set(map(structure, models))) == 1


def is_worth_joining(models: Sequence[nn.Module]) -> bool:
    """Return whether several arms with these models, one per seed, are worth training as one.

    On an H200 a step of ResNet-20 took 2,121 µs alone, 1,115 for each of 3 and 847 for each of 8
    side by side: from 8 on the device is full.
    """
    return can_branch(models) and len(models) < _ENOUGH


def side_by_side(models: Sequence[nn.Module], config: TrainConfig) -> Branches:
    """Return models as branches, ordered in memory as suits a precision on a GPU."""
    on_gpu = next(models[0].parameters()).is_cuda
    return Branches(models, channels_last=on_gpu and config.precision != "fp32")


def alone(model: nn.Module, config: TrainConfig) -> SingleModel | Branches:
    """Return one model as it trains best alone; on a CPU in place."""
    if can_branch([model]):
        return side_by_side([model], config)
    return SingleModel(model)
