"""By hand and in code: weights that are needed, a null mask, a confounder (chapter 14)."""

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
    NothingReturned,
    as_number,
    guarded,
    is_open,
    mask_problem,
)

NEEDED = 4

_TYPICAL = {
    7: "those are all that are kept; some of them lie on no path from an input to the output",
    5: (
        "C has no input, so it is a constant: its weight to D can be taken over by the bias of D, "
        "whatever it is"
    ),
    6: (
        "E is read by nothing, so nothing that leads only to E counts either: go on backwards from "
        "there"
    ),
    13: "biases are not counted, and not every kept weight is needed",
    3: "A keeps both inputs, and both lie on the path through D",
    2: "the weights between the inputs and A count too",
    1: "what D reads counts too, back to the inputs",
    0: "D is read by the output and reads A, which reads both inputs: that path works",
}


def needed_by_hand(answer: object = None) -> Check:
    """Check how many weights the network of the exercise needs to compute what it computes."""
    if is_open(answer):
        return OPEN
    number = as_number(answer)
    if math.isnan(number):
        return Check(False, f"the answer is a number of weights; got {type(answer).__name__}")
    if number == NEEDED:
        return Check(True, "the output's weight to D, D's to A, and A's two to the inputs")
    for wrong, idea in _TYPICAL.items():
        if number == wrong:
            return Check(False, idea)
    return Check(False, f"{number:g} is not it: 7 weights are kept, and fewer are needed")


def null_mask(fn: Callable[[Tensor, int], Tensor] | None = None) -> Check:
    """Check a function `fn(kept, seed)`: a random mask with the same counts per row and column."""

    def check(call: Callable) -> str | None:
        kept = _blocks()
        results = []
        for seed in range(3):
            given = kept.clone()
            new = call(given, seed)
            problem = mask_problem(new, kept)
            if problem is not None:
                return problem
            if not torch.equal(given, kept):
                return "your function changed the mask that it was given: work on a copy"
            results.append(new.clone())
        problem = _what_is_kept(results, kept)
        if problem is None and not torch.equal(call(kept.clone(), 2), results[2]):
            return (
                "the same seed must give the same mask (called twice with seed 2, the masks "
                "differ): draw with a generator seeded by `seed`"
            )
        return problem

    return guarded(fn, check, "every unit and every pixel keeps its count, and the rest is chance")


def _blocks(side: int = 6) -> Tensor:
    """Return a mask of local units with unequal counts of rows and of columns."""
    kept = torch.zeros(side * side, side, side, dtype=torch.bool)
    for unit in range(side * side):
        y, x = unit // side, unit % side
        kept[unit, y : y + 2, x : x + 1 + unit % 3] = True
    return kept.view(side * side, side * side)


def _what_is_kept(results: list[Tensor], kept: Tensor) -> str | None:
    """Return which of the conditions on a null mask the results miss, if they do."""
    rows = all(torch.equal(new.sum(1), kept.sum(1)) for new in results)
    columns = all(torch.equal(new.sum(0), kept.sum(0)) for new in results)
    if all(torch.equal(new, kept) for new in results):
        return "that is the mask itself: nothing of it was shuffled"
    if not rows and not columns:
        if all(int(new.sum()) == int(kept.sum()) for new in results):
            return (
                "the total is right, but units and pixels have other counts: an empty border would "
                "be filled again, and any mask without one would look local beside this null"
            )
        return "the number of kept weights changed: a null has as many as the mask"
    if not columns:
        return (
            "every unit has its count, but the pixels have not: on MNIST this null would keep the "
            "black border, which the ticket has dropped"
        )
    if not rows:
        if all(_same_rows(new, kept) for new in results):
            return _WHOLE_UNITS
        return (
            "every pixel has its count, but the units have not: a unit that keeps many pixels has "
            "many neighbours among them by that alone"
        )
    if any(torch.equal(a, b) for a, b in itertools.combinations(results, 2)):
        return "different seeds give the same mask (tried 0 to 2): draw from the seed"
    if all(_same_rows(new, kept) for new in results):
        return _WHOLE_UNITS
    if all(torch.equal(_shared(new), _shared(kept)) for new in results):
        return (
            "you exchanged whole pixels: each is read by the very units that read another one "
            "before, so that units share as many pixels with one another as they did"
        )
    # Chance leaves about a sixth of the kept weights where they were.
    changed = sum(float((new != kept).sum()) for new in results) / float(2 * kept.sum())
    if changed / len(results) < 0.7:
        return (
            "too little has moved: exchange many more times, until the mask has forgotten "
            "where it began"
        )
    return None


_WHOLE_UNITS = (
    "you exchanged whole units: each still keeps the pixels side by side that it kept, so this "
    "null is as local as the mask"
)


def _shared(mask: Tensor) -> Tensor:
    """Return how many pixels each two units share, in order of size."""
    return (mask.float() @ mask.float().T).flatten().sort().values


def _same_rows(a: Tensor, b: Tensor) -> bool:
    return sorted(map(tuple, a.tolist())) == sorted(map(tuple, b.tolist()))


def removed_per_round(fn: Callable[[int, int, int], Any] | None = None) -> Check:
    """Check `fn(width, weights, rounds)`: the share of remaining weights each round must remove."""

    def check(call: Callable) -> str | None:
        for width, weights, rounds in ((8, 20, 4), (64, 20, 4), (256, 20, 4), (16, 40, 10)):
            value = call(width, weights, rounds)
            if value is None:
                raise NothingReturned
            value, total = as_number(value, text=False), _weights(width)
            right = 1 - (weights / total) ** (1 / rounds)
            if math.isnan(value):
                return "the share is a number between 0 and 1"
            if abs(value - right) < 6e-4:
                continue
            wrong = {
                1 - right: "that is the share that is *kept* in a round",
                100 * right: "a share lies in [0, 1], not in percent",
                (1 - weights / total) / rounds: (
                    "each round removes a share of what *remains*: shares multiply, they do not add"
                ),
                1 - weights / total: "that is what all rounds remove together",
                1 - (weights / (2 * width + width * width + width)) ** (1 / rounds): (
                    "2-w-w-w-1 has three hidden layers, and between them *two* of w by w weights"
                ),
                1 - (weights / (2 * width + 2 * width * width)) ** (1 / rounds): (
                    "the output reads w units, and has w weights"
                ),
                1 - (weights / (width + 2 * width * width)) ** (1 / rounds): (
                    "each of the w units of the first layer reads *two* inputs"
                ),
                1 - (weights / (2 * width * width)) ** (1 / rounds): (
                    "the first layer has 2 w weights and the last w: 2w + w² + w² + w in all"
                ),
                1 - (weights / (3 * width * width)) ** (1 / rounds): (
                    "two layers are w by w, the first has 2 w weights and the last w"
                ),
                1 - (weights / (total + 3 * width + 1)) ** (1 / rounds): (
                    "biases are not pruned: count weights only"
                ),
                1 - (weights / total) ** (1 / (rounds + 1)): (
                    "so many *prunings*: the training before the first of them removes nothing"
                ),
                1 - (weights / total) ** (1 / max(rounds - 1, 1)): (
                    "so many prunings as there are rounds"
                ),
            }
            for number, idea in wrong.items():
                if abs(value - number) < 5e-4 * max(1.0, abs(number)):
                    return idea
            return (
                f"from width {width} ({total:,} weights) to {weights} in {rounds} rounds, each "
                f"removes {right:.3f} of what remains, not {value:.3f}"
            )
        return None

    return guarded(fn, check, "the wider the network, the coarser the rounds: a second difference")


def _weights(width: int) -> int:
    return 2 * width + width * width + width * width + width
