from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from samples import table
from scipy import stats

import lth_tutorial as lt
from lth_tutorial.results.intervals import format_interval, format_number, pair_seeds


def test_the_interval_is_students():
    values = [0.91, 0.95, 0.93, 0.90]
    interval = lt.t_interval(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert interval == pytest.approx((np.mean(values), low, high, 4))


def test_values_may_come_one_at_a_time():
    assert lt.t_interval(each / 2 for each in (1, 2)) == lt.t_interval([0.5, 1])
    assert lt.t_interval({0.5, 1}) == lt.t_interval([0.5, 1])


def test_the_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(0)
    hits = [lt.t_interval(generator.normal(1, 2, 5)) for _ in range(2000)]
    share = np.mean([i.low <= 1 <= i.high for i in hits])
    assert abs(share - 0.95) < 3 * math.sqrt(0.95 * 0.05 / 2000)


def test_one_value_has_no_interval_and_missing_values_do_not_count():
    assert lt.t_interval([0.5, math.nan])[0::3] == (0.5, 1)
    assert math.isnan(lt.t_interval([0.5]).low) and math.isnan(lt.t_interval([]).mean)


def test_summarize_gives_mean_interval_and_n_per_setting():
    summary = lt.summarize(table(ticket=[0.8, 0.9], random=[0.5, 0.7]), ["arm", "round"])
    one = summary[(summary["arm"] == "random") & (summary["round"] == 1)].iloc[0]
    assert (one["mean"], one["n"]) == (pytest.approx(0.6), 2)
    assert one["low"] == pytest.approx(0.6 - stats.t.ppf(0.975, 1) * 0.1)


def test_pairing_removes_what_the_arms_share():
    shared = np.array([0.50, 0.60, 0.70, 0.80])
    rows = table(ticket=list(shared + 0.02), random=list(shared))
    paired = lt.paired_difference(rows, "ticket", "random").set_index("round").loc[1]
    assert (paired["mean"], paired["low"]) == (pytest.approx(0.02), pytest.approx(0.02))
    summary = lt.summarize(rows[rows["round"] == 1], "arm")
    assert (summary["high"] - summary["low"]).min() > 0.2


def test_pairs_are_made_by_seed_not_by_position():
    rows = table(ticket=[0.1, 0.2, 0.3], random=[0.1, 0.2, 0.3]).sample(frac=1, random_state=1)
    assert (pair_seeds(rows, "ticket", "random")["difference"] == 0).all()
    lonely = rows.drop(rows[(rows["arm"] == "random") & (rows["seed"] == 2)].index)
    assert lt.paired_difference(lonely, "ticket", "random")["n"].tolist() == [2, 2]


def test_dense_is_round_0_of_the_same_seed():
    rows = table(ticket=[0.8, 0.95, 0.85])
    difference = lt.paired_difference(rows, "ticket", "dense").set_index("round")["mean"]
    assert difference[0] == 0 and difference[1] == pytest.approx(np.mean([0.8, 0.95, 0.85]) - 0.9)
    reverse = lt.paired_difference(rows, "dense", "ticket").set_index("round")["mean"]
    assert reverse[1] == pytest.approx(-difference[1])


@pytest.mark.parametrize(
    ("values", "margin", "matches"),
    [
        ([0.901, 0.899, 0.900, 0.900], 0.005, True),
        ([0.901, 0.899, 0.900, 0.900], 0.0, False),
        ([0.880, 0.881, 0.879, 0.880], 0.005, False),
        ([0.93, 0.80, 0.97, 0.90], 0.005, False),  # on average equal, but nobody knows
        ([0.95, 0.95], 0.005, False),  # two replicates decide nothing
    ],
)
def test_matching_is_a_statement_about_the_whole_interval(values, margin, matches):
    result = lt.matching(table(ticket=values), margin=margin).set_index("round")
    assert result.loc[1, "matches"] == matches


@pytest.mark.parametrize("margin", [-0.1, math.nan, math.inf])
def test_a_margin_is_a_positive_number(margin):
    with pytest.raises(ValueError, match="at least 0; got"):
        lt.matching(table(ticket=[0.9]), margin=margin)


def test_counting_rows_as_replicates_is_refused():
    rows = table(ticket=[0.8, 0.9], random=[0.5, 0.7])
    with pytest.raises(ValueError, match="a seed stands several times in one group of .'round'."):
        lt.summarize(rows, "round")
    with pytest.raises(ValueError, match="stand twice"):
        lt.paired_difference(pd.concat([rows, rows]), "ticket", "random")
    with pytest.raises(ValueError, match="no rows"):
        lt.summarize(rows.iloc[:0], "arm")


def test_the_table_to_read_has_a_density_per_row_and_an_arm_per_column():
    rows = table(ticket=[0.90, 0.92, 0.94], random=[0.8, 0.8, 0.8])
    shown = lt.difference_table(rows, "ticket", ["dense", "random"])
    assert list(shown.index) == ["50.0%"]
    assert list(shown.columns) == ["ticket − dense network", "ticket − random mask"]
    expected = lt.paired_difference(rows, "ticket", "random").set_index("round").loc[1]
    assert shown.iloc[0, 1].startswith(f"+12.00 [+{100 * expected['low']:.2f}, ")


def test_numbers_are_printed_in_their_unit():
    assert format_number(-0.00421, "points") == "−0.42"
    assert format_number(12.4, "steps", sign=True) == "+12"
    assert format_interval(lt.Interval(0.0123, -0.0042, 0.0314, 4)) == "+0.0123 [−0.0042, +0.0314]"


def test_unknown_arms_and_columns_are_refused():
    rows = table(ticket=[0.9], random=[0.9])
    with pytest.raises(ValueError, match="Did you mean 'random'"):
        lt.paired_difference(rows, "ticket", "randon")
    with pytest.raises(ValueError, match="unknown column 'acuracy'. Did you mean 'accuracy'"):
        lt.summarize(rows, "arm", "acuracy")
    with pytest.raises(ValueError, match="no seed has accuracy of both"):
        lt.paired_difference(rows.query("arm == 'ticket' or seed == 9").assign(
            accuracy=math.nan), "ticket", "dense")  # fmt: skip
