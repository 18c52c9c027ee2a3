from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lth_tutorial import plotting
from lth_tutorial.plotting import METHODS

WAYS = ("rewind", "lr_rewind", "fine_tune")


def make_rows(steps=(0, 200, 350), seeds=4, rounds=3):
    noise = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "arm": arm,
            "seed": seed,
            "rewind_step": k,
            "round": i,
            "density": 0.5**i,
            "accuracy": 0.98 - (0.01 * i * (1 + j) + noise.uniform(0, 0.002) if i else 0.0),
        }
        for j, arm in enumerate(WAYS)
        for seed in range(seeds)
        for k in steps
        for i in range(rounds)
    )


def line(figure, label):
    return next(one for one in figure.axes[0].get_lines() if one.get_label() == label)


@pytest.mark.parametrize("arm", WAYS)
def test_each_way_is_drawn_at_the_steps_it_trains(arm):
    rows = make_rows()
    drawn = line(plotting.accuracy_vs_budget(rows, steps=400, round=2), METHODS[arm]["label"])
    own = rows[(rows["arm"] == arm) & (rows["round"] == 2)]
    errors = 100 * (1 - own.groupby("rewind_step")["accuracy"].mean())
    assert drawn.get_xdata().tolist() == [50, 200, 400]
    assert drawn.get_ydata().tolist() == pytest.approx(errors[[350, 200, 0]].tolist())


def test_the_axes_of_all_rounds_are_the_same():
    figures = [plotting.accuracy_vs_budget(make_rows(), steps=400, round=i) for i in (1, 2)]
    limits = [(f.axes[0].get_xlim(), f.axes[0].get_ylim()) for f in figures]
    assert limits[0] == limits[1]
    assert "25.0% of weights" in figures[1].legends[0].get_title().get_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"round": 7}, "round 7 was not measured"),
        ({"steps": 350}, "a rewind step of 350 leaves nothing of 350 steps"),
        ({"arms": ["rewinded"]}, "Did you mean 'rewind'"),
        ({"rows": make_rows().drop(columns="rewind_step")}, "unknown column 'rewind_step'"),
    ],
)
def test_what_cannot_be_drawn_is_said(options, message):
    options = {"rows": make_rows(), "steps": 400, "round": 1} | options
    with pytest.raises(ValueError, match=message):
        plotting.accuracy_vs_budget(options.pop("rows"), **options)


def rates():
    return pd.DataFrame(
        {"arm": arm, "step": start + i, "learning_rate": 0.1}
        for arm, start in (("dense", 0), ("rewind", 40), ("fine_tune", 40))
        for i in range(40)
    )


def test_every_schedule_is_drawn_from_where_it_begins():
    figure = plotting.learning_rates(rates())
    assert line(figure, METHODS["fine_tune"]["label"]).get_xdata().tolist() == [*range(40, 80)]
    assert line(figure, METHODS["dense"]["label"]).get_xdata().tolist() == [*range(40)]


def test_rates_of_unknown_arms_are_refused():
    with pytest.raises(ValueError, match="arm"):
        plotting.learning_rates(rates().replace("rewind", "no such arm"))
