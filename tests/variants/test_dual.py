"""A penalty that grows draws the weights to be removed to zero; a random mask is random."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import scipy.stats
import torch
from torch import nn

import lth_tutorial as lt
from lth_tutorial.variants.dual import removed_power

CONFIG = lt.TrainConfig(steps=30, batch_size=20, lr=0.05, momentum=0.9)


def with_removal(**settings):
    return replace(CONFIG, removal=lt.Removal(**settings))


def test_one_step_adds_lambda_times_the_weight_to_the_gradient_of_pruned_weights(tiny_data):
    model = lt.build_model("mlp_12_6", seed=0, data=tiny_data)
    mask = lt.random_mask(model, 0.5, seed=0)
    plain, drawn = model, lt.build_model("mlp_12_6", seed=0, data=tiny_data)
    start = lt.snapshot(model)
    config = replace(CONFIG, steps=2, momentum=0.0)
    lt.train(plain, tiny_data, config, stop_step=2, start_step=1)
    removal = replace(config, removal=lt.Removal(3.0, ramp=2))
    lt.train(drawn, tiny_data, removal, mask=mask, stop_step=2, start_step=1)
    for name, kept in mask.items():
        # λ(1) = 3 · 1/2; weight − rate · (gradient + λ · weight)
        expected = plain.state_dict()[name] - 0.05 * 1.5 * start[name] * ~kept
        assert torch.allclose(drawn.state_dict()[name], expected, atol=1e-6)


def test_a_growing_penalty_empties_the_pruned_weights_and_removal_costs_nothing(digits):
    model = lt.build_model("mlp_30_20", seed=0, data=digits)
    mask = lt.random_mask(model, 0.3, seed=0)
    config = lt.TrainConfig(steps=300, batch_size=50, lr=0.05)
    assert 0.6 < removed_power(model.state_dict(), mask) < 0.8
    lt.train(model, digits, replace(config, removal=lt.Removal(8.0, ramp=150)), mask=mask)
    before = lt.evaluate(model, digits).accuracy
    assert removed_power(model.state_dict(), mask) < 0.01
    lt.apply_mask_(model, mask)
    assert abs(lt.evaluate(model, digits).accuracy - before) < 0.03
    assert before > 0.8


def test_lambda_zero_is_training_without_a_mask(digits):
    models = [lt.build_model("mlp_12_6", seed=0, data=digits) for _ in range(2)]
    mask = lt.random_mask(models[0], 0.5, seed=0)
    lt.train(models[0], digits, CONFIG)
    lt.train(models[1], digits, with_removal(largest=0.0, ramp=10), mask=mask)
    assert lt.state_hash(lt.snapshot(models[0])) == lt.state_hash(lt.snapshot(models[1]))


def test_replicates_take_the_penalty_of_their_own_masks(digits):
    models = [lt.build_model("mlp_12_6", seed=s, data=digits) for s in range(3)]
    alone = lt.build_model("mlp_12_6", seed=2, data=digits)
    masks = [lt.random_mask(model, 0.5, seed=s) for s, model in enumerate(models)]
    config = with_removal(largest=2.0, ramp=20)
    lt.train_replicates(models, digits, config, data_seeds=range(3), masks=masks)
    lt.train(alone, digits, config, mask=masks[2], data_seed=2)
    for name, weight in alone.state_dict().items():
        assert torch.allclose(models[2].state_dict()[name], weight, atol=1e-4)


def test_a_foreign_network_with_its_own_parameters_is_drawn_too(digits):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(64)
            self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
            self.output = nn.Linear(64, 10)

        def forward(self, x):
            x = self.norm(x.flatten(1)).unflatten(1, (8, 8))
            return self.output((x + self.attend(x, x, x)[0]).flatten(1))

    torch.manual_seed(0)
    model = Own()
    mask = lt.random_mask(model, 0.5, seed=0)
    before = removed_power(model.state_dict(), mask)
    lt.train(model, digits, with_removal(largest=20.0, ramp=10), mask=mask)
    assert removed_power(model.state_dict(), mask) < before / 10


def test_a_folder_knows_whether_its_run_was_penalised(tmp_path, digits):
    def run(config):
        model = lt.build_model("mlp_12_6", seed=0, data=digits)
        mask = lt.random_mask(model, 0.5, seed=0)
        return lt.train(model, digits, config, mask=mask, workdir=tmp_path)

    first = run(with_removal(largest=1.0, ramp=10))
    again = run(with_removal(largest=1.0, ramp=10))
    assert lt.state_hash(again.final) == lt.state_hash(first.final)
    for other in (with_removal(largest=2.0, ramp=10), CONFIG):
        with pytest.raises(ValueError, match="removal"):
            run(other)


@pytest.mark.parametrize(
    ("settings", "step", "strength"),
    [
        ({"largest": 2.0, "ramp": 10}, 5, 1.0),
        ({"largest": 2.0, "ramp": 10}, 10, 2.0),
        ({"largest": 2.0, "ramp": 10}, 999, 2.0),
        ({"largest": 2.0, "ramp": 10, "power": 2}, 5, 0.5),
        ({"largest": 2.0, "ramp": 10, "power": 3}, 5, 0.25),
        ({"largest": 2.0, "ramp": 10, "every": 4}, 7, 0.8),
        # The authors': 1e-4 more every 5 steps, to 1.
        ({"every": 5}, 14, 2e-4),
        ({"every": 5}, 50_000, 1.0),
    ],
)
def test_the_schedule_of_the_penalty(settings, step, strength):
    assert lt.Removal(**settings).strength(step) == pytest.approx(strength)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"largest": -1.0}, "got -1.0"),
        ({"largest": math.inf}, "got inf"),
        ({"largest": math.nan}, "got nan"),
        ({"largest": "1"}, "got '1'"),
        ({"ramp": 0}, "got 0"),
        ({"every": 0}, "got 0"),
        ({"power": 4}, "1, 2 or 3; got 4"),
    ],
)
def test_a_penalty_that_makes_no_sense_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        lt.Removal(**settings)


def test_a_schedule_longer_than_the_budget_and_one_that_overshoots_are_refused():
    with pytest.raises(ValueError, match="grows for 31 steps, and the run has 30"):
        with_removal(ramp=31)
    with pytest.raises(ValueError, match="keep λ below 76"):
        with_removal(largest=76.0, ramp=10)
    with_removal(largest=75.0, ramp=10)


def test_a_penalty_without_a_mask_is_refused(digits):
    with pytest.raises(ValueError, match="there is no mask"):
        lt.train(lt.build_model("mlp_12_6", seed=0, data=digits), digits, with_removal(ramp=10))


def test_a_random_mask_keeps_its_share_of_every_layer():
    model = lt.build_model("mlp_40_20", seed=0)
    mask = lt.random_mask(model, 0.1, seed=0)
    assert lt.layer_densities(mask) == pytest.approx(dict.fromkeys(mask, 0.1), abs=1e-3)
    assert lt.overlap(mask, lt.random_mask(model, 0.1, seed=1)) < 0.1
    for density in (0.0, 1.0, 1.5, -0.1):
        with pytest.raises(ValueError, match=r"in \(0, 1\)"):
            lt.random_mask(model, density, seed=0)


def test_the_rank_correlation_is_spearmans_ties_too():
    weight = torch.randn(8, 9).round(decimals=1)
    kept = torch.rand(8, 9) < 0.3
    found = lt.rank_correlation({"w": kept}, {"w": weight})["w"]
    expected = scipy.stats.spearmanr(weight.abs().flatten(), kept.flatten()).statistic
    assert found == pytest.approx(expected)


def test_a_mask_that_is_called_random_and_is_not_is_found_out():
    for seed in range(20):
        model = lt.build_model("mlp_40_20", seed=seed)
        weights = model.state_dict()
        lt.check_random(lt.random_mask(model, 0.1, seed), weights)
        dense = lt.dense_mask(model)
        largest = lt.prune(lt.magnitude_scores(weights, dense), dense, 0.7)
        with pytest.raises(ValueError, match=r"fc1\.weight is not random: it favours the largest"):
            lt.check_random(largest, weights)
    smallest = {name: ~kept for name, kept in largest.items()}
    with pytest.raises(ValueError, match="the smallest initial weights"):
        lt.check_random(smallest, weights)
    with pytest.raises(ValueError, match="layer in the mask"):
        lt.rank_correlation({"other": dense["fc1.weight"]}, weights)
