"""The checks of chapter 6 accept right answers and name the idea that a wrong one misses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from samples import assert_names

from lth_tutorial import exercises as check


def test_open_exercises_are_not_attempted_yet():
    for one in (check.barrier_height, check.interpolation, check.stable_from):
        assert one(None) == one() == check.Check(None, "not attempted yet")


def test_the_height_is_the_top_minus_the_mean_of_the_ends():
    assert check.barrier_height(0.27) and check.barrier_height("0.27")


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (0.30, "exceeds the ends"),
        (0.28, "both"),
        (0.26, "both"),
        (0.14, "middle of the range"),
        (0.172, "not of the path"),
        (0.098, "not the mean"),
        (27, "in points"),
        (0.5, "largest error minus"),
        ("much", "a number"),
        (True, "a number"),
    ],
)
def test_a_wrong_height_is_explained(answer, word):
    assert_names(check.barrier_height(answer), word)


def mixed(a, b, alpha):
    return {
        name: (1 - alpha) * w + alpha * b[name] if w.is_floating_point() else w
        for name, w in a.items()
    }


def in_place(a, b, alpha):
    for name, w in a.items():
        if w.is_floating_point():
            w.mul_(1 - alpha).add_(alpha * b[name])
    return a


def test_a_right_interpolation_passes():
    assert check.interpolation(mixed)


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (lambda a, b, alpha: mixed(b, a, alpha) | {k: v for k, v in a.items() if "num" in k},
         "nearer to the other end"),
        (lambda a, b, alpha: {n: torch.lerp(w.float(), b[n].float(), alpha) for n, w in a.items()},
         "must not be mixed"),
        (in_place, "changed a state"),
        (lambda a, b, alpha: {n: (w + b[n]) / 2 if w.is_floating_point() else w
                              for n, w in a.items()}, "is not"),
        (lambda a, b, alpha: a["fc1.weight"], "a dictionary"),
        (lambda a, b, alpha: 1 / 0, "raised ZeroDivisionError"),
    ],
)  # fmt: skip
def test_a_wrong_interpolation_is_explained(answer, word):
    assert_names(check.interpolation(answer), word)


def test_an_interpolation_that_changes_its_input_is_found():
    def changes_the_end(a, b, alpha):
        found = mixed(a, b, alpha)
        b["fc1.weight"].zero_()
        return found

    assert_names(check.interpolation(changes_the_end), "changed a state")


def right(heights):
    found = None
    for step in sorted(heights, reverse=True):
        if np.mean(heights[step]) >= 0.02:
            break
        found = step
    return found


def first(heights, summary=np.mean):
    return next((s for s in sorted(heights) if summary(heights[s]) < 0.02), None)


def test_the_first_stable_step_is_found():
    assert check.stable_from(right)


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (first, "unstable again"),
        (lambda h: right({s: [np.median(v)] for s, v in h.items()}), "counts every seed"),
        (lambda h: right(h) or 10**9, "return None"),
        (lambda h: right(h) or None, "stable from step 0"),
        (lambda h: next((s for s in h if all(np.mean(h[t]) < 0.02 for t in h if t >= s)), None),
         "sort them"),
    ],
)  # fmt: skip
def test_a_wrong_first_step_is_explained(answer, word):
    assert_names(check.stable_from(answer), word)
