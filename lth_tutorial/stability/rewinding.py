"""Does rewinding to step k make sparse networks stable, and accurate with it?

The experiment of Frankle et al. (2020): tickets rewound to several steps, beside controls with the
same counts and rewind step. Of each, two copies finish on their own orders of the data; one row
holds the barrier between them and how accurate they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.pruning.masks import density
from lth_tutorial.runtime import is_whole, progress_bar
from lth_tutorial.safety.arguments import checked, different_arms
from lth_tutorial.safety.locks import one_writer
from lth_tutorial.stability.connectivity import BatchNorm
from lth_tutorial.stability.instability import check_copies, copies_and_barriers
from lth_tutorial.tickets.arms import arm_mask, model_builder, other_starts
from lth_tutorial.tickets.lottery import (
    check_fits,
    converged,
    imp_rounds,
    round_folder,
    steps_of_arm,
)
from lth_tutorial.training.config import IMPConfig, TrainConfig
from lth_tutorial.training.identity import within

if TYPE_CHECKING:
    import pandas as pd

ARMS = ("ticket", "reinit", "random")


@checked
@one_writer
def rewinding_experiment(
    model: str | Callable[[int], nn.Module],
    data: Dataset,
    train_config: TrainConfig,
    imp_config: IMPConfig,
    *,
    rewind_steps: Sequence[int],
    seeds: Sequence[int],
    arms: Sequence[str] = ARMS,
    rounds: Sequence[int] | None = None,
    branches: int = 2,
    points: int = 11,
    split: str = "test",
    batch_norm: BatchNorm = "reestimate",
    workdir: str | Path | None = None,
) -> pd.DataFrame:
    """Measure accuracy and stability of tickets and controls against the step they rewind to.

    Args:
        model: a name for `build_model`, or a function from a seed to a module.
        imp_config: how to prune; its rewind step is replaced by each of `rewind_steps`.
        rewind_steps: different steps k, from 0 up to before the last step.
        seeds: replicates.
        arms: any of "ticket", "reinit" (the ticket's mask on another seed's weights at step k) and
            "random" (the mask shuffled within layers, on the ticket's own weights at step k).
        rounds: the rounds in which barriers are measured, 0 (the dense network) included or not;
            default all.
        branches: copies of each network; every pair of them gives a row.
        points, split, batch_norm: as for `barrier`.
        workdir: folder to continue from, as for `lottery_experiment`.

    Returns:
        A frame with the columns arm ("dense" in round 0), seed, round, density, rewind_step,
        accuracy (mean of the two copies, [0, 1]) and those of `instability`.

    Raises:
        ValueError: for rewind steps, rounds, arms or seeds that do not fit or are repeated.

    Source: Frankle et al. 2020 (linear mode connectivity), section 4.
    """
    import pandas as pd

    rewind_steps, seeds, arms = list(rewind_steps), list(seeds), different_arms(arms, ARMS)
    rounds = list(range(imp_config.rounds + 1)) if rounds is None else list(rounds)
    check_copies(seeds, branches, points, batch_norm)
    data.split(split)
    _check_design(rewind_steps, rounds, train_config, imp_config)
    build = model_builder(model, data)
    imp_config = replace(imp_config, rounds=max(rounds) or 1)
    check_fits(build(seeds[0]), train_config, replace(imp_config, rewind_step=max(rewind_steps)))
    options = {"points": points, "split": split, "batch_norm": batch_norm}
    networks = sum(index == 0 or len(arms) for index in rounds)
    total = len(rewind_steps) * train_config.steps
    for k in rewind_steps:
        total += steps_of_arm(train_config, replace(imp_config, rewind_step=k))
        total += networks * branches * (train_config.steps - k) + ("reinit" in arms) * k
    rows: list[dict] = []
    with progress_bar(total * len(seeds), "rewinding") as bar:
        for k in rewind_steps:
            imp = replace(imp_config, rewind_step=k)
            folder = within(workdir, f"rewind_{k}")
            found = _one_step(
                build, data, train_config, imp, seeds, arms, rounds, bar.update, folder,
                branches=branches, curves=False, **options,
            )  # fmt: skip
            rows += [row | {"rewind_step": k} for row in found]
    frame = pd.DataFrame(rows)
    return frame.assign(accuracy=1 - (frame["error_a"] + frame["error_b"]) / 2)


def _one_step(build, data, config, imp, seeds, arms, rounds, on_step, workdir, **options):
    """Yield the rows of all rounds and arms for one rewind step."""
    k, models = imp.rewind_step, {seed: build(seed) for seed in seeds}
    tickets = imp_rounds(models, data, config, imp, on_step, workdir)
    dense = next(tickets)
    starts = {s: r.result.snapshots[k] if converged(r.result) else None for s, r in dense.items()}

    def measure(arm: str, index: int, starts, masks) -> list[dict]:
        folder = within(round_folder(workdir, index, arm), "copies")
        # Seeds whose pruning diverged have no mask of this round, and no row.
        some = {seed: starts[seed] for seed in (masks or starts)}
        found = copies_and_barriers(
            build, data, config, k, some, masks, on_step=on_step, workdir=folder, **options
        )
        share = {seed: density(mask) for seed, mask in (masks or {}).items()}
        return [
            {"arm": arm, "round": index, "density": share.get(row["seed"], 1.0)} | row
            for row in found
        ]

    if 0 in rounds:
        yield from measure("dense", 0, starts, None)
    others = (
        other_starts(build, data, config, imp, seeds, on_step, workdir) if "reinit" in arms else {}
    )
    for ticket in tickets:
        index = next(iter(ticket.values())).index
        for arm in arms if index in rounds else ():
            masks = {s: arm_mask(arm, s, r.mask, dense[s], imp) for s, r in ticket.items()}
            yield from measure(arm, index, others if arm == "reinit" else starts, masks)


def _check_design(rewind_steps, rounds, config: TrainConfig, imp: IMPConfig) -> None:
    good = all(is_whole(k) and 0 <= k < config.steps for k in rewind_steps)
    if not rewind_steps or not good or len(set(rewind_steps)) < len(rewind_steps):
        raise ValueError(
            f"rewind_steps are one or more different steps in 0 … {config.steps - 1}; "
            f"got {rewind_steps}"
        )
    good = all(is_whole(index) and 0 <= index <= imp.rounds for index in rounds)
    if not rounds or not good or len(set(rounds)) < len(rounds):
        raise ValueError(
            f"rounds are one or more different numbers in 0 … {imp.rounds}; got {rounds}"
        )
    if imp.after_pruning != "rewind":
        raise ValueError(f"this experiment rewinds; after_pruning={imp.after_pruning!r} does not")
