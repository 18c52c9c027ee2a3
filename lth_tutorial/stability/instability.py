"""Instability analysis: from which step on does the noise of the data order not matter?

A network is trained to step k and copied; the copies finish on different orders of the data, and
the barrier between them is measured.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.pruning.masks import Mask, weights_under
from lth_tutorial.runtime import choose, is_whole, progress_bar
from lth_tutorial.safety.arguments import checked, different_seeds
from lth_tutorial.safety.locks import one_writer
from lth_tutorial.stability.connectivity import BatchNorm, barrier, check_points
from lth_tutorial.states import State, load_state_
from lth_tutorial.tickets.arms import model_builder
from lth_tutorial.tickets.lottery import converged, train_all
from lth_tutorial.training.config import TrainConfig
from lth_tutorial.training.identity import within
from lth_tutorial.training.outcome import TrainResult

if TYPE_CHECKING:
    import pandas as pd

BRANCH = 10_000_000
"""Times (1 + number of the branch), added to a seed to draw a branch's own order of the data."""


@checked
@one_writer
def instability(
    model: str | Callable[[int], nn.Module],
    data: Dataset,
    train_config: TrainConfig,
    *,
    branch_steps: Sequence[int],
    seeds: Sequence[int],
    branches: int = 2,
    masks: Mapping[int, Mask] | None = None,
    points: int = 11,
    split: str = "test",
    batch_norm: BatchNorm = "reestimate",
    curves: bool = False,
    workdir: str | Path | None = None,
) -> pd.DataFrame:
    """Measure from which step on training is stable to the noise of the data order.

    Each seed's network is trained to the last branch step. From its weights at every branch step,
    copies with their own data order (and augmentation) finish the run, with empty momentum; the
    barrier between each two of them is measured.

    Args:
        model: a name for `build_model`, or a function from a seed to a module.
        branch_steps: steps k at which to branch, different, from 0 up to before the last step.
        seeds: replicates.
        branches: copies per seed and step; every pair of them gives a row.
        masks: one per seed, applied to the weights at step k: the instability of a ticket.
        points, split, batch_norm: as for `barrier`.
        curves: add a column `curve`, the errors at all points of the line from a to b.
        workdir: folder to continue from, as for `train`.

    Returns:
        A frame with the columns branch_step, seed, branch_a, branch_b, height, loss_height,
        error_a, error_b, max_error, and diverged. It is True if training of a branch, or up to it,
        became NaN or infinite, or if a branch ended no better than a constant answer (see
        `instability.chance_error`): then there is no height, however flat the line is.

    Raises:
        ValueError: for branch steps that are repeated or outside the run, fewer than two branches,
            repeated seeds, or masks that do not fit.

    Warns:
        DivergenceWarning: naming step and data seed.

    Source: Frankle et al. 2020 (linear mode connectivity), section 2.
    """
    import pandas as pd

    branch_steps, seeds = list(branch_steps), list(seeds)
    _check_branches(branch_steps, train_config)
    check_copies(seeds, branches, points, batch_norm)
    data.split(split)
    _check_masks(seeds, masks)
    build = model_builder(model, data)
    for mask in (masks or {}).values():
        weights_under(build(seeds[0]), mask)
    trunk_end = max(branch_steps)
    total = trunk_end + branches * sum(train_config.steps - k for k in branch_steps)
    rows = []
    with progress_bar(total * len(seeds), "instability") as bar:
        trunk = train_all(
            {seed: build(seed) for seed in seeds}, data, train_config, stop_step=trunk_end,
            save_at=branch_steps, on_step=bar.update,
            workdir=within(workdir, "trunk_" + "_".join(map(str, sorted(branch_steps)))),
        )  # fmt: skip
        for k in branch_steps:
            starts = {s: r.snapshots[k] if converged(r) else None for s, r in trunk.items()}
            found = copies_and_barriers(
                build, data, train_config, k, starts, masks, branches=branches, curves=curves,
                on_step=bar.update, workdir=within(workdir, f"branch_{k}"), points=points,
                split=split, batch_norm=batch_norm,
            )  # fmt: skip
            rows += [{"branch_step": k} | row for row in found]
    return pd.DataFrame(rows)


def copies_and_barriers(
    build: Callable[[int], nn.Module],
    data: Dataset,
    config: TrainConfig,
    k: int,
    starts: Mapping[int, State | None],
    masks: Mapping[int, Mask] | None,
    *,
    branches: int,
    curves: bool,
    on_step: Callable[[], object],
    workdir: Path | None,
    **options,
) -> list[dict]:
    """Return one row per seed and pair of copies that finish the run from step k.

    Args:
        starts: the weights at step k by seed; None where training up to there diverged.
        options: for `barrier`.
    """
    keys = [(s, i) for s, start in starts.items() if start is not None for i in range(branches)]
    models = {}
    for seed, i in keys:
        models[seed + BRANCH * (i + 1)] = copy = build(seed)
        load_state_(copy, starts[seed])
    ends: dict[tuple[int, int], TrainResult] = {}
    if keys:
        each_mask = [masks[seed] for seed, _ in keys] if masks else None
        results = train_all(
            models, data, config, masks=each_mask, start_step=k, on_step=on_step, workdir=workdir
        )
        ends = dict(zip(keys, results.values(), strict=True))
    rows = []
    for seed in starts:
        mask = masks[seed] if masks else None
        for i, j in itertools.combinations(range(branches), 2):
            pair = [ends.get((seed, branch)) for branch in (i, j)]
            measured = _measure(build(seed), pair, data, curves, mask=mask, **options)
            rows.append({"seed": seed, "branch_a": i, "branch_b": j} | measured)
    return rows


def _measure(
    model: nn.Module, pair: list[TrainResult | None], data: Dataset, curves: bool, **options
) -> dict:
    if any(result is None or not converged(result) for result in pair):
        columns = ("height", "loss_height", "error_a", "error_b", "max_error")
        curve = {"curve": (math.nan,) * options["points"]} if curves else {}
        return dict.fromkeys(columns, math.nan) | {"diverged": True} | curve
    found = barrier(model, pair[0].final, pair[1].final, data, **options)
    row = found.summary() | {"diverged": False}
    if max(row["error_a"], row["error_b"]) >= chance_error(data, options["split"]):
        row |= {"height": math.nan, "loss_height": math.nan, "diverged": True}
    return row | ({"curve": found.errors} if curves else {})


def chance_error(data: Dataset, split: str = "test") -> float:
    """Return the error, in [0, 1], from which on a network is no better than a constant answer.

    That of always giving the most frequent class, minus three standard errors on this split.
    """
    _, y = data.split(split)
    share = float(torch.bincount(y).max()) / len(y)
    return 1 - share - 3 * math.sqrt(share * (1 - share) / len(y))


def _check_branches(branch_steps: Sequence[int], config: TrainConfig) -> None:
    good = all(is_whole(k) and 0 <= k < config.steps for k in branch_steps)
    if not branch_steps or not good or len(set(branch_steps)) < len(branch_steps):
        raise ValueError(
            f"branch_steps are one or more different steps in 0 … {config.steps - 1}; "
            f"got {branch_steps}"
        )


def check_copies(seeds: Sequence[int], branches: int, points: int, batch_norm: str) -> None:
    """Raise a ValueError unless seeds, number of branches and way of measuring make sense."""
    if not is_whole(branches) or branches < 2:
        raise ValueError(f"a barrier needs 2 or more branches; got {branches!r}")
    different_seeds(seeds, below=BRANCH)
    check_points(points)
    choose("batch_norm", batch_norm, ("reestimate", "stale"))


def _check_masks(seeds: Sequence[int], masks: Mapping[int, Mask] | None) -> None:
    missing = [seed for seed in seeds if masks is not None and seed not in masks]
    if missing:
        raise ValueError(f"masks needs one mask per seed; none for {missing}")
