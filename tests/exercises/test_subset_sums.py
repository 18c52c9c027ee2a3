"""Each check of chapter 11 passes a right answer and names what a typical wrong one missed."""

import itertools

import pytest
import torch
from samples import assert_names

from lth_tutorial import exercises as check


def all_masks(n):
    for bits in itertools.product((False, True), repeat=n):
        yield torch.tensor(bits)


def best(values, target):
    return min(all_masks(len(values)), key=lambda kept: abs(target - values[kept].sum().item()))


def single(values, target):
    kept = torch.zeros_like(values, dtype=torch.bool)
    kept[(values - target).abs().argmin()] = True
    return kept


def greedy(values, target):
    kept, left = torch.zeros_like(values, dtype=torch.bool), target
    for _ in range(len(values)):
        errors = (left - values).abs().masked_fill(kept, 9.0)
        if errors.min() >= abs(left):
            break
        i = int(errors.argmin())
        kept[i] = True
        left -= values[i].item()
    return kept


def best_of_each_sign(u, v, w):
    kept = torch.zeros_like(u, dtype=torch.bool)
    for side in (v > 0, v < 0):
        kept[side] = best((u * v)[side], w)
    return kept


@pytest.mark.parametrize("one", [check.subset_error_by_hand, check.subset_search, check.relu_paths])
def test_an_open_exercise_is_not_attempted_yet(one):
    assert one(None) == one() == check.Check(None, "not attempted yet")


def test_the_right_error_passes():
    assert check.subset_error_by_hand(0.05)
    assert check.subset_error_by_hand(0.6 - 0.55)


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (-0.05, "never negative"),
        (0.55, "that is the sum"),
        (0.3, "*single*"),
        (0.1, "not the best one"),
        (0.123, "no subset has that error"),
        ("0.9 - 0.35", "one number"),
    ],
)
def test_a_wrong_error_is_told_apart(answer, word):
    assert_names(check.subset_error_by_hand(answer), word)


def test_a_full_search_passes():
    assert check.subset_search(best)


def nonempty(values, target):
    masks = (kept for kept in all_masks(len(values)) if kept.any())
    return min(masks, key=lambda kept: abs(target - values[kept].sum().item()))


def in_place(values, target):
    kept = best(values, target)
    values.sort()
    values[0] = 0
    return kept


def nearest_from_below(values, target):
    masks = [kept for kept in all_masks(len(values)) if values[kept].sum() <= target]
    return max(masks, key=lambda kept: values[kept].sum().item(), default=values > 9)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (single, "best single number"),
        (greedy, "gets stuck"),
        (nonempty, "empty subset"),
        (in_place, "in place"),
        (nearest_from_below, "another subset comes nearer"),
        (lambda values, target: best(values, target).float(), "boolean"),
        (lambda values, target: best(values, target).nonzero().flatten(), "boolean"),
    ],
)
def test_a_search_that_misses_something_is_told_what(wrong, word):
    assert_names(check.subset_search(wrong), word)


def test_paths_chosen_for_each_sign_pass():
    assert check.relu_paths(best_of_each_sign)


def positive_only(u, v, w):
    kept = torch.zeros_like(u, dtype=torch.bool)
    kept[v > 0] = best((u * v)[v > 0], w)
    return kept


def second_weights_only(u, v, w):
    return best(u, w)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (lambda u, v, w: best(u * v, w), "only where v·x is positive"),
        (positive_only, "negative inputs are not multiplied"),
        (second_weights_only, "u·v, not by u alone"),
        (lambda u, v, w: u > 0, "search all subsets"),
    ],
)
def test_paths_that_miss_a_side_are_told_which(wrong, word):
    assert_names(check.relu_paths(wrong), word)
