from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import lth_tutorial as lt
from lth_tutorial.training.groups import can_stack


def networks(data, seeds=(0, 1, 2), name="mlp_12_6"):
    return [lt.build_model(name, seed=s, data=data) for s in seeds]


def random_masks(models):
    masks = [lt.dense_mask(m) for m in models]
    return [lt.prune(lt.random_scores(m, i), m, 0.5, scope="layer") for i, m in enumerate(masks)]


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "sgd", "weight_decay": 1e-3, "schedule": "cosine", "warmup_steps": 5},
        {"optimizer": "adam", "lr": 0.01},
    ],
    ids=["sgd", "adam"],
)
@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
def test_every_replicate_of_a_stack_gets_the_numbers_of_its_own_run(
    tiny_data, config, settings, masked
):
    config = replace(config, **settings)
    models, seeds = networks(tiny_data), [5, 6, 7]
    masks = random_masks(models) if masked else None
    assert can_stack(models)
    stacked = lt.train_replicates(
        models, tiny_data, config, data_seeds=seeds, masks=masks, save_at={10}
    )
    for i, seed in enumerate(seeds):
        (model,) = networks(tiny_data, (i,))
        mask = masks[i] if masked else None
        alone = lt.train(model, tiny_data, config, data_seed=seed, mask=mask, save_at={10})
        for theirs, ours in (
            (alone.start, stacked[i].start),
            (alone.snapshots[10], stacked[i].snapshots[10]),
            (alone.final, stacked[i].final),
            (alone.early_stop, stacked[i].early_stop),
            (alone.final, lt.snapshot(models[i])),
        ):
            assert set(theirs) == set(ours)
            assert all(torch.allclose(theirs[n], ours[n], atol=2e-5) for n in theirs)
        for a, b in zip(alone.history, stacked[i].history, strict=True):
            assert a == pytest.approx(b, abs=2e-5)


def batch_norm_mlp(data):
    return nn.Sequential(nn.Linear(8, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def small_convolutional(data):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 5, 3, stride=2), nn.BatchNorm2d(5, affine=False), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 10),
    )  # fmt: skip


def residual_mlp(data):
    return lt.build_model("resmlp_bn_12_3", seed=0, data=data)


@pytest.mark.parametrize("make", [batch_norm_mlp, residual_mlp, small_convolutional])
def test_batch_norm_and_convolutions_get_the_numbers_of_their_own_run(
    tiny_data, digits, config, make
):
    """Weights, running statistics and validation, which uses the running statistics."""
    data = digits if make is small_convolutional else tiny_data

    def build(seed):
        model = make(data)
        lt.reinitialize(model, seed)
        return model

    models, seeds = [build(s) for s in range(3)], [5, 6, 7]
    masks = [lt.prune(lt.random_scores(m, i), m, 0.3, scope="layer")
             for i, m in enumerate(map(lt.dense_mask, models))]  # fmt: skip
    config = replace(config, lr=0.05)
    assert can_stack(models)
    stacked = lt.train_replicates(models, data, config, data_seeds=seeds, masks=masks)
    for i, seed in enumerate(seeds):
        model = build(i)
        alone = lt.train(model, data, config, data_seed=seed, mask=masks[i])
        for ours in (stacked[i].final, lt.snapshot(models[i])):
            assert set(ours) == set(alone.final)
            for name, tensor in alone.final.items():
                assert torch.allclose(tensor, ours[name], atol=1e-4), name
        assert stacked[i].history[-1] == pytest.approx(alone.history[-1], abs=1e-3)


def test_a_stack_keeps_pruned_weights_exactly_zero(tiny_data, config):
    models = networks(tiny_data)
    masks = random_masks(models)
    results = lt.train_replicates(models, tiny_data, config, data_seeds=[0, 1, 2], masks=masks)
    for result, mask in zip(results, masks, strict=True):
        assert all(bool((result.final[n][~kept] == 0).all()) for n, kept in mask.items())


def test_what_can_be_stacked(tiny_data, digits):
    tanh = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 3))
    half_frozen = batch_norm_mlp(tiny_data)
    half_frozen[1].eval()
    frozen = networks(tiny_data)
    frozen[0].fc1.weight.requires_grad_(False)
    relu = nn.ReLU()
    tied = nn.Sequential(nn.Linear(3, 3), relu, nn.Linear(3, 3))
    tied[2].weight = tied[0].weight
    hooked = networks(tiny_data)
    hooked[1].fc1.register_forward_hook(lambda *a: None)

    class Residual(nn.Sequential):
        def forward(self, x):
            return x + super().forward(x)

    assert can_stack(networks(tiny_data))
    assert not can_stack([tied, tied]) and not can_stack(hooked)
    assert not can_stack([Residual(nn.Linear(3, 3))] * 2)
    assert can_stack(networks(digits, name="mlp_100_50"))
    assert not can_stack([tanh, tanh])
    assert not can_stack([half_frozen, half_frozen])
    assert not can_stack(frozen)
    assert not can_stack([lt.build_model("lenet_300_100", seed=0)] * 2), "memory bound on a CPU"
    assert not can_stack([*networks(tiny_data), lt.build_model("mlp_3", seed=0, data=tiny_data)])


def test_a_module_that_stands_in_two_places_is_applied_twice(tiny_data, config):
    def make(seed):
        relu = nn.ReLU()
        model = nn.Sequential(nn.Linear(8, 6), relu, nn.Linear(6, 6), relu, nn.Linear(6, 3))
        lt.reinitialize(model, seed)
        return model

    models = [make(0), make(1)]
    assert can_stack(models)
    stacked = lt.train_replicates(models, tiny_data, config, data_seeds=[0, 1])
    alone = lt.train(make(1), tiny_data, config, data_seed=1)
    assert all(torch.allclose(alone.final[n], stacked[1].final[n], atol=2e-5) for n in alone.final)


def test_networks_that_cannot_be_stacked_are_trained_one_by_one(tiny_data, config):
    def make(seed):
        model = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3))
        lt.reinitialize(model, seed)
        return model

    results = lt.train_replicates([make(0), make(1)], tiny_data, config, data_seeds=[3, 4])
    alone = lt.train(make(1), tiny_data, config, data_seed=4)
    assert lt.state_hash(results[1].final) == lt.state_hash(alone.final)


def test_a_diverged_replicate_is_named_and_the_others_go_on(tiny_data, config):
    models = networks(tiny_data)
    with torch.no_grad():
        models[1].fc1.weight.fill_(float("inf"))
    with pytest.warns(lt.DivergenceWarning, match=r"at step 0 of 40 \(data_seed 6\)"):
        results = lt.train_replicates(models, tiny_data, config, data_seeds=[5, 6, 7])
    assert [r.diverged_step for r in results] == [None, 0, None]
    assert [len(r.history) for r in results] == [5, 1, 5], "the history ends where it diverged"
    (alone,) = networks(tiny_data, (2,))
    expected = lt.train(alone, tiny_data, config, data_seed=7).final
    assert all(torch.allclose(expected[n], results[2].final[n], atol=2e-5) for n in expected)


def test_every_step_of_every_replicate_is_reported(tiny_data, config):
    ticks = []
    for models in (networks(tiny_data), networks(tiny_data, (0,))):
        ticks.clear()
        lt.train_replicates(
            models,
            tiny_data,
            config,
            data_seeds=range(len(models)),
            on_step=lambda: ticks.append(1),
        )
        assert len(ticks) == 40 * len(models)


def test_numbers_of_models_seeds_and_masks_must_agree(tiny_data, config):
    with pytest.raises(ValueError, match="got 3 models, 2 data seeds and no masks"):
        lt.train_replicates(networks(tiny_data), tiny_data, config, data_seeds=[0, 1])
    with pytest.raises(ValueError, match="0 models"):
        lt.train_replicates([], tiny_data, config, data_seeds=[0])


def test_models_without_parameters_are_named(tiny_data, config):
    with pytest.raises(ValueError, match="no parameters: there is nothing to train"):
        lt.train_replicates([nn.Flatten(), nn.Flatten()], tiny_data, config, data_seeds=[0, 1])
