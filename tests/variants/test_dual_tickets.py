"""Penalised random masks: which arms are trained, for how long, and what is refused."""

from __future__ import annotations

import warnings

import pytest

import lth_tutorial as lt

SHORT = lt.TrainConfig(steps=12, batch_size=20, lr=0.02)


def steps_of(bar):
    return bar.total, bar.n


@pytest.fixture(autouse=True)
def no_collapse_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lt.LayerCollapseWarning)
        yield


def test_dual_arms_take_equal_steps_and_keep_the_random_counts(tiny_data, bars_of):
    bars = bars_of("lth_tutorial.variants.dual_tickets")
    rows = lt.dual_experiment(
        "mlp_12_6", tiny_data, SHORT, density=0.4, penalised_steps=10, ramp=5,
        strengths=(0.0, 2.0), rounds=2, seeds=(0, 1),
    )  # fmt: skip
    # Dense, λ = 0, λ = 2, scratch, one-shot: 22 steps each; the ticket two rounds beyond its dense.
    assert steps_of(bars[0]) == ((5 + 3) * 22 * 2, (5 + 3) * 22 * 2)
    pruned = rows[rows["round"] > 0]
    assert pruned["density"].max() - pruned["density"].min() < 0.02
    drawn = pruned[pruned["arm"] == "regularised"].groupby("strength")["power_removed"].mean()
    assert drawn[2.0] < drawn[0.0]
    assert rows[rows["arm"] == "scratch"]["strength"].isna().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strengths": (-1.0,)}, "got -1.0"),
        ({"strengths": (float("inf"),)}, "got inf"),
        ({"strengths": (1.0, 1.0)}, "strengths"),
        ({"ramp": 11}, "grows for 11 steps, and the run has 10"),
        ({"density": 1.0}, r"in \(0, 1\)"),
        ({"density": 1.5}, r"density is .* in \(0, 1\); got 1.5"),
        ({"density": 0.0}, r"density is .* in \(0, 1\); got 0.0"),
        ({"rounds": 0}, "rounds is a whole number of at least 1; got 0"),
        ({"penalised_steps": 0}, "penalised_steps is a whole number of at least 1; got 0"),
        ({"seeds": (1, 1)}, "different"),
        ({"arms": ("regularized",)}, "regularised"),
        ({"seeds": (0.5,)}, "whole numbers"),
    ],
)
def test_a_dual_design_that_makes_no_sense_is_refused_before_training(
    options, message, tiny_data, bars_of
):
    bars = bars_of("lth_tutorial.variants.dual_tickets")
    settings = {"density": 0.4, "penalised_steps": 10, "ramp": 5} | options
    with pytest.raises(ValueError, match=message):
        lt.dual_experiment("mlp_12_6", tiny_data, SHORT, **settings)
    assert not bars


def test_a_second_run_in_the_same_folder_reads_what_the_first_left(
    tmp_path, tiny_data, monkeypatch
):
    def run():
        return lt.dual_experiment(
            "mlp_12_6", tiny_data, SHORT, density=0.4, penalised_steps=10, ramp=5, rounds=2,
            seeds=(0,), workdir=tmp_path,
        )  # fmt: skip

    first = run()

    def train_nothing(*_):
        raise AssertionError("a finished run was trained again")

    monkeypatch.setattr("lth_tutorial.training.steps.Step.__call__", train_nothing)
    assert run().equals(first)


def test_seeds_that_all_diverge_leave_the_rows_of_the_dense_network(tiny_data):
    wild = lt.TrainConfig(steps=12, batch_size=20, lr=1e30, momentum=0.0)
    with pytest.warns(lt.DivergenceWarning):
        rows = lt.dual_experiment(
            "mlp_12_6", tiny_data, wild, density=0.4, penalised_steps=6, ramp=3,
            strengths=(0.0,), arms=("regularised", "one_shot"), seeds=(0, 1),
        )  # fmt: skip
    assert set(rows["round"]) == {0} and rows["accuracy"].isna().all()
