"""Joining what several machines measured: records, files of finished tasks, and checkpoints."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lth_tutorial.experiments.design import Experiment
from lth_tutorial.experiments.growing import Growing
from lth_tutorial.results.objects import is_remote, names_of, read_object
from lth_tutorial.results.records import load_rows, recorded
from lth_tutorial.results.tasks import SUFFIX, Task, from_bytes, split
from lth_tutorial.safety.files import read_json, write_atomically

IDENTITY = "experiment.json"
"""The file that says which experiment a working directory belongs to."""
ANEW = "-anew"
"""Ends the name of a working directory in which a record is measured anew."""


@dataclass(frozen=True)
class Found:
    """A finished task and where it was found."""

    source: str
    task: Task


def find_tasks(source: str | Path) -> Iterator[Found]:
    """Yield the finished tasks in a folder or bucket: of records, and in files of their own.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: naming the file, if one is damaged or of another schema.
    """
    if is_remote(source):
        for name in names_of(source, SUFFIX):
            yield Found(str(source), from_bytes(read_object(source, name), f"{source}/{name}"))
        return
    folder = Path(source)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {source}")
    for path in sorted(folder.rglob(f"*{SUFFIX}*")):
        if path.is_file() and not path.name.startswith("."):
            yield Found(str(path), from_bytes(path.read_bytes(), path))
    for place in sorted({path.parent for path in folder.rglob("*.csv")}):
        for name in recorded(root=place):
            if (place / f"{name}.csv").is_file():
                for task in split(load_rows(name, root=place)):
                    yield Found(str(place / f"{name}.csv"), task)


def by_kind(found: list[Found]) -> dict[tuple[str, str, float], list[Found]]:
    """Return tasks by the record that they belong to: name, data and scale."""
    kinds: dict[tuple[str, str, float], list[Found]] = {}
    for each in found:
        first = each.task.rows.iloc[0]
        key = each.task.record, str(first["data"]), float(first["scale"])
        kinds.setdefault(key, []).append(each)
    return kinds


def merge_into(record: Growing, found: list[Found], prefer: str) -> tuple[int, list[Path]]:
    """Add tasks to a record and write it; return how many are new, and the files of those aside.

    Raises:
        ValueError: if they were measured otherwise, or two that should be equal are not. Then
            nothing is written.
    """
    before = dict(record.tasks)
    aside = record.add([(each.source, each.task) for each in found], prefer)
    paths = record.keep_aside(aside)
    if any(before.get(key) is not task for key, task in record.tasks.items()):
        record.write()
    return len(record.tasks) - len(before), paths


def copy_checkpoints(source: str | Path, runs: Path) -> list[str]:
    """Copy unfinished jobs from working directories below a folder; return what was done in words.

    A job that is unfinished in both places stays as it is here, unless the other is further.
    """
    said = []
    for identity in sorted(Path(source).rglob(IDENTITY)) if not is_remote(source) else []:
        there = identity.parent
        name = _name_here(there)
        here = runs / name
        if here.resolve() == there.resolve():
            continue
        if (here / IDENTITY).exists() and read_identity(here) != read_identity(there):
            raise ValueError(
                f"{there} and {here} belong to different runs ({read_identity(there)} there, "
                f"{read_identity(here)} here)"
            )
        for job in sorted(path for path in there.glob("part_*") if path.is_dir()):
            target = here / job.name
            if target.exists() and size_of(job) <= size_of(target):
                said.append(f"{name}/{job.name}: what is here is as far; kept")
                continue
            here.mkdir(parents=True, exist_ok=True)
            shutil.copy2(identity, here / IDENTITY)
            _exchange(job, target)
            said.append(f"{name}/{job.name}: copied from {there}")
    return said


def _name_here(there: Path) -> str:
    """Return the name under which a run looks for a working directory, whatever it was called."""
    belongs = read_identity(there)
    try:
        name = folder_name(belongs["experiment"], belongs["data"], belongs["scale"])
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f"{there / IDENTITY} does not say which experiment the folder belongs to; it says "
            f"{belongs!r}"
        ) from None
    if Path(name).name != name:
        raise ValueError(
            f"{there / IDENTITY} names an experiment or data with a path in it: {name}"
        )
    return there.name if there.name == name + ANEW else name


def _exchange(job: Path, target: Path) -> None:
    """Put a copy of a folder in the place of another, whole or not at all.

    All happens in a new folder beside it, so nothing is removed that was not made or replaced here.
    """
    beside = Path(tempfile.mkdtemp(prefix=f".{job.name}.copy-", dir=target.parent))
    new, old = beside / "new", beside / "old"
    try:
        shutil.copytree(job, new)
        if target.exists():
            target.rename(old)
        new.rename(target)
    finally:
        if old.exists() and not target.exists():
            old.rename(target)
        shutil.rmtree(beside, ignore_errors=True)


def size_of(job: Path) -> tuple[int, float]:
    """Return how far an unfinished job is: its finished trainings, and the seconds it took."""
    clock = job / "clock.json"
    try:
        seconds = float(read_json(clock.read_text())["seconds"]) if clock.exists() else 0.0
    except (KeyError, TypeError, ValueError):
        seconds = 0.0
    done = [*job.rglob("result-*.safetensors"), *job.rglob("rows.json")]
    return len(done), seconds


def identity_of(design: Experiment, scale: float, data: str) -> dict:
    """Return what a working directory belongs to."""
    return {"experiment": design.name, "scale": scale, "data": data}


def folder_name(experiment: str, data: str, scale: float) -> str:
    """Return the name of the working directory of a run that was given none."""
    return f"{experiment}-{data}-{scale:g}"


def claim_workdir(workdir: Path, design: Experiment, scale: float, data: str) -> None:
    """Make a folder the working directory of one experiment, scale and data set.

    Raises:
        ValueError: if it is that of another.
    """
    mine = identity_of(design, scale, data)
    path = workdir / IDENTITY
    if path.exists() and read_identity(workdir) != mine:
        raise ValueError(
            f"{workdir} belongs to another run ({read_identity(workdir)} there, {mine} here); name "
            f"another workdir"
        )
    write_atomically(path, json.dumps(mine).encode())


def read_identity(workdir: Path) -> dict:
    """Return what a working directory says that it belongs to."""
    try:
        return read_json((workdir / IDENTITY).read_text())
    except ValueError:
        return {}
