"""By hand and in code: budgets, schedules after pruning, and what "matching" means (chapter 07)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from lth_tutorial.exercises.outcome import (
    OPEN,
    Check,
    NothingReturned,
    as_number,
    as_truth,
    guarded,
    is_open,
    shown,
)

STEPS, REWIND_STEP, ROUNDS = 63_000, 2_000, 5


def total_steps(answer: int | None = None) -> Check:
    """Check the steps of training that five rounds with rewinding to step 2,000 of 63,000 take.

    The dense network's own training counts too.
    """
    if is_open(answer):
        return OPEN
    number = as_number(answer)
    if not math.isfinite(number):
        return Check(False, f"the answer is a number of steps; got {shown(answer)}")
    rest = STEPS - REWIND_STEP
    right = STEPS + ROUNDS * rest
    if number == right:
        return Check(True, f"{STEPS:,} for the dense network, then {ROUNDS} times {rest:,}")
    typical = {
        ROUNDS * rest: "the dense network has to be trained first, and that costs steps as well",
        STEPS + ROUNDS * STEPS: (
            f"a network that goes back to step {REWIND_STEP:,} does not train those first steps "
            f"again: every round costs steps − k"
        ),
        ROUNDS * STEPS: (
            "the dense network's training counts too, and a rewound round costs steps − k"
        ),
        STEPS + rest: f"that is one round; every one of the {ROUNDS} rounds trains again",
        STEPS + (ROUNDS - 1) * rest: (
            f"that is one round short: {ROUNDS} prunings, and training after each of them"
        ),
        STEPS + ROUNDS * REWIND_STEP: (
            "k is the step that training goes back *to*; what is left to train is steps − k"
        ),
    }
    for wrong, idea in typical.items():
        if number == wrong:
            return Check(False, f"{number:,.0f}: {idea}")
    return Check(
        False,
        f"{number:,.0f} is not it. Write down what is trained in round 0, in round 1 and in "
        f"round 2, then add up",
    )


def rates_after_pruning(
    fn: Callable[[Sequence[float], str, int], Sequence[float]] | None = None,
) -> Check:
    """Check a function `fn(schedule, way, k)`: the learning rates of training after pruning.

    `schedule` holds the rate of every step of the dense network's training, `way` is "rewind",
    "lr_rewind" or "fine_tune", and k the rewind step. It returns a list with one rate per step.
    Fine-tuning is at the last rate of the schedule.
    """

    def check(call: Callable) -> str | None:
        # Warm-up and drops; the last rate is neither the smallest nor found elsewhere.
        schedule = [0.001, 0.2, 0.4, 0.4, 0.04, 0.04, 0.004, 0.002]
        for k in (3, 0, len(schedule) - 1):
            budget = len(schedule) - k
            for way in ("rewind", "lr_rewind", "fine_tune"):
                given = list(schedule)
                new = call(given, way, k)
                if new is None:
                    raise NothingReturned
                if given != schedule:
                    return "your function changed the schedule it was given: return a new list"
                if getattr(new, "ndim", 1) != 1:
                    return f"return a list, one rate per step; got the shape {tuple(new.shape)}"
                try:
                    new = [as_number(rate, text=False) for rate in new]
                except TypeError:
                    return f"return a list with the rate of every step; got {type(new).__name__}"
                if any(math.isnan(rate) for rate in new):
                    return "return a list of rates, a number for every step"
                problem = _rates_problem(new, schedule, way, k, budget)
                if problem:
                    return f"way={way!r}, k={k}: {problem}"
        return None

    return guarded(fn, check, "equal budgets; the schedule goes on from k, or stays at its end")


def _rates_problem(
    new: list[float], schedule: list[float], way: str, k: int, budget: int
) -> str | None:
    expected = [schedule[-1]] * budget if way == "fine_tune" else schedule[k:]
    if _same(new, expected):
        return None
    if len(new) != budget:
        return (
            f"budgets are equal in all three ways, steps − k = {budget} steps; your list has "
            f"{len(new)}"
        )
    if way == "fine_tune" and _same(new, schedule[k:]):
        return "fine-tuning does not rewind the schedule: it stays at the last rate"
    if way != "fine_tune" and _same(new, schedule[k + 1 :] + [schedule[-1]]):
        return "training goes on *at* step k: its own rate is the first, not that of step k + 1"
    if way == "fine_tune" and len(set(new)) == 1:
        return f"fine-tuning is at the *last* rate of the schedule, {schedule[-1]}; got {new[0]}"
    if way == "lr_rewind" and _same(new, [schedule[-1]] * budget):
        return "learning-rate rewinding keeps the weights and rewinds the *rate*: back to step k"
    if _same(new, schedule[:budget]):
        return "the schedule goes on from step k, not from its beginning"
    return f"the rates should be {expected}; got {new}"


def _same(a: Sequence[float], b: Sequence[float]) -> bool:
    """Return whether two lists hold the same rates; single precision is precise enough."""
    return len(a) == len(b) and all(
        math.isclose(x, y, rel_tol=1e-6) for x, y in zip(a, b, strict=True)
    )


def matching_test(
    fn: Callable[[Sequence[float], Sequence[float], float], bool] | None = None,
) -> Check:
    """Check a function `fn(pruned, dense, margin)` that says whether a pruned network matches.

    `pruned` and `dense` are accuracies, seed by seed in the same order. True if the whole 95 %
    t-interval of the mean paired difference lies above −margin, and n is at least 3.
    """

    def check(call: Callable) -> str | None:
        for pruned, dense, margin, expected, idea in _CASES:
            given = list(pruned), list(dense)
            new = call(*given, margin)
            if given != (list(pruned), list(dense)):
                return "your function changed the accuracies it was given: it only reads them"
            if new is None and len(pruned) < 3:
                return f"{idea}: the answer is False, not None"
            if new is None:
                raise NothingReturned
            if as_truth(new) is None:
                return f"the answer is True or False; got {type(new).__name__}"
            if as_truth(new) != expected:
                if (pruned, dense) == _WIDTH:
                    idea = _factor_idea(call) or idea
                verb = "is matching" if expected else "is not matching"
                return f"{idea}. pruned={pruned}, dense={dense}, margin={margin} {verb}"
        return None

    return guarded(fn, check, "paired, the whole interval, n stated")


# Three seeds whose differences have a standard error of 0.00231.
_WIDTH = (0.974, 0.966, 0.970), (0.970, 0.970, 0.970)
_FACTORS = {
    1.96: "with n = 3 the interval reaches 4.3 standard errors to *each* side, not 1.96: Student's "
    "t, not the normal distribution",
    2.0: "with n = 3 the interval reaches 4.3 standard errors to *each* side, not 2: Student's t",
    2.92: "the interval is two-sided, 2.5 % are beyond *each* side: 4.30 standard errors with "
    "n = 3, not 2.92",
    3.18: "three differences have n − 1 = 2 degrees of freedom: 4.30 standard errors, not 3.18",
    3.51: "the standard deviation is over n − 1 (ddof=1), not over n",
    7.45: "a standard error is the standard deviation over √n",
    9.92: "95 % lie in the interval, not 99 %: it reaches 4.3 standard errors and no further",
}


def _factor_idea(call: Callable) -> str | None:
    """Return what the reader's half-width gives away, measured by the margin that it needs."""
    low, high = 0.0, 0.05
    for _ in range(24):
        middle = (low + high) / 2
        matches = as_truth(call(*(list(each) for each in _WIDTH), middle))
        low, high = (low, middle) if matches else (middle, high)
    factor = high / (0.004 / math.sqrt(3))
    return next((i for f, i in _FACTORS.items() if math.isclose(f, factor, rel_tol=0.01)), None)


_TEN = (0.974, 0.966) * 5

# Accuracies pruned and dense, margin, verdict, and the idea that a wrong verdict missed.
_CASES = (
    ((0.97, 0.97, 0.97, 0.97), (0.97, 0.97, 0.97, 0.97), 0.005, True,
     "equal accuracies match: the interval of the difference is the point 0, above −margin"),
    ((0.968, 0.968, 0.968, 0.968), (0.97, 0.97, 0.97, 0.97), 0.005, True,
     "the margin counts, in the same unit: 0.2 points below the dense network are within 0.5"),
    ((0.496, 0.496, 0.496, 0.496), (0.5, 0.5, 0.5, 0.5), 0.005, True,
     "the margin is a difference of accuracies, not a share of the dense network's"),
    ((0.90, 0.91, 0.90, 0.91), (0.97, 0.97, 0.98, 0.97), 0.005, False,
     "seven points below the dense network is not within the margin"),
    ((0.972, 0.952, 0.912, 0.992), (0.973, 0.953, 0.913, 0.993), 0.005, True,
     "pair by seed: seeds differ by points, pruned and dense of one seed by a tenth of a point"),
    ((0.99, 0.94, 0.99, 0.94), (0.965, 0.965, 0.965, 0.965), 0.005, False,
     "the *whole interval* has to lie above −margin, not the mean alone"),
    ((0.99, 0.95, 0.97, 0.96), (0.95, 0.99, 0.96, 0.97), 0.005, False,
     "pair by seed, in the order that is given: sorted, these two look alike, but seed by seed "
     "they differ by up to four points"),
    ((0.97, 0.97), (0.97, 0.97), 0.005, False,
     "with fewer than three seeds nothing is decided, however close the numbers are"),
    # The margin lies at 4.0 standard errors: below Student's 4.30 for n = 3, above the factor of
    # the normal distribution (1.96), of one side (2.92), of three degrees of freedom (3.18), and
    # that of a standard deviation over n instead of n − 1 (4.30 · √⅔ = 3.51).
    (*_WIDTH, 0.00924, False,
     "with n = 3 the interval reaches 4.3 standard errors to *each* side: Student's t, two-sided, "
     "n − 1 = 2 degrees of freedom, the standard deviation over n − 1"),
    (*_WIDTH, 0.0106, True,
     "with n = 3 the interval reaches 4.3 standard errors to each side and no further"),
    # n = 10: Student's factor is 2.26; margins at 2.6 and 2.1 standard errors of 0.001333.
    (_TEN, (0.97,) * 10, 0.00347, True,
     "with n = 10 the interval reaches 2.26 standard errors: the factor falls as n grows, and a "
     "standard error is the standard deviation over √n"),
    (_TEN, (0.97,) * 10, 0.0028, False,
     "with n = 10 the interval reaches 2.26 standard errors, not 1.96 or 2"),
    ((0.99, 0.985, 0.99, 0.99), (0.97, 0.97, 0.97, 0.97), 0.005, True,
     "better than the dense network matches too: the test is one-sided"),
    ((0.97, 0.97, 0.97, 0.97, 0.95), (0.97,) * 5, 0.013, False,
     "the middle of the interval is the *mean* difference, here 0.4 points below zero"),
    ((0.97, 0.97, 0.97, 0.97, 0.95), (0.97,) * 5, 0.0158, True,
     "with n = 5 the interval reaches 2.78 standard errors, and a standard error is the standard "
     "*deviation* over √n, not half the range"),
)  # fmt: skip
