"""Chapter 5's checks pass right answers and name the idea that each typical wrong one missed."""

from __future__ import annotations

import math

import pytest

import lth_tutorial as lt

check = lt.check


def assert_names(outcome, *words):
    assert outcome.passed is False, outcome
    missing = [word for word in words if word not in outcome.message]
    assert not missing, f"{missing} not in: {outcome.message}"


@pytest.mark.parametrize("one", [check.scratch_b_epochs, check.fair_steps, check.isolates])
def test_an_open_exercise_is_not_attempted_yet(one):
    assert one(None) == one() == check.Check(None, "not attempted yet")


def test_the_capped_number_of_epochs_passes():
    assert check.scratch_b_epochs(320)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (400, ["twice the epochs"]),
        (160, ["Scratch-E"]),
        (64, ["*more* epochs"]),
        (224, ["not what is added"]),
        (256, ["not what is added"]),
        (1, ["How many epochs"]),
        ("long", ["a number of epochs"]),
        (math.inf, ["a number of epochs"]),
        (False, ["a number of epochs"]),
    ],
)
def test_a_wrong_number_of_epochs_names_the_idea(answer, words):
    assert_names(check.scratch_b_epochs(answer), *words)


def test_what_was_spent_over_what_a_step_costs_passes():
    assert check.fair_steps(
        lambda train, tune, dense, small: (train * dense + tune * small) / small
    )


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda train, tune, dense, small: train + tune, ["steps are not FLOPs"]),
        (lambda train, tune, dense, small: train * dense / small, ["fine-tuning costs"]),
        (lambda train, tune, dense, small: (train + tune) * dense / small, ["*small* network"]),
        (lambda train, tune, dense, small: train * small / dense + tune, ["upside down"]),
        (lambda train, tune, dense, small: train, ["Scratch-E"]),
        (lambda train, tune, dense, small: tune, ["belongs to the cost"]),
        (lambda train, tune, dense, small: 7, ["add up what was spent"]),
        (lambda train, tune, dense, small: small / 0, ["ZeroDivisionError"]),
        (4, ["takes the function itself"]),
    ],
)
def test_a_wrong_budget_names_the_idea(answer, words):
    assert_names(check.fair_steps(answer), *words)


def differing(a, b):
    return {name for name in {*a, *b} if a.get(name, a) != b.get(name, b)}


def test_one_difference_and_the_right_one_passes():
    assert check.isolates(lambda a, b, factor: differing(a, b) == {factor})


def spoiling(a, b, factor):
    a.pop("steps", None)
    return True


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda a, b, factor: a.get(factor) != b.get(factor), ["another factor differs"]),
        (lambda a, b, factor: len(differing(a, b)) <= 1, ["do not differ in the factor"]),
        (lambda a, b, factor: len(differing(a, b)) == 1, ["not in the factor"]),
        (
            lambda a, b, factor: [n for n in b if a.get(n, b[n]) != b[n]] == [factor],
            ["does not state"],
        ),
        (
            lambda a, b, factor: [n for n in a if b.get(n) != a[n]] == [factor],
            ["whichever arm"],
        ),
        (
            lambda a, b, factor: differing(a, b) == {"weights"} == {factor},
            ["may be any"],
        ),
        (lambda a, b, factor: False, ["in nothing else"]),
        (spoiling, ["only reads"]),
    ],
)
def test_a_wrong_comparison_names_the_idea(answer, words):
    assert_names(check.isolates(answer), *words)


def test_a_function_without_return_is_open():
    assert check.isolates(lambda a, b, factor: None).passed is None
    assert check.fair_steps(lambda train, tune, dense, small: None).passed is None
