"""By hand and in code: what a mask leaves, and how neurons are really removed (chapter 01)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from lth_tutorial.exercises.outcome import (
    OPEN,
    Check,
    NothingReturned,
    ReaderError,
    as_number,
    guarded,
    is_open,
    shown,
)

FRACTION, ROUNDS = 0.3, 4


def density_after_rounds(answer: float | None = None) -> Check:
    """Check the density that four rounds leave which each remove 30 % of the remaining weights."""
    if is_open(answer):
        return OPEN
    number = as_number(answer)
    if math.isnan(number):
        return Check(False, f"the answer is a density, a number in [0, 1]; got {shown(answer)}")
    kept = 1 - FRACTION
    right = kept**ROUNDS
    if abs(number - right) <= 0.0005:
        return Check(True, f"{kept:g} to the power of {ROUNDS} is {right:.4f}")
    typical = {
        1 - ROUNDS * FRACTION: (
            "each round removes its fraction of what *remains*, so the fractions do not add up: "
            "by that count less than nothing would be left"
        ),
        1 - right: "that is the share *removed*; density is the share kept",
        FRACTION**ROUNDS: "the fraction is the share *removed* in a round, not the share kept",
        kept ** (ROUNDS - 1): f"that is one round short of {ROUNDS}",
        kept ** (ROUNDS + 1): f"that is one round too many: {ROUNDS} rounds prune {ROUNDS} times",
        kept: "that is the density after the first round",
    }
    for wrong, idea in typical.items():
        if abs(number - wrong) <= 0.002:
            return Check(False, f"{number:g}: {idea}")
    if abs(number - 100 * right) <= 0.5:
        return Check(False, f"{number:g} looks like a percentage; a density lies in [0, 1]")
    return Check(
        False,
        f"{number:g} is not it. Begin with 1,000 weights: the first round leaves 700, and the "
        f"second removes 30 % of those",
    )


def remove_neurons(
    fn: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]] | None = None,
) -> Check:
    """Check a function `fn(w1, b1, w2, kept)` that removes hidden neurons from two layers.

    `w1` [hidden, inputs] and `b1` [hidden] are the first layer, `w2` [outputs, hidden] the weights
    of the second; `kept` is boolean over the hidden neurons, True = kept. It returns the three
    smaller tensors, with which the network computes what it does with those neurons silenced.
    """

    def check(call: Callable) -> str | None:
        generator = torch.Generator().manual_seed(0)
        # As many neurons as inputs in the second case: a wrong dimension shows in no shape there.
        for inputs, hidden, outputs, names in ((5, 6, 3, "011010"), (4, 4, 4, "1011")):
            w1, b1, w2 = (
                torch.randn(shape, generator=generator)
                for shape in ((hidden, inputs), (hidden,), (outputs, hidden))
            )
            kept = torch.tensor([name == "1" for name in names])
            given = [tensor.clone() for tensor in (w1, b1, w2, kept)]
            try:
                new = call(*given)
            except ReaderError as error:
                text = str(error.__cause__)
                if isinstance(error.__cause__, IndexError) and "mask" in text:
                    if str(list(w1.shape)) in text:
                        return f"a neuron is a *row* of w1, not a column: {text}"
                    return f"in the next layer a neuron is a *column* of w2, not a row: {text}"
                raise
            for name, now, before in zip(
                ("w1", "b1", "w2", "kept"), given, (w1, b1, w2, kept), strict=True
            ):
                if not torch.equal(now, before):
                    return f"your function changed its input `{name}` in place: return new tensors"
            problem = _removal_problem(new, w1, b1, w2, kept)
            if problem:
                return problem
        return None

    return guarded(fn, check, "the smaller network computes what the silenced one does")


def _removal_problem(new: Any, w1: Tensor, b1: Tensor, w2: Tensor, kept: Tensor) -> str | None:
    if new is None:
        raise NothingReturned
    if not isinstance(new, (tuple, list)) or len(new) != 3:
        return f"return three tensors, the new w1, b1 and w2; got {type(new).__name__}"
    wanted = dict(w1=w1[kept], b1=b1[kept], w2=w2[:, kept])
    given = dict(w1=w1, b1=b1, w2=w2)
    inverted = dict(w1=w1[~kept], b1=b1[~kept], w2=w2[:, ~kept])
    got = dict(zip(wanted, new, strict=True))
    for name, tensor in got.items():
        if not isinstance(tensor, Tensor):
            return f"the new {name} is a tensor; got {type(tensor).__name__}"
    got = {name: tensor.detach().float() for name, tensor in got.items()}
    if all(_equal(got[name], inverted[name]) for name in got):
        return "True means *kept*: you removed the neurons to keep"
    if all(got[name].shape == given[name].shape for name in got):
        return (
            f"the tensors are as large as before, {tuple(w1.shape)} and {tuple(w2.shape)}: setting "
            f"a neuron to zero is masking; remove its row and its column"
        )
    ideas = {
        "w1": "a neuron is a *row* of w1, its incoming weights",
        "b1": "a neuron takes its bias along: b1 has one entry per hidden neuron",
        "w2": "in the next layer a neuron is a *column* of w2, the weights that read its output",
    }
    if _same_network(got, wanted):  # the neurons that stay may come in any order
        return None
    for name, right in wanted.items():
        if got[name].shape != right.shape:
            shapes = f"{name} has shape {tuple(got[name].shape)}, expected {tuple(right.shape)}"
            return f"{ideas[name]}. {shapes}"
        if not _equal(got[name], right):
            return f"{ideas[name]}; yours has the right shape, but other values in {name}"
    return None


def _same_network(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Return whether two pairs of layers compute the same, whatever the order of their neurons."""
    if any(a[name].shape != b[name].shape for name in b):
        return False
    x = torch.randn(50, b["w1"].shape[1], generator=torch.Generator().manual_seed(1))
    # Softplus has no symmetry: no other signs or scales of the weights compute the same.
    outputs = [softplus(x @ each["w1"].T + each["b1"]) @ each["w2"].T for each in (a, b)]
    return torch.allclose(*outputs, atol=1e-5)


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)
