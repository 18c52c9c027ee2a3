"""One update of all weights: as Python calls it, or replayed as a CUDA graph.

A step of a small network is some dozens of tiny kernels, and a GPU waits longer for their launches
than it computes. A CUDA graph launches them all at once. Nothing else changes: the graph is a
recording of the very step that otherwise runs, the choice of the batch included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lth_tutorial.data.dataset import DataOrder
from lth_tutorial.pruning.masks import Mask
from lth_tutorial.training.attacks import Adversary
from lth_tutorial.training.checks import batch_norm_scales
from lth_tutorial.training.config import TrainConfig, learning_rate
from lth_tutorial.training.evaluation import losses
from lth_tutorial.training.plan import Plan

WARM_UP = 3
"""Steps that run as usual before one is recorded: libraries choose and reserve what they need."""
_SHORTEST = 20  # Steps below which a recording does not pay.

Outputs = tuple[Tensor, Tensor]
"""The sum of the losses, and the logits [replicates, batch, classes]."""
Update = Callable[[int], tuple[Tensor, Tensor, Tensor]]
"""Takes the step of that number: its outputs, and the labels of its batch."""


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
        self.removal = config.removal
        self.strength = torch.zeros((), device=device)
        self.alive = torch.ones(group.size, dtype=torch.bool, device=device)
        self.all_alive = True

    def __call__(self, x: Tensor, y: Tensor, lr: float | Tensor, step: int | Tensor = 0) -> Outputs:
        """Update the weights once, on a batch [replicates, batch, …]."""
        if self.adversary is not None:
            with self._precision():  # of its own: casts kept for it are none for the step
                x = self.adversary(self.group, x, y, step)
        self.group.set_training(True)
        with self._precision():
            logits = self.group.logits(x)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        loss = self._summed_loss(logits, y)
        self.optimizer.zero_grad()
        loss.backward()
        for scale in (scale for scale in self.scales if scale.grad is not None):
            scale.grad.add_(scale.detach().sign(), alpha=self.config.bn_l1)
        if self.removal is not None:
            self._draw_to_zero()
        for settings in self.optimizer.param_groups:
            settings["lr"] = lr
        self.optimizer.step()
        if self.removal is None:
            apply_masks(self.masked)
        return loss.detach(), logits.detach()

    def set_penalty(self, step: int) -> None:
        """Set λ of a growing penalty for the next step, where a recording will read it."""
        if self.removal is not None:
            self.strength.fill_(self.removal.strength(step))

    @torch.no_grad()
    def _draw_to_zero(self) -> None:
        for parameter, kept in self.masked:
            if parameter.grad is None:
                continue  # frozen, or not used by this forward pass
            parameter.grad.add_(self.strength * parameter * (1 - kept))

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


class CalledStep:
    """The step on the batch of a data order: how a CPU takes it."""

    def __init__(self, step: Step, order: DataOrder) -> None:
        self.step, self.order = step, order

    def __call__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Take the step of that number; return its outputs and labels."""
        x, y = self.order.batch(step)
        return *self.step(x, y, learning_rate(self.step.config, step), step), y


class PlannedStep:
    """The step on the next batch of a plan, called or recorded once and then replayed.

    The outputs of a replay are overwritten by the next one.
    """

    def __init__(self, step: Step, plan: Plan, graphs: Graphs | None = None) -> None:
        """Take `graphs` to record; without, every step is called."""
        self.step, self.plan, self.graphs = step, plan, graphs
        self.calls, self.replay = 0, None

    def __call__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Take the step of that number; return its outputs and labels."""
        self.plan.prepare(step)
        if self.graphs is None:
            return self._run()
        self.calls += 1
        if self.calls <= WARM_UP:
            return self.graphs.warm_up(self._run)
        if self.replay is None:
            self.replay = self.graphs.record(self._run)
        return self.replay()

    def _run(self) -> tuple[Tensor, Tensor, Tensor]:
        x, y, lr, step = self.plan.read()
        outputs = self.step(x, y, lr, step)
        self.plan.advance()
        return *outputs, y


class Graphs:
    """CUDA graphs, as far as they are needed here.

    Warm-up and recording run on one stream: autograd remembers on which stream it first added a
    gradient to a parameter, and goes back to that one.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)

    def warm_up(self, run: Callable[[], tuple]) -> tuple:
        """Run as usual, as a recording must be prepared."""
        usual = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(usual)
        with torch.cuda.stream(self.stream):
            outputs = run()
        usual.wait_stream(self.stream)
        return outputs

    def record(self, run: Callable[[], tuple]) -> Callable[[], tuple]:
        """Record a run without computing anything; return the function that replays it."""
        graph, failure = torch.cuda.CUDAGraph(), None
        try:
            with torch.cuda.graph(graph, stream=self.stream):
                try:
                    outputs = run()
                except Exception as error:
                    failure = error
                    raise
        except RuntimeError:
            # A recording that was broken off cannot be ended either; the first error counts.
            if failure is not None:
                raise failure from None
            raise

        def replay() -> tuple:
            graph.replay()
            return outputs

        return replay


def make_update(step: Step, order: DataOrder, start_step: int, stop_step: int) -> Update:
    """Return the function that takes the steps from `start_step` to before `stop_step`.

    On a GPU batches come from a plan, and the step is recorded, unless a forward pass may draw
    random numbers or choose its own way.
    """
    if step.device.type == "cpu":
        return CalledStep(step, order)
    plan = Plan(
        order.data, step.config, order.data_seeds, start_step, stop_step,
        channels_last=getattr(step.group, "channels_last", False),
    )  # fmt: skip
    recorded = step.group.is_recordable and stop_step - start_step >= _SHORTEST
    return PlannedStep(step, plan, Graphs(step.device) if recorded else None)


def masked_parameters(group, masks: Sequence[Mask] | None) -> list[tuple[Tensor, Tensor]]:
    """Return pairs of a parameter and its mask as numbers of the same kind and order in memory:
    in-place products with booleans are several times slower."""
    pairs = []
    for name in masks[0] if masks else ():
        leaves, kept = group.leaves(name), [mask[name] for mask in masks]
        if leaves and leaves[0].shape != kept[0].shape:  # a tensor holds several replicates
            kept = torch.stack(kept).split([len(leaf) for leaf in leaves])
        for leaf, own in zip(leaves, kept, strict=True) if leaves else ():
            pairs.append((leaf, torch.empty_like(leaf, requires_grad=False).copy_(own)))
    return pairs


@torch.no_grad()
def apply_masks(masked: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Set the pruned weights to zero."""
    if masked and masked[0][0].is_cuda:
        torch._foreach_mul_([parameter for parameter, _ in masked], [kept for _, kept in masked])
        return
    for parameter, kept in masked:
        parameter.mul_(kept)
