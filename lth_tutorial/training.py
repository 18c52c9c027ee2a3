"""Training under a mask: one loop for one network or for many replicates at once.

Three properties matter for lottery tickets, and each is tested. Pruned weights are exactly zero
after *every* step, because the mask is applied after the optimiser (masking gradients is not
enough: momentum and weight decay would revive them). Which batch a step sees depends on
(data_seed, step) alone. And a snapshot is a copy that later training cannot change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lth_tutorial.checks import check_run
from lth_tutorial.config import TrainConfig, learning_rate
from lth_tutorial.data import DataOrder, Dataset, generator_for
from lth_tutorial.groups import SingleModel, Stack, split_states
from lth_tutorial.masks import Mask
from lth_tutorial.models import State
from lth_tutorial.runtime import progress_bar

_EVALUATION_CHUNK = 2_000


class DivergenceWarning(UserWarning):
    """The loss of a replicate became NaN or infinite; the others went on."""


class Metrics(NamedTuple):
    """Mean cross-entropy (nats) and accuracy in [0, 1] on one split."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class TrainResult:
    """What one training run leaves behind.

    Attributes:
        history: one dictionary per validation point: step, val_loss, val_accuracy. The first is
            the network before its first step. Empty without `eval_every` or validation images.
        snapshots: copies of the state at the steps asked for.
        start: the weights that training really began with, after the mask was applied.
        final: the weights at the end.
        early_stop: the weights at the minimum of the validation loss, or None without history.
        steps: the budget; `steps_to` reports it where a level is never reached.
        diverged_step: the step at which the loss was first seen to be NaN or infinite (on a GPU
            up to 50 steps late), else None. The history ends there.
    """

    history: list[dict]
    snapshots: dict[int, State]
    start: State
    final: State
    early_stop: State | None
    steps: int
    diverged_step: int | None

    @property
    def early_stop_step(self) -> int | None:
        """The step of minimum validation loss (the first, if tied), or None without history."""
        points = [point for point in self.history if math.isfinite(point["val_loss"])]
        return min(points, key=lambda point: point["val_loss"])["step"] if points else None

    @property
    def mean_val_accuracy(self) -> float:
        """Validation accuracy averaged over the run: high for a network that learns early."""
        values = [point["val_accuracy"] for point in self.history]
        return sum(values) / len(values) if values else math.nan

    def steps_to(self, accuracy: float) -> tuple[int | None, bool]:
        """Return the first validation point with at least this accuracy, and whether censored.

        A run that never gets there returns (budget, True): its true value is at least the budget.
        A run without validation points, or one that diverged, returns (None, False): unknown.
        """
        if not self.history or self.diverged_step is not None:
            return None, False
        for point in self.history:
            if point["val_accuracy"] >= accuracy:
                return point["step"], False
        return self.steps, True


def train(
    model: nn.Module,
    data: Dataset,
    config: TrainConfig,
    *,
    mask: Mask | None = None,
    start_step: int = 0,
    stop_step: int | None = None,
    data_seed: int = 0,
    save_at: Iterable[int] = (),
) -> TrainResult:
    """Train the model in place, from step `start_step` to `stop_step`.

    Args:
        model: any module from a batch [batch, …] to logits [batch, classes], on data's device.
        mask: weights to keep; the others are zero before the first step and after each one.
        start_step: where in the schedule and in the data order to begin. The optimiser starts
            with empty momentum.
        stop_step: where to stop; default the end of the budget, `config.steps`.
        data_seed: draws the order of the data, and nothing else.
        save_at: steps at which to take snapshots; step k is the state after k updates.

    Raises:
        ValueError: for arguments that do not fit each other, before the first step.
        FloatingPointError: if the loss becomes NaN or infinite; names the step.
    """
    group = SingleModel(model)
    masks = None if mask is None else [mask]
    steps = (config.steps if stop_step is None else stop_step) - start_step
    with progress_bar(max(steps, 0), "training") as bar:
        (result,) = fit(
            group, data, config, masks=masks, start_step=start_step, stop_step=stop_step,
            data_seeds=[data_seed], save_at=save_at, on_step=bar.update,
        )  # fmt: skip
    if result.diverged_step is not None:
        raise FloatingPointError(divergence_message(result.diverged_step, data_seed, config))
    return result


def evaluate(model: nn.Module, data: Dataset, split: str = "test") -> Metrics:
    """Return the mean loss and the accuracy of a model on "train", "val" or "test".

    Raises:
        ValueError: for an unknown or empty split.
    """
    group = SingleModel(model)
    loss, accuracy = evaluate_group(group, data, split)
    group.restore_modes()
    return Metrics(loss.item(), accuracy.item())


def fit(
    group: SingleModel | Stack,
    data: Dataset,
    config: TrainConfig,
    *,
    masks: Sequence[Mask] | None,
    start_step: int,
    data_seeds: Sequence[int],
    stop_step: int | None = None,
    save_at: Iterable[int] = (),
    on_step: Callable[[], object] = lambda: None,
) -> list[TrainResult]:
    """Train every replicate of a group; the loop behind `train` and `train_replicates`.

    The losses of the replicates are summed, not averaged, so that each takes the step of its own
    run. A replicate whose loss is no longer finite leaves the sum; the others go on.
    """
    save_at, stop_step = set(save_at), config.steps if stop_step is None else stop_step
    check_run(group, data, config, masks, start_step, stop_step, data_seeds, save_at)
    optimizer = _optimizer(group.parameters.values(), config)
    masked = _masked_parameters(group, masks)
    _apply(masked)
    start, snapshots = split_states(group.state()), {}
    history = _History(group, data)
    order = DataOrder(data, config.batch_size, data_seeds, augmented=config.augment)
    alive = torch.ones(len(data_seeds), dtype=torch.bool, device=data.device)
    diverged: dict[int, int] = {}
    check_every = 1 if data.device.type == "cpu" else 50  # reading a number stalls a GPU
    with torch.random.fork_rng(enabled=group.is_random):
        for step in range(start_step, stop_step + 1):
            at_end = step == stop_step or len(diverged) == len(data_seeds)
            if step in save_at:
                snapshots[step] = split_states(group.state())
            if _is_validation_point(step, start_step, config) or (at_end and config.eval_every):
                history.record(step)
            if at_end:
                for i in _diverged(group, *order.batch(step)):
                    diverged.setdefault(i, step)
                break
            if group.is_random:
                torch.manual_seed(generator_for("layers", data_seeds[0], step).initial_seed())
            x, y = order.batch(step)
            group.set_training(True)
            with torch.autocast(data.device.type, torch.bfloat16, config.precision == "bf16"):
                logits = group.logits(x).float()
            loss = _summed_loss(logits, y, alive if diverged else None)
            optimizer.zero_grad()
            loss.backward()
            _set_learning_rate(optimizer, learning_rate(config, step))
            optimizer.step()
            _apply(masked)
            if step % check_every == 0 and not math.isfinite(loss.item()):
                for i in _not_finite(_losses(logits, y)):
                    diverged.setdefault(i, step)
                    alive[i] = False
            on_step()
    group.restore_modes()
    group.write_back()
    final, best = split_states(group.state()), history.best_states()
    return [
        TrainResult(
            history=[p for p in history.points[i] if p["step"] <= diverged.get(i, stop_step)],
            snapshots={step: states[i] for step, states in snapshots.items()},
            start=start[i],
            final=final[i],
            early_stop=best[i],
            steps=config.steps,
            diverged_step=diverged.get(i),
        )
        for i in range(len(data_seeds))
    ]


@torch.no_grad()
def evaluate_group(group: SingleModel | Stack, data: Dataset, split: str) -> tuple[Tensor, Tensor]:
    """Return the loss and the accuracy of every replicate, each of shape [replicates]."""
    x_all, y_all = data.split(split)
    group.set_training(False)
    loss = correct = 0
    for x, y in zip(x_all.split(_EVALUATION_CHUNK), y_all.split(_EVALUATION_CHUNK), strict=True):
        x = data.normalize(x)
        logits = group.logits(x.expand(group.size, *x.shape)).float()
        y = y.expand(group.size, -1)
        loss = loss + _losses(logits, y) * len(x)
        correct = correct + (logits.argmax(dim=2) == y).sum(dim=1)
    return loss / len(y_all), correct / len(y_all)


class _History:
    """Validation points of every replicate, and the weights at the best of them."""

    def __init__(self, group, data: Dataset) -> None:
        self.group, self.data = group, data
        self.points: list[list[dict]] = [[] for _ in range(group.size)]
        self.best_loss = torch.full((group.size,), math.inf, device=data.device)
        self.best: dict[str, Tensor] = {}

    def record(self, step: int) -> None:
        if len(self.data.x_val) == 0:
            return
        loss, accuracy = evaluate_group(self.group, self.data, "val")
        for points, a, b in zip(self.points, loss.tolist(), accuracy.tolist(), strict=True):
            points.append({"step": step, "val_loss": a, "val_accuracy": b})
        better = loss < self.best_loss
        self.best_loss = torch.where(better, loss, self.best_loss)
        for name, now in self.group.state().items():
            choice = better.view(-1, *(1,) * (now.ndim - 1))
            self.best[name] = torch.where(choice, now, self.best.get(name, now))

    def best_states(self) -> list[State | None]:
        return split_states(self.best) if self.best else [None] * self.group.size


def _is_validation_point(step: int, start_step: int, config: TrainConfig) -> bool:
    return bool(config.eval_every) and (step == start_step or step % config.eval_every == 0)


def _losses(logits: Tensor, y: Tensor) -> Tensor:
    """Return the mean loss of every replicate from logits [replicates, batch, classes]."""
    each = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none")
    return each.view(y.shape).mean(dim=1)


@torch.no_grad()
def _diverged(group, x: Tensor, y: Tensor) -> list[int]:
    """Return the replicates whose last steps went wrong: their loss on a batch is not finite."""
    group.set_training(False)
    return _not_finite(_losses(group.logits(x).float(), y))


def _not_finite(values: Tensor) -> list[int]:
    return (~values.isfinite()).nonzero().flatten().tolist()


def _summed_loss(logits: Tensor, y: Tensor, alive: Tensor | None) -> Tensor:
    if alive is not None:
        return _losses(logits, y)[alive].sum()
    return F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum") / y.shape[1]


def _optimizer(parameters: Iterable[Tensor], config: TrainConfig) -> torch.optim.Optimizer:
    trained = [p for p in parameters if p.requires_grad]
    if config.optimizer == "adam":
        return torch.optim.Adam(trained, lr=config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(
        trained, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
    )


def _set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for settings in optimizer.param_groups:
        settings["lr"] = lr


def _masked_parameters(group, masks: Sequence[Mask] | None) -> list[tuple[Tensor, Tensor]]:
    """Return pairs of a parameter and its mask as floats: in-place products with booleans are
    several times slower."""
    return [
        (parameter, group.combine([mask[name] for mask in masks]).to(parameter.dtype))
        for name, parameter in group.parameters.items()
        if masks is not None and name in masks[0]
    ]


@torch.no_grad()
def _apply(masked: list[tuple[Tensor, Tensor]]) -> None:
    for parameter, kept in masked:
        parameter.mul_(kept)


def divergence_message(step: int, data_seed: int, config: TrainConfig) -> str:
    """Return the sentence that names where a run diverged and what usually helps."""
    return (
        f"the loss was no longer finite at step {step} of {config.steps} (data_seed {data_seed}); "
        f"lower lr ({config.lr}) or add warmup_steps"
    )
