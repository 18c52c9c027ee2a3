"""Chapter 5: budgets that are equal, comparisons that isolate."""

from __future__ import annotations

import math

import numpy as np
import torch


def differing(a, b):
    return {name for name in {*a, *b} if a.get(name, a) != b.get(name, b)}


def spoiling(a, b, factor):
    a.pop("steps", None)
    return True


def by_loop(a, b, factor):
    if (factor in a) == (factor in b) and a.get(factor) == b.get(factor):
        return False
    for name in set(a) | set(b):
        if name != factor and ((name in a) != (name in b) or a[name] != b[name]):
            return False
    return True


def without_the_factor(a, b, factor):
    def rest(arm):
        return {name: value for name, value in arm.items() if name != factor}

    return a != b and rest(a) == rest(b)


def by_get(a, b, factor):
    return {name for name in {*a, *b} if a.get(name) != b.get(name)} == {factor}


def by_index(a, b, factor):
    return [name for name in a if a[name] != b[name]] == [factor]


def by_zip(a, b, factor):
    differing = [
        k for (k, v), (m, w) in zip(a.items(), b.items(), strict=False) if (k, v) != (m, w)
    ]
    return differing == [factor] and len(a) == len(b)


def none_for_zero(a, b, factor):
    return {name for name in {*a, *b} if a.get(name, 0) != b.get(name, 0)} == {factor}


def forgets_a_branch(a, b, factor):
    if factor in a and factor in b:
        return differing(a, b) == {factor}


WRONG = {
    "scratch_b_epochs": [
        (400, "twice the epochs"),
        (160, "Scratch-E"),
        (64, "*more* epochs"),
        (224, "not what is added"),
        (256, "not what is added"),
        (1, "How many epochs"),
        ("long", "a number of epochs"),
        (math.inf, "a number of epochs"),
        (False, "a number of epochs"),
        (80, "How many epochs"),
        ("2 * 160", "a number of epochs"),
    ],
    "fair_steps": [
        (lambda train, tune, dense, small: train + tune, "steps are not FLOPs"),
        (lambda train, tune, dense, small: train * dense / small, "fine-tuning costs"),
        (lambda train, tune, dense, small: (train + tune) * dense / small, "*small* network"),
        (lambda train, tune, dense, small: train * small / dense + tune, "upside down"),
        (lambda train, tune, dense, small: train, "Scratch-E"),
        (lambda train, tune, dense, small: tune, "belongs to the cost"),
        (lambda train, tune, dense, small: 7, "add up what was spent"),
        (lambda train, tune, dense, small: small / 0, "ZeroDivisionError"),
        (4, "takes the function itself"),
        (lambda train, tune, dense, small: train * dense + tune * small, "in FLOPs"),
        (
            lambda train, tune, dense, small: (train * dense + tune * small) / dense,
            "*small* network",
        ),
        (
            lambda train, tune, dense, small: min(train * dense / small + tune, 2 * train),
            "doubling",
        ),
        (lambda train, tune, dense, small: [train, tune], "number of steps"),
        (lambda train, tune, dense, small: 4 * train + 40, "add up what was spent"),
        (lambda train, tune, dense, small: train * dense / small - tune, "add up what was spent"),
        (lambda train, tune, dense, small: math.inf, "add up what was spent"),
        (lambda train, tune, dense: 1, "passes 4 arguments"),
    ],
    "isolates": [
        (lambda a, b, factor: a.get(factor) != b.get(factor), "another factor differs"),
        (lambda a, b, factor: len(differing(a, b)) <= 1, "do not differ in the factor"),
        (lambda a, b, factor: len(differing(a, b)) == 1, "not in the factor"),
        (
            lambda a, b, factor: [n for n in b if a.get(n, b[n]) != b[n]] == [factor],
            "does not state",
        ),
        (lambda a, b, factor: [n for n in a if b.get(n) != a[n]] == [factor], "whichever arm"),
        (lambda a, b, factor: differing(a, b) == {"weights"} == {factor}, "may be any"),
        (lambda a, b, factor: False, "in nothing else"),
        (spoiling, "only reads"),
        (by_get, "None is a statement"),
        (by_index, "does not state"),
        (lambda a, b, factor: a[factor] != b[factor], "another factor differs"),
        (lambda a, b, factor: sorted(differing(a, b)), "True or False"),
        (lambda a, b, factor: factor in differing(a, b), "another factor differs"),
        (by_zip, "compared by name"),
        (none_for_zero, "0 is a statement"),
        (forgets_a_branch, "every branch"),
        (lambda a, b, factor: len(differing(a, b)), "True or False"),
    ],
}

RIGHT = {
    "scratch_b_epochs": [320, "320", min(160 / 0.4, 2 * 160), np.int64(320), torch.tensor(320.0)],
    "fair_steps": [
        lambda train, tune, dense, small: (train * dense + tune * small) / small,
        lambda train, tune, dense, small: tune + train * (dense / small),
        lambda train, tune, dense, small: int((train * dense + tune * small) // small),
        lambda *a: np.float32((a[0] * a[2] + a[1] * a[3]) / a[3]),
        lambda *a: torch.tensor(a[0] * a[2] / a[3] + a[1]),
    ],
    "isolates": [
        lambda a, b, factor: differing(a, b) == {factor},
        by_loop,
        without_the_factor,
        lambda a, b, factor: np.bool_(differing(a, b) == {factor}),
    ],
}
