"""Chapters 2 and 8: saliencies, second derivatives, SNIP, and what is connected."""

from __future__ import annotations

import numpy as np
import torch


def one_at_a_time(loss, w):
    w = w.requires_grad_()
    (g,) = torch.autograd.grad(loss(w), w, create_graph=True)
    return torch.stack(
        [torch.autograd.grad(g[i], w, retain_graph=True)[0][i] for i in range(len(w))]
    )


def row_sums(loss, w):
    w = w.requires_grad_()
    (g,) = torch.autograd.grad(loss(w), w, create_graph=True)
    return torch.autograd.grad(g.sum(), w)[0]


def first(loss, w):
    return torch.func.grad(loss)(w)


def right_snip(loss, w, mask):
    return (w * mask * torch.func.grad(loss)(w * mask)).abs()


def in_place(loss, w, mask):
    w *= mask
    return right_snip(loss, w, mask)


def right_connected(a, b):
    return a & b.any(dim=0)[:, None], b & a.any(dim=1)


def finite_differences(loss, w):
    step, found = 0.05, []
    for i in range(len(w)):
        e = torch.zeros_like(w)
        e[i] = step
        found.append((loss(w + e) - 2 * loss(w) + loss(w - e)) / step**2)
    return torch.tensor(found)


def forgets_create_graph(loss, w):
    w = w.requires_grad_()
    (g,) = torch.autograd.grad(loss(w), w)
    return torch.stack([torch.autograd.grad(g[i], w)[0][i] for i in range(len(w))])


def for_three(loss, w):
    w = w.requires_grad_()
    (g,) = torch.autograd.grad(loss(w), w, create_graph=True)
    second = [torch.autograd.grad(g[i], w, retain_graph=True)[0][i] for i in range(2)]
    return torch.stack([*second, torch.autograd.grad(g.sum() - g[0] - g[1], w)[0][-1]])


def by_gates(loss, w, mask):
    gate = torch.ones_like(w, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(w * mask * gate), gate)
    return gradient.abs()


def normalised(loss, w, mask):
    scores = right_snip(loss, w, mask)
    return scores / scores.sum()


def with_backward(loss, w, mask):
    v = (w.double() * mask).requires_grad_()
    loss(v).backward()
    return (v * v.grad).abs()


def float_gates(loss, w, mask):
    gate = mask.float().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(w * gate), gate)
    return gradient.abs()


def forgets_requires_grad(loss, w, mask):
    masked = w * mask
    (gradient,) = torch.autograd.grad(loss(masked), masked)
    return (masked * gradient).abs()


def by_matrices(a, b):
    inputs, outputs = torch.ones(a.shape[1]), torch.ones(b.shape[0])
    fed, is_read = a.float() @ inputs > 0, b.float().T @ outputs > 0
    return a & is_read.unsqueeze(1), b & fed.unsqueeze(0)


def by_loops(a, b):
    new_a, new_b = torch.zeros_like(a), torch.zeros_like(b)
    for h in range(a.shape[0]):
        for i in range(a.shape[1]):
            for o in range(b.shape[0]):
                if a[h, i] and b[o, h]:
                    new_a[h, i] = new_b[o, h] = True
    return [new_a, new_b]


def wrong_axes(a, b):
    return a & b.any(dim=1)[:, None], b & a.any(dim=0)


def clears_in_place(a, b):
    a &= b.any(dim=0)[:, None]
    b &= a.any(dim=1)
    return a, b


def by_magnitudes(loss, w):
    return torch.func.hessian(loss)(w).diagonal().abs()


def obd_saliency(loss, w):
    return w**2 * torch.func.hessian(loss)(w).diagonal() / 2


def leaves_zeros(loss, w):
    found = torch.func.hessian(loss)(w).diagonal().clone()
    w.zero_()
    return found


def times_the_weights(loss, w):
    return torch.autograd.functional.hvp(loss, w, w)[1]


def by_products(loss, w):
    rows = (torch.autograd.functional.hvp(loss, w, unit)[1] for unit in torch.eye(len(w)))
    return [float(row[i]) for i, row in enumerate(rows)]


def removes_altogether(loss, w, mask):
    masked = w * mask
    without = masked * (1 - torch.eye(len(w)))
    return torch.stack([(loss(masked) - loss(each)).abs() for each in without])


def opens_the_mask(loss, w, mask):
    scores = right_snip(loss, w, mask)
    mask.fill_(True)
    return scores


def inputs_to_outputs(a, b):
    paths = (b.float() @ a.float()) > 0
    return a & paths.any(dim=0), b & paths.any(dim=1)[:, None]


def at_least_two(a, b):
    return a & (b.sum(dim=0) > 1)[:, None], b & (a.sum(dim=1) > 1)


def by_units(a, b):
    unit = a.any(dim=1) & b.any(dim=0)
    yield a & unit[:, None]
    yield b & unit


WRONG = {
    "predicted_increase": [
        (1.9, "one half"),
        (1.75, "smallest *magnitude*"),
        (1.95, "all three"),
        (0.2, "two are removed"),
        (0.75, "add the first"),
        (0.8, "counts too"),
        (1.2, "lowest* saliency"),
        (0.85, "counts *squared*"),
        ("x", "a number"),
        (3, "not it"),
        (torch.tensor([0.2, 0.75]), "a number"),
        (-0.95, "not it"),
        (0.955, "not it"),
        (0.949, "not it"),
        ("0,95", "a number"),
    ],
    "density_at_round": [
        (0.505, "linear"),
        (0.5, "half of the rounds"),
        (0.9, "removed"),
        (10, "percentage"),
        (0.005, "below the end"),
        (True, "a number"),
        (0.99, "not it"),
        (0.495, "*removed*"),
        (0.955, "after one round"),
        (0.01, "at the end"),
        ("10 %", "a number"),
        (0.101, "not it"),
        (0.01 ** (51 / 100), "one round too many"),
        (0.01 ** (49 / 100), "one round short"),
    ],
    "hessian_diagonal": [
        (row_sums, "row sums"),
        (first, "first derivative"),
        (lambda loss, w: first(loss, w) ** 2, "squared gradient"),
        (lambda loss, w: one_at_a_time(loss, w) / 2, "one half belongs"),
        (lambda loss, w: torch.autograd.functional.hessian(loss, w), "one number per weight"),
        (lambda loss, w: w * 0, "not more and not less"),
        (forgets_create_graph, "requires_grad_()"),
        (lambda loss, w: one_at_a_time(loss, w).sum(), "one number per weight"),
        (lambda loss, w: 2 * one_at_a_time(loss, w), "not more and not less"),
        (lambda loss, w: torch.tensor([2.0, -4.0, 6.0]), "not more and not less"),
        (for_three, "one number per weight", "(2,)"),
        (by_magnitudes, "may be negative"),
        (obd_saliency, "OBD's saliency"),
        (leaves_zeros, "changed the weights"),
        (times_the_weights, "first derivative"),
        (lambda loss: 0, "passes 2 arguments"),
    ],
    "snip": [
        (lambda f, w, m: w * m * torch.func.grad(f)(w * m), "sign"),
        (lambda f, w, m: torch.func.grad(f)(w * m).abs(), "gradient alone"),
        (lambda f, w, m: (w * torch.func.grad(f)(w)).abs(), "dense network"),
        (lambda f, w, m: (w * m * torch.func.grad(f)(w)).abs(), "dense network"),
        (lambda f, w, m: (w * torch.func.grad(f)(w * m)).abs(), "pruned weight scores zero"),
        (lambda f, w, m: w[:2], "one score per weight"),
        (lambda f, w, m: w * 0, "yours is"),
        (in_place, "in place"),
        (float_gates, "pruned weight scores zero"),
        (forgets_requires_grad, "requires_grad_()"),
        (lambda f, w, m: (w * m).abs(), "magnitude alone"),
        (lambda f, w, m: (w * m * torch.func.grad(f)(w * m)).square(), "not its square"),
        (lambda f, w, m: (m * torch.func.grad(f)(w * m)).abs(), "gradient alone"),
        (lambda f, w, m: torch.tensor([16.0, 32.0, 2.5, 0.0]), "score per weight"),
        (removes_altogether, "removes each weight altogether"),
        (opens_the_mask, "in place"),
        (lambda f, w, m: right_snip(f, w, m)[m], "one score per weight"),
        (lambda f, w, m: right_snip(f, w, m) / right_snip(f, w, m).max(), "yours is"),
    ],
    "connected": [
        (lambda a, b: (a, b & a.any(dim=1)), "no output reads"),
        (lambda a, b: (a & b.any(dim=0)[:, None], b), "no input feeds"),
        (lambda a, b: (a | True, b), "came back"),
        (lambda a, b: (a & False, b & False), "missing"),
        (lambda a, b: (a.float(), b), "boolean"),
        (lambda a, b: a, "two masks"),
        (lambda a, b: (b, a), "came back"),
        (wrong_axes, "no output reads"),
        (clears_in_place, "in place"),
        (lambda a, b: (a, b), "no output reads"),
        (lambda a, b: right_connected(a, b)[0], "two masks"),
        (lambda a, b: (a & b.all(dim=0)[:, None], b & a.all(dim=1)), "missing"),
        (inputs_to_outputs, "no output reads"),
        (at_least_two, "missing"),
        (lambda a, b: (None, None), "boolean tensor", "NoneType"),
        (lambda a, b: b @ a, "combined with `&`"),
    ],
}

RIGHT = {
    "predicted_increase": [0.95, "0.95", 0.2 + 0.75, np.float64(0.95), torch.tensor(0.95)],
    "density_at_round": [0.1, "0.1", 0.01**0.5, np.float32(0.1), torch.tensor(0.1)],
    "hessian_diagonal": [
        one_at_a_time,
        finite_differences,
        lambda loss, w: torch.autograd.functional.hessian(loss, w).diagonal(),
        lambda loss, w: torch.func.hessian(loss)(w).diag().double(),
        lambda loss, w: torch.func.hessian(loss)(w).numpy().diagonal(),
        by_products,
    ],
    "snip": [
        right_snip,
        by_gates,
        normalised,
        with_backward,
        lambda f, w, m: right_snip(f, w, m).tolist(),
    ],
    "connected": [
        right_connected,
        by_matrices,
        by_loops,
        by_units,
    ],
}
