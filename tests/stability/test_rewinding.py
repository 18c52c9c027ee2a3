"""Tickets and controls against the rewind step: each row is what one gets by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import lth_tutorial as lt
import lth_tutorial.training.replicates
from lth_tutorial.tickets.arms import OTHER_INITIALIZATION

IMP = lt.IMPConfig(rounds=2, fraction=0.4)


def build(seed, data):
    return lt.build_model("mlp_12", seed=seed, data=data)


def go(data, config, **changes):
    settings = {"rewind_steps": [0, 10], "seeds": [0, 1], "points": 5} | changes
    return lt.rewinding_experiment("mlp_12", data, config, IMP, **settings)


def masks_by_hand(data, config, k, seed):
    model = build(seed, data)
    imp = replace(IMP, rewind_step=k)
    return [r.mask for r in lt.iterative_magnitude_pruning(
        model, data, config, imp, data_seed=seed)]  # fmt: skip


def test_there_is_one_row_per_arm_seed_round_and_rewind_step(tiny_data, config):
    rows = go(tiny_data, config)
    assert len(rows) == 2 * 2 * (1 + 2 * 3)
    assert rows.groupby("arm").size().to_dict() == {
        "dense": 4, "ticket": 8, "reinit": 8, "random": 8,
    }  # fmt: skip
    assert rows.groupby("round")["density"].nunique().eq(1).all()
    np.testing.assert_allclose(rows["accuracy"], 1 - (rows["error_a"] + rows["error_b"]) / 2)


@pytest.mark.parametrize("k", [0, 10])
def test_a_tickets_barrier_is_that_of_its_mask_by_instability(tiny_data, config, k):
    rows = go(tiny_data, config, arms=["ticket"], seeds=[3], rewind_steps=[k], rounds=[2])
    mask = masks_by_hand(tiny_data, config, k, 3)[2]
    by_hand = lt.instability(
        "mlp_12", tiny_data, config, branch_steps=[k], seeds=[3], masks={3: mask}, points=5
    )
    for column in ("height", "loss_height", "error_a", "error_b"):
        assert rows[column].item() == pytest.approx(by_hand[column].item(), abs=1e-5)
    assert rows["density"].item() == pytest.approx(lt.density(mask))


def test_the_random_control_stands_on_the_tickets_own_weights_at_step_k(tiny_data, config):
    rows = go(tiny_data, config, arms=["random"], seeds=[3], rewind_steps=[10], rounds=[1])
    mask = lt.shuffle_within_layers(masks_by_hand(tiny_data, config, 10, 3)[1], 3)
    by_hand = lt.instability(
        "mlp_12", tiny_data, config, branch_steps=[10], seeds=[3], masks={3: mask}, points=5
    )
    assert rows["loss_height"].item() == pytest.approx(by_hand["loss_height"].item(), abs=1e-5)


def test_the_other_control_stands_on_another_seeds_weights_at_step_k(tiny_data, config):
    rows = go(tiny_data, config, arms=["reinit"], seeds=[3], rewind_steps=[10], rounds=[1])
    by_hand = lt.instability(
        lambda seed: build(seed + OTHER_INITIALIZATION, tiny_data), tiny_data, config,
        branch_steps=[10], seeds=[3], masks={3: masks_by_hand(tiny_data, config, 10, 3)[1]},
        points=5,
    )  # fmt: skip
    assert rows["loss_height"].item() == pytest.approx(by_hand["loss_height"].item(), abs=1e-5)


def test_a_killed_run_continues_to_the_same_rows(tiny_data, config, tmp_path, monkeypatch):
    whole, fit = go(tiny_data, config), lth_tutorial.training.replicates.fit
    for survives in range(1, 40, 6):
        left = [survives]

        def mortal(*arguments, left=left, **options):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return fit(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(lth_tutorial.training.replicates, "fit", mortal)
            try:
                go(tiny_data, config, workdir=tmp_path)
            except KeyboardInterrupt:
                continue
    pd.testing.assert_frame_equal(go(tiny_data, config, workdir=tmp_path), whole)


def test_a_seed_that_diverged_is_called_so_and_the_others_go_on(tiny_data, config):
    with pytest.warns(lt.DivergenceWarning):
        rows = go(tiny_data, replace(config, lr=1e20), arms=["ticket"], rounds=[0])
    assert rows["diverged"].all() and rows["height"].isna().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewind_steps": [0, 40]}, r"different steps in 0 … 39; got \[0, 40\]"),
        ({"rewind_steps": [5, 5]}, r"got \[5, 5\]"),
        ({"arms": ["one_shot"]}, "unknown arm 'one_shot'"),
        ({"arms": []}, "one or more different names"),
        ({"rounds": [3]}, r"in 0 … 2; got \[3\]"),
        ({"seeds": [1, 1]}, r"got \[1, 1\]"),
        ({"branches": 1}, "2 or more branches"),
        ({"points": 2}, "at least 3; got 2"),
        ({"batch_norm": "fresh"}, "unknown batch_norm 'fresh'"),
    ],
)
def test_bad_input_is_named_before_anything_trains(tiny_data, config, changes, message):
    with pytest.raises(ValueError, match=message):
        go(tiny_data, config, **changes)


def test_a_pruning_that_does_not_rewind_is_refused(tiny_data, config):
    imp = replace(IMP, after_pruning="fine_tune")
    with pytest.raises(ValueError, match="this experiment rewinds; after_pruning='fine_tune'"):
        lt.rewinding_experiment("mlp_12", tiny_data, config, imp, rewind_steps=[0], seeds=[0])
