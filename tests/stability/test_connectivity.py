"""Barriers between networks, and from which step on training is stable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import lth_tutorial as lt
from lth_tutorial.stability.buffers import frozen_norms, reestimate_group_
from lth_tutorial.stability.instability import BRANCH, chance_error
from lth_tutorial.training.groups import SingleModel


def reestimate_batch_norm_(model, data):
    reestimate_group_(SingleModel(model), data, frozen_norms(model))


def network(data, seed: int, *, batch_norm: bool = False) -> nn.Module:
    norm = [nn.BatchNorm1d(12)] if batch_norm else []
    model = nn.Sequential(
        nn.Linear(data.shape[0], 12), *norm, nn.ReLU(), nn.Linear(12, data.num_classes)
    )
    lt.reinitialize(model, seed)
    return model


@pytest.fixture
def pair(tiny_data, config):
    """Two networks of different initial weights, trained."""
    models = [network(tiny_data, seed) for seed in (0, 1)]
    return [lt.train(model, tiny_data, config).final for model in models]


@pytest.fixture
def normed_pair(tiny_data, config):
    models = [network(tiny_data, seed, batch_norm=True) for seed in (0, 1)]
    return [lt.train(model, tiny_data, config).final for model in models]


def test_the_ends_of_the_line_are_the_networks(pair):
    a, b = pair
    assert lt.state_hash(lt.interpolate(a, b, 0)) == lt.state_hash(a)
    assert lt.state_hash(lt.interpolate(a, b, 1)) == lt.state_hash(b)
    middle = lt.interpolate(a, b, 0.25)["0.weight"]
    np.testing.assert_allclose(middle, 0.75 * a["0.weight"] + 0.25 * b["0.weight"], rtol=1e-5)
    beyond = lt.interpolate(a, b, 2.0, extrapolate=True)["0.weight"]
    np.testing.assert_allclose(beyond, 2 * b["0.weight"] - a["0.weight"], rtol=1e-4, atol=1e-6)


def test_a_network_has_no_barrier_with_itself(tiny_data, pair):
    found = lt.barrier(network(tiny_data, 0), pair[0], pair[0], tiny_data)
    assert found.height == 0 and found.loss_height == pytest.approx(0, abs=1e-7)
    assert len(found.alphas) == 11 and len(set(found.errors)) == 1


@pytest.mark.parametrize("batch_norm", ["reestimate", "stale"])
def test_the_barrier_is_what_networks_in_between_measure(tiny_data, normed_pair, batch_norm):
    a, b = normed_pair
    model = network(tiny_data, 0, batch_norm=True)
    found = lt.barrier(model, a, b, tiny_data, points=5, split="val", batch_norm=batch_norm)
    for alpha, error, loss in zip(found.alphas, found.errors, found.losses, strict=True):
        model.load_state_dict(lt.interpolate(a, b, alpha))
        if batch_norm == "reestimate":
            reestimate_batch_norm_(model, tiny_data)
        metrics = lt.evaluate(model, tiny_data, "val")
        assert (error, loss) == pytest.approx((1 - metrics.accuracy, metrics.loss), abs=1e-5)
    assert found.alphas == (0, 0.25, 0.5, 0.75, 1)
    assert found.height == max(found.errors) - (found.errors[0] + found.errors[-1]) / 2


def test_swapping_the_ends_changes_nothing(tiny_data, pair, normed_pair):
    for (a, b), norm in ((pair, False), (normed_pair, True)):
        model = network(tiny_data, 0, batch_norm=norm)
        for points in (4, 11):
            there = lt.barrier(model, a, b, tiny_data, points=points)
            back = lt.barrier(model, b, a, tiny_data, points=points)
            assert there.errors == back.errors[::-1] and there.height == back.height
            assert there.loss_height == pytest.approx(back.loss_height, abs=1e-6)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int64, torch.float32])
def test_a_mask_of_numbers_is_refused(tiny_data, pair, kind):
    model = network(tiny_data, 0)
    mask = {name: kept.to(kind) for name, kept in lt.dense_mask(model).items()}
    with pytest.raises(TypeError, match="a mask is boolean"):
        lt.barrier(model, *pair, tiny_data, mask=mask)


def test_the_middle_is_the_same_network_from_both_sides(pair):
    there, back = (lt.interpolate(*ends, 0.5) for ends in (pair, pair[::-1]))
    assert lt.state_hash(there) == lt.state_hash(back)


def test_the_model_is_left_as_it_was(tiny_data, normed_pair):
    model = network(tiny_data, 5, batch_norm=True)
    before = lt.state_hash(lt.snapshot(model))
    lt.barrier(model, *normed_pair, tiny_data)
    assert lt.state_hash(lt.snapshot(model)) == before and model.training


def test_reestimated_statistics_are_those_of_a_fresh_pass(tiny_data, normed_pair):
    model = network(tiny_data, 0, batch_norm=True)
    model.load_state_dict(normed_pair[0])
    reestimate_batch_norm_(model, tiny_data)
    with torch.no_grad():
        hidden = model[0](tiny_data.normalize(tiny_data.x_train))
    np.testing.assert_allclose(model[1].running_mean, hidden.mean(dim=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model[1].running_var, hidden.var(dim=0), rtol=1e-4)
    assert model[1].momentum == 0.1 and model.training


def test_reestimation_leaves_dropout_out_and_frozen_layers_frozen(tiny_data):
    model = nn.Sequential(
        nn.Linear(8, 12), nn.Dropout(0.9), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 3)
    )
    model[2].eval()
    states = []
    for _ in range(2):
        reestimate_batch_norm_(model, tiny_data)
        states.append(lt.state_hash(lt.snapshot(model)))
    assert states[0] == states[1]
    assert model.training and model[1].training and not model[2].training


def test_stale_statistics_make_a_barrier_that_is_none(tiny_data, config):
    """Two networks that compute the same, their hidden units in another order: with stale
    statistics, the network half-way is normalised with the wrong ones."""
    model = network(tiny_data, 0, batch_norm=True)
    a = lt.train(model, tiny_data, replace(config, steps=200)).final
    order = torch.arange(12).flip(0)
    b = {k: v[order] if v.ndim and len(v) == 12 else v.clone() for k, v in a.items()}
    b["3.weight"] = a["3.weight"][:, order]
    heights = [
        lt.barrier(model, a, b, tiny_data, batch_norm=mode).loss_height
        for mode in ("stale", "reestimate")
    ]
    assert heights[0] != pytest.approx(heights[1], abs=1e-3)


def test_states_that_do_not_fit_are_named(tiny_data, pair, normed_pair):
    model, (a, b) = network(tiny_data, 0), pair
    wide = lt.snapshot(lt.build_model("mlp_13", seed=0, data=tiny_data))
    broken = {k: v.clone() for k, v in b.items()}
    broken["2.bias"][1] = float("nan")
    short = {k: v[:2] if k == "2.bias" else v for k, v in b.items()}
    for states, message in (
        ((a, wide), "only one has .*0.weight.*fc1.weight"),
        ((a, normed_pair[0]), "only one has"),
        ((a, short), r"2.bias has shape \(3,\) in one and \(2,\) in the other"),
        ((a, broken), "2.bias holds NaN or infinity; did the training diverge"),
        ((normed_pair[0], normed_pair[1]), "states of different networks"),
    ):
        with pytest.raises(ValueError, match=message):
            lt.barrier(model, *states, tiny_data)


def test_other_bad_input_is_named(tiny_data, pair, config):
    model, (a, b) = network(tiny_data, 0), pair
    for alpha in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="alpha lies in .0, 1.*extrapolate=True"):
            lt.interpolate(a, b, alpha)
    with pytest.raises(ValueError, match="points is .* at least 3; got 2"):
        lt.barrier(model, a, b, tiny_data, points=2)
    with pytest.raises(ValueError, match="unknown batch_norm 'restimate'"):
        lt.barrier(model, a, b, tiny_data, batch_norm="restimate")
    mask = lt.prune(lt.random_scores(lt.dense_mask(model), 0), lt.dense_mask(model), 0.5)
    with pytest.raises(ValueError, match=r"weights in 0.weight where the mask prunes"):
        lt.barrier(model, a, b, tiny_data, mask=mask)
    new = network(tiny_data, 0, batch_norm=True)
    with pytest.raises(ValueError, match="1 has never seen data"):
        lt.barrier(new, lt.snapshot(new), lt.snapshot(new), tiny_data, batch_norm="stale")
    for options, message in (
        ({"branch_steps": [0, 40]}, r"different steps in 0 … 39; got \[0, 40\]"),
        ({"branch_steps": [5, 5]}, r"got \[5, 5\]"),
        ({"branch_steps": []}, "one or more"),
        ({"branches": 1}, "2 or more branches; got 1"),
        ({"seeds": [1, 1]}, r"got \[1, 1\]"),
        ({"masks": {0: mask}}, r"none for \[1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            lt.instability(
                "mlp_12", tiny_data, config, **({"branch_steps": [0], "seeds": [0, 1]} | options)
            )


def test_instability_gives_one_row_per_step_seed_and_pair(tiny_data, config):
    rows = lt.instability(
        "mlp_12", tiny_data, config, branch_steps=[0, 20], seeds=[0, 1], branches=3
    )
    assert len(rows) == 2 * 2 * 3 and not rows["diverged"].any()
    assert set(zip(rows["branch_a"], rows["branch_b"], strict=True)) == {(0, 1), (0, 2), (1, 2)}
    ends = (rows["error_a"] + rows["error_b"]) / 2
    np.testing.assert_allclose(rows["height"], rows["max_error"] - ends)


@pytest.mark.parametrize("norm", [False, True])
def test_instability_is_the_barrier_of_branches_made_by_hand(tiny_data, config, norm):
    k, seed = 10, 3
    rows = lt.instability(
        lambda s: network(tiny_data, s, batch_norm=norm), tiny_data, config,
        branch_steps=[k], seeds=[seed],
    )  # fmt: skip
    trunk = lt.train(
        network(tiny_data, seed, batch_norm=norm), tiny_data, config, data_seed=seed, stop_step=k
    )
    ends = []
    for i in range(2):
        model = network(tiny_data, seed, batch_norm=norm)
        model.load_state_dict(trunk.final)
        order = seed + BRANCH * (i + 1)
        ends.append(lt.train(model, tiny_data, config, data_seed=order, start_step=k).final)
    found = lt.barrier(model, *ends, tiny_data)
    assert rows["height"].item() == pytest.approx(found.height, abs=1e-6)
    assert rows["loss_height"].item() == pytest.approx(found.loss_height, abs=1e-5)
    assert rows["error_a"].item() == pytest.approx(found.errors[0], abs=1e-6)


def test_branches_on_the_same_order_are_the_same_network(tiny_data, config):
    start = lt.train(network(tiny_data, 0), tiny_data, config, stop_step=10).final
    ends = []
    for _ in range(2):
        model = network(tiny_data, 0)
        model.load_state_dict(start)
        ends.append(lt.train(model, tiny_data, config, data_seed=7, start_step=10).final)
    assert lt.state_hash(ends[0]) == lt.state_hash(ends[1])


def test_branches_under_a_mask_stay_under_it(tiny_data, config):
    dense = lt.dense_mask(network(tiny_data, 0))
    masks = {s: lt.prune(lt.random_scores(dense, s), dense, 0.5) for s in (0, 1)}
    seen = []
    build = lambda s: seen.append(network(tiny_data, s)) or seen[-1]  # noqa: E731
    rows = lt.instability(build, tiny_data, config, branch_steps=[0, 10], seeds=[0, 1], masks=masks)
    assert len(rows) == 4 and rows["height"].notna().all()
    trained = [m for m in seen if bool((m[0].weight == 0).any())]
    assert len(trained) == 8, "two branches of two seeds at two steps"


def test_a_diverged_run_is_not_called_connected(tiny_data, config):
    wild = replace(config, lr=1e20)
    with pytest.warns(lt.DivergenceWarning):
        rows = lt.instability("mlp_12", tiny_data, wild, branch_steps=[0, 5], seeds=[0, 1])
    assert rows["diverged"].all() and rows["height"].isna().all()


def test_more_branch_steps_may_be_asked_for_later(tiny_data, config, tmp_path):
    def go(steps, workdir):
        return lt.instability(
            "mlp_12", tiny_data, config, branch_steps=steps, seeds=[0, 1], workdir=workdir
        )

    go([0], tmp_path)
    pd.testing.assert_frame_equal(go([0, 20], tmp_path), go([0, 20], None))
    with pytest.raises(ValueError, match="another configuration"):
        lt.instability(
            "mlp_12", tiny_data, replace(config, lr=0.05), branch_steps=[0], seeds=[0, 1],
            workdir=tmp_path,
        )  # fmt: skip


def test_a_network_that_always_gives_one_answer_counts_as_diverged(tiny_data, config):
    """Two copies that learned nothing lie on a flat line: that is no stability."""
    still = replace(config, lr=1e-12)
    rows = lt.instability("mlp_12", tiny_data, still, branch_steps=[0], seeds=range(8))
    failed = rows["error_a"] >= chance_error(tiny_data)
    assert failed.any() and (rows.loc[failed, "max_error"] - rows.loc[failed, "error_a"] == 0).all()
    assert rows["diverged"].equals(failed) and rows["height"].isna().equals(failed)


def test_chance_is_the_most_frequent_class_less_three_standard_errors(tiny_data):
    share = np.bincount(tiny_data.y_test).max() / 60
    assert chance_error(tiny_data) == pytest.approx(
        1 - share - 3 * np.sqrt(share * (1 - share) / 60)
    )


def test_curves_are_the_errors_along_the_path(tiny_data, config):
    rows = lt.instability(
        "mlp_12", tiny_data, config, branch_steps=[0, 20], seeds=[0, 1], points=5, curves=True
    )
    for _, row in rows.iterrows():
        assert len(row["curve"]) == 5 and max(row["curve"]) == row["max_error"]
        assert (row["curve"][0], row["curve"][-1]) == (row["error_a"], row["error_b"])


def test_complex_weights_are_interpolated_too():
    a, b = ({"w": torch.tensor([[z, 2 * z]])} for z in (1 + 2j, 3 - 4j))
    assert torch.equal(lt.interpolate(a, b, 1)["w"], b["w"])
    torch.testing.assert_close(
        lt.interpolate(a, b, 0.25)["w"], torch.tensor([[1.5 + 0.5j, 3 + 1j]])
    )
