"""The figures of chapter 10 show what their rows say."""

import matplotlib
import pandas as pd
import pytest
import torch

from lth_tutorial import plotting
from lth_tutorial.plotting import METHODS

matplotlib.use("Agg")


def made_up(x, values):
    rows = []
    for seed in range(3):
        for i, value in enumerate(values, start=1):
            own = {"seed": seed, x: value}
            noise = 0.001 * seed
            rows.append(own | {"arm": "edge_popup", "round": i, "accuracy": 0.5 + 0.1 * i + noise})
            rows.append(own | {"arm": "random", "round": i, "accuracy": 0.1 + noise})
            rows.append(own | {"arm": "edge_popup", "round": 0, "accuracy": 0.97 + noise})
    return pd.DataFrame(rows)


def line(axes, label):
    return next(one for one in axes.get_lines() if one.get_label() == label)


def test_accuracy_is_drawn_in_percent_at_every_width_and_dense_has_a_curve_of_its_own():
    axes = plotting.supermask_accuracy(made_up("width", (16, 32, 64)), "width").axes[0]
    popped = line(axes, METHODS["edge_popup"]["label"])
    assert list(popped.get_xdata()) == [16, 32, 64]
    assert popped.get_ydata() == pytest.approx([60.1, 70.1, 80.1])
    assert line(axes, METHODS["dense"]["label"]).get_ydata() == pytest.approx([97.1] * 3)
    assert axes.get_xscale() == "log"


def test_against_density_dense_is_a_dashed_line():
    axes = plotting.supermask_accuracy(made_up("density", (0.1, 0.5, 0.9)), "density").axes[0]
    dense = line(axes, "dense network")
    assert dense.get_linestyle() == "--" and dense.get_ydata()[0] == pytest.approx(97.1)
    assert line(axes, METHODS["random"]["label"]).get_ydata() == pytest.approx([10.1] * 3)


def test_an_axis_that_is_neither_width_nor_density_is_refused():
    with pytest.raises(ValueError, match="unknown x 'depth'"):
        plotting.supermask_accuracy(made_up("width", (16, 32)), "depth")


def test_a_layer_is_shown_by_signs_with_pruned_weights_blank():
    weights = torch.tensor([[0.5, 0.0, -0.5], [0.0, 0.5, 0.5]])
    rows = made_up("density", (0.1, 0.5, 0.9))
    left, right = plotting.mask_and_accuracy(weights, rows, round=2).axes
    shown = left.get_images()[0].get_array()
    assert shown.mask.tolist() == [[False, True, False], [True, False, False]]
    assert shown[0, 0] == 1 and shown[0, 2] == -1
    assert any(list(one.get_xdata()) == [0.5, 0.5] for one in right.get_lines())


@pytest.mark.parametrize(
    ("weights", "round", "words"),
    [(torch.ones(3), 1, "matrix"), (torch.ones(2, 2), 7, "round 7 was not measured")],
)
def test_a_layer_or_round_that_is_not_there_is_refused(weights, round, words):
    with pytest.raises(ValueError, match=words):
        plotting.mask_and_accuracy(weights, made_up("density", (0.1, 0.5)), round=round)
