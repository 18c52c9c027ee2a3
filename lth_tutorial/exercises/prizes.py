"""By hand and in code: the size of a packed ticket, gains, the gradient of a sign (chapter 12)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lth_tutorial.exercises.outcome import (
    OPEN,
    Check,
    as_number,
    as_tensor,
    close,
    guarded,
    is_open,
    on_copies,
    shown,
)

WEIGHTS = 784 * 300 + 300 * 100 + 100 * 10
BIASES = 300 + 100 + 10
BYTES = -(-WEIGHTS // 8) + 3 * 4

_TYPICAL = {
    WEIGHTS: "a byte has 8 bits: that would be one *byte* per weight",
    WEIGHTS + 12: "a byte has 8 bits: that would be one *byte* per weight",
    WEIGHTS // 8: "the gains are missing: every layer has one, of 4 bytes",
    4 * WEIGHTS: "that is the dense network in 32-bit numbers",
    4 * WEIGHTS + 4 * BIASES: "that is the dense network in 32-bit numbers",
    WEIGHTS // 16 + 12: (
        "a mask also says which weights are *not* kept: it has a bit for every weight, whatever "
        "the density"
    ),
    WEIGHTS // 16: (
        "a mask also says which weights are *not* kept: it has a bit for every weight, whatever "
        "the density; and every layer has a gain"
    ),
    -(-(WEIGHTS + BIASES) // 8) + 12: "biases are zero and have no mask: they take no bits",
    2 * WEIGHTS // 8 + 12: (
        "the signs come back from the seed: only the mask costs a bit per weight"
    ),
    8 * BYTES: "that is in *bits*: a byte has 8 of them",
    WEIGHTS // 8 + 4: "every *layer* has a gain, and there are three",
}


def packed_bytes(answer: object = None) -> Check:
    """Check how many bytes mask and gains of a packed LeNet-300-100 ticket take (kept: half)."""
    if is_open(answer):
        return OPEN
    number = as_number(answer)
    if not math.isfinite(number):
        return Check(False, f"the answer is a number of bytes; got {shown(answer)}")
    if number == BYTES:
        return Check(True, f"{BYTES:,} bytes, a 32nd of the dense network's {4 * WEIGHTS:,}")
    for wrong, idea in _TYPICAL.items():
        if abs(number - wrong) <= 1:
            return Check(False, idea)
    return Check(
        False, f"{number:,.0f} is not it: one bit for every weight of the three layers, and 4 "
        f"bytes for every gain"
    )  # fmt: skip


def gain(fn: Callable[[Tensor, Tensor], Any] | None = None) -> Check:
    """Check a function `fn(weight, mask)` that returns the gain of a binary layer."""

    def check(call: Callable) -> str | None:
        generator = torch.Generator().manual_seed(0)
        for shape in ((6, 5), (4, 9)):
            weight = torch.randn(shape, generator=generator) + 0.3
            mask = torch.rand(shape, generator=generator) < 0.4
            value, untouched = on_copies(call, weight, mask)
            if not untouched:
                return "your function changed the weights or the mask: compute the gain from them"
            if math.prod(getattr(value, "shape", ())) != 1:
                return "a layer has one gain, a single number for all of its weights"
            problem = _gain_problem(as_number(value, text=False), weight, mask)
            if problem:
                return problem
        return None

    return guarded(fn, check, "the mean magnitude of the kept weights")


def _gain_problem(value: float, weight: Tensor, mask: Tensor) -> str | None:
    kept = weight[mask]
    if math.isnan(value):
        return "the gain is a number"
    if abs(value - kept.abs().mean()) < 1e-5:
        return None
    wrong = {
        weight.abs().mean(): "only *kept* weights count: the others are zero in the network",
        (weight * mask).abs().mean(): (
            "the mean is over the kept weights: divide by their number, not by the size of "
            "the layer, or the gain shrinks with the density"
        ),
        weight.abs().sum() / mask.sum(): "add up the *kept* weights alone",
        kept[kept > 0].mean(): "negative weights count as well, by their magnitude",
        kept.square().mean(): "the mean *magnitude*, not the mean square",
        kept.mean(): "the mean *magnitude*: positive and negative weights must not cancel",
        kept.mean().abs(): "the mean *magnitude*: take |w| before the mean, not after",
        kept.square().mean().sqrt(): (
            "the root of the mean square keeps the layer's power, but the mean of |w| is "
            "nearest to the weights: set the derivative of the squared error to zero"
        ),
        kept.abs().median(): "the *mean* magnitude, not the median",
        kept.abs().max(): "the *mean* magnitude, not the largest",
        kept.std(): "the *mean* magnitude: the spread around the mean is another number",
        kept.abs().sum(): "divide the sum by the number of kept weights",
        weight[~mask].abs().mean(): "True means *kept*: you averaged the others",
    }
    for number, idea in wrong.items():
        if abs(value - float(number)) < 1e-5:
            return idea
    return f"the gain of the test layer is {kept.abs().mean():.4f}, not {value:.4f}"


def sign_gradient(fn: Callable[[Tensor, Tensor], Tensor] | None = None) -> Check:
    """Check a function `fn(x, upstream)`: the gradient that a sign activation passes back."""

    def check(call: Callable) -> str | None:
        x = torch.tensor([-2.0, -1.0, -0.75, -0.25, 0.0, 0.5, 1.0, 3.0])
        upstream = torch.tensor([0.5, 1.5, -2.0, 0.75, 3.0, 4.0, -0.5, -1.5])
        for layer in ((x, upstream), (x[2:7].flip(0), upstream[:5])):
            problem = once(call, *layer)
            if problem:
                return problem
        return None

    def once(call: Callable, x: Tensor, upstream: Tensor) -> str | None:
        value, untouched = on_copies(call, x, upstream)
        if not untouched:
            return "your function changed its input in place: return a new tensor"
        value = as_tensor(value)
        if value is None or value.shape != x.shape:
            return "the gradient is a tensor of the shape of x"
        slope = (2 - 2 * x.abs()).clamp(min=0)
        if close(value, slope * upstream):
            return None
        wrong = [
            (slope, "the chain rule: multiply the slope by the upstream gradient"),
            (upstream, "that passes everything: clip, the slope is zero beyond |x| = 1"),
            (slope * upstream / 2, "the slope is 2 (1 − |x|): the factor of two is missing"),
            (
                (2 - 2 * x.abs()) * upstream,
                "the slope is negative beyond |x| = 1 there: inputs far from zero must get no "
                "gradient at all",
            ),
            *(
                (
                    factor * upstream * inside,
                    "that is the hard-tanh estimator: on |x| ≤ 1 the slope here is 2 (1 − |x|), "
                    "steepest at zero",
                )
                for factor in (1, 2)
                for inside in (x.abs() <= 1, x.abs() < 1)
            ),
            (-slope * upstream, "the sign rises with x: its slope is positive"),
            (slope * upstream.abs(), "the upstream gradient keeps its sign"),
            (
                2 * upstream * (1 - x.square()).clamp(min=0),
                "the slope falls in a straight line, 2 (1 − |x|), not as 1 − x²",
            ),
            (
                (2 - 2 * x).clamp(0, 4) * (x.abs() <= 1) * upstream,
                "the slope is the same on both sides of zero: use |x|",
            ),
            (
                (x.abs() <= 1) * 1.0,
                "that is the slope of a hard tanh, and no chain rule",
            ),
            (torch.zeros_like(x), "that is the true derivative, and nothing would ever be learned"),
        ]
        for number, idea in wrong:
            if close(value, number):
                return idea
        at = int((value - slope * upstream).abs().argmax())
        right = float(slope[at] * upstream[at])
        return (
            f"at x = {x[at]:g} with upstream {upstream[at]:g} the gradient is {right:g}, "
            f"not {value[at]:g}"
        )

    return guarded(fn, check, "2 (1 − |x|) within one, nothing beyond, times the upstream gradient")
