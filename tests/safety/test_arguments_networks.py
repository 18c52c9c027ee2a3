"""Networks that an experiment cannot take are refused before any of its trainings begins."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import lth_tutorial as lt
from lth_tutorial.training.steps import Step

CONFIG, IMP = lt.TrainConfig(steps=40, batch_size=8), lt.IMPConfig(rounds=1)


def plain(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))


def tied(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10))
    model[2].weight = model[1].weight
    return model


def turned(seed):
    model = plain(seed)
    nn.utils.parametrizations.orthogonal(model[1])
    return model


class Product(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(64, 10))

    def forward(self, x):
        return x.flatten(1) @ self.weight


def one_for_all():
    model = plain(0)
    return lambda seed: model


EXPERIMENTS = {
    "lottery": lambda m, d: lt.lottery_experiment(m, d, CONFIG, IMP, seeds=[0]),
    "retraining": lambda m, d: lt.retraining_experiment(m, d, CONFIG, IMP, seeds=[0]),
    "rewinding": lambda m, d: lt.rewinding_experiment(
        m, d, CONFIG, IMP, rewind_steps=[0, 3], seeds=[0], points=3
    ),
    "signs": lambda m, d: lt.signs_experiment(m, d, CONFIG, IMP, seeds=[0]),
    "dual": lambda m, d: lt.dual_experiment(
        m, d, CONFIG, density=0.5, penalised_steps=3, ramp=2, rounds=1, seeds=[0]
    ),
    "basis": lambda m, d: lt.basis_experiment(
        m, d, CONFIG, IMP, bases=("identity", "dct"), seeds=[0]
    ),
    "settling": lambda m, d: lt.settling_experiment(m, d, CONFIG, seeds=[0]),
    "early birds": lambda m, d: lt.early_bird_experiment(
        m, d, CONFIG, draw_epochs=[2], seeds=[0]
    ),
    "boosting": lambda m, d: lt.boosting_experiment(
        m, d, CONFIG, CONFIG, measure_steps=[1], seeds=[0]
    ),
    "narrow": lambda m, d: lt.boosting_experiment(
        plain, d, CONFIG, CONFIG, measure_steps=[1], arms=["low_mask", "narrow"], narrow=m,
        seeds=[0],
    ),
    "mask": lambda m, d: lt.boosting_mask(m(0), d, CONFIG),
}  # fmt: skip
DRAWN = ("settling", "early birds")
PRUNED = ("lottery", "retraining", "rewinding", "signs", "dual", "basis")
CASES = [
    *((name, one_for_all(), "gives the same model twice") for name in (*PRUNED, "settling")),
    *((name, tied, "1.weight stands in several places") for name in PRUNED),
    *((name, plain, "has no batch norm with trained") for name in DRAWN),
    *((name, tied, "share one weight") for name in DRAWN),
    *((name, turned, "a mask cannot take 1.weight") for name in ("boosting", "narrow", "mask")),
    ("basis", lambda seed: Product(), "an example of shape"),
    ("narrow", one_for_all(), "gives the same model twice"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "model", "message"), CASES)
def test_a_network_that_does_not_do_is_refused_before_a_step(name, model, message, monkeypatch):
    def step(*arguments, **options):
        raise AssertionError("a step was made before the error")

    monkeypatch.setattr(Step, "__call__", step)
    data = lt.load_dataset("digits").subset(80)
    with pytest.raises(ValueError, match=message):
        EXPERIMENTS[name](model, data)
