"""Rows of supermasks beside the dense network, signs of tickets, their experiments and claims."""

from __future__ import annotations

import math
from dataclasses import replace

import matplotlib
import pandas as pd
import pytest
import torch

import lth_tutorial as lt
from lth_tutorial import plotting
from lth_tutorial.claims.supermasks import between, gap_closes, value
from lth_tutorial.experiments import EXPERIMENTS, experiment, run
from lth_tutorial.supermask.comparison import ARMS

matplotlib.use("Agg")
CONFIG = lt.TrainConfig(steps=12, batch_size=20, lr=0.1)
OURS = [design for design in EXPERIMENTS if design.chapter in (10, 12)]


def compare(data, **options):
    options = {"seeds": [0, 1, 2], "dense_config": CONFIG} | options
    return lt.supermask_experiment("mlp_12_6", data, CONFIG, **options)


def test_there_is_one_row_per_arm_seed_and_density(tiny_data):
    rows = compare(tiny_data, arms=("edge_popup", "biprop"), keeps=(0.5, 0.2))
    assert list(rows.columns) == ["arm", "seed", "round", "density", "accuracy"]
    assert len(rows) == 2 * 3 * 3
    for arm in ("edge_popup", "biprop"):
        own = rows[(rows["arm"] == arm) & (rows["seed"] == 1)]
        assert own["density"].tolist() == pytest.approx([1, 0.5, 0.2], abs=0.02)


def test_the_dense_network_is_trained_from_the_frozen_weights(tiny_data):
    rows = compare(tiny_data, weights="kaiming_normal", batch_norm=True)
    model = lt.with_batch_norm(lt.build_model("mlp_12_6", seed=1, data=tiny_data))
    lt.kaiming_normal_(model, 1)
    lt.train(model, tiny_data, CONFIG, data_seed=1)
    ours = rows[(rows["round"] == 0) & (rows["seed"] == 1)]["accuracy"].item()
    assert ours == pytest.approx(lt.evaluate(model, tiny_data).accuracy, abs=0.02)


def test_a_row_is_what_the_single_search_gives(tiny_data):
    rows = compare(tiny_data, arms="biprop", keeps=(0.3,), scaled=True, dense_config=None)
    model = lt.build_model("mlp_12_6", seed=2, data=tiny_data)
    lt.signed_constant_(model, 2, keep=0.3)
    found = lt.biprop(model, tiny_data, 0.3, CONFIG, seed=2, data_seed=2)
    assert rows[rows["seed"] == 2]["accuracy"].item() == pytest.approx(found.accuracy, abs=0.02)


def test_sampled_masks_find_their_own_density(tiny_data):
    rows = compare(tiny_data, arms=("sampled", "edge_popup"), keeps=(0.5, 0.2))
    assert rows[rows["arm"] == "sampled"]["round"].max() == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arms": ("edge_popup", "bipop")}, "Did you mean 'biprop'"),
        ({"arms": ()}, "one or more different names"),
        ({"keeps": (0.5, 0.5)}, "different shares"),
        ({"keeps": (0.5, 0.001)}, "keeps none of the"),
        ({"seeds": (1, 1)}, "different whole numbers"),
        ({"weights": "normal"}, "unknown weights"),
        ({"arms": ("biprop_norm",)}, "no batch norm"),
    ],
)
def test_bad_input_is_refused_before_the_first_step(tiny_data, monkeypatch, options, message):
    monkeypatch.setattr("lth_tutorial.supermask.comparison.train_replicates", None)
    monkeypatch.setattr("lth_tutorial.supermask.comparison.train_supermasks", None)
    with pytest.raises(ValueError, match=message):
        compare(tiny_data, **options)


def test_a_comparison_continues_from_its_folder(tiny_data, tmp_path, monkeypatch):
    whole = compare(tiny_data, arms=("edge_popup", "biprop"), workdir=tmp_path)
    monkeypatch.setattr("lth_tutorial.training.loop.DataOrder.batch", None)
    again = compare(tiny_data, arms=("edge_popup", "biprop"), workdir=tmp_path)
    pd.testing.assert_frame_equal(whole, again)


IMP = lt.IMPConfig(rounds=2, fraction=0.5)


def test_signs_and_masks_have_every_arm_and_continue(tiny_data, tmp_path, monkeypatch):
    def rows():
        return lt.signs_experiment(
            "mlp_12_6", tiny_data, CONFIG, IMP, seeds=[0, 1], workdir=tmp_path
        )

    whole = rows()
    trained = whole[whole["accuracy"].notna()]
    assert set(trained["arm"]) == {
        f"{arm}{signs}"
        for arm in ("ticket", "constant", "redrawn")
        for signs in ("", "_signs_random")
    }
    untrained = whole[whole["accuracy"].isna()]
    assert set(untrained["arm"]) == {"large_final", "same_sign", "random"}
    assert untrained[["start_accuracy", "rescaled_accuracy"]].notna().all().all()
    assert sorted(whole["round"].unique()) == [0, 1, 2]
    monkeypatch.setattr("lth_tutorial.supermask.signs.imp_rounds", None)
    pd.testing.assert_frame_equal(whole, rows())


def test_the_ticket_of_the_signs_is_that_of_magnitude_pruning(tiny_data):
    rows = lt.signs_experiment("mlp_12_6", tiny_data, CONFIG, IMP, seeds=[3])
    model = lt.build_model("mlp_12_6", seed=3, data=tiny_data)
    rounds = lt.iterative_magnitude_pruning(model, tiny_data, CONFIG, IMP, data_seed=3)
    ticket = rows[rows["arm"] == "ticket"]
    assert ticket["accuracy"].tolist() == [each.accuracy for each in rounds]


def test_signs_are_those_of_initial_weights_only(tiny_data):
    with pytest.raises(ValueError, match="rewind_step=0"):
        late = replace(IMP, rewind_step=3)
        lt.signs_experiment("mlp_12_6", tiny_data, CONFIG, late, seeds=[0])
    with pytest.raises(ValueError, match="different whole numbers"):
        lt.signs_experiment("mlp_12_6", tiny_data, CONFIG, IMP, seeds=[0, 0])


# The named experiments and their claims


def test_the_experiments_of_the_chapters_are_named():
    papers = [design.name for design in OURS if not design.name.endswith("-short")]
    assert papers == [
        "mnist-edge-popup", "mnist-signs-and-masks", "digits-wide-multi-prize",
        "mnist-multi-prize", "cifar10-edge-popup", "cifar10-multi-prize",
    ]  # fmt: skip
    for design in OURS:
        assert len(design.seeds) >= {"digits": 8, "mnist": 5, "cifar10": 3}[design.dataset]


def tiny_images(shape) -> lt.Dataset:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (300, *shape), dtype=torch.uint8, generator=generator)
    y = torch.arange(300) % 10
    return lt.make_dataset("noise", (x, y), None, (x[:20], y[:20]))


@pytest.mark.parametrize("name", ["mnist-edge-popup", "mnist-signs-and-masks", "mnist-multi-prize"])
def test_an_mnist_experiment_runs_at_smoke_scale_and_feeds_its_claims(name):
    design = replace(experiment(name), seeds=(0, 1, 2))
    rows, provenance = run(design, tiny_images((1, 28, 28)), scale=1 / 3_000)
    assert len(provenance["parts"]) == len(design.parts)
    table = lt.claims({name: lt.widen(rows)}, chapter=design.chapter, level="full scale")
    own = table[table["record"] == name]
    assert len(own) and (own["n"] == 3).all(), own
    assert set(own["verdict"]) == {"not enough runs (3 of 5)"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10-edge-popup", "cifar10-multi-prize"])
def test_a_cifar_experiment_runs_at_smoke_scale_and_feeds_its_claims(name):
    design = experiment(name)
    if name == "cifar10-multi-prize":  # ResNet-18 takes a minute a step on a busy core
        design = replace(design, parts=tuple(p for p in design.parts if "18" not in p.model))
    small = [
        replace(p, search=small_batch(p.search), dense=small_batch(p.dense)) for p in design.parts
    ]
    design = replace(design, parts=tuple(small), seeds=(0,))
    rows, _ = run(design, tiny_images((3, 32, 32)), scale=1 / 100_000)
    assert set(rows["arm"]) == {f"{p.label}: {arm}" for p in design.parts for arm in p.arms}


def small_batch(config: lt.TrainConfig) -> lt.TrainConfig:
    return replace(config, batch_size=8)


def test_a_cifar_part_runs_with_augmentation():
    part = experiment("cifar10-edge-popup").parts[0]
    part = replace(part, model="vgg_11", search=small_batch(part.search), dense=None)
    part = replace(part, search=replace(part.search, steps=1))
    rows = part.measure(tiny_images((3, 32, 32)), [0], None)
    assert len(rows) == 1 and 0 <= rows["accuracy"].item() <= 1


def table_of(**cells) -> pd.DataFrame:
    return pd.DataFrame([
        {"arm": arm, "seed": seed, "round": round, "density": 0.5, "accuracy": accuracy}
        for arm, rounds in cells.items()
        for round, values in rounds.items()
        for seed, accuracy in enumerate(values)
    ])  # fmt: skip


def test_measures_pair_by_seed():
    rows = table_of(a={0: [0.9, 0.8], 1: [0.7, 0.75]}, b={0: [0.95, 0.9], 1: [0.9, 0.85]})
    assert list(value("a", 1)(rows).values) == [0.7, 0.75]
    assert list(between(("b", 1), ("a", 1))(rows).values) == pytest.approx([0.2, 0.1])
    closes = gap_closes(("a", 1), ("b", 1))(rows).values
    assert list(closes) == pytest.approx([0.2 - 0.05, 0.05 - 0.05])
    assert len(value("c", 1)(rows).values) == 0
    assert len(value("a", 1, "loss")(rows).values) == 0


def test_a_diverged_seed_drops_out_of_its_pair():
    rows = table_of(a={1: [0.7, math.nan, 0.8]}, b={1: [0.9, 0.9, 0.9]})
    assert list(between(("b", 1), ("a", 1))(rows).values) == pytest.approx([0.2, 0.1])


def test_claims_hold_and_fail_where_they_should():
    noise = [0.001, 0.0, -0.001, 0.0005, -0.0005, 0.0]

    def arm(accuracy):
        pruned = [accuracy + e / 2 for e in noise]
        return {0: [0.98 + e for e in noise], 2: pruned, 4: pruned}

    def verdicts(**accuracy):
        rows = table_of(**{name: arm(a) for name, a in accuracy.items()})
        table = lt.claims({"digits-multi-prize": rows}, chapter=12, level="live")
        return table.set_index("key")["verdict"]

    good = verdicts(edge_popup=0.97, biprop=0.975, biprop_norm=0.98, biprop_1_1=0.9)
    assert good["one-bit-weights"] == good["one-bit-matches-dense"] == "holds"
    assert good["one-bit-activations"] == "holds"
    bad = verdicts(edge_popup=0.97, biprop=0.9, biprop_norm=0.98, biprop_1_1=0.5)
    assert bad["one-bit-weights"] == bad["one-bit-activations"] == "fails here"
    assert bad["one-bit-matches-dense"] == "holds only if keep 0.5, batch norm learned"


# Figures


def figure_rows() -> pd.DataFrame:
    rows = table_of(**{
        arm: {0: [0.98, 0.97, 0.96], 1: [0.95, 0.96, 0.94], 2: [0.9, 0.8, 0.85]}
        for arm in ("edge_popup", "biprop")
    })  # fmt: skip
    return rows.assign(density=rows["round"].map({0: 1.0, 1: 0.5, 2: 0.1}))


def words(figure) -> str:
    figure.draw_without_rendering()
    return "\n".join(t.get_text() for t in figure.findobj(matplotlib.text.Text) if t.get_visible())


def test_supermasks_are_drawn_at_their_means_with_every_seed_and_the_dense_line():
    figure = plotting.supermasks_vs_density(figure_rows())
    lines = {one.get_label(): one for one in figure.axes[0].get_lines()}
    drawn = lines[plotting.METHODS["biprop"]["label"]]
    assert drawn.get_xdata() == pytest.approx([0.5, 0.1])
    assert drawn.get_ydata() == pytest.approx([95, 85])
    assert lines["dense network"].get_ydata() == pytest.approx([97, 97])
    dots = [one for one in figure.axes[0].get_lines() if one.get_marker() == "."]
    assert sum(len(one.get_xdata()) for one in dots) == 12
    assert "n = 3" in words(figure)


def test_differences_to_dense_are_paired_and_every_density_has_its_place():
    figure = plotting.minus_dense(figure_rows())
    axes = figure.axes[0]
    bars = {one.get_label(): one for one in axes.containers}
    assert set(bars) == {"edge-popup", "biprop"}
    for bar in bars.values():  # 95 − 97 and 85 − 97
        assert bar.lines[0].get_ydata() == pytest.approx([-2, -12])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["50%", "10%"]
    assert "points" in axes.get_ylabel() and "n = 3" in words(figure)
    with pytest.raises(ValueError, match="arm"):
        plotting.minus_dense(figure_rows(), arms=["no such arm"])


def test_a_layer_is_drawn_with_its_three_values():
    frozen = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
    effective = frozen.sign() * (frozen.abs() > 0.5) * 0.7
    figure = plotting.layer_and_arms(frozen, effective, figure_rows(), round=2)
    bars = [patch for patch in figure.axes[0].patches if patch.get_label() != "drawn"]
    centres = sorted(round(b.get_x() + b.get_width() / 2, 4) for b in bars if hasattr(b, "get_x"))
    assert centres == pytest.approx([-0.7, 0, 0.7], abs=1e-3)
    assert "biprop" in words(figure) and "dense network" in words(figure)
    with pytest.raises(ValueError, match="round 7 was not measured"):
        plotting.layer_and_arms(frozen, effective, figure_rows(), round=7)


def test_every_arm_of_a_comparison_has_a_colour_but_one_that_is_not_shown():
    missing = [arm for arm in ARMS if arm not in plotting.METHODS]
    assert missing == ["edge_popup_norm"]
