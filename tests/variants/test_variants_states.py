"""Experiments rewind and copy foreign networks, whose states hold more than tensors."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import lth_tutorial as lt
from lth_tutorial.variants.drawing import ARMS

SHORT = lt.TrainConfig(steps=24, batch_size=20, lr=0.02)


class Versioned(nn.BatchNorm1d):
    """Stores, beside its tensors, something that is none (as quantised and fused layers do)."""

    def get_extra_state(self) -> dict:
        return {"version": 1}

    def set_extra_state(self, state: dict) -> None:
        assert state == {"version": 1}


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 12), Versioned(12), nn.ReLU(), nn.Linear(12, 3))


def histories(data):
    history = lt.train_history(network, data, SHORT, seeds=[0])
    return lt.mask_histories(history, data, 0.5)


def trained_on(data):
    model = network(0)
    ticket = lt.early_bird(model, data, SHORT, window=2, threshold=0.99)
    return lt.train_on(model, data, SHORT, ticket, how="momentum")


CALLS = {
    "mask_histories": histories,
    "train_on": trained_on,
    "early_bird_experiment": lambda data: lt.early_bird_experiment(
        network, data, SHORT, draw_epochs=[1], arms=ARMS, seeds=[0]
    ),
    "boosting_mask": lambda data: lt.boosting_mask(network(0), data, SHORT),
    "boosting_experiment": lambda data: lt.boosting_experiment(
        network, data, SHORT, SHORT, measure_steps=[0, 24], arms=["low_mask", "dense"], seeds=[0]
    ),
    "dual_experiment": lambda data: lt.dual_experiment(
        network, data, SHORT, density=0.5, penalised_steps=4, ramp=2, strengths=[0.1], rounds=1,
        seeds=[0],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_tensor_in_a_state_stays_with_its_module(name, tiny_data):
    with warnings.catch_warnings():  # so short a training draws anything
        warnings.simplefilter("ignore")
        assert len(CALLS[name](tiny_data))
