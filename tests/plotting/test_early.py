"""Figures of chapter 9 draw the means of the rows that they are given."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from lth_tutorial import plotting
from lth_tutorial.plotting import METHODS

NOISE = np.random.default_rng(0)


def line(figure, arm):
    label = METHODS[arm]["label"]
    return next(one for one in figure.axes[0].get_lines() if one.get_label() == label)


def test_accuracy_is_drawn_at_the_steps_at_which_masks_were_drawn():
    rows = pd.DataFrame(
        {"arm": arm, "seed": seed, "round": i, "step": 50 * i, "density": 0.5 if i else 1.0,
         "accuracy": 0.9 + NOISE.uniform(0, 0.05)}
        for arm in ("early_bird", "final_mask") for seed in range(4) for i in range(3)
    )  # fmt: skip
    figure = plotting.accuracy_vs_drawing(rows)
    for arm in ("early_bird", "final_mask"):
        own = rows[(rows["arm"] == arm) & (rows["round"] > 0)].groupby("step")["accuracy"].mean()
        assert list(line(figure, arm).get_xdata()) == [50, 100]
        np.testing.assert_allclose(line(figure, arm).get_ydata(), 100 * own)
    with pytest.raises(ValueError, match="unknown arm"):
        plotting.accuracy_vs_drawing(rows, arms=["early_birds"])


def test_accuracy_is_drawn_at_the_steps_of_training():
    rows = pd.DataFrame(
        {"arm": arm, "seed": seed, "round": i, "step": 10**i, "density": 0.2,
         "accuracy": NOISE.uniform(0.5, 1), "robust_accuracy": NOISE.uniform(0.2, 0.5)}
        for arm in ("low_mask", "dense") for seed in range(4) for i in range(1, 4)
    )  # fmt: skip
    for value in ("accuracy", "robust_accuracy"):
        figure = plotting.accuracy_vs_step(rows, value=value)
        own = rows[rows["arm"] == "low_mask"].groupby("step")[value].mean()
        assert list(line(figure, "low_mask").get_xdata()) == [10, 100, 1000]
        np.testing.assert_allclose(line(figure, "low_mask").get_ydata(), 100 * own)


def test_a_map_of_mask_distances_names_the_epoch_of_the_ticket():
    import torch

    matrices = {"small": torch.rand(5, 5), "large": torch.rand(5, 5)}
    figure = plotting.mask_distances(matrices, {"small": 3.0, "large": math.nan})
    small, large, _bar = figure.axes
    assert small.get_title() == "small: drawn at 3" and large.get_title() == "large: no ticket"
    assert np.array_equal(small.images[0].get_array(), matrices["small"].numpy())
    assert len(small.get_lines()) == 2 and not large.get_lines()
