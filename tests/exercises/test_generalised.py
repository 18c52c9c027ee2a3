"""Chapter 13: right answers in several styles pass; wrong ones are told what they missed."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from lth_tutorial import exercises as check


def assert_names(outcome, *words):
    assert outcome.passed is False, outcome
    missing = [word for word in words if word not in outcome.message]
    assert not missing, f"{missing} not in: {outcome.message}"


ALL = [check.numbers_stored, check.moved_density, check.artefact, check.penalised_gradient]


@pytest.mark.parametrize("one", ALL)
def test_an_open_exercise_is_not_attempted_yet(one):
    assert one(None) == one() == check.Check(None, "not attempted yet")


@pytest.mark.parametrize("answer", [3088, 3088.0, np.int64(3088), torch.tensor(3088)])
def test_the_stored_numbers(answer):
    assert check.numbers_stored(answer)


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (128, "coefficients alone"),
        (128 + 100**2 + 64**2, "need not be stored"),
        (20 * 100 + 15 * 64, "come on top"),
        (128 + 20 * 64 + 15 * 100, "swapped"),
        (128 + 20 + 15, "an entry for every unit"),
        (6400, "dense layer"),
        (128 + 2000, "inputs' side are missing"),
        (128 + 960, "outputs' side are missing"),
        (128 + 35 * 164, "belongs to one side"),
        (128 + 20 * 15, "counts coefficients"),
        (7, "add kept coefficients"),
        (True, "is a number"),
        ("many", "is a number"),
    ],
)
def test_a_wrong_number_of_stored_numbers_names_the_idea(answer, word):
    assert_names(check.numbers_stored(answer), word)


def by_sums(outside, blocks, picks):
    kept = outside[0] + sum(blocks[j][0] for j in picks)
    return kept / (outside[1] + sum(blocks[j][1] for j in picks))


def by_list(outside, blocks, picks):
    layers = [outside, *[blocks[j] for j in picks]]
    return np.sum([k for k, _ in layers]) / np.sum([n for _, n in layers])


def by_tensor(outside, blocks, picks):
    counts = torch.tensor(blocks, dtype=torch.float64)[picks].sum(0) + torch.tensor(outside)
    return counts[0] / counts[1]


def by_fraction(outside, blocks, picks):
    kept, total = outside
    for j in picks:
        kept, total = kept + blocks[j][0], total + blocks[j][1]
    return Fraction(kept, total)


@pytest.mark.parametrize("fn", [by_sums, by_list, by_tensor, by_fraction])
def test_a_right_density_passes(fn):
    assert check.moved_density(fn)


def total(outside, blocks, picks, i):
    return outside[i] + sum(blocks[j][i] for j in picks)


@pytest.mark.parametrize(
    ("fn", "word"),
    [
        (lambda o, b, p: by_sums(o, b, range(len(b))), "density of the *source*"),
        (lambda o, b, p: by_sums((0, 0), b, p), "outside the blocks"),
        (
            lambda o, b, p: np.mean([k / n for k, n in (o, *(b[j] for j in p))]),
            "a mean of densities",
        ),
        (lambda o, b, p: total(o, b, p, 0) / total(o, b, range(len(b)), 1), "the target's"),
        (lambda o, b, p: by_sums(o, b, set(p)), "counts twice"),
        (lambda o, b, p: 1 - by_sums(o, b, p), "share that is pruned"),
        (lambda o, b, p: total(o, b, p, 0), "divide by all weights"),
        (lambda o, b, p: 100 * by_sums(o, b, p), "not a percentage"),
        (lambda o, b, p: o[0] / o[1] + by_sums((0, 0), b, p), "cannot be added"),
        (lambda o, b, p: 0.123, "98/600"),
        (lambda o, b, p: "text", "the density is"),
        (lambda o, b, p: b[9], "IndexError"),
    ],
)
def test_a_wrong_density_names_the_idea(fn, word):
    assert_names(check.moved_density(fn), word)


@pytest.mark.parametrize(
    "answer", ["bc", "cb", ("b", "c"), ["C", "B"], {"b", "c"}, "b - c", "b, c"]
)
def test_the_two_runs_that_tell(answer):
    assert check.artefact(answer)


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        ("ab", "the artefact"),
        ("bd", "differ by the optimiser alone"),
        ("de", "any rotation"),
        ("ac", "no cosines"),
        ("bf", "no control"),
        ("ad", "one thing at a time"),
        ("cd", "one thing at a time"),
        ("cf", "meaningless basis"),
        ("b", "two different runs"),
        ("bb", "two different runs"),
        ("bz", "two different runs"),
        (3, "two different runs"),
    ],
)
def test_two_other_runs_are_told_what_they_compare(answer, word):
    assert_names(check.artefact(answer), word)


def by_where(gradient, weight, kept, strength):
    return torch.where(kept, gradient, gradient + strength * weight)


def by_product(gradient, weight, kept, strength):
    return gradient + strength * weight * (1 - kept.float())


def by_index(gradient, weight, kept, strength):
    new = gradient.clone()
    new[~kept] += strength * weight[~kept]
    return new


def by_autograd(gradient, weight, kept, strength):
    weight = weight.clone().requires_grad_()
    (strength / 2 * weight[~kept].square().sum()).backward()
    return gradient + weight.grad


@pytest.mark.parametrize("fn", [by_where, by_product, by_index, by_autograd])
def test_a_right_gradient_passes(fn):
    assert check.penalised_gradient(fn)


def in_place(gradient, weight, kept, strength):
    gradient[~kept] += strength * weight[~kept]
    return gradient


def moves_weights(gradient, weight, kept, strength):
    weight[~kept] *= 1 - strength
    return gradient


@pytest.mark.parametrize(
    ("fn", "word"),
    [
        (lambda g, w, k, s: g + s * w * k, "True means *kept*"),
        (lambda g, w, k, s: g + s * w, "weight decay"),
        (lambda g, w, k, s: g + s * w.sign() * ~k, "ℓ1"),
        (lambda g, w, k, s: g * k, "masks the gradient"),
        (lambda g, w, k, s: g * k + s * w * ~k, "still serve the loss"),
        (lambda g, w, k, s: g - s * w * ~k, "would grow"),
        (lambda g, w, k, s: g + 2 * s * w * ~k, "the derivative is λ · w"),
        (lambda g, w, k, s: g + s * w**2 * ~k, "derivative, not its value"),
        (lambda g, w, k, s: s * w * ~k, "gradient of the loss is missing"),
        (lambda g, w, k, s: g + w * ~k, "strength λ is missing"),
        (lambda g, w, k, s: g, "the penalty is missing"),
        (lambda g, w, k, s: g + 0.5, "the answer is"),
        (in_place, "wrote into the gradient"),
        (moves_weights, "changed the weights"),
        (lambda g, w, k, s: g.sum(), "the weight's shape"),
    ],
)
def test_a_wrong_gradient_names_the_idea(fn, word):
    assert_names(check.penalised_gradient(fn), word)


@pytest.mark.parametrize("one", [check.moved_density, check.penalised_gradient])
def test_an_answer_without_return_or_of_another_type_never_raises(one):
    assert one(lambda *a: None).passed is None
    assert_names(one(3), "takes the function itself")
    assert one(lambda *a: ...).passed is False
