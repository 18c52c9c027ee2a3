"""The lottery experiment: a ticket beside its controls, over several seeds.

A ticket is only interesting beside its controls, so all of them are trained by default. Every arm
of a seed trains equally long on the same batches; one row per arm, seed and round comes back.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from lth_tutorial.criteria import magnitude_scores
from lth_tutorial.data.dataset import Dataset
from lth_tutorial.networks.build import build_model
from lth_tutorial.pruning.masks import Criterion, Mask, Scores, shuffle_within_layers
from lth_tutorial.pruning.prune import prune_like
from lth_tutorial.runtime import progress_bar
from lth_tutorial.safety.arguments import (
    ArgumentError,
    at_least,
    checked,
    different_arms,
    different_seeds,
)
from lth_tutorial.safety.files import remove_run
from lth_tutorial.safety.kinds import shown
from lth_tutorial.safety.locks import one_writer
from lth_tutorial.states import State, load_state_, snapshot, state_hash
from lth_tutorial.tickets.lottery import (
    IMPRound,
    as_rounds,
    check_fits,
    dense_round,
    pruned_rounds,
    pruning_identity,
    round_folder,
    score,
    steps_of_arm,
    train_all,
)
from lth_tutorial.tickets.measures import rows_of
from lth_tutorial.tickets.together import Arm, Results, train_arms
from lth_tutorial.training.checkpoints import read_checked_json, write_checked_json
from lth_tutorial.training.config import IMPConfig, TrainConfig
from lth_tutorial.training.groups import can_stack
from lth_tutorial.training.identity import claim_folder, describe_model, within
from lth_tutorial.training.replicates import is_replicates_folder
from lth_tutorial.training.workers import available_workers, map_seeds

if TYPE_CHECKING:
    import pandas as pd

ARMS = ("ticket", "reinit", "random", "one_shot")
OTHER_INITIALIZATION = 1_000_000
"""Added to a seed to draw the other initialisation of the re-initialised control."""


@checked
@one_writer
def lottery_experiment(
    model: str | Callable[[int], nn.Module],
    data: Dataset,
    train_config: TrainConfig,
    imp_config: IMPConfig,
    *,
    criterion: Criterion | None = None,
    arms: Sequence[str] = ARMS,
    seeds: Sequence[int] = range(8),
    workers: int | None = None,
    workdir: str | Path | None = None,
) -> pd.DataFrame:
    """Compare lottery tickets with their controls; one row per arm, seed and round.

    All arms and seeds of a round are trained as one stack where that is faster: on a GPU, and on a
    CPU with a few small networks. Memory then holds the models of all of them at once.

    Args:
        model: a name for `build_model`, or a function from a seed to a module.
        criterion: what ranks the trained weights for "ticket" and "one_shot", as for
            `iterative_magnitude_pruning`; default their magnitude.
        arms: any of "ticket" (iterative magnitude pruning), "reinit" (the ticket's mask on
            another initialisation, trained to the same rewind step), "random" (the ticket's mask
            shuffled within layers, on the ticket's own start weights) and "one_shot" (the dense
            network pruned once to the ticket's counts, and rewound). All train equally long on
            the same batches. Where `after_pruning` keeps the trained weights, "random" and
            "one_shot" are put on those of the dense network, and there is no "reinit".
        seeds: replicates; a seed draws the initial weights and the order of the data.
        workers: processes for networks that are not trained as one stack; default one per core.
        workdir: folder to continue from. An experiment that was killed goes on at its last
            checkpoint, to the same bits on a CPU; more rounds, arms or seeds may be asked for
            later. It holds the tickets' weights, round by round.

    Returns:
        A frame with the columns arm, seed, round (0 is the dense network, the same row in every
        arm), density, accuracy (test, [0, 1]; missing where training diverged), start_accuracy
        (test accuracy of the masked network before its first step), train_accuracy,
        early_stop_step (minimum validation loss), early_stop_accuracy (test, there), steps_to_90
        and steps_to_95 (first validation point with that accuracy), steps_to_90_censored and
        steps_to_95_censored (never reached: then the value is the budget), mean_val_accuracy
        (over the run) and diverged_step (missing where none).

    Raises:
        ValueError: for unknown arms, repeated seeds, configurations that do not fit, "reinit"
            where a ticket is not rewound, a function that does not draw a model from its seed,
            or a workdir of another configuration.
        RuntimeError: if the worker process of a seed dies twice; names the seed.

    Warns:
        DivergenceWarning: naming step and seed; that replicate has no later rounds.
    """
    import pandas as pd

    arms, seeds = _check_design(arms, seeds, imp_config)
    if workers is not None:
        at_least("workers", workers, 1)
    build = model_builder(model, data)
    first, again, other = (build(s) for s in (seeds[0], seeds[0], seeds[0] + OTHER_INITIALIZATION))
    check_fits(first, train_config, imp_config)
    _check_seeding(seeds[0], first, again, other)
    if workdir is not None:
        start = {"model": describe_model(first)}
        claim_folder(workdir, pruning_identity(data, train_config, imp_config, criterion) | start)
    steps = steps_of_arm(train_config, imp_config) * len({"ticket", *arms}) + train_config.steps
    steps += imp_config.rewind_step if "reinit" in arms else 0

    def some_seeds(seeds: Sequence[int], on_step: Callable[[], object]) -> list[dict]:
        folder = within(workdir, seeds_folder(seeds))
        return _experiment(
            build, data, train_config, imp_config, criterion, arms, seeds, on_step, folder
        )

    with progress_bar(steps * len(seeds), "lottery experiment") as bar:
        if can_stack([first, other]) or data.device.type != "cpu":
            rows = some_seeds(seeds, bar.update)
        else:

            def one_seed(seed: int, on_step: Callable[[], object]) -> list[dict]:
                return some_seeds([seed], on_step)

            workers = available_workers() if workers is None else workers
            rows = list(itertools.chain(*map_seeds(one_seed, seeds, workers=workers, bar=bar)))
    frame = pd.DataFrame(rows)
    rank = frame["arm"].map({arm: i for i, arm in enumerate(arms)})
    frame = frame.assign(rank=rank).sort_values(["rank", "seed", "round"], ignore_index=True)
    steps = ("early_stop_step", "steps_to_90", "steps_to_95", "diverged_step")
    return frame.drop(columns="rank").astype(dict.fromkeys(steps, "Int64"))


def _experiment(
    build: Callable[[int], nn.Module],
    data: Dataset,
    config: TrainConfig,
    imp: IMPConfig,
    criterion: Criterion | None,
    arms: Sequence[str],
    seeds: Sequence[int],
    on_step: Callable[[], object],
    workdir: Path | None,
) -> list[dict]:
    """Return the rows of some seeds, trained side by side."""
    models = {seed: build(seed) for seed in seeds}
    dense = dense_round(models, data, config, {imp.rewind_step}, on_step, round_folder(workdir, 0))
    dense_rows = rows_of("dense", models, data, dense)
    rows = [row | {"arm": arm} for arm in arms for row in dense_rows]
    starts = {s: _start_of_controls(d, imp) for s, d in dense.items()}
    others = {}
    if "reinit" in arms:
        others = other_starts(build, data, config, imp, seeds, on_step, workdir)
    indices = itertools.count(1)

    def control(arm: str, masks: dict[int, Mask], folder: Path | None) -> Arm:
        own = {
            s: arm_mask(arm, s, mask, dense[s], imp, partial(score, criterion, models[s], data))
            for s, mask in masks.items()
        }
        own_starts = others if arm == "reinit" else starts
        return Arm(own_starts, own, folder, rows=_find_rows(folder, own_starts, own))

    def train_round(models, points, masks, *settings, on_step, workdir) -> Results:
        """Train a round's tickets and return their results; add the rows of their controls."""
        index, folder = next(indices), workdir and workdir.parent
        jobs = {"ticket": Arm(points, masks, workdir, keeps_weights=True)}
        jobs |= {arm: control(arm, masks, within(folder, arm)) for arm in arms if arm != "ticket"}
        every = train_arms(models, jobs, *settings, on_step=on_step, workdir=folder)
        _, tickets = next(every)
        for arm, results in every:
            found = jobs[arm].rows
            if results is not None:
                rounds = as_rounds(index, models, data, jobs[arm].masks, results)
                found = rows_of(arm, models, data, rounds)
                _keep_rows(jobs[arm], found)
            rows.extend(found)
        for seed, result in tickets.items():
            load_state_(models[seed], result.final)
        return tickets

    tickets = pruned_rounds(
        models, data, config, imp, dense, on_step, workdir, criterion=criterion, train=train_round
    )
    for ticket in tickets:
        if "ticket" in arms:
            rows += rows_of("ticket", models, data, ticket)
    return rows


def _start_of_controls(dense: IMPRound, imp: IMPConfig) -> State | None:
    """Return the weights of a seed that its controls are put on."""
    if imp.after_pruning == "rewind":
        return dense.result.snapshots.get(imp.rewind_step)
    return dense.state


def _find_rows(folder: Path | None, starts, masks: dict[int, Mask]) -> list[dict] | None:
    """Return the rows that `_keep_rows` left for these starts and masks, or None."""
    if folder is None:
        return None
    key = _rows_key(starts, masks)
    return read_checked_json(folder / "rows.json", key, what=_what(folder))


def _keep_rows(control: Arm, rows: list[dict]) -> None:
    """Write the rows of a control that is finished in place of its weights."""
    folder = control.folder
    if folder is None:
        return
    key = _rows_key(control.starts, control.masks)
    write_checked_json(folder / "rows.json", key, rows, what=_what(folder))
    for child in folder.iterdir():
        if is_replicates_folder(child):
            remove_run(child)


def _what(folder: Path) -> str:
    return f"rows of {folder.name} in {folder.parent.name}"


def _rows_key(starts: Mapping[int, State], masks: Mapping[int, Mask]) -> str:
    return str([(seed, state_hash(starts[seed]), state_hash(masks[seed])) for seed in masks])


def arm_mask(
    arm: str,
    seed: int,
    ticket: Mask,
    dense: IMPRound,
    imp: IMPConfig,
    score: Callable[[State, Mask], Scores] = magnitude_scores,
) -> Mask:
    """Return the mask of an arm that belongs to a ticket's mask."""
    if arm == "random":
        return shuffle_within_layers(ticket, seed)
    if arm == "one_shot":
        return prune_like(score(dense.state, dense.mask), dense.mask, ticket, scope=imp.scope)
    return ticket


def other_starts(build, data, config, imp, seeds, on_step, workdir) -> dict[int, State]:
    """Return another initialisation for every seed, trained to the rewind step."""
    others = {seed: build(seed + OTHER_INITIALIZATION) for seed in seeds}
    k = imp.rewind_step
    if k == 0:
        return {seed: snapshot(other) for seed, other in others.items()}
    results = train_all(
        others, data, config, stop_step=k, on_step=on_step, workdir=within(workdir, "other_starts")
    )
    return {seed: result.final for seed, result in results.items()}


def seeds_folder(seeds: Sequence[int]) -> str:
    """Return the name of the folder for some seeds trained side by side."""
    names = "_".join(map(str, seeds))
    if len(seeds) > 8:  # file names have a longest length
        names = f"{seeds[0]}_to_{seeds[-1]}_{zlib.crc32(names.encode()):08x}"
    return f"seeds_{names}"


def model_builder(
    model: str | Callable[[int], nn.Module], data: Dataset
) -> Callable[[int], nn.Module]:
    """Return a function from a seed to a model on data's device."""
    if isinstance(model, nn.Module) or not (isinstance(model, str) or callable(model)):
        raise ValueError(
            f"model is a name or a function from a seed to a module, so that every seed gets its "
            f"own initial weights; got {type(model).__name__}"
        )

    is_known = isinstance(model, str)

    def build(seed: int) -> nn.Module:
        nonlocal is_known
        made = build_model(model, seed=seed, data=data) if isinstance(model, str) else model(seed)
        if not isinstance(made, nn.Module):
            raise ArgumentError(
                f"model is a name or a function from a seed to a module; of seed {seed} it gives "
                f"{shown(made)}"
            )
        if not is_known and model(seed) is made:
            raise ArgumentError(
                f"model, called twice with seed {seed}, gives the same model twice: let every call "
                f"build a new one, or a training begins where another ended"
            )
        is_known = True
        return made.to(data.device)

    return build


def _check_design(
    arms: Sequence[str], seeds: Sequence[int], imp: IMPConfig
) -> tuple[list[str], list[int]]:
    arms, seeds = different_arms(arms, ARMS), different_seeds(seeds, below=OTHER_INITIALIZATION)
    if imp.after_pruning != "rewind" and "reinit" in arms:
        raise ValueError(
            f"the control 'reinit' replaces the weights that a ticket is rewound to; with "
            f"after_pruning={imp.after_pruning!r} there are none: leave it out"
        )
    return arms, seeds


def _check_seeding(seed: int, first: nn.Module, again: nn.Module, other: nn.Module) -> None:
    """Raise unless a seed gave the same new model twice, and another seed another one."""
    if first is again:
        raise ValueError("the function returns the same model twice; it must build a new one")
    hashes = [state_hash(snapshot(each)) for each in (first, again, other)]
    if hashes[0] != hashes[1]:
        raise ValueError(
            f"the function gives two different models for seed {seed}; draw the initial weights "
            f"from the seed alone, e.g. with lt.reinitialize(model, seed)"
        )
    if hashes[0] == hashes[2]:
        raise ValueError(
            "the function gives the same model for every seed; draw the initial weights from the "
            "seed, e.g. with lt.reinitialize(model, seed)"
        )
