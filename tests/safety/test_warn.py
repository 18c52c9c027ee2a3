"""Warnings name the line of the caller, by whichever way they come."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import lth_tutorial as lt
from lth_tutorial.safety.warn import warn


def tied_scores(digits):
    mask = lt.dense_mask(lt.build_model("mlp_8", seed=0, data=digits))
    return lt.prune({n: torch.ones(kept.shape) for n, kept in mask.items()}, mask, 0.5)


def mostly_a_table(digits):
    return lt.dense_mask(nn.Sequential(nn.Embedding(1000, 20), nn.Flatten(), nn.Linear(20, 10)))


def drawn_otherwise(digits):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with torch.no_grad():
        model[1].weight.mul_(100)
    lt.reinitialize(model, 0)


def other_buffers(digits):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    model.register_buffer("seen", torch.zeros(3))
    state = lt.snapshot(model)
    return lt.barrier(model, state, state | {"seen": torch.ones(3)}, digits, points=3)


def tiny_attack(digits):
    model = lt.build_model("mlp_8", seed=0, data=digits)
    return lt.evaluate(model, digits, attack=lt.fgsm(1e-5))


def tiny_attack_in_training(digits):
    model = lt.build_model("mlp_8", seed=0, data=digits)
    return lt.train(model, digits, lt.TrainConfig(steps=1, attack=lt.fgsm(1e-5)))


def too_few_examples(digits):
    return lt.gaussian_clone(digits.subset(100))


def too_lenient_a_rule(digits):
    model = lt.build_model("mlp_bn_8", seed=0, data=digits)
    return lt.early_bird(model, digits, lt.TrainConfig(steps=150), threshold=0.6)


@pytest.mark.parametrize(
    "call",
    [
        tied_scores, mostly_a_table, drawn_otherwise, other_buffers, tiny_attack,
        tiny_attack_in_training, too_few_examples, too_lenient_a_rule,
    ],
)  # fmt: skip
def test_a_warning_names_the_file_of_the_caller(call, digits):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(digits)
    assert caught and {each.filename for each in caught} == {__file__}


def test_a_warning_that_was_caught_elsewhere_keeps_its_kind():
    with pytest.warns(lt.DivergenceWarning, match="once more") as caught:
        warn(lt.DivergenceWarning("once more"))
    assert caught[0].filename == __file__
