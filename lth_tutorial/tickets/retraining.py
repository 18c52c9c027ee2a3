"""What to do after pruning: three ways to train on, side by side (chapter 7).

Rewinding puts back the weights and the learning rate of step k, learning-rate rewinding only the
rate, fine-tuning neither. All of them train `steps − k` more, on the same batches, from the same
dense network; that is what makes the comparison one of methods and not of budgets.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.pruning.masks import Mask, shuffle_within_layers
from lth_tutorial.runtime import is_whole, progress_bar
from lth_tutorial.safety.arguments import at_least, checked, different_arms
from lth_tutorial.safety.locks import one_writer
from lth_tutorial.states import State
from lth_tutorial.tickets.arms import OTHER_INITIALIZATION, model_builder, seeds_folder
from lth_tutorial.tickets.lottery import (
    IMPRound,
    as_rounds,
    check_fits,
    dense_round,
    pruned_rounds,
    pruning_identity,
    round_folder,
    train_all,
    train_from,
)
from lth_tutorial.tickets.measures import rows_of
from lth_tutorial.training.config import IMPConfig, TrainConfig
from lth_tutorial.training.groups import can_stack
from lth_tutorial.training.identity import claim_folder, describe_model, within
from lth_tutorial.training.workers import available_workers, map_seeds

if TYPE_CHECKING:
    import pandas as pd

WAYS = ("rewind", "lr_rewind", "fine_tune")
CONTROLS = ("reinit", "random")


@checked
@one_writer
def retraining_experiment(
    model: str | Callable[[int], nn.Module],
    data: Dataset,
    train_config: TrainConfig,
    imp_config: IMPConfig,
    *,
    arms: Sequence[str] = WAYS,
    rewind_steps: Sequence[int] | None = None,
    iterative: bool = True,
    seeds: Sequence[int] = range(8),
    workers: int | None = None,
    workdir: str | Path | None = None,
) -> pd.DataFrame:
    """Compare ways to train a pruned network on; one row per arm, seed, rewind step and round.

    The dense network of a seed is trained once. From it every arm prunes and trains
    `steps − k` more per round, for every rewind step k, on the same batches.

    Args:
        model: a name for `build_model`, or a function from a seed to a module.
        imp_config: rounds, fraction, scope and `finetune_lr`; `arms` and `rewind_steps` take the
            place of `after_pruning` and `rewind_step`.
        arms: any of "rewind" (weights and learning rate of step k), "lr_rewind" (trained weights,
            learning rate of step k), "fine_tune" (trained weights, a constant low rate), and two
            controls for "rewind": "reinit" (its mask on another seed's weights at step k) and
            "random" (its mask shuffled within layers, on its own weights at step k).
        rewind_steps: the steps k, different, in 0 … steps − 1; default `imp_config.rewind_step`.
        iterative: every arm prunes in rounds and trains in each, so that round r has cost
            r · (steps − k) steps; or else each round prunes the dense network once, to that
            round's density, and trains once. Then all arms have the same mask.
        seeds: replicates; a seed draws the initial weights and the order of the data.
        workers: processes for networks that are not trained as one stack; default one per core.
        workdir: folder to continue from. An experiment that was killed goes on at its last
            checkpoint, to the same bits on a CPU; more arms and rounds may be asked for later.

    Returns:
        A frame with the columns arm, seed, rewind_step (k), round (0 is the dense
        network, the same row everywhere), density, accuracy (test, [0, 1]; missing where training
        diverged) and the other measures of `lottery_experiment`.

    Raises:
        ValueError: for unknown arms, repeated seeds or steps, steps outside the run,
            configurations that do not fit, or a workdir of another configuration.

    Warns:
        DivergenceWarning: naming step and seed; an iterative arm has no later rounds then.

    Source: Renda et al. 2020, sections 2 and 3.
    """
    import pandas as pd

    steps = [imp_config.rewind_step] if rewind_steps is None else list(rewind_steps)
    arms, seeds = different_arms(arms, (*WAYS, *CONTROLS)), list(seeds)
    _check_design(steps, seeds, train_config)
    if workers is not None:
        at_least("workers", workers, 1)
    build = model_builder(model, data)
    first, second = build(seeds[0]), build(seeds[0] + OTHER_INITIALIZATION)
    imp = replace(imp_config, rewind_step=min(steps), after_pruning="rewind")
    check_fits(first, train_config, imp)
    if workdir is not None:
        start = {"model": describe_model(first), "rewind_steps": sorted(steps)}
        start["iterative"] = iterative
        claim_folder(workdir, pruning_identity(data, train_config, imp) | start)

    def some_seeds(seeds: Sequence[int], on_step: Callable[[], object]) -> list[dict]:
        folder = within(workdir, seeds_folder(seeds))
        return _experiment(
            build, data, train_config, imp, arms, steps, iterative, seeds, on_step, folder
        )

    with progress_bar(_total(arms, steps, train_config, imp) * len(seeds), "retraining") as bar:
        if can_stack([first, second]) or data.device.type != "cpu":
            rows = some_seeds(seeds, bar.update)
        else:
            each = map_seeds(
                lambda seed, on_step: some_seeds([seed], on_step), seeds,
                workers=available_workers() if workers is None else workers, bar=bar,
            )  # fmt: skip
            rows = list(itertools.chain(*each))
    frame = pd.DataFrame(rows)
    rank = frame["arm"].map({arm: i for i, arm in enumerate(arms)})
    frame = frame.assign(rank=rank).sort_values(["rank", "seed", "rewind_step", "round"])
    integers = ("early_stop_step", "steps_to_90", "steps_to_95", "diverged_step")
    frame = frame.drop(columns="rank").reset_index(drop=True)
    return frame.astype(dict.fromkeys(integers, "Int64"))


def _experiment(
    build: Callable[[int], nn.Module],
    data: Dataset,
    config: TrainConfig,
    imp: IMPConfig,
    arms: Sequence[str],
    steps: Sequence[int],
    iterative: bool,
    seeds: Sequence[int],
    on_step: Callable[[], object],
    workdir: Path | None,
) -> list[dict]:
    """Return the rows of some seeds, trained side by side."""
    models = {seed: build(seed) for seed in seeds}
    dense = dense_round(models, data, config, steps, on_step, within(workdir, "dense"))
    sources = {"random": {seed: r.result for seed, r in dense.items()}}
    if "reinit" in arms:
        others = {seed: build(seed + OTHER_INITIALIZATION) for seed in seeds}
        sources["reinit"] = train_all(
            others, data, config, stop_step=max(steps), save_at=steps, on_step=on_step,
            workdir=within(workdir, "other_weights"),
        )  # fmt: skip
    dense_rows = rows_of("dense", models, data, dense)
    rows = [
        row | {"arm": arm, "rewind_step": k} for arm in arms for k in steps for row in dense_rows
    ]
    masks: list[dict[int, Mask]] = []
    for k, arm in itertools.product(steps, _trained(arms)):
        folder = within(workdir, f"from_{k}", arm)
        if arm in WAYS:
            at_k = replace(imp, rewind_step=k, after_pruning=arm)
            rounds = pruned_rounds(
                models, data, config, at_k, dense, on_step, folder, iterative=iterative
            )
        else:
            starts = {s: r.snapshots[k] for s, r in sources[arm].items() if k in r.snapshots}
            rounds = _control_rounds(arm, models, starts, masks, data, config, k, on_step, folder)
        rounds = list(rounds)
        if arm == "rewind":
            masks = [{seed: r.mask for seed, r in by_seed.items()} for by_seed in rounds]
        if arm in arms:
            found = (row for by_seed in rounds for row in rows_of(arm, models, data, by_seed))
            rows += [row | {"rewind_step": k} for row in found]
    return rows


def _control_rounds(
    arm: str,
    models: dict[int, nn.Module],
    starts: dict[int, State],
    tickets: Sequence[dict[int, Mask]],
    data: Dataset,
    config: TrainConfig,
    k: int,
    on_step: Callable[[], object],
    workdir: Path | None,
) -> Iterator[dict[int, IMPRound]]:
    """Yield the rounds of a control: the tickets' masks, or as dense ones, on its start weights."""
    for index, by_seed in enumerate(tickets, start=1):
        masks = {
            seed: shuffle_within_layers(mask, seed) if arm == "random" else mask
            for seed, mask in by_seed.items()
            if seed in starts
        }
        own = {seed: models[seed] for seed in masks}
        if own:
            results = train_from(
                own, starts, masks, data, config, k, on_step=on_step,
                workdir=round_folder(workdir, index),
            )  # fmt: skip
            yield as_rounds(index, own, data, masks, results)


def _trained(arms: Sequence[str]) -> list[str]:
    """Return what has to be trained for the arms, in order: controls need the ticket's masks."""
    needed = {*arms, *(["rewind"] if set(arms) & set(CONTROLS) else [])}
    return [arm for arm in (*WAYS, *CONTROLS) if arm in needed]


def _total(arms: Sequence[str], steps: Sequence[int], config: TrainConfig, imp: IMPConfig) -> int:
    """Return the training steps per seed."""
    after = len(_trained(arms)) * imp.rounds * sum(config.steps - k for k in steps)
    return config.steps + after + (max(steps) if "reinit" in arms else 0)


def _check_design(steps: Sequence[int], seeds: Sequence[int], config: TrainConfig) -> None:
    for name, values, end in (
        ("rewind_steps", steps, config.steps), ("seeds", seeds, OTHER_INITIALIZATION),
    ):  # fmt: skip
        good = all(is_whole(value) and 0 <= value < end for value in values)
        if not values or not good or len(set(values)) < len(values):
            raise ValueError(
                f"{name} are one or more different whole numbers in 0 … {end - 1}; got {values}"
            )
