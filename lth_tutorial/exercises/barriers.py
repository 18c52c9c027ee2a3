"""By hand and in code: the barrier between two networks (chapter 06)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lth_tutorial.exercises.outcome import (
    OPEN,
    Check,
    NothingReturned,
    ReaderError,
    as_number,
    close,
    guarded,
    is_open,
    shown,
)

PATH = (0.02, 0.06, 0.30, 0.22, 0.04)
"""Errors at five evenly spaced points from one network to the other."""


def barrier_height(answer: float | None = None) -> Check:
    """Check the height of the barrier on a path with the errors 2, 6, 30, 22 and 4 %."""
    if is_open(answer):
        return OPEN
    number = as_number(answer)
    if math.isnan(number):
        return Check(False, f"the answer is a height, a number in [0, 1]; got {shown(answer)}")
    ends = (PATH[0] + PATH[-1]) / 2
    right = max(PATH) - ends
    if abs(number - right) <= 0.0005:
        return Check(True, f"{max(PATH):g} at the top, minus {ends:g}, the mean of the ends")
    typical = {
        max(PATH): "that is the error at the top; the barrier is what exceeds the ends",
        max(PATH) - PATH[0]: "subtract the mean of *both* ends, or the height depends on which "
        "network comes first",
        max(PATH) - PATH[-1]: "subtract the mean of *both* ends, or the height depends on which "
        "network comes first",
        max(PATH) - (max(PATH) + min(PATH)) / 2: "subtract the mean of the ends, not the middle of "
        "the range",
        PATH[2] - sum(PATH) / len(PATH): "subtract the mean of the two *ends*, not of the path",
        sum(PATH) / len(PATH) - ends: "take the largest error on the path, not the mean",
    }
    for wrong, idea in typical.items():
        if abs(number - wrong) <= 0.0005:
            return Check(False, f"{number:g}: {idea}")
    if abs(number - 100 * right) <= 0.05:
        return Check(False, f"{number:g} is in points; the height is a share in [0, 1]")
    return Check(False, f"{number:g} is not it: the largest error minus the mean error of the ends")


State = dict[str, Tensor]


def interpolation(fn: Callable[[State, State, float], State] | None = None) -> Check:
    """Check a function `fn(a, b, alpha)` that returns the state between two states.

    At 0 it is `a`, at 1 `b`; whole numbers (batch norm's counter) are those of `a`.
    """

    def check(call: Callable) -> str | None:
        generator = torch.Generator().manual_seed(0)
        a, b = (
            {
                "fc1.weight": torch.randn(4, 3, generator=generator),
                "norm1.running_var": torch.rand(4, generator=generator),
                "norm1.num_batches_tracked": torch.tensor(count),
            }
            for count in (600, 300)
        )
        before = [{name: tensor.clone() for name, tensor in state.items()} for state in (a, b)]
        for alpha in (0.25, 0.0, 1.0):
            try:
                found = call(a, b, alpha)
            except ReaderError as error:
                if "not implemented for" in str(error.__cause__):
                    return (
                        "norm1.num_batches_tracked counts batches, a whole number that must not be "
                        f"mixed: take it from a ({error.__cause__})"
                    )
                raise
            for now, then in zip((a, b), before, strict=True):
                if set(now) != set(then) or any(not torch.equal(now[n], then[n]) for n in then):
                    return "your function changed a state that it was given: return new tensors"
            problem = _interpolation_problem(found, a, b, alpha)
            if problem:
                return problem
        return None

    return guarded(fn, check, "the ends are exact, and in between every tensor is mixed")


def _interpolation_problem(found: Any, a: State, b: State, alpha: float) -> str | None:
    if found is None:
        raise NothingReturned
    if not isinstance(found, Mapping) or set(found) != set(a):
        return f"return a dictionary with the names of the states: {', '.join(a)}"
    for name, tensor in found.items():
        if not isinstance(tensor, Tensor) or tensor.shape != a[name].shape:
            return f"{name} is a tensor of shape {tuple(a[name].shape)}, like those of the states"
        if not a[name].is_floating_point():
            if tensor.dtype != a[name].dtype or not torch.equal(tensor, a[name]):
                return (
                    f"{name} counts batches, a whole number that must not be mixed: take it from "
                    f"a as it is, of type {a[name].dtype}"
                )
            continue
        right = (1 - alpha) * a[name] + alpha * b[name]
        reversed_ = alpha * a[name] + (1 - alpha) * b[name]
        if not close(tensor, right):
            if close(tensor, reversed_):
                return f"at α = {alpha:g} you are nearer to the other end: α = 0 is a, α = 1 is b"
            return f"{name} at α = {alpha:g} is not (1 − α) a + α b"
    return None


Heights = Mapping[int, Sequence[float]]


def stable_from(fn: Callable[[Heights], int | None] | None = None) -> Check:
    """Check a function `fn(heights)` that finds the step from which on training is stable.

    `heights` maps a branch step to the barrier heights of all seeds, shares in [0, 1]. The answer
    is the first step at which, and at all later ones of which, the mean height is below 0.02; None
    if there is none.
    """

    def check(call: Callable) -> str | None:
        cases: list[tuple[dict, int | None, str]] = [
            (
                {0: [0.3, 0.2], 50: [0.0, 0.02], 100: [0.0, 0.01]}, 50,
                "asked is the first step, a key of `heights`, from which on every mean is low",
            ),
            (
                {0: [0.01, 0.01], 20: [0.2, 0.1], 50: [0.01, 0.0]}, 50,
                "a later step is unstable again, so training was not yet stable at the first",
            ),
            (
                {0: [0.01, 0.01], 10: [0.01, 0.0], 20: [0.2, 0.1], 50: [0.01, 0.0]}, 50,
                "not the next step alone has to be stable: *all* later ones",
            ),
            (
                {0: [0.3, 0.3], 50: [0.0, 0.0, 0.09], 100: [0.0, 0.01, 0.01]}, 100,
                "one seed of three has a barrier of 9 points, and the mean counts every seed",
            ),
            ({0: [0.3, 0.2], 50: [0.05, 0.04]}, None, "no step is stable: return None"),
            (
                {100: [0.0, 0.01], 0: [0.3, 0.2], 50: [0.0, 0.02]}, 50,
                "the steps need not come in order: sort them",
            ),
            (
                {0: [0.02, 0.02], 50: [0.01, 0.0]}, 50,
                "*below* 2 points: a mean of exactly 0.02 is not below it",
            ),
            (
                {0: [0.3, 0.2], 50: [0.01, 0.02, 0.02, 0.02]}, 50,
                "the mean is 0.0175: divide by the step's own number of seeds, and do not round",
            ),
            ({0: [0.0, -0.01], 10: [0.0, 0.0]}, 0, "stable from step 0 is an answer, not None"),
            (
                {20: [0.03, -0.02], 50: [0.0, 0.0]}, 20,
                "heights below zero count as they are: the mean, not the mean magnitude",
            ),
        ]  # fmt: skip
        answers = []
        for heights, _, _ in cases:
            given = copy.deepcopy(heights)
            answers.append(call(given))
            if given != heights:
                return "your function changed `heights`: it only reads them"
        if all(found is None for found in answers):
            raise NothingReturned
        for found, (heights, right, idea) in zip(answers, cases, strict=True):
            number = None if found is None else as_number(found, text=False)
            if number != right:
                return f"for {heights} the answer is {right}; got {shown(found)}: {idea}"
        return None

    return guarded(fn, check, "the first step that is stable together with all later ones")
