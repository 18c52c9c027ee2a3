"""Experiments in which the training of one seed diverges: the others go on to their end."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import lth_tutorial as lt
from lth_tutorial.tickets.arms import OTHER_INITIALIZATION

CONFIG = lt.TrainConfig(steps=40, batch_size=50, lr=0.05, eval_every=None)
IMP = lt.IMPConfig(rounds=1, fraction=0.3)
SEEDS = [0, 1]


class Doomed(nn.Module):
    """A network that, with seed 1, has no finite outputs after some steps of training."""

    def __init__(self, seed: int, data: lt.Dataset) -> None:
        super().__init__()
        self.network = lt.build_model("mlp_16_16", seed=seed, data=data)
        self.register_buffer("steps", torch.zeros(()))
        self.register_buffer("is_doomed", torch.tensor(seed % OTHER_INITIALIZATION == 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.steps += 1
        late = self.is_doomed & (self.steps > 10)
        return self.network(x) * torch.where(late, torch.inf, 1.0)


def target(seed: int) -> nn.Sequential:
    layers = nn.Linear(64, 4, bias=False), nn.ReLU(), nn.Linear(4, 10, bias=False)
    model = nn.Sequential(nn.Flatten(), *layers)
    lt.reinitialize(model, seed)
    if seed == 1:
        with torch.no_grad():
            model[3].weight.mul_(1e38)
    return model


EXPERIMENTS = {
    "pruned before training": lambda data, build: lt.prune_before_training(
        build, data, CONFIG, densities=[0.5], seeds=SEEDS,
        arms=("after_training", "after_training/shuffled", "magnitude"),
    ),
    "bases": lambda data, build: lt.basis_experiment(
        build, data, CONFIG, IMP, bases=("identity", "svd"), seeds=SEEDS
    ),
    "boosting": lambda data, build: lt.boosting_experiment(
        build, data, CONFIG, CONFIG, measure_steps=[0, 40], seeds=SEEDS,
        arms=("low_mask", "high_mask_reinit", "low_mask_random", "dense"),
    ),
    "imitation": lambda data, build: lt.imitation_experiment(
        target, data, CONFIG, numbers=[2, 3], seeds=SEEDS, arms=("subset", "single")
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_one_seed_that_diverges_does_not_end_the_experiment(digits, name):
    with pytest.warns(lt.DivergenceWarning, match="data_seed 1"):
        rows = EXPERIMENTS[name](digits, lambda seed: Doomed(seed, digits))
    whole = rows[rows["seed"] == 0]
    assert whole.groupby("arm").size().nunique() == 1, "all rounds of all arms"
    assert whole["accuracy"].notna().all()
    assert set(whole["arm"]) == set(rows["arm"]) and len(set(whole["arm"])) > 1
    broken = rows[rows["seed"] == 1]
    before = broken["step"] == 0 if "step" in broken else broken["round"] < 0
    assert broken.loc[~before, "accuracy"].isna().all() and len(broken) < len(whole)
