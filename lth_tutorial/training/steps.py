"""One update of all weights: as Python calls it, or replayed as a CUDA graph.

A step of a small network is some dozens of tiny kernels, and a GPU waits longer for their launches
than it computes. A CUDA graph launches them all at once. Nothing else changes: the graph is a
recording of the very step that otherwise runs, and reads batch and learning rate from tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lth_tutorial.pruning.masks import Mask
from lth_tutorial.training.attacks import Adversary
from lth_tutorial.training.checks import batch_norm_scales
from lth_tutorial.training.config import TrainConfig
from lth_tutorial.training.evaluation import losses

WARM_UP = 3
"""Steps that run as usual before one is recorded: libraries choose and reserve what they need."""
_SHORTEST = 20  # Steps below which a recording does not pay.

Outputs = tuple[Tensor, Tensor]
"""The sum of the losses, and the logits [replicates, batch, classes]."""


class Step:
    """Forward, backward, optimiser and masks, for every replicate of a group.

    Attributes:
        alive: booleans [replicates]; the others have diverged and have left the sum.
    """

    def __init__(
        self, group, optimizer: torch.optim.Optimizer, config: TrainConfig,
        masked: Sequence[tuple[Tensor, Tensor]], device: torch.device,
        adversary: Adversary | None = None,
    ) -> None:  # fmt: skip
        """Take parameters with their masks, as from `masked_parameters`."""
        self.adversary = adversary
        self.group, self.optimizer, self.config, self.device = group, optimizer, config, device
        self.masked = masked
        self.scales = batch_norm_scales(group) if config.bn_l1 else []
        self.alive = torch.ones(group.size, dtype=torch.bool, device=device)
        self.all_alive = True
        # In bfloat16 a GPU convolves fastest where the channels of a pixel lie side by side. The
        # order of the first input decides for all layers behind it; a forward pass of unknown code
        # may rely on the usual order.
        half = config.precision == "bf16" and device.type == "cuda"
        self.channels_last = half and not group.is_random

    def __call__(self, x: Tensor, y: Tensor, lr: float | Tensor, step: int | Tensor = 0) -> Outputs:
        """Update the weights once, on a batch [replicates, batch, …]."""
        if self.channels_last and self.group.size == 1 and x.ndim == 5:
            x = x[0].contiguous(memory_format=torch.channels_last)[None]
        if self.adversary is not None:
            with self._precision():  # of its own: casts kept for it are none for the step
                x = self.adversary(self.group, x, y, step)
        self.group.set_training(True)
        with self._precision():
            logits = self.group.logits(x).float()
        loss = self._summed_loss(logits, y)
        self.optimizer.zero_grad()
        loss.backward()
        for scale in (scale for scale in self.scales if scale.grad is not None):
            scale.grad.add_(scale.detach().sign(), alpha=self.config.bn_l1)
        for settings in self.optimizer.param_groups:
            settings["lr"] = lr
        self.optimizer.step()
        apply_masks(self.masked)
        return loss.detach(), logits.detach()

    def _precision(self) -> torch.autocast:
        return torch.autocast(
            self.device.type, torch.bfloat16, self.config.precision == "bf16",
            cache_enabled=self.device.type == "cpu",  # a recording must not reuse older casts
        )  # fmt: skip

    def drop(self, replicate: int) -> None:
        """Take a replicate out of the sum of losses."""
        self.alive[replicate] = False
        self.all_alive = False

    def _summed_loss(self, logits: Tensor, y: Tensor) -> Tensor:
        # Summed, not averaged: each replicate takes the step of its own run.
        if self.device.type == "cpu" and self.all_alive:
            return F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum") / y.shape[1]
        return torch.where(self.alive, losses(logits, y), 0.0).sum()


class RecordedStep:
    """The same step, recorded once and then replayed.

    The outputs of a replay are overwritten by the next one.
    """

    def __init__(self, step: Step, graphs: Graphs | None = None) -> None:
        self.step, self.graphs = step, graphs or Graphs()
        self.calls, self.inputs, self.replay = 0, (), None

    def __call__(self, x: Tensor, y: Tensor, lr: float, step: int = 0) -> Outputs:
        """Update the weights once, on a batch of the same shape each time."""
        if not self.inputs:
            numbers = (torch.tensor(number, device=x.device) for number in (lr, step))
            self.inputs = (x.clone(), y.clone(), *numbers)
        held_x, held_y, held_lr, held_step = self.inputs
        held_x.copy_(x)
        held_y.copy_(y)
        held_lr.fill_(lr)
        held_step.fill_(step)
        self.calls += 1
        if self.calls <= WARM_UP:
            return self.graphs.warm_up(self._run)
        if self.replay is None:
            self.replay = self.graphs.record(self._run)
        return self.replay()

    def _run(self) -> Outputs:
        return self.step(*self.inputs)


class Graphs:
    """CUDA graphs, as far as they are needed here."""

    def warm_up(self, run: Callable[[], Outputs]) -> Outputs:
        """Run as usual, on a stream of its own, as a recording must be prepared."""
        stream, usual = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(usual)
        with torch.cuda.stream(stream):
            outputs = run()
        usual.wait_stream(stream)
        return outputs

    def record(self, run: Callable[[], Outputs]) -> Callable[[], Outputs]:
        """Record a run without computing anything; return the function that replays it."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = run()

        def replay() -> Outputs:
            graph.replay()
            return outputs

        return replay


def make_step(step: Step, steps: int) -> Step | RecordedStep:
    """Return the step as it is to be called for a number of steps.

    Recorded on a GPU, unless a forward pass may draw random numbers or choose its own way.
    """
    recordable = step.device.type == "cuda" and step.group.is_recordable
    return RecordedStep(step) if recordable and steps >= _SHORTEST else step


def masked_parameters(group, masks: Sequence[Mask] | None) -> list[tuple[Tensor, Tensor]]:
    """Return pairs of a parameter and its mask as floats: in-place products with booleans are
    several times slower."""
    return [
        (parameter, group.combine([mask[name] for mask in masks]).to(parameter.dtype))
        for name, parameter in group.parameters.items()
        if masks is not None and name in masks[0]
    ]


@torch.no_grad()
def apply_masks(masked: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Set the pruned weights to zero."""
    for parameter, kept in masked:
        parameter.mul_(kept)
