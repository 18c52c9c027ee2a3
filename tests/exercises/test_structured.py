from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import lth_tutorial as lt


def cut(model, kept, *, conv2=True, stem_bias=True, invert=False):
    """Prune the residual stream, with the mistakes that readers make."""
    kept = ~kept if invert else kept
    small = copy.deepcopy(model)
    small.stem.weight = nn.Parameter(model.stem.weight[kept])
    if stem_bias:
        small.stem.bias = nn.Parameter(model.stem.bias[kept])
    small.conv1.weight = nn.Parameter(model.conv1.weight[:, kept])
    if conv2:
        small.conv2.weight = nn.Parameter(model.conv2.weight[kept])
        small.conv2.bias = nn.Parameter(model.conv2.bias[kept])
    small.output.weight = nn.Parameter(model.output.weight[:, kept])
    return small


def silence(model, kept):
    with torch.no_grad():
        model.stem.weight[~kept] = 0
    return model


def keep_the_first(model, kept):
    return cut(model, torch.arange(len(kept)) < kept.sum())


def test_the_right_pruning_of_a_residual_stream_passes():
    assert lt.check.prune_residual(cut)


@pytest.mark.parametrize(
    ("fn", "idea"),
    [
        (lambda m, k: cut(m, k, conv2=False), "the addition has no partner"),
        (lambda m, k: cut(m, k, stem_bias=False), "takes its bias in the stem along"),
        (lambda m, k: cut(m, k, invert=True), "stem \\*makes\\*"),
        (silence, "zeros are not removed"),
        (keep_the_first, "index with the mask"),
        (lambda m, k: cut(m, k.roll(1)), "same channels removed in every layer"),
        (lambda m, k: k, "return the smaller model; got Tensor"),
    ],
)
def test_typical_mistakes_at_the_residual_block_are_named(fn, idea):
    result = lt.check.prune_residual(fn)
    assert result.passed is False
    with pytest.raises(ValueError, match=idea):
        raise ValueError(result.message)


def test_open_answers_stay_open():
    assert lt.check.prune_residual().passed is None
    assert lt.check.prune_residual(lambda model, kept: None).passed is None
    assert lt.check.filters_left().passed is None


@pytest.mark.parametrize(
    ("answer", "idea"),
    [
        (0.5, "reads half as many channels"),
        (0.75, "share *removed*"),
        (0.125, "pixels of a filter stay"),
        (25, "percentage"),
        (9216, "divide by all"),
        (0.3, "which of the four sizes"),
        ("a quarter", "a number in [0, 1]"),
    ],
)
def test_typical_mistakes_at_counting_filters_are_named(answer, idea):
    result = lt.check.filters_left(answer)
    assert result.passed is False and idea in result.message


def test_the_right_count_of_filters_passes():
    assert lt.check.filters_left(1 / 4)
