"""Records: measured rows on disk, with the provenance that lets anyone measure them again.

Two shapes of table. `lottery_experiment` returns *wide* rows: one per arm, seed and round, one
column per metric. A record is *long*, one measurement per row, so that every experiment of the
book shares one schema; `widen` and `lengthen` convert.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from lth_tutorial.runtime import write_atomically

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "record", "data", "arm", "seed", "round", "step", "density", "metric", "value", "scale",
)  # fmt: skip
PROVENANCE = ("command", "commit", "versions", "device", "date", "wall_time_s", "seeds")
SCHEMA = 1
KEYS = ("arm", "seed", "round", "density")


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
    """Return the measurements of one record with one column per metric.

    There is a column `step` only where some rows belong to a step (of branching, of rewinding).

    Raises:
        ValueError: if the rows belong to several records, data sets or scales.
    """
    import pandas as pd

    for column in ("record", "data", "scale"):
        if rows[column].nunique() > 1:
            raise ValueError(
                f"these rows mix {column} {', '.join(map(str, rows[column].unique()))}; "
                f"select one first"
            )
    numbered = rows.assign(step=rows["step"].fillna(-1))  # a missing value is no key
    wide = numbered.pivot(index=[*KEYS, "step"], columns="metric", values="value").reset_index()
    wide.columns.name = None
    wide["step"] = wide["step"].astype("Int64").replace(-1, pd.NA)
    if wide["step"].isna().all():
        wide = wide.drop(columns="step")
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
    path = record_path(name, root=root)
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
    path = record_path(name, root=root)
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
            f"{path} has schema {provenance.get('schema')!r}; this version of lth_tutorial reads "
            f"schema {SCHEMA}: use the version that wrote it ({_writer(provenance)}), or measure "
            f"the record anew: python -m lth_tutorial.experiments run {name}"
        )
    return provenance


def record_path(name: str, *, root: str | Path | None = None) -> Path:
    """Return where the rows of a record stand, or would stand."""
    return _records(root) / f"{name}.csv"


def recorded(*, root: str | Path | None = None) -> list[str]:
    """Return the names of the records that have been run."""
    folder = _records(root)
    return sorted(path.stem for path in folder.glob("*.json")) if folder.is_dir() else []


def check_writable(root: str | Path | None) -> None:
    """Raise an OSError, naming the folder, unless a record can be written there."""
    write_atomically(_records(root) / ".probe", b"")
    (_records(root) / ".probe").unlink()


@contextmanager
def only_writer(path: str | Path) -> Iterator[None]:
    """Keep a file or folder to this process while the context lasts, or until it is killed.

    Raises:
        RuntimeError: naming the file or folder, if another process holds it.
        OSError: if its folder cannot be written.
    """
    from filelock import FileLock, Timeout

    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    try:
        held = FileLock(lock).acquire(timeout=0)
    except Timeout:
        raise RuntimeError(
            f"another run is writing {path}; wait until it ends, or name other folders with "
            f"--out and --workdir"
        ) from None
    with held:
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _writer(provenance: Mapping) -> str:
    known = provenance.get("versions")
    version = known.get("lth_tutorial", "unknown") if isinstance(known, Mapping) else "unknown"
    return f"lth_tutorial {version}, commit {provenance.get('commit', 'unknown')}"


def _records(root: str | Path | None) -> Path:
    return Path(str(files("lth_tutorial") / "_data" / "records")) if root is None else Path(root)
