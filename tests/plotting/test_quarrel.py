"""The figure of the quarrel shows the acts that it is asked for, with the numbers of the rows."""

from __future__ import annotations

import pandas as pd
import pytest

import lth_tutorial as lt
from lth_tutorial.plotting.quarrel import ACTS


def rows(seeds=4):
    arms = {
        f"{rate} rate, step {step}: {arm}": 0.90 + 0.01 * step / 50 + 0.02 * (arm == "ticket")
        for _, rate, columns in ACTS
        for step, arm in columns
    }
    return pd.DataFrame(
        [
            {"arm": arm, "seed": s, "round": 4, "density": 0.0625, "accuracy": value + s / 1000}
            for arm, value in arms.items()
            for s in range(seeds)
        ]
    )


@pytest.mark.parametrize("acts", [1, 2, 3])
def test_panels_fill_from_the_left(acts):
    panels = lt.plotting.quarrel(rows(), acts=acts).axes
    filled = [bool(axes.lines) for axes in panels]
    assert filled == [i < acts for i in range(3)]
    assert "ticket − re-initialised:\n+2.00 [+2.00, +2.00]" in panels[0].get_title()
    gain = "step 50 − step 0: +1.00 [+1.00, +1.00]"
    assert [gain in axes.get_title() for axes in panels] == [False, False, acts == 3]


def test_a_wrong_number_of_acts_or_a_missing_arm_is_named():
    with pytest.raises(ValueError, match="acts is 1, 2 or 3; got 4"):
        lt.plotting.quarrel(rows(), acts=4)
    fewer = rows()
    fewer = fewer[fewer["arm"] != "low rate, step 0: reinit"]
    with pytest.raises(ValueError, match="no arm 'low rate, step 0: reinit'"):
        lt.plotting.quarrel(fewer, acts=1)
    with pytest.raises(ValueError, match="unknown round '2'"):
        lt.plotting.quarrel(rows(), round=2)


def sweep():
    table = []
    for rate, barrier in ((0.003, 0.01), (0.2, 0.08)):
        for seed in range(4):
            for arm in ("ticket", "reinit"):
                own = {"seed": seed, "round": 4, "density": 0.0625, "accuracy": 0.9}
                table.append({"arm": f"rate {rate:g}: {arm}"} | own)
                if rate < 0.1:
                    longer = f"rate {rate:g}, 4 times the steps: {arm}"
                    table.append({"arm": longer} | own | {"accuracy": 0.95})
            table.append({"arm": f"rate {rate:g}, copies: dense", "seed": seed, "height": barrier})
    return pd.DataFrame(table)


def test_the_sweep_shows_both_arms_and_the_barrier_by_rate():
    assert lt.plotting.sweep_rates(sweep()) == [0.003, 0.2]
    left, right = lt.plotting.rate_and_worth(sweep(), 0.2).axes
    assert [t.get_text() for t in left.get_xticklabels()] == ["0.003", "0.2"]
    drawn = [list(line.get_ydata()) for line in right.lines if len(line.get_ydata()) == 2]
    assert pytest.approx([1, 8]) in drawn
    longer = [list(line.get_ydata()) for line in left.lines if len(line.get_ydata()) == 1]
    assert longer and all(values == pytest.approx([95]) for values in longer)
    names = [text.get_text() for text in left.get_legend().get_texts()]
    assert names == ["ticket", "re-initialised"]
    assert "at 6.2 %" in left.get_ylabel()
    with pytest.raises(ValueError, match="rate"):
        lt.plotting.rate_and_worth(sweep(), 0.5)


def test_words_say_lead_and_barrier_at_a_rate_with_their_intervals():
    rows = sweep()
    low = rows["arm"].eq("rate 0.2: reinit")
    rows.loc[low, "accuracy"] = [0.87, 0.875, 0.875, 0.88]
    rows.loc[rows["arm"] == "rate 0.2, copies: dense", "height"] = [0.07, 0.08, 0.08, 0.09]
    # Half the interval: 3.182 · 0.408 points / √4 for the leads, and twice that for the barriers.
    words = lt.plotting.worth_in_words(rows, 0.2)
    assert words == (
        "0.2: the ticket leads by +2.50 [+1.85, +3.15] points, "
        "the barrier is 8.00 [6.70, 9.30] points; n = 4"
    )
    with pytest.raises(ValueError, match="rate"):
        lt.plotting.worth_in_words(rows, 0.3)
