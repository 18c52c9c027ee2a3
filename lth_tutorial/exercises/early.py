"""Chance and a threshold by hand, the stopping rule, and a curve that peeks (chapter 09)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lth_tutorial.exercises.outcome import (
    OPEN,
    Check,
    NothingReturned,
    as_number,
    as_tensor,
    guarded,
    is_open,
    on_copies,
    shown,
)

RATIO = (1 - math.sqrt(0.8)) / 2
"""The share p below one half at which 2p(1 − p) = 0.1."""

_TYPICAL = {
    0.05: "2p = 0.1 forgets that a place which both masks remove is no difference: solve 2p(1 − p)",
    0.1: "a mask that removes 0.1 differs by 0.18 from an unrelated one: a place differs if one "
    "mask removes it and the other does not, and there are two ways for that",
    1 - RATIO: "that solves the equation too, but most would be removed; the question asks for the "
    "root below one half",
    (1 - math.sqrt(0.6))
    / 2: "there are two ways to differ, removed here or removed there: 2p(1 − p), not p(1 − p)",
    1 - math.sqrt(0.9): "that is where 0.1 of the places are removed by *at least one* mask; those "
    "removed by both do not differ",
    math.sqrt(0.1): "that is where 0.1 of the places are removed by *both* masks: there they agree",
    math.sqrt(0.9): "that is where 0.9 of the places are removed by *both* masks",
    0.18: "that is the distance of unrelated masks at p = 0.1; the question is the other way round",
}


def chance_ratio(answer: float | None = None) -> Check:
    """Check the share p < 1/2 at which unrelated masks differ in 0.1 of the places on average."""
    if is_open(answer):
        return OPEN
    number = as_number(answer)
    if math.isnan(number):
        return Check(False, f"the answer is a share, a number in [0, 1]; got {shown(answer)}")
    if abs(number - RATIO) <= 0.0003:
        return Check(True, f"2p(1 − p) = 0.1 has the root {RATIO:.4f}; below it, chance passes")
    for wrong, idea in _TYPICAL.items():
        if abs(number - wrong) <= 0.0003:
            return Check(False, f"{number:.4g}: {idea}")
    if abs(number - 100 * RATIO) <= 0.06:
        return Check(False, f"{number:g} looks like a percentage; p is a share in [0, 1]")
    if not 0 <= number <= 1:
        return Check(False, f"{number:g} is no share: p lies in [0, 1]")
    return Check(
        False, f"at p = {number:.4g} unrelated masks differ by {2 * number * (1 - number):.3f}, "
        f"not by 0.1: a place differs if one mask removes it (p) and the other keeps it (1 − p)"
    )  # fmt: skip


def _history(*masks: str) -> list[Tensor]:
    """Return scores whose strict masks at one half are the given ones; "=" makes all equal.

    Every second mask has as many kept as removed less one: the threshold itself goes.
    """
    scores = []
    for mask in masks:
        if set(mask) == {"="}:
            scores.append(torch.ones(20))
            continue
        kept = torch.tensor([place == "1" for place in mask])
        noise = torch.arange(20) / 100
        scores.append(torch.where(kept, 2 + noise, 1 - noise))
    return scores


_A = "11111111100000000000"  # 9 of 20: int(0.5 · 20) and the threshold itself are removed

_FAR = "00000000000111111111"
_STEP = (
    "11111111100000000000", "11111111010000000000", "11111110110000000000",
    "11111101110000000000", "11111011110000000000", "11110111110000000000",
)  # fmt: skip
"""Masks of which each is two places from the one before, and from any other too."""
_SLIDE = (
    "11111111100000000000", "01111111110000000000", "00111111111000000000",
    "00011111111100000000", "00001111111110000000", "00000111111111000000",
)  # fmt: skip
"""Each is two places from the one before, but four, six and eight from the older ones."""

_STAR = tuple(
    "".join(str(int((k < 9 and k != i) or k == 10 + i)) for k in range(20)) for i in range(4)
)
"""Each is two places from A, and four from any other of them."""


def _wandering(*masks: str) -> list[Tensor]:
    """Return scores with these masks, in which another removed channel is the largest each time."""
    scores = _history(*masks)
    for epoch, values in enumerate(scores):
        removed = (values < 1.5).nonzero().flatten()
        values[removed[epoch % len(removed)]] = 1.4
    return scores


def _lopsided(*masks: str) -> list[Tensor]:
    """Return scores with these masks, in which the first kept channel is larger by far."""
    scores = _history(*masks)
    for values in scores:
        values[int((values > 1.5).nonzero()[0])] = 100.0
    return scores


_TIED = torch.tensor([2.0] * 9 + [1.0] * 11)
"""Eleven scores tie at the threshold: the strict mask is A, the other keeps everything."""

_CASES: tuple[tuple[list[Tensor], str], ...] = (
    (_history(_FAR, _A, _A, _A, _A, _A, _A), "settled from the second epoch on"),
    (_history(*_STEP), "always exactly 0.1 apart"),
    (_history(*_SLIDE, *_SLIDE[::-1][1:]), "sliding: near the last, far from older ones"),
    (_history(*["=" * 20] * 7), "empty, as all scores are equal"),
    (_history("=" * 20, _A, _A, _A, _A, _FAR, _A), "four times the same and no fifth time"),
    (_history(_FAR, _A, _FAR, _A, _A, _A, _A, _A), "restless, then settled"),
    ([*_history(_A, _A, _A, _A), _TIED, *_history(_FAR)], "equal, with ties at the threshold"),
    (_history(*_STAR, _A, _FAR), "0.1 from the newest and further from one another"),
    (_history(_FAR, _A, *_STAR, _FAR), "near the oldest, and further from one another"),
    (_history(*["=" * 20] * 5, *[_A] * 5), "empty for five epochs, and then the same"),
    (_wandering(*_STEP), "exactly 0.1 apart, while the score at the threshold changes places"),
    (_lopsided(_A, _FAR, _A, _FAR, _A, _FAR), "never the same, with one channel far above all"),
)


def _rule(
    scores: Sequence[Tensor], *, window: int = 5, beyond: str = ">", most: str = "<=",
    against: str = "newest", empty: bool = False, at: str = "n // 2",
) -> int | None:  # fmt: skip
    """Return the drawing epoch by the rule, or by one of its typical misreadings."""
    masks = []
    for values in scores:
        ranked = values.sort().values
        places = {"n // 2": ranked[len(ranked) // 2], "one below": ranked[(len(ranked) - 1) // 2]}
        threshold = places.get(at, values.mean())
        masks.append(values > threshold if beyond == ">" else values >= threshold)
    for epoch in range(window - 1, len(masks)):
        last = masks[epoch - window + 1 : epoch + 1]
        pairs = [(last[-1], older) for older in last[:-1]]
        if against == "oldest":
            pairs = [(last[0], newer) for newer in last[1:]]
        if against == "any":
            pairs = list(itertools.combinations(last, 2))
        if against == "previous":
            pairs = list(itertools.pairwise(last))
        distances = [float((a != b).float().mean()) for a, b in pairs]
        if against == "mean":
            distances = [sum(distances) / len(distances)]
        near = [d < 0.1 - 1e-6 if most == "<" else d <= 0.1 + 1e-6 for d in distances]
        if all(near) and (empty or all(bool(mask.any()) for mask in last)):
            return epoch
    return None


_MISREAD = (
    (dict(most="<"), "a distance of exactly 0.1 counts, not divided by that of chance: *at most* "
     "the threshold. (If that is what you wrote: in single precision 2 / 20 is a little more than "
     "0.1, so compare counts)"),
    (dict(against="oldest"), "the *newest* mask is compared with each of the four older ones, not "
     "the oldest with the newer ones"),
    (dict(against="any"), "the *newest* mask is compared with each of the four older ones; these "
     "may be further from one another"),
    (dict(at="one below"), "the threshold is the score in place n // 2 of the sorted ones, counted "
     "from 0, and it goes as well: 9 of 20 stay. With the median or a quantile 10 stay"),
    (dict(at="mean"), "half of the channels is removed: the threshold is the score in the middle "
     "of the sorted ones, not their mean"),
    (dict(against="previous"), "the *newest* mask is compared with each of the four older ones; "
     "masks that slide slowly are near the last one all the time"),
    (dict(against="mean"), "*all* four distances must be small, not their mean"),
    (dict(window=4), "five masks, so four distances to older ones: yours draws with four masks"),
    (dict(window=6), "five masks, so four distances to older ones: yours waits for a sixth mask"),
    (dict(empty=True), "where all scores are equal, nothing lies strictly above the threshold: a "
     "mask that keeps nothing is no ticket, however often it comes"),
    (dict(beyond=">="), "kept is what lies *strictly* above the threshold; with `>=` the threshold "
     "itself stays, and where all scores are equal everything does"),
)  # fmt: skip


def stopping_rule(fn: Callable[[list[Tensor]], int | None] | None = None) -> Check:
    """Check a function `fn(scores)` that returns the epoch at which an early bird is drawn.

    `scores` has one tensor of |γ| per epoch. Half is removed: the threshold is the score in place
    n // 2 of the sorted ones, kept is what lies strictly above. Five masks, distances at most 0.1;
    None if the rule is never met. Masks that keep nothing do not count.
    """

    def check(call: Callable) -> str | None:
        got, right = [], [_rule(scores) for scores, _ in _CASES]
        for scores, _ in _CASES:
            given = [values.clone() for values in scores]
            value = call(given)
            if len(given) != len(scores) or not all(map(torch.equal, given, scores)):
                return "your function changed the scores: compute masks from them"
            number = None if value is None else as_number(value, text=False)
            if not (number is None or number.is_integer()):
                return f"the answer is an epoch, a whole number from 0, or None; got {shown(value)}"
            got.append(None if number is None else int(number))
        if all(value is None for value in got):
            raise NothingReturned
        if got == right:
            return None
        for settings, idea in _MISREAD:
            if got == [_rule(scores, **settings) for scores, _ in _CASES]:
                return idea
        at = next(i for i in range(len(right)) if got[i] != right[i])
        if got == [None if r is None else r - 4 for r in right]:
            return "the ticket is drawn at the *newest* of the five masks, not at the oldest"
        if got == [None if r is None else r + 1 for r in right]:
            return (
                f"epochs count from 0, the untrained network: with masks that are {_CASES[at][1]} "
                f"the ticket is drawn at epoch {right[at]}, not {got[at]}"
            )
        if right[at] is None:
            return f"with masks that are {_CASES[at][1]} no ticket is drawn: None, not {got[at]}"
        return (
            f"with masks that are {_CASES[at][1]} the ticket is drawn at epoch {right[at]}, "
            f"not {got[at]}"
        )

    return guarded(fn, check, "five masks, all four distances at most 0.1, none of them empty")


_VAL = torch.tensor(
    [[0.50, 0.88, 0.91, 0.86, 0.70], [0.60, 0.95, 0.70, 0.95, 0.60], [0.2, 0.4, 0.6, 0.5, 0.8]]
)
_TEST = torch.tensor(
    [[0.52, 0.95, 0.83, 0.81, 0.74], [0.65, 0.77, 0.91, 0.88, 0.59], [0.3, 0.7, 0.5, 0.6, 0.55]]
)


def honest_selection(fn: Callable[[Tensor, Tensor], Tensor] | None = None) -> Check:
    """Check a function `fn(val, test)` that reports each run's test accuracy without peeking.

    `val` and `test` hold accuracies [runs, epochs]. The epoch of a run is chosen by its own
    validation accuracy (the first, if tied); returned is the test accuracy there, shape [runs].
    """

    def check(call: Callable) -> str | None:
        for val, test in ((_VAL, _TEST), (_TEST[:2, :4], _VAL[:2, :4])):
            value, untouched = on_copies(call, val, test)
            if not untouched:
                return "your function changed the accuracies it was given"
            problem = _selection_problem(value, val, test)
            if problem:
                return problem
        return None

    return guarded(fn, check, "validation chooses the epoch, test images judge it")


def _selection_problem(value: Any, val: Tensor, test: Tensor) -> str | None:
    runs = torch.arange(len(val))
    right = test[runs, val.argmax(dim=1)]
    given, value = value, as_tensor(value)
    if value is None:
        return f"return one accuracy per run, a tensor or a list; got {type(given).__name__}"
    value = value.float()
    wrong = [
        (test.amax(dim=1), "that is the best *test* accuracy of each run: chosen on the very "
         "images that are to judge, it is too high by as much as the curve is restless"),
        (val.amax(dim=1), "the validation accuracy chooses the epoch, but what is reported is "
         "the *test* accuracy there"),
        (test[:, -1], "the last epoch is a fair choice, but not the one asked for: choose by "
         "validation accuracy"),
        (test[:, int(val.mean(dim=0).argmax())], "each run chooses its *own* epoch: yours "
         "takes one epoch for all, by the mean"),
        (test[:, int(test.mean(dim=0).argmax())], "an epoch chosen by the mean test accuracy "
         "still peeks at the test images"),
        (test[runs, -1 - val.flip(1).argmax(dim=1)], "where two epochs tie, take the *first*"),
        (test[runs, (val + test).argmax(dim=1)], "the test accuracy had a say in the "
         "choice: validation alone chooses"),
        (val[runs, test.argmax(dim=1)], "the two sets changed places: validation chooses, "
         "test judges"),
        (test.mean(dim=1), "the mean over the epochs is no epoch's accuracy"),
    ]  # fmt: skip
    if value.shape != right.shape:
        if value.numel() == 1 and abs(float(value) - float(right.mean())) < 1e-5:
            return "right on average, but return one accuracy per run, shape [runs]"
        return (
            f"return one accuracy per run, shape {tuple(right.shape)}, at an epoch (dimension "
            f"1) of its own; got {tuple(value.shape)}"
        )
    if torch.allclose(value, right, atol=1e-6):
        return None
    for number, idea in wrong:
        if torch.allclose(value, number, atol=1e-6):
            return idea
    at = int((value - right).abs().argmax())
    return f"run {at} has test accuracy {right[at]:.2f} at its chosen epoch, not {value[at]:.2f}"
