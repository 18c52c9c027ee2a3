"""Chapter 12: the size of a packed ticket, gains, the gradient of a sign."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import torch

WEIGHTS = 784 * 300 + 300 * 100 + 100 * 10


def slope(x):
    return (2 - 2 * x.abs()).clamp(min=0)


def in_place(x, upstream):
    return upstream.mul_(slope(x))


def by_the_polynomial(x, upstream):
    x = x.clone().requires_grad_()
    inner = torch.where(x < 0, 2 * x + x**2, 2 * x - x**2)
    y = torch.where(x.abs() <= 1, inner, x.sign())
    return torch.autograd.grad(y, x, upstream)[0]


WRONG = {
    "packed_bytes": [
        (WEIGHTS, "8 bits"),
        (WEIGHTS // 8, "gains are missing"),
        (WEIGHTS // 8 + 4, "every *layer* has a gain"),
        (WEIGHTS // 16 + 12, "*not* kept"),
        (4 * WEIGHTS, "32-bit"),
        ((WEIGHTS + 410) // 8 + 12, "biases are zero"),
        (WEIGHTS // 4 + 12, "signs come back from the seed"),
        (5, "one bit for every weight"),
        ("many", "number of bytes"),
        (8 * 33_287, "*bits*"),
        (33_288, "one bit for every weight"),
        (33_286, "one bit for every weight"),
        (WEIGHTS // 16, "*not* kept"),
        (math.nan, "number of bytes"),
        (True, "number of bytes"),
    ],
    "gain": [
        (lambda w, m: w.abs().mean(), "*kept*"),
        (lambda w, m: (w.abs() * m).mean(), "divide by their number"),
        (lambda w, m: w[m].mean(), "cancel"),
        (lambda w, m: w[m].square().mean().sqrt(), "squared error"),
        (lambda w, m: w[m].abs().sum(), "divide the sum"),
        (lambda w, m: w[~m].abs().mean(), "True means *kept*"),
        (lambda w, m: 1.0, "not 1.0000"),
        (lambda w, m: 0.64776337, "not 0.6478"),
        (lambda w, m: w.abs_()[m].mean(), "changed the weights"),
        (lambda w, m: w[m].abs().median(), "not the median"),
        (lambda w, m: w[m].abs().max(), "not the largest"),
        (lambda w, m: w[m].std(), "spread"),
        (lambda w, m: (w.abs() * m).sum(1) / m.sum(1), "one gain"),
        (lambda w, m: w[m].mean().abs(), "must not cancel"),
        (lambda w, m: "0.7", "is a number"),
        (lambda w, m: w[m & (w > 0)].mean(), "negative weights count"),
        (lambda w, m: w[m].square().mean(), "mean square"),
        (lambda w, m: w.abs().sum() / m.sum(), "*kept* weights alone"),
        (lambda w, m: round(w[m].abs().mean().item(), 2), "not 0.65"),
        (lambda w, m: (m.fill_(True), w[m].abs().mean())[1], "changed the weights or the mask"),
        (lambda w, m: float("inf"), "not inf"),
    ],
    "sign_gradient": [
        (lambda x, up: slope(x), "chain rule"),
        (lambda x, up: up, "clip"),
        (lambda x, up: (2 - 2 * x.abs()) * up, "negative beyond"),
        (lambda x, up: up * (x.abs() <= 1), "hard-tanh"),
        (lambda x, up: up * (2 - 2 * x) * (x.abs() <= 1), "same on both sides"),
        (lambda x, up: torch.zeros_like(x), "true derivative"),
        (lambda x, up: 3 * slope(x) * up, "the gradient is"),
        (lambda x, up: up.sum(), "shape of x"),
        (lambda x, up: up * (1 - x.abs()).clamp(min=0), "factor of two"),
        (lambda x, up: (x.abs() <= 1) * 1.0, "hard tanh"),
        (lambda x, up: up * (1 - torch.tanh(x) ** 2), "the gradient is"),
        (in_place, "in place"),
        (lambda x, up: up * (x.abs() < 1), "hard-tanh"),
        (lambda x, up: 2 * up * (x.abs() <= 1), "hard-tanh"),
        (lambda x, up: -slope(x) * up, "slope is positive"),
        (lambda x, up: slope(x) * up.abs(), "keeps its sign"),
        (lambda x, up: 2 * up * (1 - x**2).clamp(min=0), "straight line"),
        (lambda x, up: slope(up) * x, "the gradient is"),
        (lambda x, up: slope(x) * up * x.sign(), "the gradient is"),
    ],
}

RIGHT = {
    "packed_bytes": [
        WEIGHTS / 8 + 12,
        33_287,
        "33,287",
        np.int64(33_287),
        torch.tensor(33_287),
        Fraction(WEIGHTS, 8) + 12,
    ],
    "gain": [
        lambda w, m: w[m].abs().mean(),
        lambda w, m: (w.abs() * m).sum() / m.sum(),
        lambda w, m: np.abs(w.numpy()[m.numpy()]).mean(),
        lambda w, m: sum(abs(v) for v in w[m].tolist()) / int(m.sum()),
        lambda w, m: w[m].abs().mean()[None],
    ],
    "sign_gradient": [
        lambda x, up: slope(x) * up,
        by_the_polynomial,
        lambda x, up: torch.where(x.abs() < 1, 2 - 2 * x.abs(), 0.0) * up,
        lambda x, up: slope(x).double() * up,
        lambda x, up: [
            2 * max(0, 1 - abs(a)) * b for a, b in zip(x.tolist(), up.tolist(), strict=True)
        ],
        lambda x, up: np.clip(2 - 2 * np.abs(x.numpy()), 0, None) * up.numpy(),
    ],
}
