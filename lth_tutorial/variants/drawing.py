"""Early-bird tickets over several seeds: when masks settle, and what a mask is worth when drawn.

One training of every seed gives the masks of all epochs; `mask_histories` returns them,
`settling_experiment` their distances, and `early_bird_experiment` trains on with masks of several
epochs, each beside its controls, at equal budgets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from lth_tutorial.data.dataset import Dataset, generator_for, permutation
from lth_tutorial.networks.calls import copied
from lth_tutorial.pruning.masks import Mask, density
from lth_tutorial.runtime import choose, progress_bar
from lth_tutorial.safety.arguments import checked, different_arms, different_seeds
from lth_tutorial.safety.locks import one_writer
from lth_tutorial.states import State, load_state_
from lth_tutorial.structured.removal import unit_mask
from lth_tutorial.tickets.arms import OTHER_INITIALIZATION, model_builder
from lth_tutorial.training.config import TrainConfig
from lth_tutorial.training.evaluation import evaluate
from lth_tutorial.training.identity import within
from lth_tutorial.training.outcome import SNAPSHOT, TrainResult
from lth_tutorial.training.replicates import train_replicates
from lth_tutorial.variants.drawn_masks import (
    CRITERIA,
    check_drawn,
    draw_mask,
    drawing_epoch,
    mask_distance,
    ranked_groups,
    scorer,
    unrelated_distance,
    with_every_group,
)
from lth_tutorial.variants.early_bird import train_masked_from

if TYPE_CHECKING:
    import pandas as pd

ARMS = (
    "early_bird", "early_bird_momentum", "final_mask", "same_counts",
    "early_bird_reinit", "early_bird_rewound",
)  # fmt: skip
"""What a mask drawn at an epoch is compared with; see `early_bird_experiment`."""


@dataclass(frozen=True)
class History:
    """One training of every seed, epoch by epoch.

    Attributes:
        seeds: the replicates that did not diverge.
        models: their networks, at the end.
        results: with a snapshot at the start of every epoch.
        epoch_steps: steps of an epoch.
    """

    seeds: list[int]
    models: list[nn.Module]
    results: list[TrainResult]
    epoch_steps: int

    @property
    def epochs(self) -> int:
        """Number of whole epochs."""
        return self.results[0].steps // self.epoch_steps

    def states(self, epoch: int) -> list[State]:
        """Return the weights of every seed at the start of an epoch."""
        # Not `snapshots`, which reads all of them where they lie in a workdir.
        name = f"{SNAPSHOT}{epoch * self.epoch_steps}"
        return [result.states[name] for result in self.results]


@checked
@one_writer
def train_history(
    model: str | Callable[[int], nn.Module],
    data: Dataset,
    config: TrainConfig,
    *,
    seeds: Sequence[int] = range(8),
    on_step: Callable[[], object] = lambda: None,
    workdir: str | Path | None = None,
) -> History:
    """Train a network per seed and keep its weights at the start of every epoch.

    Raises:
        ValueError: as `train`.
        FloatingPointError: if the training of every seed diverges.
    """
    seeds, build = list(seeds), model_builder(model, data)
    models = [build(seed) for seed in seeds]
    steps = len(data.x_train) // config.batch_size
    results = train_replicates(
        models, data, config, data_seeds=seeds, save_at=range(0, config.steps + 1, steps),
        on_step=on_step, workdir=workdir,
    )  # fmt: skip
    good = [i for i, result in enumerate(results) if result.diverged_step is None]
    if not good:
        raise FloatingPointError(
            f"the training of every seed diverged ({', '.join(map(str, seeds))}): there are no "
            f"masks; lower lr ({config.lr}) or add warmup_steps"
        )
    pick = ([each[i] for i in good] for each in (seeds, models, results))
    return History(*pick, steps)


@checked
def mask_histories(
    history: History, data: Dataset, fraction: float, *, by: str = "bn_scale"
) -> list[list[Mask]]:
    """Return for every seed the masks at the start of every epoch, as `early_bird` draws them."""
    scratch = copied(history.models[0])
    score = scorer(scratch, data, by)
    found: list[list[Mask]] = [[] for _ in history.seeds]
    for epoch in range(history.epochs + 1):
        for masks, state in zip(found, history.states(epoch), strict=True):
            load_state_(scratch, state)
            masks.append(draw_mask(score(), fraction))
    return found


@checked
def random_histories(masks: Sequence[Sequence[Mask]], fraction: float) -> list[list[Mask]]:
    """Return masks of the same shapes drawn at random every epoch: what chance does to the rule."""
    return [
        [
            draw_mask(
                {
                    name: torch.rand(kept.shape, generator=generator_for("mask", i, epoch, j))
                    for j, (name, kept) in enumerate(mask.items())
                },
                fraction,
            )
            for epoch, mask in enumerate(own)
        ]
        for i, own in enumerate(masks)
    ]


@checked
def settling_rows(
    arm: str, seeds: Sequence[int], histories: Sequence[Sequence[Mask]], *, threshold: float = 0.1,
    window: int = 5,
) -> pd.DataFrame:  # fmt: skip
    """Return how far the masks of every epoch are from one another; a row per seed and epoch.

    Returns:
        arm, seed, round (the epoch), density (share kept), to_final and to_previous (distances of
        the mask to that of the end and to the one before, over that of unrelated masks), raw (to
        the one before, not divided), largest (of the distances to the `window − 1` masks before,
        not divided), drawn (1 from the epoch on at which the rule was met, else 0).
    """
    import pandas as pd

    if len(seeds) != len(histories):
        raise ValueError(f"one history per seed; got {len(histories)} for {len(seeds)} seeds")
    rows = []
    for seed, masks in zip(seeds, histories, strict=True):
        met = drawing_epoch(masks, threshold=threshold, window=window)
        for epoch, mask in enumerate(masks):
            older = masks[max(0, epoch - window + 1) : epoch]
            raw = mask_distance(mask, masks[epoch - 1]) if epoch else math.nan
            full = len(older) == window - 1
            row = {
                "arm": arm, "seed": seed, "round": epoch,
                "density": density(mask),
                "to_final": _relative(mask, masks[-1]),
                "to_previous": _relative(mask, masks[epoch - 1]) if epoch else math.nan,
                "raw": raw,
                "largest": max(mask_distance(mask, o) for o in older) if full else math.nan,
                "drawn": float(met is not None and epoch >= met),
            }  # fmt: skip
            rows.append(row)
    return pd.DataFrame(rows)


@checked
@one_writer
def settling_experiment(
    model: str | Callable[[int], nn.Module],
    data: Dataset,
    config: TrainConfig,
    *,
    fractions: Sequence[float] = (0.5,),
    by: str = "bn_scale",
    seeds: Sequence[int] = range(8),
    workdir: str | Path | None = None,
) -> pd.DataFrame:
    """Measure when masks settle, beside masks drawn at random; rows as from `settling_rows`.

    Arms are "p 0.5" and "p 0.5, random" for each of the `fractions`.
    """
    import pandas as pd

    if not len(fractions):
        raise ValueError("fractions are one or more numbers in [0, 1); got none: []")
    for fraction in fractions:
        check_drawn(fraction)
    check_ranked(model, data, seeds, by)
    with progress_bar(config.steps * len(list(seeds)), "masks") as bar:
        history = train_history(
            model, data, config, seeds=seeds, on_step=bar.update, workdir=within(workdir, "dense")
        )
    tables = []
    for fraction in fractions:
        masks = mask_histories(history, data, fraction, by=by)
        arm, chance = f"p {fraction:g}", random_histories(masks, fraction)
        tables.append(settling_rows(arm, history.seeds, masks))
        tables.append(settling_rows(f"{arm}, random", history.seeds, chance))
    return pd.concat(tables, ignore_index=True)


@checked
@one_writer
def early_bird_experiment(
    model: str | Callable[[int], nn.Module],
    data: Dataset,
    config: TrainConfig,
    *,
    fraction: float = 0.5,
    draw_epochs: Sequence[int] = (2, 5, 10),
    arms: Sequence[str] = ARMS,
    seeds: Sequence[int] = range(8),
    workdir: str | Path | None = None,
) -> pd.DataFrame:
    """Draw masks at several epochs and train on with each; one row per arm, seed and epoch.

    The removed units are masked, with the columns that read them, and not cut out, so that all
    seeds train as one stack; the numbers are the same.

    Args:
        config: of the whole training. An arm that keeps the weights of an epoch trains from there
            to its end, so that the search counts and all budgets are equal.
        arms: any of "early_bird" (mask and weights of the epoch, optimiser afresh),
            "early_bird_momentum" (optimiser kept), "final_mask" (the mask of the end of training
            on the weights of the epoch: an oracle), "same_counts" (as many units per layer, drawn
            at random, on the weights of the epoch), "early_bird_reinit" (the mask on new weights,
            which get the rest of the budget) and "early_bird_rewound" (the mask on the initial
            weights, which get a whole budget more: the search is not counted).

    Returns:
        arm, seed, round (place of the epoch in `draw_epochs`, from 1; 0 is the dense network),
        density (of weights), step (at which the mask was drawn), accuracy (test, [0, 1]; missing
        where training diverged) and smallest_layer (units of the layer that keeps least).

    Raises:
        ValueError: for unknown arms or epochs, or what `train` and `early_bird` refuse.
    """
    import pandas as pd

    check_drawn(fraction)
    arms = different_arms(arms, ARMS)
    build, rows = model_builder(model, data), []
    whole = config.steps // (len(data.x_train) // config.batch_size)
    if not draw_epochs or not all(0 < epoch < whole for epoch in draw_epochs):
        raise ValueError(f"draw_epochs lie between 0 and {whole}; got {list(draw_epochs)}")
    check_ranked(model, data, seeds, "bn_scale")
    total = config.steps * (1 + len(arms) * len(draw_epochs)) * len(list(seeds))
    with progress_bar(total, "early birds") as bar:
        history = train_history(
            model, data, config, seeds=seeds, on_step=bar.update, workdir=within(workdir, "dense")
        )
        dense = [evaluate(each, data).accuracy for each in history.models]
        for arm in arms:
            rows += [
                _row(arm, s, 0, 1.0, 0, a, None) for s, a in zip(history.seeds, dense, strict=False)
            ]
        masks = mask_histories(history, data, fraction)
        for place, epoch in enumerate(draw_epochs, start=1):
            for arm in arms:
                folder = within(workdir, f"epoch_{epoch}", arm)
                rows += _arm_rows(
                    arm, place, epoch, build, data, config, history, masks, bar.update, folder
                )
    return pd.DataFrame(rows)


def check_ranked(model, data: Dataset, seeds: Sequence[int], by: str) -> None:
    """Raise a ValueError unless masks of the networks can be drawn by this score."""
    choose("by", by, CRITERIA)
    scorer(model_builder(model, data)(different_seeds(seeds)[0]), data, by)()


def _arm_rows(
    arm, place, epoch, build, data, config, history, masks, on_step, workdir
) -> list[dict]:
    step, groups = epoch * history.epoch_steps, ranked_groups(history.models[0], data)
    units = [with_every_group(own[-1 if arm == "final_mask" else epoch]) for own in masks]
    if arm == "same_counts":
        units = [_shuffled(mask, seed) for mask, seed in zip(units, history.seeds, strict=True)]
    seeds = history.seeds
    if arm == "early_bird_reinit":
        models = [build(seed + OTHER_INITIALIZATION) for seed in seeds]
    else:
        models = [build(seed) for seed in seeds]
    if arm not in ("early_bird_reinit", "early_bird_rewound", "early_bird_momentum"):
        for network, state in zip(models, history.states(epoch), strict=True):
            load_state_(network, state)
    weights = [unit_mask(m, u, groups) for m, u in zip(models, units, strict=True)]
    weights = [{n: kept.to(data.device) for n, kept in mask.items()} for mask in weights]
    if arm == "early_bird_momentum":
        results = train_masked_from(
            models, data, config, weights, step=step, data_seeds=seeds, on_step=on_step
        )
    else:
        start = 0 if arm == "early_bird_rewound" else step
        results = train_replicates(
            models, data, config, data_seeds=seeds, masks=weights, start_step=start,
            on_step=on_step, workdir=workdir,
        )  # fmt: skip
    return [
        _row(
            arm,
            seed,
            place,
            density(mask),
            step,
            evaluate(network, data).accuracy if result.diverged_step is None else math.nan,
            own,
        )
        for seed, mask, network, result, own in zip(
            seeds, weights, models, results, units, strict=True
        )
    ]


def _row(arm, seed, place, kept, step, accuracy, units: Mask | None) -> dict:
    smallest = math.nan if units is None else min(int(u.sum()) for u in units.values())
    return {
        "arm": arm, "seed": seed, "round": place, "density": kept, "step": step,
        "accuracy": accuracy, "smallest_layer": smallest,
    }  # fmt: skip


def _shuffled(mask: Mask, seed: int) -> Mask:
    found = {}
    for i, (name, kept) in enumerate(mask.items()):
        found[name] = kept[permutation(len(kept), "same counts", seed, i)]
    return found


def _relative(a: Mask, b: Mask) -> float:
    chance = unrelated_distance(a, b)
    return mask_distance(a, b) / chance if chance else math.nan
