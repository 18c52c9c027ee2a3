"""Records: measured rows on disk, with the provenance that lets anyone measure them again.

Two shapes of table. `lottery_experiment` returns *wide* rows: one per arm, seed and round, one
column per metric. A record is *long*, one measurement per row, so that every experiment of the
book shares one schema; `widen` and `lengthen` convert.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from lth_tutorial.safety.arguments import checked
from lth_tutorial.safety.files import UncheckedFileWarning, read_json, write_atomically
from lth_tutorial.safety.locks import only_writer
from lth_tutorial.safety.warn import warn

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "record", "data", "arm", "seed", "round", "step", "density", "metric", "value", "scale",
)  # fmt: skip
PROVENANCE = ("command", "commit", "versions", "device", "date", "wall_time_s", "seeds")
SCHEMA = 2
"""Of the provenance. Schema 1 had no checksum of its own, nor the name of its record."""
KEYS = ("arm", "seed", "round", "density")
_OWN_KEYS = ("schema", "record", "sha256", "checksum")  # of NAME.json; written by `save_rows`
_NAME = re.compile(r"\w[\w.+-]{0,99}")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # in Windows


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


@checked
def widen(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the measurements of one record with one column per metric.

    There is a column `step` only where some rows belong to a step (of branching, of rewinding).

    Raises:
        ValueError: if the rows belong to several records, data sets or scales, or say something
            twice.
    """
    import pandas as pd

    missing = [column for column in COLUMNS if column not in rows]
    if missing:
        wide = "arm" in rows and "metric" not in rows
        hint = "; they are wide already" if wide else "; load_rows gives such rows"
        raise ValueError(
            f"widen takes the long rows of a record; these lack {', '.join(missing)}{hint}"
        )
    for column in ("record", "data", "scale"):
        if rows[column].nunique() > 1:
            raise ValueError(
                f"these rows mix {column} {', '.join(map(str, rows[column].unique()))}; "
                f"select one first"
            )
    numbered = rows.assign(step=rows["step"].fillna(-1))  # a missing value is no key
    twice = numbered[numbered.duplicated([*KEYS, "step", "metric"])]
    if len(twice):
        raise ValueError(
            f"these rows say something twice: {twice.iloc[0][[*KEYS, 'metric']].to_dict()}"
        )
    wide = numbered.pivot(index=[*KEYS, "step"], columns="metric", values="value").reset_index()
    wide.columns.name = None
    wide["step"] = wide["step"].astype("Int64").replace(-1, pd.NA)
    if wide["step"].isna().all():
        wide = wide.drop(columns="step")
    budgets = [c for c in wide.columns if c.startswith("steps_to_") and "censored" not in c]
    for flag in (f"{column}_censored" for column in budgets):
        wide[flag] = wide[flag].eq(1) if flag in wide else False
    return wide


@checked
def save_rows(
    rows: pd.DataFrame,
    name: str,
    provenance: Mapping[str, object],
    *,
    root: str | Path | None = None,
) -> Path:
    """Write a record: rows as NAME.csv and their provenance as NAME.json; return the CSV's path.

    Whatever moment a kill comes, the record that was there can be read, or the new one.

    Args:
        rows: long rows with the columns of `COLUMNS` and no others; numbers are kept to six digits.
        name: a plain file name: letters, digits, and "-_.+" behind the first of them.
        provenance: how they came about; all keys of `PROVENANCE`. That of another record may be
            passed on: its checksums are made anew.
        root: folder; default the package's own records.

    Raises:
        ValueError: if columns or provenance keys are missing, there are other columns, a
            measurement occurs twice, there are no rows, they could not be read again as they are
            (a text in place of a number, an arm called NA), the provenance is no JSON, the name is
            no plain file name, or a file of that name stands there that is no record. Nothing is
            written then.
        RuntimeError: if another process is writing the record.
        OSError: if the files cannot be written; what was there stays.
    """
    path = record_path(name, root=root)
    missing = [c for c in COLUMNS if c not in rows] + [k for k in PROVENANCE if k not in provenance]
    if missing:
        wide = "arm" in rows and "metric" not in rows
        hint = "; these are wide rows, and a record has long ones (see load_rows)" if wide else ""
        raise ValueError(f"record {name!r} lacks {', '.join(missing)}{hint}")
    keys = ["record", "data", "arm", "seed", "round", "step", "metric", "scale"]
    if rows.empty or rows.duplicated(keys).any():
        raise ValueError(f"record {name!r} has no rows, or says something twice")
    odd = [str(column) for column in rows if column not in COLUMNS]
    if odd:
        raise ValueError(
            f"record {name!r} has no place for {', '.join(odd)}; its columns are "
            f"{', '.join(COLUMNS)}: drop the others"
        )
    table = _as_csv(rows)
    _check_readable(name, table)
    about = {"schema": SCHEMA, "record": name, "sha256": hashlib.sha256(table).hexdigest()}
    about |= {key: value for key, value in provenance.items() if key not in _OWN_KEYS}
    try:
        about = json.loads(json.dumps(about))
    except (TypeError, ValueError) as error:
        raise ValueError(f"the provenance of record {name!r} is no JSON: {error}") from error
    about["checksum"] = _checksum(about)
    _check_no_other_files(path)
    with only_writer(path):
        _finish(path)
        # First the new table beside the old one, then the provenance, which decides between them.
        staged = _staged(path, about["sha256"])
        write_atomically(staged, table)
        try:
            content = (json.dumps(about, indent=2) + "\n").encode()
            write_atomically(path.with_suffix(".json"), content)
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
        os.replace(staged, path)
        for left in path.parent.glob(f".{path.name}.*.lth-next"):  # of writers that were killed
            left.unlink(missing_ok=True)
    return path


@checked
def load_rows(name: str, *, root: str | Path | None = None) -> pd.DataFrame:
    """Return the long rows of a recorded experiment; `rows.attrs["provenance"]` says the rest.

    Raises:
        FileNotFoundError: if the record has not been run; lists those that have.
        ValueError: if its files are damaged, do not belong together, or have another schema.

    Warns:
        UncheckedFileWarning: if an earlier version wrote its provenance without a checksum.
    """
    path = record_path(name, root=root)
    for _ in range(3):  # another process may write it between the two files
        provenance = load_provenance(name, root=root)
        table = _read_table(path, provenance)
        if table is not None:
            break
    else:
        state = "damaged or edited" if path.exists() else "it is missing"
        raise ValueError(f"{path} is not the table that {name}.json describes: {state}")
    rows = _from_csv(table)
    if tuple(rows.columns) != COLUMNS:
        raise ValueError(f"{path} has columns {list(rows.columns)}; expected {list(COLUMNS)}")
    rows.attrs["provenance"] = provenance
    return rows


def _as_csv(rows: pd.DataFrame) -> bytes:
    text = rows[list(COLUMNS)].to_csv(index=False, float_format="%.6g", lineterminator="\n")
    return text.encode()


def _from_csv(table: bytes) -> pd.DataFrame:
    import io

    import pandas as pd

    integers = dict.fromkeys(("seed", "round", "step"), "Int64")
    return pd.read_csv(io.BytesIO(table), dtype={"arm": str, **integers})


def _check_readable(name: str, table: bytes) -> None:
    """Raise a ValueError unless a table that is to be written can be read as it is meant."""
    try:
        rows = _from_csv(table)
        numbers = {column: rows[column].astype(float) for column in ("density", "value", "scale")}
        again = _as_csv(rows.assign(**numbers))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"record {name!r} could not be read again: {error}") from error
    lines = zip(table.splitlines(), again.splitlines(), strict=True)
    for written, read in lines if table != again else ():
        if written != read:
            raise ValueError(
                f"record {name!r} could not be read again as it is: {written.decode()!r} would "
                f"become {read.decode()!r}"
            )


@checked
def load_provenance(name: str, *, root: str | Path | None = None) -> dict:
    """Return how a record came about: command, commit, versions, device, date, time, seeds.

    Raises:
        FileNotFoundError: if the record has not been run.
        ValueError: if the file is damaged, was renamed or has another schema.

    Warns:
        UncheckedFileWarning: if an earlier version wrote it, without a checksum.
    """
    path = record_path(name, root=root).with_suffix(".json")
    if not path.is_file():
        known = ", ".join(recorded(root=root)) or "none"
        raise FileNotFoundError(f"record {name!r} is not yet run; recorded so far: {known}")
    try:
        about = read_json(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(about, dict):
        raise ValueError(f"{path} is damaged, or no record of this package: it holds no object")
    if about.get("schema") not in (1, SCHEMA):
        raise ValueError(
            f"{path} has schema {about.get('schema')!r}; this version of lth_tutorial reads "
            f"schema {SCHEMA}: use the version that wrote it ({_writer(about)}), or measure "
            f"the record anew: python -m lth_tutorial.experiments run {name}"
        )
    if about["schema"] == 1 and "checksum" not in about:
        text = f"{path} was written without a checksum and is taken as it stands; "
        warn(text + "save_rows gives it one", UncheckedFileWarning)
        return about
    if about.get("checksum") != _checksum(about):
        raise ValueError(f"{path} is damaged or edited: it does not have its checksum")
    if about.get("record", name) != name:
        raise ValueError(
            f"{path} is the provenance of record {about['record']!r}: it was renamed or exchanged"
        )
    return about


def record_path(name: str, *, root: str | Path | None = None) -> Path:
    """Return where the rows of a record stand, or would stand.

    Raises:
        ValueError: if the name is no plain file name.
    """
    plain = isinstance(name, str) and _NAME.fullmatch(name) and not _RESERVED.fullmatch(name)
    if not plain or name.endswith("."):
        raise ValueError(
            f"the name of a record is a plain file name of letters, digits and '-_.+', such as "
            f"'digits-winning-tickets'; got {name!r}"
        )
    return records_folder(root) / f"{name}.csv"


@checked
def recorded(*, root: str | Path | None = None) -> list[str]:
    """Return the names of the records that have been run."""
    folder = records_folder(root)
    found = sorted(path.stem for path in folder.glob("*.json")) if folder.is_dir() else []
    return [name for name in found if _NAME.fullmatch(name) and _has_table(folder, name)]


def _has_table(folder: Path, name: str) -> bool:
    """Return whether a table stands beside a JSON file, or waits to: it may be another's file."""
    return (folder / f"{name}.csv").is_file() or any(folder.glob(f".{name}.csv.*.lth-next"))


def _read_table(path: Path, provenance: Mapping) -> bytes | None:
    """Return the table that a provenance describes, or None if there is none."""
    digest = str(provenance.get("sha256"))
    for place in (path, _staged(path, digest)):
        table = place.read_bytes() if place.is_file() else b""
        if hashlib.sha256(table).hexdigest() == digest:
            return table
    return None


def _finish(path: Path) -> None:
    """Put the table in its place that a killed writer had announced."""
    try:
        about = read_json(path.with_suffix(".json").read_bytes())
        staged = _staged(path, str(about["sha256"]))
    except FileNotFoundError:
        return
    if staged.is_file():
        os.replace(staged, path)


def _staged(path: Path, digest: str) -> Path:
    return path.with_name(f".{path.name}.{digest[:16]}.lth-next")


def _checksum(about: Mapping) -> str:
    text = json.dumps({k: v for k, v in about.items() if k != "checksum"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _check_no_other_files(path: Path) -> None:
    """Raise a ValueError if somebody's own files stand where a record is to be written."""
    about = path.with_suffix(".json")
    if not about.is_file():
        found = [each for each in (path, about) if each.exists()]
    else:
        try:
            known = read_json(about.read_bytes())
        except ValueError:
            known = None
        found = [] if isinstance(known, dict) and {"schema", "sha256"} <= set(known) else [about]
    if found:
        raise ValueError(
            f"{found[0]} is no record of this package, and would be overwritten; name another "
            f"record or root"
        )


def _writer(provenance: Mapping) -> str:
    known = provenance.get("versions")
    version = known.get("lth_tutorial", "unknown") if isinstance(known, Mapping) else "unknown"
    return f"lth_tutorial {version}, commit {provenance.get('commit', 'unknown')}"


def records_folder(root: str | Path | None) -> Path:
    """Return the folder of the package's own records, or the one that is asked for."""
    return Path(str(files("lth_tutorial") / "_data" / "records")) if root is None else Path(root)
