"""Moved tickets: which arms are trained, on what, and what is refused."""

from __future__ import annotations

import warnings

import pytest

import lth_tutorial as lt
from lth_tutorial.variants import elastic_tickets

SHORT = lt.TrainConfig(steps=12, batch_size=20, lr=0.02)
IMP = lt.IMPConfig(rounds=2, fraction=0.5)


def steps_of(bar):
    return bar.total, bar.n


@pytest.fixture(autouse=True)
def no_collapse_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lt.LayerCollapseWarning)
        yield


def test_elastic_arms_have_the_counts_of_the_moved_mask(tiny_data, bars_of):
    bars = bars_of("lth_tutorial.variants.elastic_tickets")
    rows = lt.elastic_experiment(
        {"two": "resmlp_bn_8_2", "three": "resmlp_bn_8_3", "unused": "resmlp_8_9"},
        tiny_data, SHORT, IMP, pairs=[("two", "three"), ("three", "two")], seeds=(0, 1),
    )  # fmt: skip
    assert steps_of(bars[0])[0] == steps_of(bars[0])[1]
    arms = [f"{a}, {arm}" for a in ("two to three", "three to two") for arm in elastic_tickets.ARMS]
    assert list(rows["arm"].unique()) == ["two, ticket", "three, ticket", *arms]
    last = rows[rows["round"] == 2]
    per_seed = last[last["arm"].str.startswith("two to three")].groupby("seed")["density"]
    assert (per_seed.nunique() == 1).all()
    has = last[last["height"].notna()]["arm"].unique()
    assert list(has) == [
        "two, ticket", "three, ticket", "two to three, stretched", "three to two, stretched",
    ]  # fmt: skip
    dense = rows[rows["round"] == 0].pivot(index="seed", columns="arm", values="accuracy")
    assert (dense["two to three, stretched"] == dense["three, ticket"]).all()


def test_elastic_tickets_start_from_moved_weights(tiny_data):
    """With one round and no steps to speak of, a moved ticket computes what its blocks compute."""
    rows = lt.elastic_experiment(
        {"two": "resmlp_8_2", "same": "resmlp_8_2"}, tiny_data, SHORT, IMP,
        pairs=[("two", "same")], seeds=(0, 1), barriers=False,
    )  # fmt: skip
    last = rows[rows["round"] == 2].set_index(["arm", "seed"])["accuracy"]
    for seed in (0, 1):  # to a network of the same depth the move changes nothing
        assert last["two to same, stretched", seed] == pytest.approx(last["same, ticket", seed])
        assert last["two to same, stretched_reinit", seed] == last["two to same, stretched", seed]
    assert "height" not in rows


def test_a_network_no_ticket_can_move_to_is_refused_before_training(tiny_data, bars_of):
    bars = bars_of("lth_tutorial.variants.elastic_tickets")
    networks = {"a": "resmlp_8_2", "b": "resmlp_9_2", "c": "mlp_8_8"}
    for pair, message in ((("a", "b"), "not widths"), (("a", "c"), "no block|nothing fills|lacks")):
        with pytest.raises(ValueError, match=message):
            lt.elastic_experiment(networks, tiny_data, SHORT, IMP, pairs=[pair])
    for options, message in (
        ({"pairs": [("a", "z")]}, "'z'"),
        ({"pairs": [("a", "a")]}, "two different networks"),
        ({"pairs": []}, "one or more"),
        ({"pairs": [("a", "b")], "arms": ("streched",)}, "stretched"),
        ({"pairs": [("a", "b")], "seeds": (1, 1)}, "seeds"),
    ):
        with pytest.raises(ValueError, match=message):
            lt.elastic_experiment(networks, tiny_data, SHORT, IMP, **options)
    assert not bars


def test_a_second_run_in_the_same_folder_reads_what_the_first_left(
    tmp_path, tiny_data, monkeypatch
):
    def run():
        return lt.elastic_experiment(
            {"2": "resmlp_8_2", "3": "resmlp_8_3"}, tiny_data, SHORT, IMP, pairs=[("2", "3")],
            seeds=(0,), workdir=tmp_path,
        )  # fmt: skip

    first = run()

    def train_nothing(*_):
        raise AssertionError("a finished run was trained again")

    monkeypatch.setattr("lth_tutorial.training.steps.Step.__call__", train_nothing)
    assert run().equals(first)
