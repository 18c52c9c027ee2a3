"""Each check passes a right answer and names the idea that each typical wrong answer missed."""

from __future__ import annotations

import pytest
import torch

from lth_tutorial import exercises as check

WEIGHTS = 784 * 300 + 300 * 100 + 100 * 10


def assert_names(outcome, *words):
    assert outcome.passed is False, outcome
    missing = [word for word in words if word not in outcome.message]
    assert not missing, f"{missing} not in: {outcome.message}"


@pytest.mark.parametrize("one", [check.packed_bytes, check.gain, check.sign_gradient])
def test_an_open_exercise_is_not_attempted_yet(one):
    assert one(None) == one() == check.Check(None, "not attempted yet")


def test_the_bytes_of_a_packed_ticket():
    assert check.packed_bytes(WEIGHTS / 8 + 12)
    assert check.packed_bytes(33_287)


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (WEIGHTS, "8 bits"),
        (WEIGHTS // 8, "gains are missing"),
        (WEIGHTS // 8 + 4, "every *layer* has a gain"),
        (WEIGHTS // 16 + 12, "*not* kept"),
        (4 * WEIGHTS, "32-bit"),
        ((WEIGHTS + 410) // 8 + 12, "biases are zero"),
        (WEIGHTS // 4 + 12, "signs come back from the seed"),
        (5, "one bit for every weight"),
        ("many", "number of bytes"),
    ],
)
def test_a_wrong_number_of_bytes_names_the_idea(answer, word):
    assert_names(check.packed_bytes(answer), word)


def test_a_right_gain_passes():
    assert check.gain(lambda w, m: w[m].abs().mean())
    assert check.gain(lambda w, m: (w.abs() * m).sum() / m.sum())


@pytest.mark.parametrize(
    ("fn", "word"),
    [
        (lambda w, m: w.abs().mean(), "*kept*"),
        (lambda w, m: (w.abs() * m).mean(), "divide by their number"),
        (lambda w, m: w[m].mean(), "cancel"),
        (lambda w, m: w[m].square().mean().sqrt(), "squared error"),
        (lambda w, m: w[m].abs().sum(), "divide the sum"),
        (lambda w, m: w[~m].abs().mean(), "True means *kept*"),
        (lambda w, m: 1.0, "not 1.0000"),
        (lambda w, m: w.abs_()[m].mean(), "changed the weights"),
    ],
)
def test_a_wrong_gain_names_the_idea(fn, word):
    assert_names(check.gain(fn), word)


def slope(x):
    return (2 - 2 * x.abs()).clamp(min=0)


def test_a_right_gradient_passes():
    assert check.sign_gradient(lambda x, up: slope(x) * up)


@pytest.mark.parametrize(
    ("fn", "word"),
    [
        (lambda x, up: slope(x), "chain rule"),
        (lambda x, up: up, "clip"),
        (lambda x, up: (2 - 2 * x.abs()) * up, "negative beyond"),
        (lambda x, up: up * (x.abs() <= 1), "hard-tanh"),
        (lambda x, up: up * (2 - 2 * x) * (x.abs() <= 1), "same on both sides"),
        (lambda x, up: torch.zeros_like(x), "true derivative"),
        (lambda x, up: 3 * slope(x) * up, "the gradient is"),
        (lambda x, up: up.sum(), "shape of x"),
    ],
)
def test_a_wrong_gradient_names_the_idea(fn, word):
    assert_names(check.sign_gradient(fn), word)


@pytest.mark.parametrize("one", [check.gain, check.sign_gradient])
def test_an_answer_without_return_or_of_another_type_never_raises(one):
    assert one(lambda *a: None).passed is None
    assert_names(one(3), "takes the function itself")
    assert one(lambda *a: "text").passed is False
