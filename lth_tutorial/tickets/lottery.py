"""Lottery tickets: iterative magnitude pruning with rewinding.

One round: train, remove the smallest of the remaining weights, put the others back to where they
were at `rewind_step`. Every rewind is proved. The functions below work on several seeds at once;
`arms` puts the ticket beside its controls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import nn

from lth_tutorial.criteria import magnitude_scores
from lth_tutorial.data.dataset import Dataset
from lth_tutorial.networks.weights import prunable_weights, shared_weights
from lth_tutorial.pruning.masks import (
    Criterion,
    Mask,
    Scores,
    apply_mask_,
    dense_mask,
    density,
    in_order_of,
    masked_state,
    weights_under,
)
from lth_tutorial.pruning.prune import check_fractions, prune
from lth_tutorial.runtime import progress_bar
from lth_tutorial.safety.arguments import checked
from lth_tutorial.safety.locks import one_writer
from lth_tutorial.states import State, load_state_, snapshot, state_hash
from lth_tutorial.training.config import IMPConfig, TrainConfig, retraining_config
from lth_tutorial.training.evaluation import evaluate
from lth_tutorial.training.identity import claim_folder, describe_function, describe_model, within
from lth_tutorial.training.outcome import TrainResult, divergence_message
from lth_tutorial.training.replicates import train_replicates


@dataclass(frozen=True)
class IMPRound:
    """One round of iterative magnitude pruning.

    Attributes:
        index: 0 is the dense network.
        density: share of prunable weights that remain, in [0, 1].
        accuracy: on the test set after training, in [0, 1].
        mask: the weights that remain.
        result: everything that `train` returned for this round.
    """

    index: int
    density: float
    accuracy: float
    mask: Mask
    result: TrainResult

    @property
    def state(self) -> State:
        """The trained weights; read from the working directory if there is one."""
        return self.result.final

    @property
    def start(self) -> State:
        """The weights that this round was trained from, pruned ones zero."""
        return self.result.start


@checked
@one_writer
def iterative_magnitude_pruning(
    model: nn.Module,
    data: Dataset,
    train_config: TrainConfig,
    imp_config: IMPConfig,
    *,
    criterion: Criterion | None = None,
    data_seed: int = 0,
    workdir: str | Path | None = None,
) -> list[IMPRound]:
    """Train, prune and rewind the model for `imp_config.rounds` rounds.

    The model arrives with its initial weights and leaves with those of the last round. Every
    rewind is proved: the snapshot's hash, and the weights that training began with, are checked.

    Args:
        criterion: what ranks the trained weights, a function (model, data, mask) -> scores such
            as `gradient_scores`; default their magnitude. Settings of its own are given with
            `functools.partial`.
        workdir: folder to continue from. A run that was killed goes on at its last checkpoint, to
            the same bits on a CPU; more rounds may be asked for later. The rounds' weights stay
            in the folder and are read when asked for, so that memory does not grow with rounds.

    Returns:
        rounds + 1 rounds, the first of them dense.

    Raises:
        ValueError: for a rewind step beyond the run, a configuration that does not fit the model,
            or a workdir of another configuration, before training starts.
        FloatingPointError: if training diverges; names round and step.

    Source: Frankle & Carbin 2019, section 1 (iterative pruning); with `rewind_step` > 0,
    Frankle et al. 2020 (linear mode connectivity), section 4.
    """
    check_fits(model, train_config, imp_config)
    if workdir is not None:
        start = {"model": describe_model(model), "initial_state": state_hash(snapshot(model))}
        claim_folder(workdir, pruning_identity(data, train_config, imp_config, criterion) | start)
    rounds = []
    total = steps_of_arm(train_config, imp_config) + train_config.steps
    with progress_bar(total, "pruning") as bar:
        models = {data_seed: model}
        run = imp_rounds(
            models, data, train_config, imp_config, bar.update, workdir, criterion=criterion
        )
        for current in (by_seed[data_seed] for by_seed in run):
            if current.result.diverged_step is not None:
                message = divergence_message(current.result.diverged_step, data_seed, train_config)
                raise FloatingPointError(f"round {current.index}: {message}")
            rounds.append(current)
    return rounds


@checked
def rewind_(model: nn.Module, start: State, mask: Mask) -> None:
    """Put the model back to the weights of a snapshot, pruned weights zero, in place.

    Raises:
        ValueError, TypeError: if the mask or the snapshot does not fit; nothing is changed then.
    """
    weights_under(model, mask)
    load_state_(model, start)
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
    workdir: str | Path | None = None,
    *,
    criterion: Criterion | None = None,
) -> Iterator[dict[int, IMPRound]]:
    """Yield one `IMPRound` per seed, round by round; a seed that diverged has no later rounds."""
    dense = dense_round(models, data, config, {imp.rewind_step}, on_step, round_folder(workdir, 0))
    yield dense
    yield from pruned_rounds(
        models, data, config, imp, dense, on_step, workdir, criterion=criterion
    )


def dense_round(
    models, data, config, save_at, on_step, workdir: str | Path | None = None
) -> dict[int, IMPRound]:
    """Train the dense networks, with snapshots at the steps of `save_at`; round 0 by seed."""
    results = train_all(models, data, config, save_at=save_at, on_step=on_step, workdir=workdir)
    masks = {seed: dense_mask(model) for seed, model in models.items()}
    return as_rounds(0, models, data, masks, results)


def pruned_rounds(
    models: dict[int, nn.Module],
    data: Dataset,
    config: TrainConfig,
    imp: IMPConfig,
    dense: dict[int, IMPRound],
    on_step: Callable[[], object],
    workdir: str | Path | None = None,
    *,
    criterion: Criterion | None = None,
    iterative: bool = True,
    train: Callable[..., dict[int, TrainResult]] | None = None,
) -> Iterator[dict[int, IMPRound]]:
    """Yield the rounds after the dense one, which has a snapshot at the rewind step.

    With `iterative=False` every round prunes the dense network once, to the density of that
    round, and trains it on from there: ranking the same weights again and again removes the same
    ones as ranking them once. `train` is called in place of `train_from`, with its arguments.
    """
    retraining, rewinding = retraining_config(config, imp), imp.after_pruning == "rewind"
    dense = {seed: r for seed, r in dense.items() if converged(r.result)}
    points = {s: r.result.snapshots[imp.rewind_step] for s, r in dense.items()} if rewinding else {}
    hashes = {seed: state_hash(point) for seed, point in points.items()}
    masks, trained = {s: r.mask for s, r in dense.items()}, {s: r.state for s, r in dense.items()}
    for index in range(1, imp.rounds + 1):
        if not trained:
            return
        masks = {
            seed: prune(
                score(criterion, models[seed], data, state, masks[seed]), masks[seed],
                imp.fraction, scope=imp.scope,
            )
            for seed, state in trained.items()
        }  # fmt: skip
        results = (train or train_from)(
            {seed: models[seed] for seed in trained}, points if rewinding else trained, masks,
            data, retraining, imp.rewind_step, on_step=on_step,
            workdir=round_folder(workdir, index),
        )  # fmt: skip
        for seed, result in results.items():
            if rewinding:
                check_rewound(result.start, points[seed], masks[seed], hashes[seed])
        yield as_rounds(index, models, data, masks, results)
        if iterative:
            trained = {seed: r.final for seed, r in results.items() if converged(r)}


def score(
    criterion: Criterion | None, model: nn.Module, data: Dataset, state: State, mask: Mask
) -> Scores:
    """Return a criterion's scores of a trained state; the model is left with that state."""
    if criterion is None:
        return in_order_of(mask, magnitude_scores(state, mask))
    load_state_(model, state)
    return in_order_of(mask, criterion(model, data, mask))


def train_all(models: dict[int, nn.Module], data, config, **options) -> dict[int, TrainResult]:
    """Train one model per seed, the seed drawing the data order; results by seed, if any."""
    if not models:  # of none that is left
        return {}
    seeds = list(models)
    results = train_replicates(list(models.values()), data, config, data_seeds=seeds, **options)
    return dict(zip(seeds, results, strict=True))


def train_from(
    models, starts, masks, data, config, start_step, *, on_step, workdir=None
) -> dict[int, TrainResult]:
    """Rewind every seed's model to its start under its mask, and train from `start_step` on."""
    for seed, model in models.items():
        rewind_(model, starts[seed], masks[seed])
    return train_all(
        models, data, config, masks=[masks[seed] for seed in models], start_step=start_step,
        on_step=on_step, workdir=workdir,
    )  # fmt: skip


def converged(result: TrainResult) -> bool:
    """Return whether the loss stayed finite."""
    return result.diverged_step is None


def as_rounds(index, models, data, masks, results) -> dict[int, IMPRound]:
    """Return training results as rounds by seed, with their test accuracy."""
    rounds = {}
    for seed, result in results.items():
        accuracy = evaluate(models[seed], data).accuracy if converged(result) else math.nan
        rounds[seed] = IMPRound(index, density(masks[seed]), accuracy, masks[seed], result)
    return rounds


def check_fits(model: nn.Module, config: TrainConfig, imp: IMPConfig) -> None:
    """Raise a ValueError if the configurations do not fit each other or the model."""
    if imp.rewind_step >= config.steps:
        raise ValueError(
            f"rewind_step {imp.rewind_step} leaves nothing to train: the run has "
            f"{config.steps} steps"
        )
    check_fractions(imp.fraction, dense_mask(model), imp.scope)
    tied = [name for name in shared_weights(model) if name in prunable_weights(model)]
    if tied:
        raise ValueError(
            f"{', '.join(tied)} stands in several places of the model; a mask would prune it in "
            f"all of them: give each place a weight of its own"
        )


def pruning_identity(
    data: Dataset, config: TrainConfig, imp: IMPConfig, criterion: Criterion | None = None
) -> dict:
    """Return what a working directory belongs to; the number of rounds may grow."""
    settings = {k: v for k, v in asdict(imp).items() if k != "rounds"}
    found = {"train_config": config, "imp_config": settings, "data": data.fingerprint}
    return found if criterion is None else found | {"criterion": describe_function(criterion)}


def round_folder(workdir: str | Path | None, index: int, arm: str = "ticket") -> Path | None:
    """Return the folder of one round of one arm."""
    return within(workdir, f"round_{index:02d}", arm)


def steps_of_arm(config: TrainConfig, imp: IMPConfig) -> int:
    """Return the training steps of all pruned rounds of one arm and seed."""
    return imp.rounds * (config.steps - imp.rewind_step)
