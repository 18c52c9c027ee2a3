"""Results: intervals over replicates, paired differences, and what "matching" means.

Tables are those of `lottery_experiment`: one row per arm, seed and round, one column per metric.
Intervals are 95 % t-intervals of the mean over replicates (new initial weights and data order, the
same split of the data).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from lth_tutorial.results.names import arm_name
from lth_tutorial.runtime import choose
from lth_tutorial.safety.arguments import checked, need_columns

if TYPE_CHECKING:
    import pandas as pd

MINIMUM_REPLICATES = 3


class Interval(NamedTuple):
    """Mean, lower and upper end of its 95 % t-interval (NaN if n < 2), number of replicates."""

    mean: float
    low: float
    high: float
    n: int


@checked
def t_interval(values: Sequence[float]) -> Interval:
    """Return the mean of some values with its 95 % t-interval; missing values do not count."""
    import numpy as np
    from scipy import stats

    values = np.asarray(values if hasattr(values, "__array__") else list(values), dtype=float)
    values = values[~np.isnan(values)]
    n = len(values)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(values.mean())
    if n == 1:
        return Interval(mean, math.nan, math.nan, 1)
    half = float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


@checked
def summarize(rows: pd.DataFrame, by: str | Sequence[str], value: str = "accuracy") -> pd.DataFrame:
    """Return mean, 95 % interval and n of a column, over the replicates in each group.

    Args:
        rows: one row per replicate and setting.
        by: the column or columns that make up a setting, e.g. ["arm", "round"].

    Returns:
        the `by` columns, mean, low, high, n.

    Raises:
        ValueError: for a column that does not exist (names the nearest), no rows, or a seed that
            stands twice in one group.
    """
    import pandas as pd

    by = [by] if isinstance(by, str) else list(by)
    if not by:
        raise ValueError("by names the columns that make up a setting, one or more; got none")
    for column in [*by, value]:
        choose("column", column, rows.columns)
    if rows.empty:
        raise ValueError(f"there are no rows to summarize {value} of")
    if "seed" in rows and "seed" not in by and rows.duplicated([*by, "seed"]).any():
        raise ValueError(
            f"a seed stands several times in one group of {by}: n would count rows, not "
            f"replicates. Group by more columns, or select rows first"
        )
    groups = rows.groupby(by, sort=False, observed=True, dropna=False)[value]
    index, intervals = zip(*((key, t_interval(group)) for key, group in groups), strict=True)
    frame = pd.DataFrame(intervals, columns=Interval._fields)
    keys = pd.DataFrame([key if isinstance(key, tuple) else (key,) for key in index], columns=by)
    return pd.concat([keys, frame], axis=1)


@checked
def paired_difference(
    rows: pd.DataFrame, arm_a: str, arm_b: str, *, value: str = "accuracy", by: str = "round"
) -> pd.DataFrame:
    """Return mean, 95 % interval and n of arm_a − arm_b, seed by seed.

    Pairing removes what two arms of one seed have in common (initial weights, data order), so
    the interval is usually much narrower than those of the arms.

    Args:
        arm_a, arm_b: names in the column `arm`; "dense" is round 0 of the other arm, and is
            compared with each of its rounds.

    Raises:
        ValueError: for an unknown arm or column, or if no seed has both arms.
    """
    import pandas as pd

    differences = pair_seeds(rows, arm_a, arm_b, value=value, by=by)
    if differences.empty:
        raise ValueError(f"no seed has {value} of both {arm_a!r} and {arm_b!r}")
    records = [
        {by: key, **t_interval(group["difference"])._asdict()}
        for key, group in differences.groupby(by)
    ]
    return pd.DataFrame(records)


def pair_seeds(
    rows: pd.DataFrame, arm_a: str, arm_b: str, *, value: str = "accuracy", by: str = "round"
) -> pd.DataFrame:
    """Return one row per seed and setting with the columns a, b and difference = a − b.

    Empty if no seed has both arms.
    """
    need_columns(rows, ["arm", "seed", "round", by], "a paired difference")
    present = list(rows["arm"].unique())
    for arm in (arm_a, arm_b):
        choose("arm", arm, [*present, "dense"])
    choose("column", value, rows.columns)
    if rows.duplicated(["arm", "seed", by]).any():
        raise ValueError(f"an arm, seed and {by} stand twice in the rows: which pair is meant?")

    def values(arm: str, other: str) -> pd.DataFrame:
        if arm != "dense":
            return rows.loc[rows["arm"] == arm, ["seed", by, value]]
        source = other if other != "dense" else present[0]
        dense = rows.loc[(rows["arm"] == source) & (rows["round"] == 0), ["seed", value]]
        settings = rows.loc[rows["arm"] == source, ["seed", by]]
        return settings.merge(dense, on="seed")

    a, b = values(arm_a, arm_b), values(arm_b, arm_a)
    pairs = a.merge(b, on=["seed", by], suffixes=("_a", "_b"))
    pairs.columns = ["seed", by, "a", "b"]
    pairs = pairs.dropna().astype({"a": float, "b": float})
    return pairs.assign(difference=pairs["a"] - pairs["b"])


@checked
def difference_table(
    rows: pd.DataFrame,
    arm: str,
    others: Sequence[str],
    *,
    value: str = "accuracy",
    unit: str = "points",
) -> pd.DataFrame:
    """Return paired differences to read: one row per density, one column per other arm, by name.

    Args:
        arm, others: the columns are arm − other, each cell a mean and its 95 % interval.
        unit: "points" prints hundredths, "steps" whole numbers, "" three digits.
    """
    import pandas as pd

    choose("unit", unit, ("points", "steps", ""))
    need_columns(rows, ["arm", "seed", "round", "density"], "a table of differences")
    densities = rows.groupby("round")["density"].mean().map("{:.1%}".format)
    columns = {}
    for other in others:
        table = paired_difference(rows, arm, other, value=value).set_index("round")
        cells = [format_interval(Interval(*line), unit) for line in table.itertuples(index=False)]
        columns[f"{arm_name(arm)} − {arm_name(other)}"] = pd.Series(cells, index=table.index)
    frame = pd.DataFrame(columns).drop(index=0)
    return frame.set_index(frame.index.map(densities).rename("weights left"))


def format_number(value: float, unit: str = "", *, sign: bool = False) -> str:
    """Return a number as the book prints it in a unit: "points", "steps" or "" (three digits)."""
    plus = "+" if sign else ""
    if unit == "points":
        text = f"{100 * value:{plus}.2f}"
    else:
        text = f"{value:{plus}.0f}" if unit == "steps" else f"{value:{plus}.3g}"
    return text.replace("-", "−")


def format_interval(interval: Interval, unit: str = "") -> str:
    """Return mean and 95 % interval with signs, e.g. "+0.58 [+0.31, +0.86]"."""
    mean, low, high = (format_number(number, unit, sign=True) for number in interval[:3])
    return f"{mean} [{low}, {high}]"


def check_margin(margin: float) -> None:
    """Raise a ValueError unless the margin of a matching test is a number of at least 0."""
    if not 0 <= margin < math.inf:
        raise ValueError(f"margin is a number of at least 0; got {margin!r}")


@checked
def matching(
    rows: pd.DataFrame, arm: str = "ticket", *, margin: float, value: str = "accuracy"
) -> pd.DataFrame:
    """Return, round by round, whether an arm matches the dense network.

    It matches if the whole 95 % interval of the paired difference arm − dense lies above
    −margin, over at least 3 replicates. Declare the margin before looking at the result.

    Args:
        margin: in the units of `value`, e.g. 0.005 for half a percentage point.

    Returns:
        round, mean, low, high, n, matches.

    Raises:
        ValueError: for a margin that is negative or not a number.
    """
    check_margin(margin)
    table = paired_difference(rows, arm, "dense", value=value)
    enough = table["n"] >= MINIMUM_REPLICATES
    return table.assign(matches=enough & (table["low"] >= -margin))
