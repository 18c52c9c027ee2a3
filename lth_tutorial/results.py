"""Results: intervals over replicates, paired differences, and records with their provenance.

Two shapes of table. `lottery_experiment` returns *wide* rows: one per arm, seed and round, one
column per metric. A record on disk is *long*, one measurement per row, so that every experiment
of the book shares one schema; `widen` and `lengthen` convert.

Intervals are 95 % t-intervals of the mean over replicates (new initial weights and data order, the
same split of the data).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lth_tutorial.runtime import choose

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "record", "data", "arm", "seed", "round", "step", "density", "metric", "value", "scale",
)  # fmt: skip
PROVENANCE = ("command", "commit", "versions", "device", "date", "wall_time_s", "seeds")
SCHEMA = 1
KEYS = ("arm", "seed", "round", "density")
MINIMUM_REPLICATES = 3


class Interval(NamedTuple):
    """Mean, lower and upper end of its 95 % t-interval (NaN if n < 2), number of replicates."""

    mean: float
    low: float
    high: float
    n: int


def t_interval(values: Sequence[float]) -> Interval:
    """Return the mean of some values with its 95 % t-interval; missing values do not count."""
    import numpy as np
    from scipy import stats

    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    n = len(values)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(values.mean())
    if n == 1:
        return Interval(mean, math.nan, math.nan, 1)
    half = float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


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
    records = [
        {by: key, **t_interval(group["difference"])._asdict()}
        for key, group in differences.groupby(by)
    ]
    return pd.DataFrame(records)


def pair_seeds(
    rows: pd.DataFrame, arm_a: str, arm_b: str, *, value: str = "accuracy", by: str = "round"
) -> pd.DataFrame:
    """Return one row per seed and setting with the columns a, b and difference = a − b."""
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
    if pairs.empty:
        raise ValueError(f"no seed has {value} of both {arm_a!r} and {arm_b!r}")
    return pairs.assign(difference=pairs["a"] - pairs["b"])


def difference_table(
    rows: pd.DataFrame,
    arm: str,
    others: Sequence[str],
    *,
    value: str = "accuracy",
    unit: str = "points",
) -> pd.DataFrame:
    """Return paired differences to read: one row per density, one column per other arm.

    Args:
        arm, others: the columns are arm − other, each cell a mean and its 95 % interval.
        unit: "points" prints hundredths, "steps" whole numbers, "" three digits.
    """
    import pandas as pd

    densities = rows.groupby("round")["density"].mean().map("{:.1%}".format)
    columns = {}
    for other in others:
        table = paired_difference(rows, arm, other, value=value).set_index("round")
        cells = [format_interval(Interval(*line), unit) for line in table.itertuples(index=False)]
        columns[f"{arm} − {other}"] = pd.Series(cells, index=table.index)
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
    if not 0 <= margin < math.inf:
        raise ValueError(f"margin is a number of at least 0; got {margin!r}")
    table = paired_difference(rows, arm, "dense", value=value)
    enough = table["n"] >= MINIMUM_REPLICATES
    return table.assign(matches=enough & (table["low"] >= -margin))


def lengthen(rows: pd.DataFrame, *, record: str, data: str, scale: float = 1.0) -> pd.DataFrame:
    """Return wide rows (one column per metric) in the long schema of records.

    A column `step` stays one; rows without it are about whole runs and have no step. Flags (the
    columns that end in `_censored`) are written only where they are true.
    """
    import pandas as pd

    rows = rows if "step" in rows else rows.assign(step=pd.NA)
    keys = [*KEYS, "step"]
    metrics = [c for c in rows.columns if c not in keys]
    values = rows.assign(**{c: rows[c].astype("Float64") for c in metrics})
    for flag in (c for c in metrics if c.endswith("_censored")):
        values[flag] = values[flag].replace(0.0, pd.NA)
    long = values.melt(id_vars=keys, value_vars=metrics, var_name="metric").dropna(subset="value")
    long = long.assign(record=record, data=data, scale=scale)
    return long[list(COLUMNS)].reset_index(drop=True)


def widen(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the whole-run measurements of one record with one column per metric.

    Raises:
        ValueError: if the rows belong to several records, data sets or scales.
    """
    for column in ("record", "data", "scale"):
        if rows[column].nunique() > 1:
            raise ValueError(
                f"these rows mix {column} {', '.join(map(str, rows[column].unique()))}; "
                f"select one first"
            )
    whole = rows[rows["step"].isna()]
    wide = whole.pivot(index=list(KEYS), columns="metric", values="value").reset_index()
    wide.columns.name = None
    budgets = [c for c in wide.columns if c.startswith("steps_to_") and "censored" not in c]
    for flag in (f"{column}_censored" for column in budgets):
        wide[flag] = wide[flag].eq(1) if flag in wide else False
    return wide


def save_rows(
    rows: pd.DataFrame,
    name: str,
    provenance: Mapping[str, object],
    *,
    root: str | Path | None = None,
) -> Path:
    """Write a record: rows as NAME.csv and their provenance as NAME.json; return the CSV's path.

    Args:
        rows: long rows with the columns of `COLUMNS`.
        provenance: how they came about; all keys of `PROVENANCE`.
        root: folder; default the package's own records.

    Raises:
        ValueError: if columns or provenance keys are missing, a measurement occurs twice, or
            there are no rows. Nothing is written then.
    """
    missing = [c for c in COLUMNS if c not in rows] + [k for k in PROVENANCE if k not in provenance]
    if missing:
        raise ValueError(f"record {name!r} lacks {', '.join(missing)}")
    keys = ["record", "data", "arm", "seed", "round", "step", "metric", "scale"]
    if rows.empty or rows.duplicated(keys).any():
        raise ValueError(f"record {name!r} has no rows, or says something twice")
    text = rows[list(COLUMNS)].to_csv(index=False, float_format="%.6g", lineterminator="\n")
    table = text.encode()
    about = {"schema": SCHEMA, "sha256": hashlib.sha256(table).hexdigest(), **provenance}
    path = _records(root) / f"{name}.csv"
    write_atomically(path, table)
    write_atomically(path.with_suffix(".json"), (json.dumps(about, indent=2) + "\n").encode())
    return path


def load_rows(name: str, *, root: str | Path | None = None) -> pd.DataFrame:
    """Return the long rows of a recorded experiment; `rows.attrs["provenance"]` says the rest.

    Raises:
        FileNotFoundError: if the record has not been run; lists those that have.
        ValueError: if its files are damaged, do not belong together, or have another schema.
    """
    import pandas as pd

    provenance = load_provenance(name, root=root)
    path = _records(root) / f"{name}.csv"
    table = path.read_bytes()
    if hashlib.sha256(table).hexdigest() != provenance.get("sha256"):
        raise ValueError(f"{path} is not the table that {name}.json describes: damaged or edited")
    integers = dict.fromkeys(("seed", "round", "step"), "Int64")
    rows = pd.read_csv(path, dtype={"arm": str, **integers})
    if tuple(rows.columns) != COLUMNS:
        raise ValueError(f"{path} has columns {list(rows.columns)}; expected {list(COLUMNS)}")
    rows.attrs["provenance"] = provenance
    return rows


def load_provenance(name: str, *, root: str | Path | None = None) -> dict:
    """Return how a record came about: command, commit, versions, device, date, time, seeds.

    Raises:
        FileNotFoundError: if the record has not been run.
        ValueError: if the file is damaged or has another schema.
    """
    path = _records(root) / f"{name}.json"
    if not path.is_file():
        known = ", ".join(recorded(root=root)) or "none"
        raise FileNotFoundError(f"record {name!r} is not yet run; recorded so far: {known}")
    try:
        provenance = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if provenance.get("schema") != SCHEMA:
        raise ValueError(
            f"{path} has schema {provenance.get('schema')!r}; this version reads {SCHEMA}"
        )
    return provenance


def recorded(*, root: str | Path | None = None) -> list[str]:
    """Return the names of the records that have been run."""
    folder = _records(root)
    return sorted(path.stem for path in folder.glob("*.json")) if folder.is_dir() else []


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a file so that it appears whole or not at all, whatever happens meanwhile."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp keeps the file to its owner
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _records(root: str | Path | None) -> Path:
    return Path(str(files("lth_tutorial") / "_data" / "records")) if root is None else Path(root)
