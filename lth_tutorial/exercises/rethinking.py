"""By hand and in code: budgets that are equal, comparisons that isolate (chapter 05)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from lth_tutorial.exercises.outcome import (
    OPEN,
    Check,
    NothingReturned,
    ReaderError,
    as_number,
    as_truth,
    guarded,
    is_open,
    shown,
)

EPOCHS, SHARE, LONGEST = 160, 0.4, 2


def scratch_b_epochs(answer: float | None = None) -> Check:
    """Check the epochs that Scratch-B gets: 160 dense ones, 40 % of the FLOPs, at most doubled."""
    if is_open(answer):
        return OPEN
    number = as_number(answer)
    if not math.isfinite(number):
        return Check(False, f"the answer is a number of epochs; got {shown(answer)}")
    right = EPOCHS * LONGEST
    if number == right:
        return Check(True, f"{EPOCHS} / {SHARE:g} = {EPOCHS / SHARE:g}, but no more than doubled")
    typical = {
        EPOCHS / SHARE: "equal FLOPs would be that many, but the paper stops at twice the epochs",
        EPOCHS: "that is Scratch-E, as many epochs; Scratch-B spends the FLOPs that were saved",
        EPOCHS * SHARE: "a cheaper network gets *more* epochs for the same FLOPs, not fewer",
        EPOCHS * (1 + SHARE): "40 % is what an epoch costs, not what is added to the epochs",
        EPOCHS * (2 - SHARE): "60 % is what an epoch saves, not what is added to the epochs",
    }
    for wrong, idea in typical.items():
        if abs(number - wrong) < 1e-9:
            return Check(False, f"{number:g}: {idea}")
    return Check(
        False,
        f"{number:g} is not it. How many epochs of the small network cost as much as {EPOCHS} of "
        f"the large one? And what is the longest that is allowed?",
    )


def fair_steps(fn: Callable[[int, int, float, float], float] | None = None) -> Check:
    """Check a function `fn(train, tune, dense, small)`: the steps that cost as much from scratch.

    The pruned network came about by `train` steps of a network of `dense` FLOPs and then `tune`
    steps of one of `small` FLOPs. For as many FLOPs in all, the small one could train how long?
    """

    def check(call: Callable) -> str | None:
        for train, tune, dense, small in (
            (100, 40, 8.0, 2.0),
            (300, 0, 3.0, 1.0),
            (50, 20, 5.0, 5.0),
        ):
            new = call(train, tune, dense, small)
            if new is None:
                raise NothingReturned
            right = train * dense / small + tune
            spent, number = train * dense + tune * small, as_number(new, text=False)
            if math.isnan(number):
                return f"the answer is a number of steps; got {shown(new)}"
            if math.isclose(number, right, rel_tol=1e-6):
                continue
            given = f"train={train}, tune={tune}, dense={dense:g}, small={small:g}"
            typical = {
                train + tune: "steps are not FLOPs: a step of the large network costs more",
                train * dense / small: "fine-tuning costs steps of the small network as well",
                (train + tune) * dense / small: (
                    "fine-tuning trains the *small* network: its steps cost no more than scratch's"
                ),
                train * small / dense + tune: (
                    "the ratio is upside down: a cheaper network gets more steps"
                ),
                train: "the same steps cost less: that is Scratch-E, without the fine-tuning",
                spent: "that is what was spent, in FLOPs: divide by what a step costs",
                spent / dense: "divide by what a step of the *small* network costs",
                min(right, 2 * train): "no doubling rule here: as many steps as are paid for",
                tune: "the dense network's training belongs to the cost of the pruned one",
            }
            for wrong, idea in typical.items():
                if math.isclose(number, wrong, rel_tol=1e-6):
                    return f"{idea} ({given}: {right:g}, got {number:g})"
            return f"add up what was spent, then divide by what a step costs ({given}: {right:g})"
        return None

    return guarded(fn, check, "what was spent, divided by what a step of the small network costs")


def isolates(fn: Callable[[Mapping, Mapping, str], bool] | None = None) -> Check:
    """Check a function `fn(a, b, factor)`: do two arms differ in one factor, and in nothing else?

    `a` and `b` describe two arms, a value for every factor. A factor that only one of them
    states counts as a difference: nobody knows whether it was the same.
    """

    def check(call: Callable) -> str | None:
        for a, b, factor, expected, idea in _PAIRS:
            first, second = dict(a), dict(b)
            try:
                new = call(first, second, factor)
            except ReaderError as error:
                if isinstance(error.__cause__, KeyError):
                    return f"{_ONE_STATES}: your function raised KeyError: {error.__cause__}"
                raise
            if new is None:
                raise NothingReturned
            if as_truth(new) is None:
                return f"the answer is True or False; got {type(new).__name__}"
            if first != a or second != b:
                return "your function changed the arms it was given: it only reads them"
            if as_truth(new) != expected:
                return f"{idea}. a={a}, b={b}, factor={factor!r} gives {expected}"
        return None

    return guarded(fn, check, "one difference, the one that was asked about")


_INHERIT = {"weights": "trained", "steps": 300, "rate": 0.1}
_ONE_STATES = "a factor that one arm does not state counts as different"
_PAIRS = (
    (_INHERIT, _INHERIT | {"weights": "new"}, "weights", True,
     "the arms differ in the factor and in nothing else"),
    (_INHERIT, {"rate": 0.1, "steps": 300, "weights": "new"}, "weights", True,
     "factors are compared by name, in whatever order they are stated"),
    (_INHERIT | {"steps": 100}, _INHERIT | {"weights": "new"}, "weights", False,
     "another factor differs as well, so that nobody can tell which one made the difference"),
    (_INHERIT, _INHERIT, "weights", False,
     "the arms do not differ in the factor: nothing can be learnt about it"),
    (_INHERIT, _INHERIT | {"rate": 0.01}, "weights", False,
     "the arms differ, but not in the factor that was asked about"),
    (_INHERIT, {"weights": "new", "steps": 300}, "weights", False, _ONE_STATES),
    ({"weights": "trained", "steps": 300}, _INHERIT | {"weights": "new"}, "weights", False,
     f"{_ONE_STATES}, whichever arm it is"),
    (_INHERIT, _INHERIT | {"mask": None, "weights": "new"}, "weights", False,
     f"{_ONE_STATES}: None is a statement, and not the same as none"),
    *((_INHERIT, _INHERIT | {"decay": value, "weights": "new"}, "weights", False,
       f"{_ONE_STATES}: {value!r} is a statement as well") for value in (0, "", False, -1)),
    (_INHERIT, _INHERIT | {"steps": 600}, "steps", True,
     "the factor may be any of them, not the weights alone"),
    (_INHERIT, _INHERIT | {"mask": "ticket"}, "mask", True,
     f"{_ONE_STATES}, and here it is the one asked about"),
)  # fmt: skip
