"""The ℓ1 penalty on batch-norm scales: `TrainConfig.bn_l1`."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lth_tutorial as lt


def small_network(seed):
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(6 * 16, 10),
    )  # fmt: skip
    lt.reinitialize(model, seed)
    return model


@pytest.fixture(scope="module")
def config():
    return lt.TrainConfig(steps=30, batch_size=50, lr=0.05, bn_l1=0.02)


def test_the_penalty_is_the_gradient_of_the_scales_ell_one_norm(digits):
    """One step of plain SGD against autograd on the penalised loss."""
    config = lt.TrainConfig(steps=1, batch_size=50, lr=0.1, momentum=0.0, bn_l1=0.3)
    model, by_hand = small_network(0), small_network(0)
    lt.train(model, digits, config, data_seed=4)
    rows = lt.batch_indices(len(digits.x_train), 50, 0, 4)
    logits = by_hand(digits.normalize(digits.x_train[rows]))
    penalty = 0.3 * by_hand[1].weight.abs().sum()
    (F.cross_entropy(logits, digits.y_train[rows]) + penalty).backward()
    for now, p in zip(model.parameters(), by_hand.parameters(), strict=True):
        assert torch.allclose(now, p - 0.1 * p.grad, atol=1e-6)


def test_scales_that_are_zero_get_no_push(digits):
    config = lt.TrainConfig(steps=1, batch_size=50, lr=0.1, bn_l1=5.0)
    model = small_network(0)
    nn.init.zeros_(model[1].weight)
    nn.init.constant_(model[1].bias, -1.0)  # silent, so that no other gradient moves them either
    lt.train(model, digits, config)
    assert bool((model[1].weight == 0).all())


def test_scales_shrink_and_nothing_else_is_penalised(digits, config):
    with_penalty, without = small_network(0), small_network(0)
    lt.train(with_penalty, digits, config)
    lt.train(without, digits, replace(config, bn_l1=0.0))
    assert with_penalty[1].weight.abs().sum() < without[1].weight.abs().sum() - 0.5
    ratio = with_penalty[5].weight.norm() / without[5].weight.norm()
    assert 0.8 < float(ratio.detach()) < 1.25


def test_a_stack_gets_the_penalty_of_the_plain_loop(digits, config):
    stacked, single = [small_network(seed) for seed in range(3)], small_network(1)
    lt.train_replicates(stacked, digits, config, data_seeds=[0, 1, 2])
    lt.train(single, digits, config, data_seed=1)
    assert torch.allclose(stacked[1][1].weight, single[1].weight, atol=1e-4)


def test_a_folder_of_another_penalty_is_refused(digits, config, tmp_path):
    lt.train(small_network(0), digits, config, workdir=tmp_path)
    with pytest.raises(ValueError, match="belongs to a run of another configuration"):
        lt.train(small_network(0), digits, replace(config, bn_l1=0.01), workdir=tmp_path)


def test_a_penalty_without_batch_norm_is_refused(tiny_model, tiny_data):
    config = lt.TrainConfig(steps=5, batch_size=20, bn_l1=0.1)
    with pytest.raises(ValueError, match=r"bn_l1 is 0.1, but Sequential has no batch norm"):
        lt.train(tiny_model, tiny_data, config)


@pytest.mark.parametrize("value", [-0.1, float("nan"), "0.1"])
def test_a_penalty_is_a_number_of_at_least_zero(value):
    with pytest.raises(ValueError, match="bn_l1 must be at least 0; got"):
        lt.TrainConfig(bn_l1=value)
