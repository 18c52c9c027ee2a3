"""What a training run leaves behind: its history and the weights at its turning points."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from lth_tutorial.states import State
from lth_tutorial.training.config import TrainConfig

SNAPSHOT = "snapshot_"


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
        states: the weights at the run's turning points by name; read them by the properties
            `start`, `final`, `early_stop` and `snapshots`. Of a run with a `workdir` they lie in
            its folder and are read when asked for.
        steps: the budget; `steps_to` reports it where a level is never reached.
        diverged_step: the step at which the loss was first seen to be NaN or infinite (on a GPU
            up to 50 steps late), else None. The history ends there.
    """

    history: list[dict]
    states: Mapping[str, State]
    steps: int
    diverged_step: int | None

    @property
    def start(self) -> State:
        """The weights that training really began with, after the mask was applied."""
        return self.states["start"]

    @property
    def final(self) -> State:
        """The weights at the end."""
        return self.states["final"]

    @property
    def early_stop(self) -> State | None:
        """The weights at the minimum of the validation loss, or None without history."""
        return self.states["early_stop"] if "early_stop" in self.states else None

    @property
    def snapshots(self) -> dict[int, State]:
        """Copies of the state at the steps asked for."""
        names = (name for name in self.states if name.startswith(SNAPSHOT))
        steps = sorted(int(name.removeprefix(SNAPSHOT)) for name in names)
        return {step: self.states[f"{SNAPSHOT}{step}"] for step in steps}

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


def divergence_message(step: int, data_seed: int, config: TrainConfig) -> str:
    """Return the sentence that names where a run diverged and what usually helps."""
    return (
        f"the loss was no longer finite at step {step} of {config.steps} (data_seed {data_seed}); "
        f"lower lr ({config.lr}) or add warmup_steps"
    )
