"""The arms of one round, trained side by side.

All masks and starts of a round are known before its training begins, and its arms share data,
batches and settings. Small networks are limited by the overhead of each operation, so the seeds of
all arms are trained as one stack where `is_worth_merging` says so, and few large ones side by side
on a GPU. Each arm's results are those that it has when it is trained alone, to floating-point
tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.networks.calls import copied
from lth_tutorial.pruning.masks import Mask
from lth_tutorial.runtime import tick
from lth_tutorial.safety.files import remove_run
from lth_tutorial.states import State, load_state_
from lth_tutorial.tickets.lottery import rewind_, train_from
from lth_tutorial.training.branches import is_worth_joining
from lth_tutorial.training.config import TrainConfig
from lth_tutorial.training.groups import is_worth_merging
from lth_tutorial.training.identity import within
from lth_tutorial.training.outcome import TrainResult
from lth_tutorial.training.replicates import has_replicates, keep_replicates, train_replicates

Results = dict[int, TrainResult]
"""Of one arm, by seed."""


@dataclass(frozen=True)
class Arm:
    """One arm of a round.

    Attributes:
        starts: the weights to put each seed's network on; may know more seeds than take part.
        masks: one per seed that takes part.
        folder: the arm's own, or None without a working directory.
        keeps_weights: whether its results stay in its folder; else the caller keeps rows.
        rows: those that the caller kept when the arm was finished, or None.
    """

    starts: Mapping[int, State]
    masks: Mapping[int, Mask]
    folder: Path | None
    keeps_weights: bool = False
    rows: list[dict] | None = None

    def is_finished(self) -> bool:
        """Return whether there is nothing left to train."""
        return self.rows is not None or has_replicates(self.folder, len(self.masks))


def train_arms(
    models: Mapping[int, nn.Module],
    arms: Mapping[str, Arm],
    data: Dataset,
    config: TrainConfig,
    start_step: int,
    *,
    on_step: Callable[[], object],
    workdir: Path | None,
) -> Iterator[tuple[str, Results | None]]:
    """Yield each arm with its results, the models then at its end; None for one with rows.

    Two or more arms that are not finished are trained as one stack where that pays; all their
    models are then alive at once.

    Args:
        workdir: the folder of the round. What was begun together is continued together, to the
            same bits on a CPU. Use up the iterator: the end removes what was kept for this.
    """
    together: dict[str, Results] = {}
    some = list(models.values())
    if is_worth_merging(some) or is_worth_joining(some):
        for names in _sets(arms, workdir):
            some = {name: arms[name] for name in names}
            together |= _as_one_stack(models, some, data, config, start_step, on_step, workdir)
    for name, arm in arms.items():
        own = {seed: models[seed] for seed in arm.masks}
        if name in together:
            results = together.pop(name)
            if arm.keeps_weights and arm.folder is not None:
                results = _keep(own, arm, results, data, config, start_step)
            for seed, model in own.items():
                load_state_(model, results[seed].final)
            yield name, results
        elif arm.rows is None:
            yield name, train_from(
                own, arm.starts, arm.masks, data, config, start_step, on_step=on_step,
                workdir=arm.folder,
            )  # fmt: skip
        else:
            tick(on_step, len(own) * (config.steps - start_step))
            yield name, None
    for folder in _folders(workdir, arms):
        remove_run(folder)


def _sets(arms: Mapping[str, Arm], workdir: Path | None) -> list[list[str]]:
    """Return the sets of arms to train together: those that were begun, then all others."""
    missing = [name for name, arm in arms.items() if not arm.is_finished()]
    sets = []
    for names in [folder.name.split("+") for folder in _folders(workdir, arms)]:
        # Some may be finished: a kill can fall between the writing of two arms' results.
        if set(names) & set(missing):
            sets.append(names)
            missing = [name for name in missing if name not in names]
    return [*sets, missing] if len(missing) > 1 else sets


def _as_one_stack(
    models, arms: Mapping[str, Arm], data, config, start_step, on_step, workdir
) -> dict[str, Results]:
    """Train copies of the models, one per arm and seed; results by arm."""
    keys = [(name, seed) for name, arm in arms.items() for seed in arm.masks]
    copies, masks = [], [arms[name].masks[seed] for name, seed in keys]
    for (name, seed), mask in zip(keys, masks, strict=True):
        copies.append(copied(models[seed]))
        rewind_(copies[-1], arms[name].starts[seed], mask)
    found = train_replicates(
        copies, data, config, data_seeds=[seed for _, seed in keys], masks=masks,
        start_step=start_step, on_step=on_step, workdir=within(workdir, "+".join(arms)),
    )  # fmt: skip
    results: dict[str, Results] = {name: {} for name in arms}
    for (name, seed), result in zip(keys, found, strict=True):
        results[name][seed] = result
    return results


def _keep(models, arm: Arm, results: Results, data, config, start_step) -> Results:
    """Put an arm's results where `train_from` will find them, and return them from there."""
    for seed, model in models.items():
        rewind_(model, arm.starts[seed], arm.masks[seed])
    kept = keep_replicates(
        list(models.values()), data, config, list(results.values()), data_seeds=list(models),
        masks=list(arm.masks.values()), start_step=start_step, workdir=arm.folder,
    )  # fmt: skip
    return dict(zip(models, kept, strict=True))


def _folders(workdir: Path | None, arms: Mapping[str, Arm]) -> list[Path]:
    """Return the folders of sets of arms that were begun together."""
    found = [] if workdir is None else sorted(workdir.glob("*+*"))
    return [folder for folder in found if set(folder.name.split("+")) <= set(arms)]
