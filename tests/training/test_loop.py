from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import lth_tutorial as lt


def pruned_mask(model, keep_every=3):
    """Keep every third weight: leaves plenty of pruned weights that could come back to life."""
    mask = lt.dense_mask(model)
    return {
        name: (torch.arange(kept.numel()) % keep_every == 0).view_as(kept)
        for name, kept in mask.items()
    }


OPTIMIZERS = {
    "sgd with momentum and weight decay": {"optimizer": "sgd", "weight_decay": 0.01},
    "adam with weight decay": {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.01},
}


@pytest.mark.parametrize("settings", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_pruned_weights_stay_exactly_zero(tiny_model, tiny_data, config, settings):
    """Kept momentum or Adam state revived masked weights in several published codes."""
    mask = pruned_mask(tiny_model)
    config = replace(config, **settings)
    result = lt.train(tiny_model, tiny_data, config, mask=mask, save_at=range(0, 41))
    assert len(result.snapshots) == 41
    for step, state in result.snapshots.items():
        for name, kept in mask.items():
            assert bool((state[name][~kept] == 0).all()), f"{name} revived by step {step}"
    assert all((result.final[name][kept] != 0).all() for name, kept in mask.items())


@pytest.mark.parametrize("settings", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_masking_gradients_alone_would_revive_them(tiny_model, tiny_data, config, settings):
    """The fault that the test above must be able to see, shown once without our loop."""
    mask = pruned_mask(tiny_model)
    weights = dict(tiny_model.named_parameters())
    lt.apply_mask_(tiny_model, mask)
    make = torch.optim.Adam if settings["optimizer"] == "adam" else torch.optim.SGD
    extra = {} if settings["optimizer"] == "adam" else {"momentum": 0.9}
    optimizer = make(tiny_model.parameters(), lr=0.01, **extra)
    x, y = tiny_data.normalize(tiny_data.x_train), tiny_data.y_train
    for step in range(6):
        optimizer.zero_grad()
        nn.functional.cross_entropy(tiny_model(x), y).backward()
        if step >= 3:  # the network is pruned after three steps, the optimiser's state is kept
            for name, kept in mask.items():
                weights[name].grad.mul_(kept)
        optimizer.step()
        if step == 2:
            lt.apply_mask_(tiny_model, mask)
    revived = sum(int((weights[n][~kept] != 0).sum()) for n, kept in mask.items())
    assert revived > 100


def test_negative_weights_go_on_training(tiny_model, tiny_data, config):
    """A much-copied repository froze every negative weight by a sign test meant for zeros."""
    before = lt.snapshot(tiny_model)
    after = lt.train(tiny_model, tiny_data, config, mask=lt.dense_mask(tiny_model)).final
    for name in lt.dense_mask(tiny_model):
        negative = before[name] < 0
        assert bool((after[name] != before[name])[negative].all())


def test_the_settings_of_the_configuration_are_really_used(tiny_model, tiny_data, config):
    """The same repository's first optimiser ignored its learning-rate flag."""
    start = lt.snapshot(tiny_model)
    changes = (
        {}, {"lr": 0.05}, {"momentum": 0.5}, {"weight_decay": 0.1}, {"optimizer": "adam"},
        {"batch_size": 10}, {"schedule": "cosine"}, {"lr_drops": (20,)}, {"warmup_steps": 5},
        {"precision": "bf16"}, {"steps": 41},
    )  # fmt: skip
    hashes = set()
    for change in changes:
        tiny_model.load_state_dict(start)
        lt.train(tiny_model, tiny_data, replace(config, **change))
        hashes.add(lt.state_hash(lt.snapshot(tiny_model)))
    assert len(hashes) == len(changes)


def test_sgd_does_what_the_formula_says(tiny_data):
    """One weight matrix, two steps, momentum and weight decay by hand."""
    model = nn.Sequential(nn.Linear(8, 3, bias=False))
    config = lt.TrainConfig(steps=2, batch_size=30, lr=0.3, momentum=0.9, weight_decay=0.02)
    weight, velocity = model[0].weight.detach().clone(), torch.zeros(3, 8)
    lt.train(model, tiny_data, config, data_seed=4)
    for step in range(2):
        rows = lt.batch_indices(120, 30, step, 4)
        x, y = tiny_data.normalize(tiny_data.x_train[rows]), tiny_data.y_train[rows]
        error = (x @ weight.T).softmax(dim=1) - nn.functional.one_hot(y, 3)
        velocity = 0.9 * velocity + error.T @ x / 30 + 0.02 * weight
        weight = weight - 0.3 * velocity
    assert torch.allclose(model[0].weight, weight, atol=1e-5)


def test_the_same_seeds_give_the_same_bits_and_others_do_not(tiny_data, config):
    def run(seed, data_seed):
        model = lt.build_model("mlp_12_6", seed=seed, data=tiny_data)
        return lt.state_hash(lt.train(model, tiny_data, config, data_seed=data_seed).final)

    assert run(0, 0) == run(0, 0)
    assert len({run(0, 0), run(0, 1), run(1, 0)}) == 3


class Functional(nn.Module):
    """Calls dropout as a function, where no module tells."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 20), nn.Linear(20, 3)

    def forward(self, x):
        return self.b(nn.functional.dropout(self.a(x).relu(), 0.5, self.training))


def with_module():
    return nn.Sequential(nn.Linear(8, 20), nn.ReLU(), nn.Dropout(0.5), nn.Linear(20, 3))


@pytest.mark.parametrize("make", [Functional, with_module])
def test_dropout_follows_the_data_seed_and_leaves_the_global_generator_alone(
    tiny_data, config, make
):
    def run(data_seed, global_seed):
        model = make()
        lt.reinitialize(model, 0)
        torch.manual_seed(global_seed)
        state = torch.get_rng_state()
        result = lt.train(model, tiny_data, config, data_seed=data_seed)
        assert torch.equal(state, torch.get_rng_state())
        return lt.state_hash(result.final)

    assert run(0, 1) == run(0, 2) != run(1, 1)


def test_a_run_from_a_snapshot_equals_the_uninterrupted_run_without_momentum(tiny_data, config):
    config = replace(config, momentum=0.0, schedule="cosine", warmup_steps=5)
    model = lt.build_model("mlp_12_6", seed=0, data=tiny_data)
    whole = lt.train(model, tiny_data, config, save_at={15})
    model.load_state_dict(whole.snapshots[15])
    rest = lt.train(model, tiny_data, config, start_step=15)
    assert lt.state_hash(rest.final) == lt.state_hash(whole.final)


def test_stopping_early_gives_the_snapshot_of_the_whole_run(tiny_data, config):
    model = lt.build_model("mlp_12_6", seed=0, data=tiny_data)
    whole = lt.train(model, tiny_data, config, save_at={15})
    again = lt.build_model("mlp_12_6", seed=0, data=tiny_data)
    part = lt.train(again, tiny_data, config, stop_step=15)
    assert lt.state_hash(part.final) == lt.state_hash(whole.snapshots[15])


def test_snapshots_at_the_ends_are_start_and_final(tiny_model, tiny_data, config):
    result = lt.train(tiny_model, tiny_data, config, save_at={0, 40})
    assert lt.state_hash(result.snapshots[0]) == lt.state_hash(result.start)
    assert lt.state_hash(result.snapshots[40]) == lt.state_hash(result.final)
    assert lt.state_hash(result.final) == lt.state_hash(lt.snapshot(tiny_model))


def test_batch_norm_statistics_belong_to_the_state_and_evaluation_leaves_them(tiny_data, config):
    model = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    model.eval()
    result = lt.train(model, tiny_data, config)
    assert not model.training, "the mode is put back"
    assert int(result.final["1.num_batches_tracked"]) == 40
    before = lt.state_hash(lt.snapshot(model))
    model[1].train()  # even if a part was left in training mode
    lt.evaluate(model, tiny_data)
    assert lt.state_hash(lt.snapshot(model)) == before and model[1].training


def test_frozen_batch_norm_stays_frozen(tiny_data, config):
    model = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    model[1].eval()
    result = lt.train(model, tiny_data, config)
    assert int(result.final["1.num_batches_tracked"]) == 0
    assert model.training and not model[1].training


def test_training_learns(tiny_model, tiny_data, config):
    before = lt.evaluate(tiny_model, tiny_data)
    lt.train(tiny_model, tiny_data, config)
    after = lt.evaluate(tiny_model, tiny_data)
    assert after.accuracy > 0.85 > before.accuracy and after.loss < before.loss / 2


def test_evaluate_is_mean_cross_entropy_and_share_of_hits(tiny_model, tiny_data):
    logits = tiny_model(tiny_data.normalize(tiny_data.x_test))
    loss = nn.functional.cross_entropy(logits, tiny_data.y_test).item()
    hits = (logits.argmax(1) == tiny_data.y_test).float().mean().item()
    assert lt.evaluate(tiny_model, tiny_data) == pytest.approx((loss, hits), abs=1e-6)


def test_evaluation_in_chunks_equals_evaluation_at_once(digits, monkeypatch):
    model = lt.build_model("mlp_20", seed=0, data=digits)
    whole = lt.evaluate(model, digits)
    monkeypatch.setattr("lth_tutorial.training.evaluation._CHUNK", 100)
    assert lt.evaluate(model, digits) == pytest.approx(whole, abs=1e-6)


def test_history_begins_before_the_first_step_and_ends_after_the_last(
    tiny_model, tiny_data, config
):
    first = lt.evaluate(tiny_model, tiny_data, "val")
    result = lt.train(tiny_model, tiny_data, config, start_step=5)
    assert [p["step"] for p in result.history] == [5, 10, 20, 30, 40]
    assert result.history[0]["val_loss"] == pytest.approx(first.loss, abs=1e-6)
    last = lt.evaluate(tiny_model, tiny_data, "val")
    assert result.history[-1]["val_accuracy"] == pytest.approx(last.accuracy, abs=1e-6)


def test_the_early_stop_state_has_the_minimum_validation_loss(tiny_model, tiny_data, config):
    config = replace(config, lr=1.0, eval_every=1)
    result = lt.train(tiny_model, tiny_data, config)
    losses = {p["step"]: p["val_loss"] for p in result.history}
    assert result.early_stop_step == min(losses, key=losses.get) < 40
    tiny_model.load_state_dict(result.early_stop)
    found = lt.evaluate(tiny_model, tiny_data, "val").loss
    assert found == pytest.approx(min(losses.values()), rel=1e-5)


def test_steps_to_an_accuracy_says_when_it_is_censored(tiny_model, tiny_data, config):
    result = lt.train(tiny_model, tiny_data, config)
    first = next(p["step"] for p in result.history if p["val_accuracy"] >= 0.6)
    assert result.steps_to(0.6) == (first, False)
    assert result.steps_to(1.01) == (40, True)


def test_without_validation_there_is_no_history(tiny_model, tiny_data, config):
    for data, settings in (
        (tiny_data, replace(config, eval_every=None)),
        (replace(tiny_data, x_val=tiny_data.x_val[:0], y_val=tiny_data.y_val[:0]), config),
    ):
        result = lt.train(tiny_model, data, settings)
        assert result.history == [] and result.early_stop_step is None
        assert result.early_stop is None and math.isnan(result.mean_val_accuracy)
        assert result.steps_to(0.5) == (None, False), "unknown, not censored"


def test_the_schedules():
    steps = lt.TrainConfig(steps=100, lr=1.0, lr_drops=(50, 80), warmup_steps=10)
    assert [lt.learning_rate(steps, s) for s in (0, 9, 10, 49)] == [0.1, 1.0, 1.0, 1.0]
    assert lt.learning_rate(steps, 50) == pytest.approx(0.1)
    assert lt.learning_rate(steps, 99) == pytest.approx(0.01)
    cosine = lt.TrainConfig(steps=100, lr=2.0, schedule="cosine")
    values = [lt.learning_rate(cosine, s) for s in (0, 50, 99)]
    assert values == pytest.approx([2.0, 1.0, 1 - math.cos(math.pi / 100)], abs=1e-9)


def test_a_diverging_run_names_step_and_seed(tiny_model, tiny_data, config):
    config = replace(config, lr=1e30)
    with pytest.raises(FloatingPointError, match=r"at step \d+ of 40 \(data_seed 7\)"):
        lt.train(tiny_model, tiny_data, config, data_seed=7)


def test_a_divergence_in_the_last_step_is_seen(tiny_model, tiny_data, config):
    with pytest.raises(FloatingPointError, match="at step 1 of 1"):
        lt.train(tiny_model, tiny_data, replace(config, steps=1, lr=1e38, eval_every=None))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be at least 1; got 0"),
        ({"steps": -5}, "got -5"),
        ({"steps": 2.5}, "got 2.5"),
        ({"batch_size": 0}, "batch_size"),
        ({"eval_every": 0}, "eval_every"),
        ({"lr": math.nan}, "lr must be above 0; got nan"),
        ({"lr": -0.1}, "got -0.1"),
        ({"momentum": 1.0}, "momentum"),
        ({"weight_decay": -1e-4}, "weight_decay"),
        ({"optimizer": "adamw"}, "unknown optimizer 'adamw'. Did you mean 'adam'"),
        ({"schedule": "cosin"}, "Did you mean 'cosine'"),
        ({"precision": "fp16"}, "unknown precision"),
        ({"lr_drops": 500}, "lr_drops must be a tuple"),
        ({"lr_drops": (2000,)}, "lr_drops must be steps between 0 and 2000"),
        ({"lr_drops": (9,), "schedule": "cosine"}, 'lr_drops must be empty with schedule "cosine"'),
        ({"warmup_steps": 2000}, r"warmup_steps must be in 0 … 1999"),
    ],
)
def test_a_wrong_setting_is_refused_at_once(change, message):
    with pytest.raises(ValueError, match=message):
        lt.TrainConfig(**change)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start_step": 41}, r"within 0 … 40; got 41 to 40"),
        ({"start_step": -1}, "got -1"),
        ({"stop_step": 50}, "got 0 to 50"),
        ({"save_at": {50}}, r"cannot save at \[50\]: this run goes from step 0 to 40"),
        ({"start_step": 10, "save_at": {5}}, r"cannot save at \[5\]"),
        ({"data_seed": -1}, "at least 0"),
        ({"data_seed": 0.5}, "whole number"),
    ],
)
def test_a_run_that_cannot_be_is_refused_before_the_first_step(
    tiny_model, tiny_data, config, options, message
):
    before = lt.state_hash(lt.snapshot(tiny_model))
    with pytest.raises(ValueError, match=message):
        lt.train(tiny_model, tiny_data, config, **options)
    assert lt.state_hash(lt.snapshot(tiny_model)) == before


def test_a_model_that_does_not_fit_the_data_is_refused(tiny_data, digits, config):
    with pytest.raises(ValueError, match=r"cannot take examples of shape \(1, 8, 8\) .digits."):
        lt.train(lt.build_model("mlp_5", seed=0, data=tiny_data), digits, config)
    with pytest.raises(ValueError, match=r"shape \(2, 2\) for 2 examples; blobs needs \[2, 3\]"):
        lt.train(nn.Sequential(nn.Linear(8, 2)), tiny_data, config)


def test_a_model_without_parameters_is_refused(tiny_data, config):
    with pytest.raises(ValueError, match="no parameters"):
        lt.train(nn.Flatten(), tiny_data, config)


def test_a_refused_model_is_left_in_the_mode_in_which_it_came(digits, config):
    model = nn.Sequential(nn.Linear(7, 3))
    assert model.training
    with pytest.raises(ValueError, match="cannot take examples"):
        lt.train(model, digits, config)
    assert model.training and model[0].training


def test_a_batch_larger_than_the_data_is_refused(tiny_model, tiny_data, config):
    with pytest.raises(ValueError, match="exceeds the 120 training examples"):
        lt.train(tiny_model, tiny_data, replace(config, batch_size=121))


def test_augmenting_what_is_not_an_image_is_refused(tiny_model, tiny_data, config):
    with pytest.raises(ValueError, match=r"examples of shape \(8,\)"):
        lt.train(tiny_model, tiny_data, replace(config, augment=True))


def test_augmentation_reaches_the_training_batches_but_not_the_evaluation(digits, config):
    hashes, metrics = [], []
    for flag in (False, True):
        model = lt.build_model("mlp_5", seed=0, data=digits)
        result = lt.train(model, digits, replace(config, augment=flag))
        hashes.append(lt.state_hash(result.final))
        metrics.append(result.history[0])
    assert hashes[0] != hashes[1] and metrics[0] == metrics[1]
