"""Pruning to a density: in one step or many, and how many weights each layer keeps.

What `prune` does once with given scores, `prune_to_density` does for a criterion that is asked
again after every step. `layer_counts` splits a density over the layers by rules that know nothing
of the weights: what a random mask needs in order to compete.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import nn

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.pruning.masks import (
    Criterion,
    Mask,
    check_boolean,
    check_mask,
    dense_mask,
    in_order_of,
    weights_under,
)
from lth_tutorial.pruning.prune import keep_best, warn_of_collapse, warn_of_ties
from lth_tutorial.runtime import choose, is_number, is_whole
from lth_tutorial.safety.arguments import checked

RULES = ("uniform", "erdos_renyi", "erdos_renyi_kernel", "smart")
SMART_OUTPUT = 0.3


@checked
def prune_to_density(
    criterion: Criterion,
    model: nn.Module,
    data: Dataset,
    density: float,
    *,
    mask: Mask | None = None,
    rounds: int = 1,
    schedule: Literal["exponential", "linear"] = "exponential",
    min_per_layer: int = 0,
) -> Mask:
    """Return the mask of the best-scored weights of the network, without training it.

    In each round the criterion scores the network under the mask so far, and the lowest go. One
    round is one-shot pruning. Scores are ranked over the whole network.

    Args:
        criterion: `snip_scores`, `grasp_scores`, `synflow_scores` or another function
            (model, data, mask) -> scores.
        model: is left as it was.
        density: share of all prunable weights that is left at the end, in (0, 1).
        mask: where to begin; default everything.
        rounds: SynFlow's authors take 100.
        schedule: "exponential" removes the same share of what remains in every round, so that
            round i of n leaves density^(i/n); "linear" removes the same number.
        min_per_layer: as for `keep_best`.

    Raises:
        ValueError: for a density out of range or not below that of the mask, rounds below 1, an
            unknown schedule, or scores that are NaN.

    Warns:
        LayerCollapseWarning: naming each layer that is empty now.
        TiedScoresWarning: if at least half of the scores are equal and only some of them stay.

    Source: Tanaka et al. 2020, algorithm 1; iterative SNIP: de Jorge et al. 2021.
    """
    choose("schedule", schedule, ("exponential", "linear"))
    if not is_whole(rounds) or rounds < 1:
        raise ValueError(f"rounds is a whole number of at least 1; got {rounds!r}")
    mask = dense_mask(model) if mask is None else mask
    mask = {name: mask[name] for name in weights_under(model, mask)}
    first = mask
    start, total = sum(int(m.sum()) for m in mask.values()), sum(m.numel() for m in mask.values())
    end = _target(density, total)
    if end >= start:
        raise ValueError(
            f"density {density:g} is {end} of {total} weights, but the mask keeps {start} already"
        )
    for i in range(1, rounds + 1):
        if schedule == "exponential":
            keep = (
                round(start * (end / start) ** (i / rounds)) if end else start - start * i // rounds
            )
        else:
            keep = round(start + (end - start) * i / rounds)
        scores, before = in_order_of(mask, criterion(model, data, mask)), mask
        mask = keep_best(scores, before, keep, min_per_layer=min_per_layer)
        warn_of_ties(scores, before, mask)
    warn_of_collapse(first, mask)
    return mask


@checked
def layer_counts(mask: Mask, density: float, rule: str | Mask) -> dict[str, int]:
    """Return how many weights each layer keeps, so that the whole network has this density.

    `keep_best(random_scores(mask, seed), mask, counts)` then draws a random mask with these
    counts. A layer that would keep more than it has keeps all, and the others share the rest.

    Args:
        mask: gives the layers, in the order of the network, and their shapes.
        density: share of all its weights, in (0, 1).
        rule: "uniform": every layer has the same density. "erdos_renyi": a layer of a × b units
            has a density proportional to (a + b) / (a b). "erdos_renyi_kernel": for kernels the
            numerator and the denominator also count the kernel's sides. "smart": layer l of L has
            a density proportional to j² + j with j = L − l + 1, so that late layers are thin, and
            the output layer 0.3. Or another mask: its density in every layer, times a constant.

    Raises:
        ValueError: for a density out of range, an unknown rule, a mask of other layers, or a
            density too small for the output layer of "smart".

    Source: Mocanu et al. 2018 (Erdős–Rényi); Evci et al. 2020 (with kernels); Su et al. 2020,
    section 4 (smart ratios).
    """
    check_boolean(mask)
    sizes = {name: kept.numel() for name, kept in mask.items()}
    total = _target(density, sum(sizes.values()))
    fixed: dict[str, float] = {}
    if not isinstance(rule, str):
        check_mask(rule, mask)
        weight = {name: int(kept.sum()) / kept.numel() for name, kept in rule.items()}
    elif choose("rule", rule, RULES) == "uniform":
        weight = dict.fromkeys(mask, 1.0)
    elif rule == "smart":
        depths = {name: len(mask) - i for i, name in enumerate(mask)}
        weight = {name: j * j + j for name, j in depths.items()}
        output = list(mask)[-1]
        if len(mask) > 1:
            fixed[output] = min(SMART_OUTPUT * sizes[output], sizes[output])
            if fixed[output] > total:
                raise ValueError(
                    f"smart ratios keep {SMART_OUTPUT:g} of {output}, {fixed[output]:.0f} weights; "
                    f"density {density:g} leaves {total} in all"
                )
    else:
        sides = 2 if rule == "erdos_renyi" else None
        shapes = {name: tuple(kept.shape)[:sides] for name, kept in mask.items()}
        weight = {name: sum(shape) / math.prod(shape) for name, shape in shapes.items()}
    return _round_counts(_fill(sizes, weight, fixed, total), total, sizes)


def _target(density: float, total: int) -> int:
    if not is_number(density) or not 0 < density < 1:
        raise ValueError(f"density is the share of weights to keep, in (0, 1); got {density!r}")
    return round(float(density) * total)


def _fill(
    sizes: dict[str, int], weight: dict[str, float], fixed: dict[str, float], total: int
) -> dict[str, float]:
    """Return counts size · constant · weight, none above its size, that add up to the total."""
    counts = dict(fixed)
    while True:
        open_ = [name for name in sizes if name not in counts]
        wanted = sum(sizes[name] * weight[name] for name in open_)
        constant = (total - sum(counts.values())) / wanted if wanted else 0.0
        full = [name for name in open_ if constant * weight[name] > 1]
        if not full:
            return counts | {name: constant * weight[name] * sizes[name] for name in open_}
        counts |= {name: float(sizes[name]) for name in full}


def _round_counts(counts: dict[str, float], total: int, sizes: dict[str, int]) -> dict[str, int]:
    """Return whole numbers with the same sum: the largest remainders are rounded up."""
    whole = {name: min(int(counts[name]), sizes[name]) for name in sizes}
    order = sorted(sizes, key=lambda name: whole[name] - counts[name])
    missing = total - sum(whole.values())
    while missing > 0:
        room = [name for name in order if whole[name] < sizes[name]][:missing]
        for name in room:
            whole[name] += 1
        missing -= len(room)
    return whole
