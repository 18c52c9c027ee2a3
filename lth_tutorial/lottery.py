"""Lottery tickets: iterative magnitude pruning with rewinding.

One round: train, remove the smallest of the remaining weights, put the others back to where they
were at `rewind_step`. Every rewind is proved. The functions below work on several seeds at once;
`arms` puts the ticket beside its controls.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import nn

from lth_tutorial.config import IMPConfig, TrainConfig, retraining_config
from lth_tutorial.criteria import magnitude_scores
from lth_tutorial.data import Dataset
from lth_tutorial.masks import (
    Mask,
    apply_mask_,
    dense_mask,
    density,
    masked_state,
    prunable_weights,
)
from lth_tutorial.models import State, state_hash
from lth_tutorial.pruning import check_fractions, prune
from lth_tutorial.replicates import train_replicates
from lth_tutorial.runtime import progress_bar
from lth_tutorial.training import TrainResult, divergence_message, evaluate


@dataclass(frozen=True)
class IMPRound:
    """One round of iterative magnitude pruning.

    Attributes:
        index: 0 is the dense network.
        density: share of prunable weights that remain, in [0, 1].
        accuracy: on the test set after training, in [0, 1].
        mask: the weights that remain.
        state: the trained weights.
        start: the weights that this round was trained from, pruned ones zero.
        result: everything that `train` returned for this round.
    """

    index: int
    density: float
    accuracy: float
    mask: Mask
    state: State
    start: State
    result: TrainResult


def iterative_magnitude_pruning(
    model: nn.Module,
    data: Dataset,
    train_config: TrainConfig,
    imp_config: IMPConfig,
    *,
    data_seed: int = 0,
) -> list[IMPRound]:
    """Train, prune and rewind the model for `imp_config.rounds` rounds.

    The model arrives with its initial weights and leaves with those of the last round. Every
    rewind is proved: the snapshot's hash, and the weights that training began with, are checked.

    Returns:
        rounds + 1 rounds, the first of them dense.

    Raises:
        ValueError: for a rewind step beyond the run, or a configuration that does not fit the
            model, before training starts.
        FloatingPointError: if training diverges; names round and step.

    Source: Frankle & Carbin 2019, section 1 (iterative pruning); with `rewind_step` > 0,
    Frankle et al. 2020 (linear mode connectivity), section 4.
    """
    check_fits(model, train_config, imp_config)
    rounds = []
    total = steps_of_arm(train_config, imp_config) + train_config.steps
    with progress_bar(total, "pruning") as bar:
        run = imp_rounds({data_seed: model}, data, train_config, imp_config, bar.update)
        for current in (by_seed[data_seed] for by_seed in run):
            if current.result.diverged_step is not None:
                message = divergence_message(current.result.diverged_step, data_seed, train_config)
                raise FloatingPointError(f"round {current.index}: {message}")
            rounds.append(current)
    return rounds


def rewind_(model: nn.Module, start: State, mask: Mask) -> None:
    """Put the model back to the weights of a snapshot, pruned weights zero, in place."""
    model.load_state_dict(start)
    apply_mask_(model, mask)


def check_rewound(began_with: State, rewind_point: State, mask: Mask, expected_hash: str) -> None:
    """Raise unless training began with exactly the rewind point under the mask.

    Raises:
        RuntimeError: if the snapshot was changed since it was taken, or was not loaded: the most
            common silent faults in lottery ticket code.
    """
    if state_hash(rewind_point) != expected_hash:
        raise RuntimeError(
            "the rewind point is no longer what it was when it was saved: something trained or "
            "wrote into the snapshot"
        )
    if state_hash(began_with) != state_hash(masked_state(rewind_point, mask)):
        raise RuntimeError("training did not begin with the rewind point: the rewind is missing")


def imp_rounds(
    models: dict[int, nn.Module],
    data: Dataset,
    config: TrainConfig,
    imp: IMPConfig,
    on_step: Callable[[], object],
) -> Iterator[dict[int, IMPRound]]:
    """Yield one `IMPRound` per seed, round by round; a seed that diverged has no later rounds."""
    retraining = retraining_config(config, imp)
    masks = {seed: dense_mask(model) for seed, model in models.items()}
    results = train_all(models, data, config, save_at={imp.rewind_step}, on_step=on_step)
    yield as_rounds(0, models, data, masks, results)
    points = {s: r.snapshots[imp.rewind_step] for s, r in results.items() if converged(r)}
    hashes = {seed: state_hash(point) for seed, point in points.items()}
    for index in range(1, imp.rounds + 1):
        trained = {seed: r.final for seed, r in results.items() if converged(r)}
        if not trained:
            return
        models = {seed: models[seed] for seed in trained}
        masks = {
            seed: prune(
                magnitude_scores(state, masks[seed]), masks[seed], imp.fraction, scope=imp.scope
            )
            for seed, state in trained.items()
        }
        rewinding = imp.after_pruning == "rewind"
        starts = points if rewinding else trained
        results = train_from(
            models, starts, masks, data, retraining, imp.rewind_step, on_step=on_step
        )
        for seed, result in results.items():
            if rewinding:
                check_rewound(result.start, points[seed], masks[seed], hashes[seed])
        yield as_rounds(index, models, data, masks, results)


def train_all(models: dict[int, nn.Module], data, config, **options) -> dict[int, TrainResult]:
    """Train one model per seed, the seed drawing the data order; results by seed."""
    seeds = list(models)
    results = train_replicates(list(models.values()), data, config, data_seeds=seeds, **options)
    return dict(zip(seeds, results, strict=True))


def train_from(
    models, starts, masks, data, config, start_step, *, on_step
) -> dict[int, TrainResult]:
    """Rewind every seed's model to its start under its mask, and train from `start_step` on."""
    for seed, model in models.items():
        rewind_(model, starts[seed], masks[seed])
    return train_all(
        models, data, config, masks=[masks[seed] for seed in models], start_step=start_step,
        on_step=on_step,
    )  # fmt: skip


def converged(result: TrainResult) -> bool:
    """Return whether the loss stayed finite."""
    return result.diverged_step is None


def as_rounds(index, models, data, masks, results) -> dict[int, IMPRound]:
    """Return training results as rounds by seed, with their test accuracy."""
    rounds = {}
    for seed, result in results.items():
        accuracy = evaluate(models[seed], data).accuracy if converged(result) else math.nan
        rounds[seed] = IMPRound(
            index, density(masks[seed]), accuracy, masks[seed], result.final, result.start, result
        )
    return rounds


def check_fits(model: nn.Module, config: TrainConfig, imp: IMPConfig) -> None:
    """Raise a ValueError if the configurations do not fit each other or the model."""
    if imp.rewind_step >= config.steps:
        raise ValueError(
            f"rewind_step {imp.rewind_step} leaves nothing to train: the run has "
            f"{config.steps} steps"
        )
    check_fractions(imp.fraction, dense_mask(model), imp.scope)
    places = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    tied = [name for name, p in prunable_weights(model).items() if places[id(p)] > 1]
    if tied:
        raise ValueError(
            f"{', '.join(tied)} stands in several places of the model; a mask would prune it in "
            f"all of them: give each place a weight of its own"
        )


def steps_of_arm(config: TrainConfig, imp: IMPConfig) -> int:
    """Return the training steps of all pruned rounds of one arm and seed."""
    return imp.rounds * (config.steps - imp.rewind_step)
