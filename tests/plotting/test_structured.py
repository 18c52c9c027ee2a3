from __future__ import annotations

import matplotlib
import pandas as pd
import pytest
import torch

import lth_tutorial as lt

matplotlib.use("Agg")

TABLE = pd.DataFrame(
    {
        "network": ["dense", "removed"],
        "parameters": [100, 25],
        "nonzeros": [90, 20],
        "bytes": [400, 100],
        "flops": [1000, 250],
        "latency_ms": [10.0, 4.0],
    }
)


def curve():
    return pd.DataFrame(
        {"arm": arm, "seed": seed, "fraction": fraction, "accuracy": 0.9 - fraction + seed / 100}
        for arm in ("slimmed", "unslimmed")
        for seed in range(3)
        for fraction in (0.0, 0.5)
    )


def test_every_layer_is_a_bar_as_long_as_it_has_units_and_coupled_ones_share_a_colour():
    groups = lt.unit_groups(lt.build_model("resnet_20", seed=0), torch.zeros(1, 3, 32, 32))
    axes = lt.plotting.coupling(groups).axes[0]
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names[0] == "conv1" and names[-1] == "output" and len(names) == 22
    bars = dict(zip(names, axes.patches, strict=True))
    assert bars["blocks.0.conv1"].get_width() == pytest.approx(16 / 64)
    assert bars["conv1"].get_facecolor() == bars["blocks.2.conv2"].get_facecolor()
    assert bars["conv1"].get_facecolor() != bars["blocks.0.conv1"].get_facecolor()
    assert bars["output"].get_hatch()
    arcs = [child for child in axes.texts if child.arrow_patch is not None]
    assert len(arcs) == 3 * 3  # four layers in each of three groups


def test_costs_are_drawn_in_percent_of_the_first_network():
    axes = lt.plotting.cost_bars(TABLE).axes[0]
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == pytest.approx([100] * 5 + [25, 100 * 20 / 90, 25, 25, 40])


def test_costs_without_a_column_are_refused():
    with pytest.raises(ValueError, match="unknown column 'flops'"):
        lt.plotting.cost_bars(TABLE.drop(columns="flops"))


def test_channels_below_the_threshold_are_drawn_hollow():
    scales = {"slimmed": {"conv1": torch.tensor([0.1, 0.9]), "conv2": torch.tensor([0.2, 0.8])}}
    figure = lt.plotting.scales_and_accuracy(scales, curve(), fraction=0.5)
    outlines = figure.axes[0].patches
    assert [outline.get_fill() for outline in outlines] == [True, False, True, False]
    drawn = [float(outline.get_data().values[0]) for outline in outlines]
    assert drawn == pytest.approx([0.9, 0.1, 0.8, 0.2])
    line = figure.axes[1].lines[0]
    assert line.get_ydata() == pytest.approx([91, 41])


def test_a_share_that_was_not_measured_is_refused():
    scales = {"slimmed": {"conv1": torch.tensor([0.1, 0.9])}}
    with pytest.raises(ValueError, match=r"0.3 was not measured; \[0.0, 0.5\]"):
        lt.plotting.scales_and_accuracy(scales, curve(), fraction=0.3)
    with pytest.raises(ValueError, match="unknown arm 'dense'"):
        lt.plotting.scales_and_accuracy({"dense": {}}, curve(), fraction=0.5)
