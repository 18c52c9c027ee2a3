"""Sums of some random numbers, and paths through a ReLU (chapter 11)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lth_tutorial.exercises.outcome import (
    OPEN,
    Check,
    as_number,
    guarded,
    is_open,
    mask_problem,
    shown,
)
from lth_tutorial.theory.subsets import best_single, best_subset, random_products

_NUMBERS, _TARGET = (0.9, -0.35, 0.2, 0.15), 0.6
_CLOSE = 1e-9


def subset_error_by_hand(answer: float | None = None) -> Check:
    """Check the error of the best subset sum of 0.9, −0.35, 0.2 and 0.15 for the target 0.6."""
    if is_open(answer):
        return OPEN
    value = as_number(answer)
    if math.isnan(value):
        return Check(False, f"the answer is one number, the error; got {shown(answer)}")
    sums = [sum(some) for r in range(5) for some in itertools.combinations(_NUMBERS, r)]
    right = min(abs(_TARGET - total) for total in sums)
    if abs(value - right) < 1e-6:
        return Check(True, "0.9 − 0.35 = 0.55 is nearest to 0.6, of all 16 sums")
    if abs(value + right) < 1e-6:
        return Check(False, "an error is a distance: |target − sum|, never negative")
    if abs(value - 0.55) < 1e-6:
        return Check(False, "that is the sum; the error is its distance from the target")
    if abs(value - 0.3) < 1e-6:
        return Check(False, "that is the best *single* number; a subset may hold several")
    if any(abs(value - abs(_TARGET - total)) < 1e-6 for total in sums):
        return Check(False, "a subset has that error, but not the best one: there are 16 subsets")
    return Check(False, "no subset has that error: list the 16 sums, the empty one included")


def subset_search(fn: Callable[[Tensor, float], Tensor] | None = None) -> Check:
    """Check a function `fn(values, target)` that returns the best subset as a boolean mask.

    `values` has shape [n] with n at most 12; the mask has the same shape, True = in the subset.
    """

    def check(call: Callable) -> str | None:
        cases = [
            (torch.tensor([0.5, -0.2, 0.9], dtype=torch.float64), 0.3),
            (torch.tensor([0.7, 0.8, 0.4], dtype=torch.float64), -0.1),
            *((random_products(10, seed=seed), 0.6 - 0.3 * seed) for seed in range(4)),
            (torch.tensor([0.5, 0.3, -0.1], dtype=torch.float64), 0.7),
        ]
        for values, target in cases:
            given = values.clone()
            kept = call(given, target)
            problem = mask_problem(kept, values)
            if problem:
                return problem
            if not torch.equal(given, values):
                return "your function changed `values` in place: return a mask, change nothing"
            problem = _search_problem(kept, values, target)
            if problem:
                return problem
        return None

    return guarded(fn, check, "every subset was considered, the empty one too")


def _search_problem(kept: Tensor, values: Tensor, target: float) -> str | None:
    best = best_subset(values, target)
    error = abs(target - values[kept].sum().item())
    if error <= best.error.item() + _CLOSE:
        return None
    where = (
        f" For {[round(v, 2) for v in values.tolist()]} and the target {target:.1f} your error is "
        f"{error:.3g}, the best is {best.error.item():.3g}."
    )
    if not best.kept.any():
        return "the empty subset, with sum 0, is allowed too." + where
    if best.kept.all():
        return "the subset of all values is a subset too." + where
    if abs(error - best_single(values, target).error.item()) < _CLOSE and kept.sum() <= 1:
        return "that is the best single number: a subset may hold several." + where
    if torch.equal(kept, _greedy(values, target)):
        return (
            "taking what helps most, one after the other, gets stuck: a subset may have to get "
            "worse before it gets better. Try all of them." + where
        )
    return "another subset comes nearer." + where


def _greedy(values: Tensor, target: float) -> Tensor:
    kept, left = torch.zeros_like(values, dtype=torch.bool), target
    while True:
        errors = (left - values).abs().masked_fill(kept, float("inf"))
        if errors.min() >= abs(left):
            return kept
        i = int(errors.argmin())
        kept[i] = True
        left -= values[i].item()


def relu_paths(fn: Callable[[Tensor, Tensor, float], Tensor] | None = None) -> Check:
    """Check a function `fn(u, v, w)` that returns which random paths to keep to multiply by w.

    Path i turns an input x into `u[i] * relu(v[i] * x)`. The kept ones together are to be as near
    as possible to `w * x`, for positive and for negative x. `u` and `v` have shape [n], n ≤ 16.
    """

    def check(call: Callable) -> str | None:
        for seed in range(4):
            generator = torch.Generator().manual_seed(seed)
            u, v = 2 * torch.rand(2, 14, generator=generator, dtype=torch.float64) - 1
            w = (0.4, -0.5, 0.15, 0.3)[seed]
            given = u.clone(), v.clone()
            kept: Any = call(*given, w)
            problem = mask_problem(kept, u)
            if problem is None and not (torch.equal(given[0], u) and torch.equal(given[1], v)):
                return "your function changed `u` or `v` in place: return a mask, change nothing"
            problem = problem or _paths_problem(kept, u, v, w)
            if problem:
                return problem
        return None

    return guarded(fn, check, "each sign of the input has the best subset of its own open paths")


def _paths_problem(kept: Tensor, u: Tensor, v: Tensor, w: float) -> str | None:
    gaps = {}
    for name, side in (("positive", v > 0), ("negative", v < 0)):
        best = best_subset((u * v)[side], w).error.item()
        gaps[name] = abs(w - (u * v)[side & kept].sum().item()) - best
    late = [name for name, gap in gaps.items() if gap > _CLOSE]
    if not late:
        return None
    if abs(w - (u * v)[kept].sum().item()) <= best_subset(u * v, w).error.item() + _CLOSE:
        return (
            "all products together add up to w, but a ReLU lets a path through only where v·x is "
            "positive: positive inputs see the paths with v > 0 and negative inputs the others. "
            "Each side needs a subset of its own that adds up to w"
        )
    if len(late) == 1:
        return (
            f"{late[0]} inputs are not multiplied by w = {w}: the paths that are open for them "
            f"(v·x above 0) need a subset of their own"
        )
    if abs(w - u[kept].sum().item()) <= best_subset(u, w).error.item() + _CLOSE:
        return "a path multiplies by u·v, not by u alone"
    return "another choice comes nearer to w, on both sides: search all subsets of the open paths"
