"""Pruning methods side by side on the Cubist Spiral: how many weights does each one need?

Every arm prunes the same dense networks to the same numbers of weights, or down to the fewest of
them round by round. A number of weights means those that the network needs (`needed_weights`): what
a method leaves unconnected is not held against it.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from torch import nn

from lth_tutorial.criteria import (
    grasp_scores,
    magnitude_scores,
    random_scores,
    snip_scores,
    synflow_scores,
)
from lth_tutorial.data.dataset import Dataset
from lth_tutorial.pruning.masks import Mask, dense_mask
from lth_tutorial.pruning.prune import (
    LayerCollapseWarning,
    TiedScoresWarning,
    check_fraction,
    keep_best,
)
from lth_tutorial.pruning.schedules import prune_to_density
from lth_tutorial.runtime import is_whole
from lth_tutorial.safety.arguments import checked, different_arms, different_seeds
from lth_tutorial.states import load_state_, snapshot
from lth_tutorial.supermask import SupermaskConfig, effective_state, kaiming_normal_
from lth_tutorial.supermask.search import train_supermasks
from lth_tutorial.tickets.lottery import dense_round, pruned_rounds
from lth_tutorial.training.config import IMPConfig, TrainConfig
from lth_tutorial.training.replicates import train_replicates
from lth_tutorial.variants.spiral import accuracies, needed_weights, spiral_network

if TYPE_CHECKING:
    import pandas as pd

PRUNERS = (
    "ticket", "four_rounds", "gradual", "snip", "snip_iterative", "grasp", "synflow", "random",
    "edge_popup",
)  # fmt: skip
GRADUAL_CUTS = 40
_FOUR = 4


@checked
def compare_on_spiral(
    data: Dataset,
    config: TrainConfig,
    *,
    width: int,
    counts: Sequence[int],
    arms: Sequence[str] = PRUNERS,
    fraction: float = 0.2,
    seeds: Sequence[int] = range(8),
) -> pd.DataFrame:
    """Prune networks 2-w-w-w-1 on the spiral; one row per arm, seed and number of weights.

    Args:
        data: from `cubist_spiral`.
        config: of every training from the start, the dense one and those of pruned networks.
        width: of the three hidden layers.
        counts: numbers of weights to prune to, falling.
        arms: any of
            "ticket": iterative magnitude pruning, `fraction` of the remaining weights per round,
            rewound to the initial weights, until the fewest of `counts`;
            "four_rounds": the same in the paper's four rounds for each count, the share per round
            as large as that needs;
            "gradual": one training in which magnitude pruning follows a cubic schedule in 40 cuts
            (momentum starts anew after each);
            "snip", "grasp" (one step), "snip_iterative" (30 steps), "synflow" (100 steps),
            "random" (over the whole network): masks of the untrained network, then trained;
            "edge_popup": scores trained, weights not, the same share kept in every layer.
        fraction: of the arm "ticket".
        seeds: replicates; a seed draws initial weights, data order, and whatever is random.

    Returns:
        columns arm, seed, round (0 is the dense network, the same row in every arm), density,
        accuracy (on the training points, [0, 1]), weights (needed, see `needed_weights`) and kept.

    Raises:
        ValueError: for unknown arms, repeated seeds, or counts that do not fall or do not fit.
    """
    import pandas as pd

    check_fraction(fraction, "global")
    arms, seeds, counts = different_arms(arms, PRUNERS), different_seeds(seeds), list(counts)
    total = sum(m.numel() for m in dense_mask(spiral_network(width, 0)).values())
    falling = all(is_whole(c) for c in counts) and sorted(set(counts), reverse=True) == counts
    if not counts or not falling or not 0 < counts[-1] <= counts[0] < total:
        raise ValueError(
            f"counts are numbers of weights below the {total} of a network of width {width}, "
            f"falling; got {counts}"
        )
    rows: list[dict] = []

    def add(arm: str, index: int, models: Sequence[nn.Module], masks: Sequence[Mask]) -> None:
        for seed, model, mask, accuracy in zip(
            seeds, models, masks, accuracies(models, data)[1].tolist(), strict=True
        ):
            kept = sum(int(m.sum()) for m in mask.values())
            needed = needed_weights(model, data, mask)
            rows.append(
                {"arm": arm, "seed": seed, "round": index, "density": kept / total,
                 "accuracy": accuracy, "weights": needed, "kept": kept}
            )  # fmt: skip

    dense = {seed: spiral_network(width, seed) for seed in seeds}
    first = dense_round(dense, data, config, {0}, lambda: None)
    for arm in arms:
        add(arm, 0, list(dense.values()), [r.mask for r in first.values()])
        with warnings.catch_warnings():
            # Layers about to be empty, and units that are dead from the start (so that their
            # weights all score zero), are what this comparison is about.
            warnings.simplefilter("ignore", LayerCollapseWarning)
            warnings.simplefilter("ignore", TiedScoresWarning)
            _ARMS[arm](data, config, width, counts, seeds, first, fraction, partial(add, arm))
    return pd.DataFrame(rows)


@checked
def fewest_weights(rows: pd.DataFrame, target: float) -> pd.DataFrame:
    """Return, for every arm and seed, the fewest weights with which it reaches an accuracy.

    Args:
        rows: as from `compare_on_spiral`; round 0 is the dense network.
        target: accuracy to reach, in [0, 1].

    Returns:
        one row per arm and seed: arm, seed, weights, reached (whether any network did; if not,
        weights is that of the dense network) and pruned (whether a pruned one did). Where only the
        dense network reaches the accuracy, weights is an upper bound: what the arm needs lies
        between the numbers that were tried and the dense network's.

    Raises:
        ValueError: for a target out of range.
    """
    import pandas as pd

    if not 0 <= target <= 1:
        raise ValueError(f"target is an accuracy, in [0, 1]; got {target!r}")
    found = []
    for (arm, seed), own in rows.groupby(["arm", "seed"], sort=False):
        good = own[own["accuracy"] >= target]
        weights = good["weights"].min() if len(good) else own["weights"].max()
        pruned = bool((good["round"] > 0).any())
        found.append(
            {"arm": arm, "seed": seed, "weights": weights, "reached": len(good) > 0,
             "pruned": pruned}
        )  # fmt: skip
    return pd.DataFrame(found)


def _by_rounds(data, config, width, counts, seeds, first, fraction, add) -> None:
    models = {seed: spiral_network(width, seed) for seed in seeds}
    for by_seed in _rounds(models, data, config, first, fraction, counts[-1]):
        rounds = list(by_seed.values())
        add(rounds[0].index, _loaded(models, rounds), [r.mask for r in rounds])


def _in_four_rounds(data, config, width, counts, seeds, first, fraction, add) -> None:
    total = sum(m.numel() for m in first[seeds[0]].mask.values())
    models = {seed: spiral_network(width, seed) for seed in seeds}
    for index, count in enumerate(counts, start=1):
        share = 1 - (count / total) ** (1 / _FOUR)
        imp = IMPConfig(rounds=_FOUR, fraction=share, scope="global")
        *_, last = pruned_rounds(models, data, config, imp, first, lambda: None)
        rounds = list(last.values())
        add(index, _loaded(models, rounds), [r.mask for r in rounds])


def _rounds(models, data, config, first, fraction, fewest):
    """Give rounds of iterative pruning until the fewest weights are left."""
    imp = IMPConfig(rounds=1_000, fraction=fraction, scope="global")
    for by_seed in pruned_rounds(models, data, config, imp, first, lambda: None):
        yield by_seed
        mask = next(iter(by_seed.values())).mask
        if sum(int(m.sum()) for m in mask.values()) * (1 - fraction) < fewest:
            return


def _loaded(models, rounds) -> list[nn.Module]:
    for model, one in zip(models.values(), rounds, strict=True):
        load_state_(model, one.state)
    return list(models.values())


def _gradually(data, config, width, counts, seeds, first, fraction, add) -> None:
    """Prune during one training; all counts and seeds are one stack."""
    cells = [(count, seed) for count in counts for seed in seeds]
    models = [spiral_network(width, seed) for _, seed in cells]
    masks = [dense_mask(model) for model in models]
    total = sum(m.numel() for m in masks[0].values())
    cuts = [round(config.steps * i / (GRADUAL_CUTS + 10)) for i in range(GRADUAL_CUTS + 1)]
    for i, (start, stop) in enumerate(zip(cuts, [*cuts[1:], config.steps], strict=True)):
        train_replicates(
            models, data, config, masks=masks, data_seeds=[seed for _, seed in cells],
            start_step=start, stop_step=stop,
        )  # fmt: skip
        if i < GRADUAL_CUTS:
            left = (1 - (i + 1) / GRADUAL_CUTS) ** 3
            masks = [
                keep_best(
                    magnitude_scores(snapshot(model), mask), mask,
                    count + round((total - count) * left),
                )
                for model, mask, (count, _) in zip(models, masks, cells, strict=True)
            ]  # fmt: skip
    _add_cells(add, counts, seeds, models, masks)


def _before_training(choose_mask: Callable) -> Callable:
    """Return an arm that masks untrained networks, then trains them as one stack."""

    def arm(data, config, width, counts, seeds, first, fraction, add) -> None:
        models, masks = [], []
        for count in counts:
            for seed in seeds:
                models.append(spiral_network(width, seed))
                masks.append(choose_mask(models[-1], data, count, seed))
        train_replicates(models, data, config, masks=masks, data_seeds=list(seeds) * len(counts))
        _add_cells(add, counts, seeds, models, masks)

    return arm


def _add_cells(add, counts, seeds, models, masks) -> None:
    n = len(seeds)
    for i in range(len(counts)):
        add(i + 1, models[i * n : (i + 1) * n], masks[i * n : (i + 1) * n])


def _scored(criterion: Callable, rounds: int, model, data, count: int, seed: int) -> Mask:
    total = sum(m.numel() for m in dense_mask(model).values())
    return prune_to_density(criterion, model, data, count / total, rounds=rounds)


def _randomly(model, data, count: int, seed: int) -> Mask:
    mask = dense_mask(model)
    return keep_best(random_scores(mask, seed), mask, count)


def _edge_popup(data, config, width, counts, seeds, first, fraction, add) -> None:
    total = sum(m.numel() for m in first[seeds[0]].mask.values())
    for index, count in enumerate(counts, start=1):
        models = [spiral_network(width, seed) for seed in seeds]
        for model, seed in zip(models, seeds, strict=True):
            kaiming_normal_(model, seed)
        try:
            design = SupermaskConfig("edge_popup", count / total)
            found = train_supermasks(models, data, design, config, seeds=seeds)
        except ValueError:  # so few weights that a layer would keep none
            return
        trained = [copy.deepcopy(model) for model in models]
        for network, model, one in zip(trained, models, found, strict=True):
            load_state_(network, effective_state(model, one))
        add(index, trained, [one.mask for one in found])


_ARMS: dict[str, Callable] = {
    "ticket": _by_rounds,
    "four_rounds": _in_four_rounds,
    "gradual": _gradually,
    "snip": _before_training(partial(_scored, snip_scores, 1)),
    "snip_iterative": _before_training(partial(_scored, snip_scores, 30)),
    "grasp": _before_training(partial(_scored, grasp_scores, 1)),
    "synflow": _before_training(partial(_scored, synflow_scores, 100)),
    "random": _before_training(_randomly),
    "edge_popup": _edge_popup,
}
