"""By hand and in code: saliencies, second derivatives, SNIP and what is connected (02, 08)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
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
    mask_problem,
    on_copies,
    shown,
)

WEIGHTS, CURVATURES = (0.5, -2.0, 1.0), (8.0, 0.1, 1.5)
FINAL, ROUND, ROUNDS = 0.01, 50, 100


def predicted_increase(answer: float | None = None) -> Check:
    """Check the loss increase that w²h/2 predicts when OBD removes two of three weights.

    The weights are 0.5, −2 and 1, their second derivatives 8, 0.1 and 1.5.
    """
    saliency = [w * w * h / 2 for w, h in zip(WEIGHTS, CURVATURES, strict=True)]
    right = sum(sorted(saliency)[:2])
    typical = {
        2 * right: "the Taylor expansion has a factor of one half before the second derivative",
        saliency[0] + saliency[2]: (
            "those are the two of smallest *magnitude*; OBD ranks by w²h/2, and the weight −2 lies "
            "where the loss is almost flat"
        ),
        saliency[0] + saliency[1]: "two go, those of *lowest* saliency: compute all three first",
        sum(saliency): "that removes all three",
        min(saliency): "that is the first weight to go; two are removed",
        saliency[2]: "that is the second weight to go; add the first one",
        sum(h / 2 for h in CURVATURES[1:]): "the weight counts too, squared: w²h/2",
        sum(abs(w) * h / 2 for w, h in zip(WEIGHTS[1:], CURVATURES[1:], strict=True)): (
            "the weight counts *squared*: removing it moves it by −w, in a quadratic form"
        ),
    }
    return _number(answer, right, typical, "0.2 + 0.75, for the weights −2 and 1", "a loss")


def density_at_round(answer: float | None = None) -> Check:
    """Check the density after round 50 of 100 of an exponential schedule that ends at 1 %."""
    right = FINAL ** (ROUND / ROUNDS)
    typical = {
        1 - (1 - FINAL) * ROUND / ROUNDS: (
            "that is the *linear* schedule, which removes the same number in every round; the "
            "exponential one removes the same share of what remains"
        ),
        0.5: "half of the rounds is not half of the weights: the share removed is of what remains",
        1 - right: "that is the share *removed*; density is the share kept",
        (1 - FINAL) / 2: "that is the share *removed*, and by the linear schedule",
        FINAL ** ((ROUND - 1) / ROUNDS): f"that is one round short of {ROUND}",
        FINAL ** ((ROUND + 1) / ROUNDS): f"that is one round too many, {ROUND + 1}",
        FINAL ** (1 / ROUNDS): f"that is the density after one round; {ROUND} multiply",
        FINAL: "that is the density at the end; asked is the one half-way",
        FINAL / 2: "that is below the end already",
    }
    message = f"{FINAL:g} to the power of {ROUND}/{ROUNDS}"
    return _number(answer, right, typical, message, "a density")


def _number(answer: Any, right: float, typical: dict[float, str], passed: str, kind: str) -> Check:
    if is_open(answer):
        return OPEN
    number = as_number(answer)
    if math.isnan(number):
        return Check(False, f"the answer is {kind}, a number; got {shown(answer)}")
    if math.isclose(number, right, rel_tol=1e-4):
        return Check(True, f"{right:g}: {passed}")
    for wrong, idea in typical.items():
        if math.isclose(number, wrong, rel_tol=0.005):
            return Check(False, f"{number:g}: {idea}")
    if math.isclose(number, 100 * right, rel_tol=0.01) and kind == "a density":
        return Check(False, f"{number:g} looks like a percentage; a density lies in [0, 1]")
    return Check(False, f"{number:g} is not it. Write down each step and its formula first")


def hessian_diagonal(fn: Callable[[Callable, Tensor], Tensor] | None = None) -> Check:
    """Check a function `fn(loss, w)` that returns the second derivatives ∂²loss/∂wᵢ².

    `loss` maps a vector to a number, `w` is a vector; the result has the shape of `w`.
    """
    matrix = torch.tensor([[2.0, 1.0, 0.0], [1.0, -4.0, -3.0], [0.0, -3.0, 6.0]])
    point, other = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([1.5, -0.5])
    cases = (
        (lambda w: w @ matrix @ w / 2, point, matrix.diagonal(), matrix),
        (lambda w: (w**4).sum() / 12 + w[0] * w[1], point, point**2, None),
        (lambda w: (w**3).sum() / 6 - w.prod(), other, other, None),
    )

    def check(call: Callable) -> str | None:
        for loss, point, right, full in cases:
            given = point.clone()
            new = call(loss, given)
            if new is None:
                raise NothingReturned
            if not close(given, point):  # steps to and fro may leave a trace of rounding
                return "your function changed the weights it was given: put them back, or copy them"
            new = as_tensor(new)
            if new is None or new.shape != point.shape:
                return f"return one number per weight, a tensor of shape {tuple(point.shape)}"
            # Finite differences are derivatives as well, to two digits in single precision.
            if close(new, right, atol=0.02, rtol=0.02):
                continue
            if full is not None and close(new, full.sum(dim=1), atol=0.02):
                return (
                    "these are *row sums* of the Hessian: differentiating g.sum() adds up the "
                    "derivatives of all components. Differentiate one component at a time, and "
                    "keep its own entry"
                )
            gradient = torch.func.grad(loss)(point)
            if close(new, gradient, atol=0.02):
                return "that is the first derivative; differentiate once more (create_graph=True)"
            if close(new, gradient.square(), atol=0.02):
                return "a squared gradient is not a second derivative"
            if close(new, right.abs(), atol=0.02):
                return "a curvature may be negative, where the loss bends down: no magnitudes"
            if close(new, point.square() * right / 2, atol=0.02):
                return "that is OBD's saliency w²h/2; asked is h, the second derivative"
            if close(new, right / 2, atol=0.02):
                return "the factor of one half belongs to the saliency, not to the derivative"
            return (
                "the second derivative by each weight, not more and not less: for one of the "
                f"tests {right.tolist()} is right; yours is {new.tolist()}"
            )
        return None

    return guarded(fn, check, "one component of the gradient at a time, and its own derivative")


def snip(fn: Callable[[Callable, Tensor, Tensor], Tensor] | None = None) -> Check:
    """Check a function `fn(loss, w, mask)` that returns the SNIP scores of the masked weights.

    `loss` maps a vector of weights to a number; `mask` is boolean, True = kept.
    """
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0, -1.0])

    def one(v: Tensor) -> Tensor:
        return (v[0] * v[1] + v[2] * v[3] + v[1] - v[3] * v[0]).square() - 5 * v[2]

    def other(v: Tensor) -> Tensor:
        return (v[0] * v[2] - v[1] * v[3] - 3 * v[3]).square() + v[1] * v[2] * v[4]

    def check(call: Callable) -> str | None:
        for loss, kept in ((one, "1110"), (other, "01111")):
            w, mask = weights[: len(kept)], torch.tensor([k == "1" for k in kept])
            new, untouched = on_copies(partial(call, loss), w, mask)
            if not untouched:
                return "your function changed its input in place"
            new = as_tensor(new)
            if new is None or new.shape != w.shape:
                return f"return one score per weight, a tensor of shape {tuple(w.shape)}"
            problem = _snip_problem(new, loss, w, mask)
            if problem:
                return problem
        return None

    return guarded(fn, check, "|w · gradient| of the masked network, zero where pruned")


def _snip_problem(new: Tensor, loss: Callable, w: Tensor, mask: Tensor) -> str | None:
    masked = w * mask
    gradient = torch.func.grad(loss)(masked)
    scores = (masked * gradient).abs()
    # The paper divides by the sum; the order is the same.
    if close(new, scores, atol=1e-4) or close(new, scores / scores.sum(), atol=1e-4):
        return None
    if close(new, masked * gradient, atol=1e-4):
        return "the sign is still there: a weight whose removal lowers the loss reacts, too"
    if close(new, gradient.abs(), atol=1e-4) or close(new, gradient.abs() * mask, atol=1e-4):
        return "that is the gradient alone: the derivative by a weight's gate is w times it"
    dense = (w * torch.func.grad(loss)(w)).abs()
    if close(new, dense, atol=1e-4) or close(new, dense * mask, atol=1e-4):
        return "the gradient is that of the dense network; the mask comes before the loss"
    if close(new, masked.abs(), atol=1e-4):
        return "that is the magnitude alone: SNIP asks how the loss reacts to the weight's gate"
    if close(new, (masked * gradient).square(), atol=1e-4):
        return "the magnitude of w · gradient, not its square"
    if close(new, _without_one(loss, masked), atol=1e-4):
        return "that removes each weight altogether; SNIP takes the derivative by its gate"
    if close(new, (w * gradient).abs(), atol=1e-4):
        return "a pruned weight scores zero: multiply by the *masked* weight"
    return (
        "the score is |w · gradient|, both of the masked network: right is "
        f"{scores.tolist()}; yours is {new.tolist()}"
    )


def _without_one(loss: Callable, masked: Tensor) -> Tensor:
    """Return how far the loss moves if each weight in turn is set to zero."""
    without = masked * (1 - torch.eye(len(masked)))
    return torch.stack([(loss(masked) - loss(each)).abs() for each in without])


def connected(fn: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None) -> Check:
    """Check a function `fn(first, second)` that returns which kept weights lie on a path.

    `first` [hidden, inputs] and `second` [outputs, hidden] are masks of two layers in a row. The
    result is two masks of the same shapes: the kept weights that some path from an input to an
    output runs through.
    """

    def check(call: Callable) -> str | None:
        generator = torch.Generator().manual_seed(0)
        for hidden in (4, 5):  # the square one first: a wrong dimension is no error there
            first = torch.rand(hidden, 4, generator=generator) < 0.3
            second = torch.rand(4, hidden, generator=generator) < 0.3
            first[0], second[:, 0] = True, False  # read by nobody
            first[1], second[:, 1] = False, True  # fed by nobody
            new, untouched = on_copies(call, first, second)
            if not untouched:
                return "your function changed the masks in place: return new ones"
            several = isinstance(new, Iterable) and not isinstance(new, (Tensor, Mapping))
            new = tuple(new) if several else ()
            if len(new) != 2:
                return "return two masks, for the first and the second layer"
            for mask, old in zip(new, (first, second), strict=True):
                problem = mask_problem(mask, old, one_of_several=True)
                if problem:
                    return problem
            fed, is_read = first.any(dim=1), second.any(dim=0)
            if (new[0] & ~first).any() or (new[1] & ~second).any():
                return "pruned weights came back: only *kept* weights can be on a path"
            if new[0][~is_read].any():
                return "a first-layer weight is on no path if no output reads its hidden unit"
            if new[1][:, ~fed].any():
                return "a second-layer weight is on no path if no input feeds its hidden unit"
            right = first & is_read[:, None], second & fed
            if not all(torch.equal(a, b) for a, b in zip(new, right, strict=True)):
                return "some weights that are on a path are missing"
        return None

    return guarded(fn, check, "kept, fed from below and read from above")
