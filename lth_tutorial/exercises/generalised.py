"""By hand and in code: stored numbers, moved tickets, an artefact, a penalty (chapter 13)."""

from __future__ import annotations

import contextlib
import re
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
    close,
    guarded,
    is_open,
    shown,
)

KEPT, ROWS, COLUMNS, OUTPUTS, INPUTS = 128, 20, 15, 100, 64
NUMBERS = KEPT + ROWS * OUTPUTS + COLUMNS * INPUTS

_TYPICAL = {
    KEPT: "these are the coefficients alone: nobody can rebuild the weights without the basis",
    KEPT + OUTPUTS**2 + INPUTS**2: (
        "that is the whole basis: a basis vector that no kept coefficient uses need not be stored"
    ),
    ROWS * OUTPUTS + COLUMNS * INPUTS: "that is the basis alone; the kept coefficients come on top",
    KEPT + ROWS * INPUTS + COLUMNS * OUTPUTS: (
        "sides are swapped: a row of coefficients needs a vector of as many entries as the layer "
        "has *outputs*"
    ),
    KEPT + ROWS + COLUMNS: "a basis vector is not one number: it has an entry for every unit",
    OUTPUTS * INPUTS: "that is the dense layer; compare your number with it",
    KEPT + ROWS * OUTPUTS: "the vectors on the inputs' side are missing",
    KEPT + COLUMNS * INPUTS: "the vectors on the outputs' side are missing",
    KEPT + (ROWS + COLUMNS) * (OUTPUTS + INPUTS): (
        "a vector belongs to one side: 100 entries on the outputs' side, 64 on the inputs'"
    ),
    ROWS * COLUMNS + ROWS * OUTPUTS + COLUMNS * INPUTS: (
        f"of C only what is kept: {KEPT} numbers, not all {ROWS} × {COLUMNS} of them"
    ),
    NUMBERS + KEPT: "the places of the kept coefficients are not counted here: U, C and V alone",
    NUMBERS
    + 2 * KEPT: "the places of the kept coefficients are not counted here: U, C and V alone",
    KEPT + ROWS * COLUMNS: "rows times columns counts coefficients, kept or not, and no basis",
}


def numbers_stored(answer: object = None) -> Check:
    """Check how many numbers a layer of 100 × 64 pruned in the basis of its SVD has to store.

    128 coefficients are kept, in 20 rows and 15 columns.
    """
    if is_open(answer):
        return OPEN
    value = as_number(answer)
    if value != value:
        return Check(False, f"the answer is a number; got {shown(answer)}")
    if value == NUMBERS:
        return Check(
            True, f"{NUMBERS:,}, almost half of the dense layer's {OUTPUTS * INPUTS:,}: 24 times "
            f"the kept coefficients",
        )  # fmt: skip
    for wrong, idea in _TYPICAL.items():
        if value == wrong:
            return Check(False, idea)
    return Check(
        False, f"{value:,.0f} is not it: add kept coefficients, one vector of {OUTPUTS} entries "
        f"for each row in use, and one of {INPUTS} for each column in use",
    )  # fmt: skip


Counts = tuple[int, int]


def moved_density(
    fn: Callable[[Counts, Sequence[Counts], Sequence[int]], Any] | None = None,
) -> Check:
    """Check a function `fn(outside, blocks, picks)`: the density of a ticket after its move.

    `outside` is (kept, all weights) outside the blocks, `blocks` such a pair for every block of the
    source, and `picks` the block list.
    """

    def check(call: Callable) -> str | None:
        cases = [
            # Sizes and densities differ, and the last block is dropped: no two ideas coincide.
            ((30, 100), [(40, 120), (10, 100), (4, 90), (50, 80)], [0, 1, 2, 1, 2]),
            ((30, 100), [(40, 100), (10, 100), (4, 100)], [0, 2]),
            ((5, 50), [(90, 300), (12, 100)], [0, 1, 1, 1]),
            ((0, 10), [(7, 10)], [0]),
        ]
        for outside, blocks, picks in cases:
            given = list(blocks), list(picks)
            value = call(outside, *given)
            if value is None:
                raise NothingReturned
            if given != (blocks, picks):
                return "your function changed the lists it was given: it only reads them"
            shown, value = value, as_number(value, text=False)
            if value != value:
                return f"the density is a number; got {type(shown).__name__}"
            kept = outside[0] + sum(blocks[j][0] for j in picks)
            total = outside[1] + sum(blocks[j][1] for j in picks)
            if abs(value - kept / total) > 1e-6:
                return _density_idea(value, outside, blocks, picks)
        return None

    return guarded(fn, check, "kept over all, every copy of a block counted")


def _density_idea(value: float, outside, blocks, picks) -> str:
    kept, total = (outside[i] + sum(blocks[j][i] for j in picks) for i in (0, 1))
    inner = [sum(blocks[j][i] for j in picks) for i in (0, 1)]
    source = [outside[i] + sum(block[i] for block in blocks) for i in (0, 1)]
    once = [outside[i] + sum(blocks[j][i] for j in set(picks)) for i in (0, 1)]
    shares = [k / n for k, n in (outside, *(blocks[j] for j in picks))]
    wrong = {
        source[0] / source[1]: (
            "that is the density of the *source*: blocks are kept at different densities, and a "
            "copied block counts as often as it is copied"
        ),
        inner[0] / inner[1]: "what lies outside the blocks belongs to the network too",
        sum(shares) / len(shares): (
            "a mean of densities: a small layer must not count as much as a large one; add up "
            "counts first"
        ),
        kept / source[1]: "the number of weights changes with the depth: divide by the target's",
        once[0] / once[1]: "a block that is copied twice counts twice: do not make `picks` a set",
        1 - kept / total: "that is the share that is pruned; density is the share that is kept",
        kept: "a density is a share: divide by all weights of the target",
        outside[0] / outside[1] + inner[0] / inner[1]: "shares of different layers cannot be added",
        100 * kept / total: "a density is a share in [0, 1], not a percentage",
    }
    for number, idea in wrong.items():
        if abs(value - number) < 1e-6:
            return idea
    return (
        f"with {outside} outside, blocks {list(blocks)} and the list {list(picks)} the density is "
        f"{kept}/{total} = {kept / total:.4f}, not {value:.4f}"
    )


RUNS = {
    "a": ("weights themselves", "Adam"),
    "b": ("cosines", "Adam"),
    "c": ("random rotation", "Adam"),
    "d": ("cosines", "SGD"),
    "e": ("weights themselves", "SGD"),
    "f": ("singular vectors", "Adam"),
}
_ARTEFACTS = {
    "ab": (
        "that is the report's comparison, and the artefact: cosines change two things at once. "
        "Adam scales single coordinates, so that it takes another way in *any* rotated basis, and "
        "in any rotated basis no unit dies of lost weights. Which run changes the same two, and "
        "has no cosines?"
    ),
    "bd": "these differ by the optimiser alone; the question is about the basis",
    "de": (
        "with SGD the way is the same in both, so the optimiser is ruled out; but any rotation "
        "spreads a unit over many coefficients. A basis that means nothing is missing"
    ),
    "ac": "this says what *any* rotation is worth; there are no cosines in it",
    "bf": (
        "singular vectors come from a trained network and have to be stored: that is no control"
    ),
    "af": "singular vectors come from a trained network; and there are no cosines in it",
    "ae": "these differ by the optimiser alone; the question is about the basis",
    "cd": "these differ by the basis and by the optimiser: change one thing at a time",
    "be": "these differ by the basis and by the optimiser: change one thing at a time",
    "ad": "these differ by the basis and by the optimiser: change one thing at a time",
}


def artefact(answer: object = None) -> Check:
    """Check which two of the runs a to f tell what cosines as such are worth."""
    if is_open(answer):
        return OPEN
    given = answer
    with contextlib.suppress(Exception):
        if not isinstance(answer, str):
            answer = " ".join(map(str, answer))  # a list, a set, an array of letters
    words = re.findall("[a-z]+", answer.lower()) if isinstance(answer, str) else []
    # "bc", or single letters among other words, as in "b and c".
    letters = list(words[0]) if len(words) == 1 else [word for word in words if len(word) == 1]
    if not letters:
        return Check(
            False, f"the answer names two runs by their letters, e.g. 'ab'; got {shown(given)}"
        )
    strangers = [letter for letter in letters if letter not in RUNS]
    if strangers and len(letters) <= len(RUNS):
        return Check(False, f"the runs are {', '.join(RUNS)}; there is no run {strangers[0]}")
    if len(letters) != 2:
        return Check(False, f"the answer names *two* runs; got {shown(given)}")
    if letters[0] == letters[1]:
        return Check(False, "the answer names two *different* runs: what is to be compared?")
    pair = "".join(sorted(letters))
    if pair == "bc":
        return Check(
            True, "cosines against a basis that means nothing, all else equal: only what is left "
            "of the lead there is due to cosines",
        )  # fmt: skip
    idea = _ARTEFACTS.get(pair)
    if idea is None:
        first, second = (f"{RUNS[x][0]} with {RUNS[x][1]}" for x in pair)
        idea = f"{first} against {second}: that does not compare cosines with a meaningless basis"
    return Check(False, idea)


def penalised_gradient(
    fn: Callable[[Tensor, Tensor, Tensor, float], Tensor] | None = None,
) -> Check:
    """Check a function `fn(gradient, weight, kept, strength)`: the gradient under the penalty."""

    def check(call: Callable) -> str | None:
        gradient = torch.tensor([0.5, -1.0, 0.25, 2.0, 0.0, -0.5])
        weight = torch.tensor([1.0, 3.0, -2.0, 0.5, -4.0, 0.0])
        kept = torch.tensor([True, False, False, True, False, False])
        for strength in (0.7, 0.0, 3.0):
            given = gradient.clone(), weight.clone(), kept.clone()
            value = call(*given, strength)
            if value is None:
                raise NothingReturned
            value = as_tensor(value)
            if value is None or value.shape != weight.shape:
                return "the answer is a tensor of the weight's shape"
            if not torch.equal(given[1], weight):
                return "your function changed the weights: it only says in which direction to go"
            if not torch.equal(given[0], gradient):
                return "your function wrote into the gradient that it was given: return a new one"
            if not torch.equal(given[2], kept):
                return "your function changed the mask: it only says which weights stay"
            right = gradient + strength * weight * ~kept
            if not close(value, right):
                return _gradient_idea(value, gradient, weight, kept, strength)
        return None

    return guarded(fn, check, "λ · w is added for the weights on their way out, and for no other")


def _gradient_idea(value: Tensor, gradient, weight, kept, strength: float) -> str:
    out = ~kept
    wrong = [
        (gradient + strength * weight * kept, "True means *kept*: these must stay free"),
        (gradient + strength * weight, "that is weight decay: it draws every weight to zero"),
        (
            gradient + strength * weight.sign() * out,
            "that is the gradient of an ℓ1 penalty: it draws small and large weights alike. That "
            "of (λ/2) w² is λ · w",
        ),
        (gradient * kept, "that masks the gradient: weights to be removed would stay where they "
                          "are until they are cut off"),
        (
            gradient * kept + strength * weight * out,
            "the weights on their way out still serve the loss: the penalty comes on top of their "
            "gradient",
        ),
        (gradient - strength * weight * out, "descent goes *against* the gradient: with this sign "
                                             "the weights would grow"),
        (gradient + strength / 2 * weight * out, "of (λ/2) w² the derivative is λ · w: the two "
                                                 "from the square takes the half away"),
        (gradient + strength * weight.abs() * out, "a negative weight is drawn up, a positive one "
                                                   "down: λ · w with its sign, not λ · |w|"),
        (gradient + strength / 2 * weight**2 * out, "take the penalty's derivative, not its value"),
        (gradient * out + strength * weight * out, "the weights that stay keep their gradient"),
        (gradient + 2 * strength * weight * out, "of (λ/2) w² the derivative is λ · w"),
        (gradient + strength * weight**2 * out, "take the penalty's derivative, not its value"),
        (strength * weight * out, "the gradient of the loss is missing"),
        (gradient + weight * out, "the strength λ is missing"),
        (gradient, "the penalty is missing"),
    ]  # fmt: skip
    for number, idea in wrong:
        if close(value, number):
            return idea
    at = int((value - gradient - strength * weight * out).abs().argmax())
    right = float(gradient[at] + strength * weight[at] * out[at])
    return (
        f"for gradient {gradient[at]:g}, weight {weight[at]:g}, kept {bool(kept[at])} and λ = "
        f"{strength:g} the answer is {right:g}, not {value[at]:g}"
    )
