"""Chapter 11: sums of some random numbers, and paths through a ReLU."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import torch

import lth_tutorial as lt


def all_masks(n):
    for bits in itertools.product((False, True), repeat=n):
        yield torch.tensor(bits)


def best(values, target):
    return min(all_masks(len(values)), key=lambda kept: abs(target - values[kept].sum().item()))


def single(values, target):
    kept = torch.zeros_like(values, dtype=torch.bool)
    kept[(values - target).abs().argmin()] = True
    return kept


def greedy(values, target):
    kept, left = torch.zeros_like(values, dtype=torch.bool), target
    for _ in range(len(values)):
        errors = (left - values).abs().masked_fill(kept, 9.0)
        if errors.min() >= abs(left):
            break
        i = int(errors.argmin())
        kept[i] = True
        left -= values[i].item()
    return kept


def best_of_each_sign(u, v, w):
    kept = torch.zeros_like(u, dtype=torch.bool)
    for side in (v > 0, v < 0):
        kept[side] = best((u * v)[side], w)
    return kept


def nonempty(values, target):
    masks = (kept for kept in all_masks(len(values)) if kept.any())
    return min(masks, key=lambda kept: abs(target - values[kept].sum().item()))


def in_place(values, target):
    kept = best(values, target)
    values.sort()
    values[0] = 0
    return kept


def nearest_from_below(values, target):
    masks = [kept for kept in all_masks(len(values)) if values[kept].sum() <= target]
    return max(masks, key=lambda kept: values[kept].sum().item(), default=values > 9)


def positive_only(u, v, w):
    kept = torch.zeros_like(u, dtype=torch.bool)
    kept[v > 0] = best((u * v)[v > 0], w)
    return kept


def second_weights_only(u, v, w):
    return best(u, w)


def by_bits(values, target):
    n = len(values)
    bits = (torch.arange(2**n)[:, None] >> torch.arange(n)) & 1
    sums = bits.to(values.dtype) @ values
    return bits[(sums - target).abs().argmin()].bool()


def by_recursion(values, target):
    def search(i, left):
        if i == len(values):
            return abs(left), ()
        without = search(i + 1, left)
        error, kept = search(i + 1, left - float(values[i]))
        taken = (error, (i, *kept))
        return min(without, taken, key=lambda found: found[0])

    mask = torch.zeros(len(values), dtype=torch.bool)
    mask[list(search(0, target)[1])] = True
    return mask


def never_all(values, target):
    return min(
        (kept for kept in all_masks(len(values)) if not kept.all()),
        key=lambda kept: abs(target - values[kept].sum().item()),
    )


def pairs_at_most(values, target):
    return min(
        (kept for kept in all_masks(len(values)) if kept.sum() <= 2),
        key=lambda kept: abs(target - values[kept].sum().item()),
    )


def largest_first(values, target):
    kept, left = torch.zeros_like(values, dtype=torch.bool), target
    for i in values.abs().argsort(descending=True).tolist():
        if abs(left - values[i].item()) < abs(left):
            kept[i], left = True, left - values[i].item()
    return kept


def by_the_package(u, v, w):
    kept = torch.zeros_like(u, dtype=torch.bool)
    for side in (v > 0, v < 0):
        kept[side] = lt.best_subset((u * v)[side], w).kept
    return kept


def adds_two_masks(u, v, w):
    places = torch.arange(len(u))
    kept = []
    for sign in (1, -1):
        side = places[v * sign > 0]
        kept += side[by_bits((u * v)[side], w)].tolist()
    return torch.isin(places, torch.tensor(kept))


def negative_only(u, v, w):
    return best_of_each_sign(u, v, w) & (v < 0)


def other_sign_for_negative_inputs(u, v, w):
    kept = torch.zeros_like(u, dtype=torch.bool)
    kept[v > 0], kept[v < 0] = by_bits((u * v)[v > 0], w), by_bits((u * v)[v < 0], -w)
    return kept


def half_on_each_side(u, v, w):
    return best_of_each_sign(u, v, w / 2)


def greedy_on_each_side(u, v, w):
    kept = torch.zeros_like(u, dtype=torch.bool)
    for side in (v > 0, v < 0):
        kept[side] = greedy((u * v)[side], w)
    return kept


def changes_u(u, v, w):
    kept = best_of_each_sign(u, v, w)
    u *= v
    return kept


def with_magnitudes_of_v(u, v, w):
    kept = torch.zeros_like(u, dtype=torch.bool)
    for side in (v > 0, v < 0):
        kept[side] = by_bits((u * v.abs())[side], w)
    return kept


WRONG = {
    "subset_error_by_hand": [
        (-0.05, "never negative"),
        (0.55, "that is the sum"),
        (0.3, "*single*"),
        (0.1, "not the best one"),
        (0.123, "no subset has that error"),
        ("0.9 - 0.35", "one number"),
        (0.6, "not the best one"),
        (0.15, "not the best one"),
        (True, "one number"),
        ([0.9, -0.35], "one number"),
        (torch.tensor([0.9, -0.35]), "one number"),
    ],
    "subset_search": [
        (single, "best single number"),
        (greedy, "gets stuck"),
        (nonempty, "empty subset"),
        (in_place, "in place"),
        (nearest_from_below, "another subset comes nearer"),
        (lambda values, target: best(values, target).float(), "boolean"),
        (lambda values, target: best(values, target).nonzero().flatten(), "boolean"),
        (never_all, "all values is a subset"),
        (pairs_at_most, "another subset comes nearer"),
        (largest_first, "another subset comes nearer"),
        (lambda values, target: best(values, target).tolist(), "boolean tensor"),
        (lambda values, target: values[best(values, target)], "boolean"),
        (
            lambda values, target: min(all_masks(len(values)), key=lambda k: -values[k].sum()),
            "nearer",
        ),
        (lambda values, target: best(values.sort().values, target), "another subset comes nearer"),
        (lambda values, target: best(values, -target), "another subset comes nearer"),
        (lambda values, target: best(values, target) if target > 0 else None, "every branch"),
        (lambda values, target: best(values, target).byte(), "boolean", "torch.uint8"),
    ],
    "relu_paths": [
        (lambda u, v, w: best(u * v, w), "only where v·x is positive"),
        (positive_only, "negative inputs are not multiplied"),
        (second_weights_only, "u·v, not by u alone"),
        (lambda u, v, w: u > 0, "search all subsets"),
        (negative_only, "positive inputs are not multiplied"),
        (other_sign_for_negative_inputs, "negative inputs are not multiplied"),
        (half_on_each_side, "on both sides"),
        (greedy_on_each_side, "subset"),
        (changes_u, "in place"),
        (with_magnitudes_of_v, "negative inputs are not multiplied"),
        (lambda u, v, w: best_of_each_sign(v, u, w), "subset"),
        (lambda u, v, w: ~best_of_each_sign(u, v, w), "subset"),
        (lambda u, v, w: best_of_each_sign(u, v, w).nonzero().flatten(), "boolean"),
    ],
}

RIGHT = {
    "subset_error_by_hand": [
        0.05,
        "0.05",
        0.6 - 0.55,
        abs(0.6 - (0.9 - 0.35)),
        Fraction(1, 20),
        np.float32(0.05),
    ],
    "subset_search": [
        best,
        by_bits,
        by_recursion,
        lambda values, target: best(values.float(), target),
        lambda values, target: lt.best_subset(values, target).kept,
    ],
    "relu_paths": [
        best_of_each_sign,
        by_the_package,
        adds_two_masks,
    ],
}
