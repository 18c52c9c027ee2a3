"""Which weights a supermask keeps, and how its scores learn (chapter 10)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lth_tutorial.exercises.outcome import (
    OPEN,
    Check,
    as_tensor,
    close,
    guarded,
    is_open,
    mask_problem,
    on_copies,
    shown,
)

_SCORES = (0.3, -0.9, 0.1, 0.5, -0.2, 0.4)


def kept_by_hand(answer: Sequence[int] | None = None) -> Check:
    """Check which of six weights with scores 0.3, −0.9, 0.1, 0.5, −0.2, 0.4 half are kept."""
    if is_open(answer):
        return OPEN
    if isinstance(answer, str) and not re.search(r"[^\d\s,;()\[\]{}]", answer):
        answer = re.findall(r"\d", answer)  # "1, 3, 5", or the mask "010101"
    try:
        given = answer.tolist() if hasattr(answer, "tolist") else list(answer)
        given = [int(i) if isinstance(i, str) else i for i in given]
        if len(given) == len(_SCORES) and all(i in (0, 1) for i in given):
            given = [i for i, kept in enumerate(given) if kept]  # a mask says the same
        if any(float(i) != int(i) for i in given):
            return Check(False, "asked are the *places* of the weights, not their scores")
        places = sorted(int(i) for i in given)
    except Exception:  # whatever cannot be iterated over, compared or counted
        return Check(False, f"the answer is a list of places, counted from 0; got {shown(answer)}")
    if places == [1, 3, 5]:
        return Check(True, "the three largest magnitudes: 0.9, 0.5 and 0.4")
    if places == [0, 3, 5]:
        return Check(False, "edge-popup ranks *magnitudes* of scores: −0.9 is the largest")
    if places == [0, 2, 4]:
        return Check(False, "those are the places that are left out: the smallest magnitudes")
    if places in ([2, 4, 6], [1, 4, 6]):
        return Check(False, "places are counted from 0")
    if len(set(places)) != 3:
        return Check(False, f"half of six weights are three; got {len(set(places))}")
    if len(places) > 3:
        return Check(False, "a place is kept or not: name each of them once")
    if not all(0 <= i < len(_SCORES) for i in places):
        return Check(False, f"places are counted from 0 to {len(_SCORES) - 1}; got {places}")
    return Check(False, "those are not the three largest magnitudes")


def edge_popup_mask(fn: Callable[[Tensor, float], Tensor] | None = None) -> Check:
    """Check a function `fn(scores, keep)` that returns the boolean mask of edge-popup.

    It keeps `round(keep * n)` weights, those with the largest |score|; of equal ones those that
    come first.
    """

    def check(call: Callable) -> str | None:
        cases = [
            (torch.tensor([0.3, 0.9, 0.1, 0.5]), 0.5, "1"),
            (torch.tensor([0.3, -0.9, 0.1, -0.5]), 0.5, "sign"),
            (torch.randn(5, 7, generator=torch.Generator().manual_seed(0)), 0.3, "count"),
            (torch.randn(4, 9, generator=torch.Generator().manual_seed(1)), 0.7, "count"),
            (torch.randn(3, 3, generator=torch.Generator().manual_seed(2)), 0.3, "rounding"),
            (torch.tensor([0.5, -0.5, 0.5, 0.5, 0.1]), 0.4, "ties"),
            (torch.tensor([[0.5, -0.5, 0.1], [0.5, 0.9, 0.5]]), 0.5, "ties"),
        ]
        for scores, keep, kind in cases:
            given = scores.clone()
            mask = call(given, keep)
            problem = mask_problem(mask, scores)
            if problem is None and not torch.equal(given, scores):
                return "your function changed the scores in place: return a mask, change nothing"
            problem = problem or _mask_problem(mask, scores, keep, kind)
            if problem:
                return problem
        return None

    return guarded(fn, check, "exact counts, magnitudes, ties to the first")


def _mask_problem(mask: Tensor, scores: Tensor, keep: float, kind: str) -> str | None:
    count, flat = round(keep * scores.numel()), scores.flatten().abs()
    right = torch.zeros_like(flat, dtype=torch.bool)
    right[flat.argsort(descending=True, stable=True)[:count]] = True
    if torch.equal(mask.flatten(), right):
        return None
    kept = int(mask.sum())
    if kept != count:
        if kind == "ties":
            return f"with ties a threshold keeps all equal scores or none: {kept}, not {count}"
        if abs(kept - (scores.numel() - count)) <= 1 < abs(kept - count):
            return "keep is the share that is *kept*, not the share that is removed"
        if scores.ndim > 1 and _by_lines(mask):
            return "the ranking is over the whole layer, not within each row or column"
        rule = ": round(keep * n) are kept; `round` takes the nearest, of two the *even* number"
        rule = rule if abs(kept - count) == 1 and kind in ("count", "rounding") else ""
        return f"{count} of {scores.numel()} weights are kept at keep={keep}; got {kept}{rule}"
    if kind == "sign":
        return "scores are ranked by magnitude: a very negative score is as good as a positive one"
    if kind == "ties":
        return (
            "of equal scores the first ones are kept, row by row, so that the mask is always the "
            "same"
        )
    if scores.ndim > 1 and _by_lines(mask):
        return "the ranking is over the whole layer, not within each row or column"
    return "the kept weights are not those with the largest |score|"


def _by_lines(mask: Tensor) -> bool:
    """Return whether all rows keep the same number, or all columns."""
    return any(len(set(mask.sum(dim).tolist())) == 1 for dim in (0, 1))


def score_gradient(fn: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None) -> Check:
    """Check a function `fn(weight, scores, upstream)` that returns the gradient of the scores.

    The layer computes with `weight * mask(|scores|)`, `upstream` is the loss's gradient with
    respect to that product, and the mask is passed by the straight-through estimator: as if it
    were |scores| itself. All have one shape.
    """

    def check(call: Callable) -> str | None:
        generator = torch.Generator().manual_seed(0)
        for shape in ((6, 4), (5, 5)):
            tensors = torch.randn(3, *shape, generator=generator)
            given, untouched = on_copies(call, *tensors)
            if not untouched:
                return "your function changed its input in place: return a new tensor"
            given = as_tensor(given)
            if given is None or given.shape != shape:
                return f"the gradient is a tensor of the scores' shape, {shape}"
            problem = _gradient_problem(given, *tensors)
            if problem:
                return problem
        return None

    return guarded(fn, check, "upstream × weight × sign(score), for kept and pruned weights alike")


def _gradient_problem(given, weight, scores, upstream) -> str | None:
    def same(wanted: Tensor) -> bool:
        return close(given, wanted)

    right = upstream * weight * scores.sign()
    if same(right):
        return None
    kept = scores.abs() > scores.abs().median()
    if not given[~kept].any() and given[kept].any():
        return (
            "pruned weights get a gradient too: without it a weight that has left the network "
            "could never pop up again"
        )
    if same(upstream * weight):
        return "scores are ranked by |score|, and the derivative of |s| is sign(s)"
    if same(upstream) or same(upstream * scores.sign()):
        return "the product is weight × mask: by the chain rule the weight is a factor"
    if same(weight * scores.sign()):
        return "by the chain rule the gradient that comes from above, `upstream`, is a factor"
    if same(-right):
        return "this is the negative gradient; the optimiser takes care of the direction"
    return "with the mask replaced by |s| the layer computes weight × |s|: differentiate that"
