from __future__ import annotations

import pytest
import torch

import lth_tutorial as lt


@pytest.mark.parametrize(
    ("answer", "idea"),
    [
        (1.9, "one half"), (1.75, "smallest *magnitude*"), (1.95, "all three"),
        (0.2, "two are removed"), (0.75, "add the first"), (0.8, "counts too"),
        (1.2, "lowest* saliency"), (0.85, "counts *squared*"), ("x", "a number"), (3, "not it"),
    ],
)  # fmt: skip
def test_a_wrong_increase_names_the_idea(answer, idea):
    check = lt.check.predicted_increase(answer)
    assert check.passed is False and idea in check.message


def test_the_right_increase_passes():
    assert lt.check.predicted_increase(0.95) and lt.check.predicted_increase("0.95")
    assert lt.check.predicted_increase().passed is None


@pytest.mark.parametrize(
    ("answer", "idea"),
    [(0.505, "linear"), (0.5, "half of the rounds"), (0.9, "removed"), (10, "percentage"),
     (0.005, "below the end"), (True, "a number")],
)  # fmt: skip
def test_a_wrong_density_names_the_idea(answer, idea):
    check = lt.check.density_at_round(answer)
    assert check.passed is False and idea in check.message


def test_the_right_density_passes():
    assert lt.check.density_at_round(0.1) and lt.check.density_at_round().passed is None


def one_at_a_time(loss, w):
    w = w.requires_grad_()
    (g,) = torch.autograd.grad(loss(w), w, create_graph=True)
    return torch.stack([torch.autograd.grad(g[i], w, retain_graph=True)[0][i] for i in range(3)])


def row_sums(loss, w):
    w = w.requires_grad_()
    (g,) = torch.autograd.grad(loss(w), w, create_graph=True)
    return torch.autograd.grad(g.sum(), w)[0]


def first(loss, w):
    return torch.func.grad(loss)(w)


@pytest.mark.parametrize(
    ("wrong", "idea"),
    [
        (row_sums, "row sums"),
        (first, "first derivative"),
        (lambda loss, w: first(loss, w) ** 2, "squared gradient"),
        (lambda loss, w: one_at_a_time(loss, w) / 2, "one half belongs"),
        (lambda loss, w: torch.autograd.functional.hessian(loss, w), "one number per weight"),
        (lambda loss, w: w * 0, "is right; yours"),
    ],
)
def test_a_wrong_diagonal_names_the_idea(wrong, idea):
    check = lt.check.hessian_diagonal(wrong)
    assert check.passed is False and idea in check.message


def test_right_diagonals_pass():
    assert lt.check.hessian_diagonal(one_at_a_time)
    assert lt.check.hessian_diagonal(
        lambda loss, w: torch.autograd.functional.hessian(loss, w).diagonal()
    )
    assert lt.check.hessian_diagonal(lambda loss, w: None).passed is None


def right_snip(loss, w, mask):
    return (w * mask * torch.func.grad(loss)(w * mask)).abs()


def in_place(loss, w, mask):
    w *= mask
    return right_snip(loss, w, mask)


@pytest.mark.parametrize(
    ("wrong", "idea"),
    [
        (lambda f, w, m: w * m * torch.func.grad(f)(w * m), "sign"),
        (lambda f, w, m: torch.func.grad(f)(w * m).abs(), "gradient alone"),
        (lambda f, w, m: (w * torch.func.grad(f)(w)).abs(), "dense network"),
        (lambda f, w, m: (w * m * torch.func.grad(f)(w)).abs(), "dense network"),
        (lambda f, w, m: (w * torch.func.grad(f)(w * m)).abs(), "pruned weight scores zero"),
        (lambda f, w, m: w[:2], "one score per weight"),
        (lambda f, w, m: w * 0, "yours is"),
        (in_place, "in place"),
    ],
)
def test_a_wrong_snip_names_the_idea(wrong, idea):
    check = lt.check.snip(wrong)
    assert check.passed is False and idea in check.message


def test_the_right_snip_passes():
    assert lt.check.snip(right_snip) and lt.check.snip().passed is None


def right_connected(a, b):
    return a & b.any(dim=0)[:, None], b & a.any(dim=1)


@pytest.mark.parametrize(
    ("wrong", "idea"),
    [
        (lambda a, b: (a, b & a.any(dim=1)), "no output reads"),
        (lambda a, b: (a & b.any(dim=0)[:, None], b), "no input feeds"),
        (lambda a, b: (a | True, b), "came back"),
        (lambda a, b: (a & False, b & False), "missing"),
        (lambda a, b: (a.float(), b), "boolean"),
        (lambda a, b: a, "two masks"),
        (lambda a, b: (b, a), "shape"),
    ],
)
def test_a_wrong_connection_names_the_idea(wrong, idea):
    check = lt.check.connected(wrong)
    assert check.passed is False and idea in check.message


def test_the_right_connection_passes():
    assert lt.check.connected(right_connected) and lt.check.connected().passed is None
