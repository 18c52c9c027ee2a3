"""Tickets in several bases: which arms are trained, on what, and what is refused."""

from __future__ import annotations

import warnings

import pytest

import lth_tutorial as lt

SHORT = lt.TrainConfig(steps=12, batch_size=20, lr=0.02)
IMP = lt.IMPConfig(rounds=2, fraction=0.5)


def steps_of(bar):
    return bar.total, bar.n


@pytest.fixture(autouse=True)
def no_collapse_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lt.LayerCollapseWarning)
        yield


def test_every_basis_is_pruned_to_the_same_counts_and_the_dense_networks_agree(tiny_data, bars_of):
    bars = bars_of("lth_tutorial.variants.basis_tickets")
    rows = lt.basis_experiment(
        "mlp_12_6", tiny_data, SHORT, IMP, bases=("svd", "rotation", "identity"), seeds=(3, 5)
    )
    assert [steps_of(bar) for bar in bars] == [(3 * 3 * 12 * 2, 3 * 3 * 12 * 2)]
    assert sorted(rows["arm"].unique()) == ["identity", "rotation", "svd"]
    assert (rows.groupby("round")["density"].nunique() == 1).all()
    # Plain SGD is blind to the basis: before pruning all bases are one network.
    dense = rows[rows["round"] == 0].pivot(index="seed", columns="arm", values="accuracy")
    assert (dense.max(axis=1) - dense.min(axis=1)).max() < 0.02
    last = rows[rows["round"] == 2].set_index(["arm", "seed"])["stored"]
    assert last["identity", 3] == last["rotation", 3] == pytest.approx(0.25, abs=0.01)
    assert last["svd", 3] > 0.5


def test_the_svd_basis_alone_trains_its_own_dense_network_first(tiny_data, bars_of):
    bars = bars_of("lth_tutorial.variants.basis_tickets")
    alone = lt.basis_experiment("mlp_12_6", tiny_data, SHORT, IMP, bases=("svd",), seeds=(3,))
    assert steps_of(bars[0]) == (4 * 12, 4 * 12)
    both = lt.basis_experiment(
        "mlp_12_6", tiny_data, SHORT, IMP, bases=("identity", "svd"), seeds=(3,)
    )
    svd = both[both["arm"] == "svd"]["accuracy"].tolist()
    assert svd == pytest.approx(alone["accuracy"].tolist())


def test_whole_rows_are_pruned_but_for_the_output(tiny_data):
    rows = lt.basis_experiment(
        "mlp_12_6", tiny_data, SHORT, IMP, bases=("identity", "rotation"), groups=True, seeds=(0,)
    )
    inputs, classes = tiny_data.x_train[0].numel(), tiny_data.num_classes
    kept = 3 * inputs + 1 * 12 + classes * 6  # 12 rows to 6 to 3; 6 to 3 to 1
    assert rows[rows["round"] == 2]["density"].iloc[0] == pytest.approx(
        kept / (12 * inputs + 6 * 12 + classes * 6)
    )


def test_unknown_bases_are_refused(tiny_data):
    for options, message in (
        ({"bases": ("fourier",)}, "'fourier'"),
        ({"bases": ("dct", "dct")}, "different names"),
        ({"seeds": ()}, "seeds"),
    ):
        with pytest.raises(ValueError, match=message):
            lt.basis_experiment("mlp_12_6", tiny_data, SHORT, IMP, **options)


def test_the_shuffled_control_keeps_the_counts_and_other_weights(tiny_data, bars_of):
    bars = bars_of("lth_tutorial.variants.basis_tickets")
    rows = lt.basis_experiment(
        "mlp_12_6", tiny_data, SHORT, IMP, bases=("rotation",), shuffled=("rotation",), seeds=(0, 1)
    )
    assert steps_of(bars[0]) == (5 * 12 * 2, 5 * 12 * 2)
    last = rows[rows["round"] == 2].set_index(["arm", "seed"])
    for seed in (0, 1):
        ours, control = last.loc["rotation", seed], last.loc["rotation_shuffled", seed]
        assert ours["density"] == control["density"]
    assert set(rows[rows["round"] == 0]["arm"]) == {"rotation", "rotation_shuffled"}
    with pytest.raises(ValueError, match="basis to shuffle"):
        lt.basis_experiment("mlp_12_6", tiny_data, SHORT, IMP, bases=("dct",), shuffled=("svd",))


def test_a_second_run_in_the_same_folder_reads_what_the_first_left(
    tmp_path, tiny_data, monkeypatch
):
    def run():
        return lt.basis_experiment("mlp_12_6", tiny_data, SHORT, IMP, seeds=(0,), workdir=tmp_path)

    first = run()

    def train_nothing(*_):
        raise AssertionError("a finished run was trained again")

    monkeypatch.setattr("lth_tutorial.training.steps.Step.__call__", train_nothing)
    assert run().equals(first)
