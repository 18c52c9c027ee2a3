"""What the experiments report of a trained round: one wide row per seed."""

from __future__ import annotations

import math

from torch import nn

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.states import State, load_state_
from lth_tutorial.tickets.lottery import IMPRound, converged
from lth_tutorial.training.evaluation import evaluate


def rows_of(arm: str, models, data: Dataset, rounds: dict[int, IMPRound]) -> list[dict]:
    """Return one wide row per seed: what `lottery_experiment` reports of a round."""
    return [_row(arm, seed, models[seed], data, current) for seed, current in rounds.items()]


def _row(arm: str, seed: int, model: nn.Module, data: Dataset, current: IMPRound) -> dict:
    result = current.result
    to_90, censored_90 = result.steps_to(0.90)
    to_95, censored_95 = result.steps_to(0.95)

    def accuracy(state: State | None, split: str = "test") -> float:
        if state is None or not converged(result):
            return math.nan
        load_state_(model, state)
        return evaluate(model, data, split).accuracy

    return {
        "arm": arm,
        "seed": seed,
        "round": current.index,
        "density": current.density,
        "accuracy": current.accuracy,
        "start_accuracy": accuracy(result.start),
        "train_accuracy": accuracy(result.final, "train"),
        "early_stop_step": result.early_stop_step if converged(result) else None,
        "early_stop_accuracy": accuracy(result.early_stop),
        "steps_to_90": to_90,
        "steps_to_90_censored": censored_90,
        "steps_to_95": to_95,
        "steps_to_95_censored": censored_95,
        "mean_val_accuracy": result.mean_val_accuracy if converged(result) else math.nan,
        "diverged_step": result.diverged_step,
    }
