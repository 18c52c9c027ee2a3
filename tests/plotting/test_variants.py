"""Figures of chapter 13: they show the rows they are given, and say what they cannot draw."""

from __future__ import annotations

import matplotlib
import pandas as pd
import pytest
import torch

from lth_tutorial import plotting
from lth_tutorial.plotting import METHODS

matplotlib.use("Agg")


def rows(arms, rounds=(0, 1, 2), **columns):
    return pd.DataFrame(
        {
            "arm": arm, "seed": seed, "round": i, "density": 0.25**i, "stored": 0.25**i,
            "accuracy": 0.98 - 0.02 * i - 0.01 * place + seed / 1000, **columns,
        }
        for place, arm in enumerate(arms) for seed in range(4) for i in rounds
    )  # fmt: skip


def line(axes, label):
    return next(one for one in axes.get_lines() if one.get_label() == label)


def test_basis_vectors_are_columns():
    matrix = torch.arange(16.0).view(4, 4)
    figure = plotting.basis_images({"a": matrix, "b": torch.eye(4)}, (2, 2), n=3)
    assert len(figure.axes) == 6
    shown = figure.axes[1].get_images()[0].get_array()
    assert shown.tolist() == [[1, 5], [9, 13]]
    with pytest.raises(ValueError, match=r"'a' has shape \(4, 4\).*need \(6, 3 or more\)"):
        plotting.basis_images({"a": matrix}, (2, 3), n=3)
    with pytest.raises(ValueError, match=r"need \(4, 5 or more\)"):
        plotting.basis_images({"a": matrix}, (2, 2), n=5)


def test_accuracy_stands_above_what_is_stored():
    table = rows(["identity", "svd"])
    table.loc[table["arm"] == "svd", "stored"] = 2.5
    axes = plotting.accuracy_vs_stored(table).axes[0]
    assert line(axes, METHODS["identity"]["label"]).get_xdata().tolist() == [0.25, 0.0625]
    assert line(axes, METHODS["svd"]["label"]).get_xdata().tolist() == [2.5, 2.5]
    assert axes.get_xlim()[0] > 2.5 > axes.get_xlim()[1]
    with pytest.raises(ValueError, match="stored"):
        plotting.accuracy_vs_stored(table.drop(columns="stored"))


def test_moved_tickets_stand_below_the_targets_own():
    arms = ["b, ticket", "a to b, stretched", "a to b, stretched_random"]
    figure = plotting.moved_tickets(rows(arms), [("a", "b")])
    (axes,) = figure.axes
    labels = [text.get_text().replace("\n", " ") for text in axes.get_yticklabels()]
    assert labels == [METHODS[a.rpartition(", ")[2]]["label"] for a in arms]
    dots = [one for one in axes.get_lines() if len(one.get_xdata()) == 4]
    assert [list(set(one.get_ydata())) for one in dots] == [[0], [1], [2]]
    with pytest.raises(ValueError, match="'b to a, stretched'"):
        plotting.moved_tickets(rows(arms), [("b", "a")])


def penalised():
    table = rows(["regularised"], strength=float("nan"), accuracy_before=0.9)
    table["strength"] = table["round"].map({0: None, 1: 0.0, 2: 3.0})
    return pd.concat([table, rows(["scratch"], rounds=(0, 1))])


def test_accuracy_stands_above_the_strength_of_the_penalty():
    axes = plotting.accuracy_vs_penalty(penalised()).axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "3"]
    drawn = line(axes, METHODS["regularised"]["label"])
    assert drawn.get_ydata().tolist() == pytest.approx([96.15, 94.15])
    level = line(axes, METHODS["scratch"]["label"]).get_ydata()
    assert list(level) == pytest.approx([96.15, 96.15])


def test_weights_on_their_way_out_are_drawn_as_shares_of_their_group():
    weights = torch.tensor([[0.0, 0.0, 0.5], [2.0, 0.0, -0.5]])
    kept = weights != 0
    left, right = plotting.weights_leaving(weights, kept, penalised(), round=2).axes
    heights = [sum(bar.get_height() for bar in bars) for bars in left.containers]
    assert heights == pytest.approx([1, 1])
    assert len(right.get_yticklabels()) == 4
    with pytest.raises(ValueError, match="round 3 was not measured"):
        plotting.weights_leaving(weights, kept, penalised(), round=3)
