"""Chapter 7's checks pass right answers and name the idea that each typical wrong one missed."""

from __future__ import annotations

import math

import pytest

import lth_tutorial as lt

check = lt.check


def assert_names(outcome, *words):
    assert outcome.passed is False, outcome
    missing = [word for word in words if word not in outcome.message]
    assert not missing, f"{missing} not in: {outcome.message}"


@pytest.mark.parametrize("one", [check.total_steps, check.rates_after_pruning, check.matching_test])
def test_an_open_exercise_is_not_attempted_yet(one):
    assert one(None) == one() == check.Check(None, "not attempted yet")


def test_the_steps_of_all_rounds_and_the_dense_network_pass():
    assert check.total_steps(63_000 + 5 * 61_000)
    assert check.total_steps(368_000.0)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (5 * 61_000, ["dense network has to be trained first"]),
        (6 * 63_000, ["steps − k"]),
        (5 * 63_000, ["counts too"]),
        (63_000 + 61_000, ["one round"]),
        (63_000 + 4 * 61_000, ["one round short"]),
        (63_000 + 5 * 2_000, ["goes back *to*"]),
        (12, ["Write down what is trained"]),
        ("many", ["number of steps"]),
        (math.nan, ["number of steps"]),
        (True, ["number of steps"]),
    ],
)
def test_a_wrong_number_of_steps_names_the_idea(answer, words):
    assert_names(check.total_steps(answer), *words)


def rates(schedule, way, k):
    return [schedule[-1]] * (len(schedule) - k) if way == "fine_tune" else schedule[k:]


def test_right_rates_pass():
    assert check.rates_after_pruning(rates)


def tuned_too_long(schedule, way, k):
    return [schedule[-1]] * len(schedule) if way == "fine_tune" else schedule[k:]


def always_low(schedule, way, k):
    return schedule[k:] if way == "rewind" else [schedule[-1]] * (len(schedule) - k)


def from_the_start(schedule, way, k):
    return schedule[: len(schedule) - k] if way != "fine_tune" else rates(schedule, way, k)


def never_low(schedule, way, k):
    return schedule[k:]


def rate_at_k(schedule, way, k):
    return [schedule[k]] * (len(schedule) - k) if way == "fine_tune" else schedule[k:]


def reversing(schedule, way, k):
    schedule.reverse()
    return schedule


def shuffled(schedule, way, k):
    return sorted(schedule[k:]) if way == "rewind" else rates(schedule, way, k)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (tuned_too_long, ["budgets are equal", "fine_tune"]),
        (always_low, ["rewinds the *rate*"]),
        (from_the_start, ["goes on from step k"]),
        (never_low, ["does not rewind the schedule"]),
        (rate_at_k, ["*last* rate"]),
        (reversing, ["changed the schedule"]),
        (shuffled, ["rates should be"]),
        (lambda schedule, way, k: 1 / 0, ["ZeroDivisionError"]),
        (lambda schedule, way, k: "abc", ["no usable form"]),
        (3, ["takes the function itself"]),
    ],
)
def test_wrong_rates_name_the_idea(answer, words):
    assert_names(check.rates_after_pruning(answer), *words)


def test_a_function_without_return_is_open():
    assert check.rates_after_pruning(lambda schedule, way, k: None).passed is None
    assert check.matching_test(lambda pruned, dense, margin: None).passed is None


def matches(pruned, dense, margin):
    interval = lt.t_interval([a - b for a, b in zip(pruned, dense, strict=True)])
    return interval.n >= 3 and interval.low >= -margin


def test_the_matching_rule_of_the_book_passes():
    assert check.matching_test(matches)


def mean_only(pruned, dense, margin):
    return len(pruned) > 2 and sum(pruned) / len(pruned) >= sum(dense) / len(dense) - margin


def unpaired(pruned, dense, margin):
    a, b = lt.t_interval(pruned), lt.t_interval(dense)
    return a.n >= 3 and a.low >= b.high - margin


def any_n(pruned, dense, margin):
    return lt.t_interval([a - b for a, b in zip(pruned, dense, strict=True)]).low >= -margin or (
        len(pruned) < 3
    )


def normal(pruned, dense, margin):
    d = [a - b for a, b in zip(pruned, dense, strict=True)]
    mean = sum(d) / len(d)
    error = math.sqrt(sum((x - mean) ** 2 for x in d) / (len(d) - 1) / len(d))
    return len(d) >= 3 and mean - 1.96 * error >= -margin


def two_sided(pruned, dense, margin):
    interval = lt.t_interval([a - b for a, b in zip(pruned, dense, strict=True)])
    return interval.n >= 3 and interval.low >= -margin and interval.high <= margin


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (mean_only, ["*whole interval*"]),
        (unpaired, ["pair by seed"]),
        (any_n, ["fewer than three seeds"]),
        (normal, ["not 1.96"]),
        (two_sided, ["one-sided"]),
        (lambda pruned, dense, margin: True, ["seven points"]),
        (lambda pruned, dense, margin: False, ["equal accuracies match"]),
    ],
)
def test_a_wrong_test_of_matching_names_the_idea(answer, words):
    assert_names(check.matching_test(answer), *words)


def test_one_wrong_answer_does_not_change_what_later_ones_see():
    def spoiling(pruned, dense, margin):
        pruned.clear()
        return True

    check.matching_test(spoiling)
    assert check.matching_test(matches)
