"""Networks by name, initialised from a seed of their own.

The story needs few: LeNet-300-100, the fully connected network of the first lottery ticket
paper, and smaller ones of the same shape that train in a second. Functions of this package take
any `torch.nn.Module`; these are only the ones the chapters use.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from lth_tutorial.data import Dataset, generator_for
from lth_tutorial.runtime import choose

State = dict[str, Tensor]
"""A detached copy of a model's `state_dict()`: parameter name to tensor."""

MODELS = ("lenet_300_100", "mlp_<width>_<width>_…")

_PAPER_SHAPE, _PAPER_CLASSES = (1, 28, 28), 10


def build_model(name: str, *, seed: int, data: Dataset | None = None) -> nn.Module:
    """Return a network whose initial weights belong to `seed` alone.

    Args:
        name: "lenet_300_100" (two hidden layers of 300 and 100 units; Frankle & Carbin 2019), or
            "mlp_100_50" and the like: fully connected with the hidden widths in the name.
        seed: draws the initial weights. The global random state is neither read nor changed.
        data: gives the shape of one example and the number of classes; default MNIST's.

    Weights are Glorot normal and biases zero, as in the paper (appendix on LeNet).

    Raises:
        ValueError: for an unknown name.
    """
    shape, classes = (data.shape, data.num_classes) if data else (_PAPER_SHAPE, _PAPER_CLASSES)
    inputs = torch.Size(shape).numel()
    hidden = re.fullmatch(r"(?:mlp|lenet(?=_300_100$))((?:_[1-9]\d*)+)", str(name))
    if hidden is None:
        choose("model", name, MODELS)
    widths = [int(width) for width in hidden.group(1).split("_")[1:]]
    with torch.random.fork_rng(devices=[]):  # PyTorch's own initialisation, which is overwritten
        model = mlp((inputs, *widths, classes))
    reinitialize(model, seed)
    return model


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Return a fully connected ReLU network, e.g. `mlp((64, 100, 50, 10))`.

    Its prunable weights are `fc1.weight`, `fc2.weight`, …, `output.weight`, each of shape
    [outputs, inputs].
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    pairs = list(pairwise(sizes))
    for i, (fan_in, fan_out) in enumerate(pairs[:-1], start=1):
        layers[f"fc{i}"] = nn.Linear(fan_in, fan_out)
        layers[f"relu{i}"] = nn.ReLU()
    layers["output"] = nn.Linear(*pairs[-1])
    model = nn.Sequential(layers)
    model.initialization = glorot_normal_
    return model


def reinitialize(model: nn.Module, seed: int) -> None:
    """Draw all of the model's weights anew, in place, from `seed`.

    Models of this package are drawn as `build_model` draws them. In any other model each module
    is asked to `reset_parameters()`, PyTorch's own convention.

    Raises:
        ValueError: if a module owns parameters and has no `reset_parameters`.
    """
    if hasattr(model, "initialization"):
        model.initialization(model, generator_for("initial weights", seed))
        return
    for name, module in model.named_modules():
        owns = any(True for _ in module.parameters(recurse=False))
        if owns and not hasattr(module, "reset_parameters"):
            raise ValueError(
                f"cannot re-initialise {name or 'the model'!r} ({type(module).__name__}): it has "
                f"parameters but no reset_parameters(); give it one"
            )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for module in model.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()


def glorot_normal_(model: nn.Module, generator: torch.Generator) -> None:
    """Fill weights from N(0, 2 / (fan_in + fan_out)) and biases with zeros (Glorot & Bengio 2010).

    Drawn on the CPU whatever the model's device, so that a seed means the same weights everywhere.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            drawn = torch.zeros(parameter.shape)
            if parameter.ndim >= 2:
                nn.init.xavier_normal_(drawn, generator=generator)
            parameter.copy_(drawn)


def snapshot(model: nn.Module) -> State:
    """Return a copy of the model's state that later training cannot change."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def state_hash(state: State) -> str:
    """Return a SHA-256 digest of names, types, shapes and bits of a state.

    Equal digests mean bit-identical weights: the proof that a ticket was rewound.
    """
    import hashlib

    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
