"""Pruning: from scores to a smaller mask, with exact counts.

A plain threshold on magnitudes fails on ties: on [.5, -.5, .5, -.5, .1], removing 40 % with a
strict threshold keeps nothing. Here exactly the requested number of weights survives, and among
equal scores the one with the lower index is kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from lth_tutorial.pruning.masks import Mask, Scores, check_boolean, check_mask
from lth_tutorial.pruning.ranking import best
from lth_tutorial.runtime import choose, is_number, is_whole
from lth_tutorial.safety.arguments import checked
from lth_tutorial.safety.warn import warn

Scope = Literal["global", "layer"]
SCOPES = ("global", "layer")


class LayerCollapseWarning(UserWarning):
    """A layer has no weights left, or will have none at the next such pruning."""


class TiedScoresWarning(UserWarning):
    """Most scores are equal, and the order in which weights are stored decides who stays."""


@checked
def prune(
    scores: Scores,
    mask: Mask,
    fraction: float | Mapping[str, float],
    *,
    scope: Scope = "global",
    min_per_layer: int = 0,
) -> Mask:
    """Return a mask without the lowest-scored `fraction` of the weights that `mask` keeps.

    The number removed is `round(fraction * remaining)`, exactly, unless `min_per_layer` holds some
    back. Pruned weights never return, whatever their score.

    Args:
        scores: importance per weight, higher = keep; same names and shapes as the mask. Their
            order of layers is that of the result, and decides between equal scores.
        mask: the weights that remain so far.
        fraction: share of the *remaining* weights to remove, in (0, 1); with scope "layer" it may
            be a mapping from every parameter name to a share in [0, 1), 0 leaving a layer alone.
        scope: "global" ranks all weights together, "layer" within each layer.
        min_per_layer: weights that every layer keeps at least (all of them, if it has no more).
            With scope "global" other layers make up for them. Guards against layer collapse.

    Raises:
        ValueError: for a fraction out of range, an unknown scope or layer, NaN scores, or a
            `min_per_layer` that leaves too little to remove.

    Warns:
        LayerCollapseWarning: naming each layer that is now empty or will be at this pace.
        TiedScoresWarning: if at least half of the scores are equal and only some of them stay.
    """
    check_boolean(mask)
    fractions = check_fractions(fraction, mask, scope)
    remaining = {name: int(kept.count_nonzero()) for name, kept in mask.items()}
    if scope == "global":
        total = sum(remaining.values())
        keep: int | dict[str, int] = total - round(float(fraction) * total)
    else:
        keep = {name: n - round(fractions[name] * n) for name, n in remaining.items()}
    pruned = keep_best(scores, mask, keep, min_per_layer=min_per_layer)
    warn_of_ties(scores, mask, pruned)
    warn_of_collapse(mask, pruned, pace=True)
    return pruned


@checked
def prune_like(scores: Scores, mask: Mask, target: Mask, *, scope: Scope = "global") -> Mask:
    """Return a mask with as many weights as `target`, chosen by `scores` in one step.

    Gives one-shot pruning the density of an iterative ticket: with scope "layer" layer by layer,
    with "global" in total.

    Raises:
        ValueError: if `mask` keeps fewer weights than `target`, or the masks do not fit.

    Warns:
        LayerCollapseWarning, TiedScoresWarning: as `prune`.
    """
    check_mask(target, mask)
    choose("scope", scope, SCOPES)
    counts = {name: int(kept.sum()) for name, kept in target.items()}
    keep = counts if scope == "layer" else sum(counts.values())
    pruned = keep_best(scores, mask, keep)
    warn_of_ties(scores, mask, pruned)
    warn_of_collapse(mask, pruned)
    return pruned


@checked
def keep_best(
    scores: Scores, mask: Mask, keep: int | Mapping[str, int], *, min_per_layer: int = 0
) -> Mask:
    """Return the mask of the highest-scored weights among those that `mask` keeps.

    Ties go to the layer that comes first in the scores, and within a layer to the lower index.

    Args:
        keep: how many weights survive: in all, or by parameter name.

    Raises:
        ValueError: for NaN scores, scores that do not fit the mask, or counts out of range.
    """
    _check_scores(scores, mask)
    mask = {name: mask[name] for name in scores}
    if not is_whole(min_per_layer) or min_per_layer < 0:
        raise ValueError(f"min_per_layer is a whole number of at least 0; got {min_per_layer!r}")
    if isinstance(keep, Mapping):
        result = {}
        for name in mask:
            if name not in keep:
                raise ValueError(f"keep says nothing about {name}; it names {', '.join(keep)}")
            n = max(keep[name], min(min_per_layer, int(mask[name].count_nonzero())))
            result |= _best_of({name: scores[name]}, {name: mask[name]}, n, name)
        return result
    if not is_whole(keep):
        raise ValueError(f"keep is a whole number of weights; got {keep!r}")
    if min_per_layer:
        scores = _protect_best(scores, mask, min_per_layer, keep)
    return _best_of(scores, mask, keep, "the network")


def _best_of(scores: Scores, mask: Mask, keep: int, where: str) -> Mask:
    n = sum(int(kept.count_nonzero()) for kept in mask.values())
    if not 0 <= keep <= n:
        raise ValueError(f"cannot keep {keep} weights of {where}: {n} remain")
    values = [scores[name].flatten() for name in mask]
    chosen = best(values, [kept.flatten() for kept in mask.values()], keep)
    return {name: each.view_as(mask[name]) for name, each in zip(mask, chosen, strict=True)}


def _protect_best(scores: Scores, mask: Mask, least: int, keep: int) -> Scores:
    protected: Mask = {}
    for name, kept in mask.items():
        n = min(least, int(kept.count_nonzero()))
        protected |= _best_of({name: scores[name]}, {name: kept}, n, name)
    needed = sum(int(p.count_nonzero()) for p in protected.values())
    if needed > keep:
        raise ValueError(
            f"min_per_layer={least} protects {needed} weights, but only {keep} are to be kept; "
            f"lower it or the fraction"
        )
    return {name: scores[name].masked_fill(protected[name], math.inf) for name in mask}


def _check_scores(scores: Scores, mask: Mask) -> None:
    check_boolean(mask)
    for name in scores:
        choose("layer in the scores:", name, mask)
    for name in mask:
        if name not in scores:
            raise ValueError(f"there are no scores for {name}; scores name {', '.join(scores)}")
        if scores[name].shape != mask[name].shape:
            raise ValueError(
                f"scores of {name} have shape {tuple(scores[name].shape)}, the mask "
                f"{tuple(mask[name].shape)}"
            )
        if bool(scores[name].sum().isnan()):  # of infinities of both signs too
            broken = scores[name].isnan() & mask[name]
            if bool(broken.any()):
                raise ValueError(
                    f"{int(broken.sum())} of {int(mask[name].sum())} scores of {name} are NaN; "
                    f"did the training diverge?"
                )


def check_fractions(
    fraction: float | Mapping[str, float], mask: Mask, scope: str
) -> dict[str, float]:
    """Return the fraction of every layer, or raise a ValueError that says what is wrong."""
    check_fraction(fraction, scope)
    if not isinstance(fraction, Mapping):
        return dict.fromkeys(mask, float(fraction))
    for name in fraction:
        choose("layer in fraction:", name, mask)
    missing = [name for name in mask if name not in fraction]
    if missing:
        raise ValueError(f"no fraction for {', '.join(missing)}; 0 leaves a layer alone")
    return {name: float(share) for name, share in fraction.items()}


def warn_of_ties(scores: Scores, before: Mask, after: Mask) -> None:
    """Warn if at least half of the scores are equal and the cut goes through them."""
    if not any(_few_values(each) for each in scores.values()):
        return
    values = [scores[name][kept] for name, kept in before.items()]
    sample = torch.cat([each[:: max(1, each.numel() // 64)] for each in values])
    if sample.numel() < 2:
        return
    value = sample.mode().values
    equal = {name: (scores[name] == value) & kept for name, kept in before.items()}
    ties = sum(int(each.count_nonzero()) for each in equal.values())
    stay = sum(int((each & after[name]).count_nonzero()) for name, each in equal.items())
    everything = sum(map(torch.numel, values))
    if 2 * ties >= everything and 0 < stay < ties:
        warn(
            f"{ties} of {everything} scores are equal ({value.item():g}), and {stay} of these "
            f"weights stay for no better reason than the order in which they are stored: the "
            f"criterion does not tell them apart (does a last layer start at zero?)",
            TiedScoresWarning,
        )


def _few_values(scores: Tensor) -> bool:
    """Return whether a thin sample of scores has a value twice: a cheap sign of many ties."""
    sample = scores.flatten()[:: max(1, scores.numel() // 64)]
    return len(sample.unique()) < len(sample)


def warn_of_collapse(before: Mask, after: Mask, *, pace: bool = False) -> None:
    """Warn of every layer that is empty now, and with `pace` of those that soon will be."""
    for name in before:
        had, has = int(before[name].count_nonzero()), int(after[name].count_nonzero())
        if had and not has:
            text = f"{name} has no weights left: nothing passes through it any more"
        elif pace and had > has and has * has < had:
            text = f"{name} is about to die: {has} of {had} weights left, none at this pace"
        else:
            continue
        hint = "; min_per_layer keeps a minimum"
        warn(text + hint, LayerCollapseWarning)


def check_fraction(fraction: float | Mapping[str, float], scope: str) -> None:
    """Raise a ValueError, saying what is allowed, for a wrong scope, fraction or pair of them."""
    choose("scope", scope, SCOPES)
    if not isinstance(fraction, Mapping):
        _check_share(fraction)
        return
    if scope == "global":
        raise ValueError("a fraction for each layer prunes layer by layer: pass scope='layer'")
    for name, share in fraction.items():
        _check_share(share, name)


def _check_share(fraction: object, name: str | None = None) -> None:
    where = f" for {name}" if name else ""
    allowed = "[0, 1)" if name else "(0, 1)"
    if not is_number(fraction) or not (0 < fraction < 1 or (name and fraction == 0)):
        raise ValueError(
            f"fraction is the share of remaining weights to prune, in {allowed}; "
            f"got {fraction!r}{where}"
        )
