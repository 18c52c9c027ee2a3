"""Weights that stand in several places, groups that a layer has a part of, and copies of models."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

import lth_tutorial as lt


class Tied(nn.Module):
    """The output reads the last layer with the table of the embedding, as language models do."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(20, 8)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)
        self.out = nn.Linear(8, 20, bias=False)
        self.out.weight = self.table.weight

    def forward(self, x):
        return self.out(self.down(F.relu(self.up(self.table(x).mean(1)))))


@pytest.mark.filterwarnings("ignore::lth_tutorial.LeftOutWarning")
def test_units_read_by_a_tied_weight_are_pinned_and_others_can_go():
    torch.manual_seed(0)
    model, x = Tied(), torch.arange(12).view(2, 6)
    groups = lt.unit_groups(model, x)
    assert groups["up"].pinned is None
    assert "out.weight is table.weight as well" in groups["down"].pinned
    units = {"up": torch.arange(16) % 3 > 0}
    small = lt.remove_units(model, units, x)
    assert small.up.weight.shape == (10, 8) and small.out.weight is small.table.weight
    silenced = Tied()
    silenced.load_state_dict(model.state_dict())
    lt.silence_(silenced, units, groups)
    torch.testing.assert_close(small(x), silenced(x))


class Halves(nn.Module):
    """One layer makes all units of a group, another a half of them."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 4), nn.Linear(6, 2), nn.Linear(6, 2)
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.a(x) + torch.cat([self.b(x), self.c(x)], dim=1))


def test_a_removal_that_empties_one_of_several_layers_names_it():
    torch.manual_seed(0)
    model, x = Halves(), torch.randn(3, 6)
    for kept in ([True, True, False, False], [False, False, True, True]):
        with pytest.raises(ValueError, match=r"remove all 2 outputs of [bc], and nothing"):
            lt.remove_units(model, {"a": torch.tensor(kept)}, x)
    assert lt.remove_units(model, {"a": torch.tensor([True, False] * 2)}, x).b.out_features == 1


def test_a_model_whose_bias_torch_has_pruned_is_copied(digits):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
    prune.random_unstructured(model[1], "bias", 0.5)
    x = digits.normalize(digits.x_test[:3])
    model(x)
    assert lt.with_sign_activations(model)(x).shape == (3, 10)
    assert lt.with_batch_norm(model)(x).shape == (3, 10)
    config = lt.TrainConfig(steps=2, batch_size=20)
    assert len(lt.training_cost({"a": model}, digits, config, repeats=1)) == 1
