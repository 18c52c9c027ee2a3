"""By hand: how many weights are left after some rounds (chapter 04)."""

from __future__ import annotations

import math

from lth_tutorial.exercises.outcome import (
    OPEN,
    Check,
    as_number,
    is_open,
    shown,
)

# Chosen so that rounding once at the end gives another number than rounding in every round.
LAYERS = (64 * 32, 32 * 16, 16 * 10)
BIASES = (32, 16, 10)
FRACTIONS = (0.3, 0.3, 0.15)
ROUNDS = 3


def _left(n: int, fraction: float, rounds: int = ROUNDS) -> int:
    for _ in range(rounds):
        n -= round(fraction * n)
    return n


def _typical_counts() -> dict[int, str]:
    """Return the answers that typical misunderstandings lead to, and the idea each one missed."""
    pairs = list(zip(LAYERS, FRACTIONS, strict=True))
    right = sum(_left(n, f) for n, f in pairs)
    with_biases = sum(_left(n + b, f) for (n, f), b in zip(pairs, BIASES, strict=True))
    biases = (
        "biases are never pruned and are not counted as prunable weights: count the entries of "
        "the weight matrices only, 64·32 + 32·16 + 16·10 of them at the start"
    )
    first, last = LAYERS[0], LAYERS[-1]
    return {
        sum(round(n * (1 - ROUNDS * f)) for n, f in pairs): (
            "a round removes its fraction of the weights that *remain*, not of the original "
            f"number: the first layer loses {round(FRACTIONS[0] * first):,} weights in the first "
            f"round but {round(FRACTIONS[0] * _left(first, FRACTIONS[0], 1)):,} in the second"
        ),
        right + sum(BIASES): biases,
        with_biases: biases,
        sum(_left(n, FRACTIONS[0]) for n in LAYERS): (
            "the output layer has its own fraction, 15% and not 30%: after one round it keeps "
            f"{_left(last, 0.1, 1)} of its {last:,} weights, not {_left(last, 0.2, 1)}"
        ),
        sum(_left(n, f / 100) for n, f in pairs): (
            "a fraction lies between 0 and 1: 30% is the fraction 0.3, not 0.003, so one round "
            f"leaves {_left(first, FRACTIONS[0], 1):,} of the {first:,} weights of the first layer"
        ),
        sum(n - _left(n, f) for n, f in pairs): (
            "that is the number of weights *removed*; the question asks for those that remain"
        ),
        sum(_left(n, 1 - f) for n, f in pairs): (
            "the fraction is the share *removed* in a round, not the share kept: one round leaves "
            f"{_left(first, FRACTIONS[0], 1):,} of the {first:,} weights of the first layer"
        ),
        sum(_left(n, f, ROUNDS - 1) for n, f in pairs): f"that is one round short of {ROUNDS}",
        sum(_left(n, f, ROUNDS + 1) for n, f in pairs): (
            f"that is one round too many: {ROUNDS} rounds prune {ROUNDS} times"
        ),
        _left(first, FRACTIONS[0]) + _left(LAYERS[1], FRACTIONS[1]): (
            "the output layer is pruned too (at 15%), and its remaining weights count"
        ),
    }


def remaining_weights(answer: int | None = None) -> Check:
    """Check the number of weights that three rounds leave in a 64-32-16-10 network.

    Each round removes, layer by layer, 30%, 30% and 15% (output layer) of the weights that remain,
    rounded to a whole number of weights. Biases are not pruned and not counted.
    """
    if is_open(answer):
        return OPEN
    number = as_number(answer)
    if math.isnan(number):
        layers = isinstance(answer, (dict, list, tuple)) and len(answer) == len(LAYERS)
        add = ". Add up what is left in the layers" if layers else ""
        return Check(False, f"the answer is a whole number of weights; got {shown(answer)}{add}")
    if not number.is_integer():
        return Check(False, _not_whole(number))
    count, total = int(number), sum(LAYERS)
    right = sum(_left(n, f) for n, f in zip(LAYERS, FRACTIONS, strict=True))
    if count == right:
        return Check(
            True, f"{right:,} of {total:,} weights remain, a density of {right / total:.3f}"
        )
    typical = _typical_counts()
    if count in typical:
        return Check(False, f"{count:,}: {typical[count]}")
    if 1 < count <= 100:
        return Check(False, _not_whole(count))
    if abs(count - right) <= ROUNDS * len(LAYERS):
        return Check(
            False,
            f"{count:,}: the idea is right, the rounding is not. Each layer is rounded to whole "
            f"weights in each round: a weight cannot be pruned by half",
        )
    first = LAYERS[0]
    return Check(
        False,
        f"{count:,} is not it. Work out one layer and one round first: of the first layer's "
        f"{first:,} weights, {_left(first, FRACTIONS[0], 1):,} remain",
    )


def _not_whole(number: float) -> str:
    """Return what a number that is not whole probably stands for."""
    if 0 < number < 1:
        return f"{number:g} looks like a density, the share of weights left; give their number"
    if 1 < number < 100:
        return f"{number:g} looks like a percentage of weights left; give their number"
    return (
        f"{number:,} is not a whole number of weights: round in each round, layer by layer, since "
        f"a weight cannot be pruned by half"
    )
