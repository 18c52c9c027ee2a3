"""Each check of chapter 10 passes a right answer and names what a typical wrong one missed."""

import pytest
import torch
from samples import assert_names

import lth_tutorial as lt
from lth_tutorial import exercises as check


@pytest.mark.parametrize("one", [check.kept_by_hand, check.edge_popup_mask, check.score_gradient])
def test_an_open_exercise_is_not_attempted_yet(one):
    assert one(None) == one() == check.Check(None, "not attempted yet")


def test_the_right_places_pass_in_any_order():
    assert check.kept_by_hand([5, 1, 3])


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        ([0, 3, 5], "*magnitudes*"),
        ([2, 4, 6], "counted from 0"),
        ([1, 3], "three"),
        ([1, 3, 4], "not the three largest"),
        (3, "list of places"),
    ],
)
def test_wrong_places_are_told_apart(answer, word):
    assert_names(check.kept_by_hand(answer), word)


def by_rank(scores, keep):
    kept = torch.zeros(scores.numel(), dtype=torch.bool)
    order = scores.abs().flatten().argsort(descending=True, stable=True)
    kept[order[: round(keep * scores.numel())]] = True
    return kept.view_as(scores)


def test_the_mask_of_the_package_and_one_by_ranks_pass():
    assert check.edge_popup_mask(by_rank)
    assert check.edge_popup_mask(lambda scores, keep: lt.top_k_mask(scores.abs(), keep).bool())


def by_threshold(scores, keep):
    limit = scores.abs().flatten().sort(descending=True).values[round(keep * scores.numel()) - 1]
    return scores.abs() >= limit


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (lambda scores, keep: lt.top_k_mask(scores, keep).bool(), "magnitude"),
        (lambda scores, keep: by_rank(scores, 1 - keep), "*kept*"),
        (by_threshold, "ties"),
        (lambda scores, keep: by_rank(-scores.abs().reciprocal(), keep), "largest |score|"),
        (lambda scores, keep: by_rank(scores, keep).float(), "boolean"),
        (lambda scores, keep: by_rank(scores.flip(0), keep).flip(0), "first ones"),
    ],
)
def test_a_wrong_mask_is_told_why(wrong, word):
    assert_names(check.edge_popup_mask(wrong), word)


def test_the_straight_through_gradient_passes_and_is_what_autograd_gives():
    assert check.score_gradient(lambda weight, scores, upstream: upstream * weight * scores.sign())

    def by_autograd(weight, scores, upstream):
        scores = scores.requires_grad_()
        (weight * lt.top_k_mask(scores.abs(), 0.5)).backward(upstream)
        return scores.grad

    assert check.score_gradient(by_autograd)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (lambda w, s, g: g * w * s.sign() * (s.abs() > s.abs().median()), "pop up again"),
        (lambda w, s, g: g * w, "sign(s)"),
        (lambda w, s, g: g, "chain rule"),
        (lambda w, s, g: -g * w * s.sign(), "negative gradient"),
        (lambda w, s, g: g * w * s, "differentiate"),
        (lambda w, s, g: (g * w).sum(), "shape"),
    ],
)
def test_a_wrong_gradient_is_told_why(wrong, word):
    assert_names(check.score_gradient(wrong), word)
