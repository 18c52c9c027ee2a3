"""Running an experiment piece by piece: jobs of tasks, a budget of time, and a clean stop.

A *job* is what is trained side by side: one part of an experiment for a group of its seeds. Which
seeds share a job is fixed by the experiment (`Experiment.together`), never by what is left or
affordable, so a run that was stopped and one that was not have equal rows on a CPU. Every task of
a job that is finished is written to a file of its own before the next one begins.
"""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.experiments.design import Experiment, Part, groups_of_seeds
from lth_tutorial.experiments.provenance import circumstances
from lth_tutorial.results.objects import names_of, read_object, write_object
from lth_tutorial.results.records import lengthen
from lth_tutorial.results.tasks import (
    SUFFIX,
    Task,
    from_bytes,
    name_of,
    precision_of,
    to_bytes,
)
from lth_tutorial.safety.files import read_json, write_atomically
from lth_tutorial.safety.watch import Stopped, Watch, watching

_TRIAL = 0.02
_RESERVE = 0.03
_MARGIN = 1.1


@dataclass(frozen=True, eq=False)
class Job:
    """Tasks that are trained side by side.

    Attributes:
        design: the experiment, scaled as it is run.
        scale: of its steps.
        index: number of the part.
        seeds: a group of the experiment's seeds.
    """

    design: Experiment
    scale: float
    index: int
    seeds: tuple[int, ...]

    @property
    def part(self) -> Part:
        """The part of the experiment."""
        return self.design.parts[self.index]

    @property
    def keys(self) -> list[tuple[str, int]]:
        """The tasks: label of the part and seed."""
        return [(self.part.label, seed) for seed in self.seeds]

    def folder(self, workdir: Path) -> Path:
        """Return where its checkpoints are."""
        alone = self.seeds == self.design.seeds
        name = f"part_{self.index}"
        return workdir / (name if alone else f"{name}_seeds_{self.seeds[0]}_{self.seeds[-1]}")

    def describe(self) -> str:
        """Return experiment, part and seeds in words."""
        first, *_, last = *self.seeds, self.seeds[-1]
        seeds = f"seed {first}" if len(self.seeds) == 1 else f"seeds {first} to {last}"
        return ", ".join(filter(None, (self.design.name, self.part.label, seeds)))


def jobs_of(design: Experiment, scale: float) -> list[Job]:
    """Return the jobs of an experiment that is already scaled, in the order of their value."""
    return [
        Job(design, scale, index, seeds)
        for index in range(len(design.parts))
        for seeds in groups_of_seeds(design)
    ]


def run_job(job: Job, data: Dataset, workdir: Path | None) -> list[Task]:
    """Measure a job and return its tasks; with a folder, go on from what is there.

    Raises:
        Stopped: if a watch says so; what was computed is in the folder.
    """
    folder = None if workdir is None else job.folder(workdir)
    clock = Clock(folder)
    try:
        wide = job.part.measure(data, job.seeds, folder)
    finally:
        clock.stop()
    if job.part.label:
        wide = wide.assign(arm=f"{job.part.label}: " + wide["arm"])
    rows = lengthen(wide, record=job.design.name, data=data.name, scale=job.scale)
    settings = json.loads(json.dumps(asdict(job.part)))
    about = {
        **circumstances(data),
        "precision": precision_of(settings),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": clock.seconds / len(job.seeds),
        "at_least": clock.at_least,
        "together": list(job.seeds),
    }
    return [
        Task(
            job.design.name, job.part.label, seed, settings,
            rows[rows["seed"] == seed].reset_index(drop=True), about,
        )
        for seed in job.seeds
    ]  # fmt: skip


class Clock:
    """The seconds that a job has taken, over all the runs that it took."""

    def __init__(self, folder: Path | None) -> None:
        """Start; with a folder, on top of what its `clock.json` says."""
        self.path = None if folder is None else folder / "clock.json"
        self.started, self.before, self.at_least = time.monotonic(), 0.0, False
        if self.path is not None and self.path.exists():
            try:
                found = read_json(self.path.read_text())
                self.before = float(found["seconds"])
                # A run that did not stop its clock was killed: its seconds are lost.
                self.at_least = bool(found["at_least"] or found["running"])
            except (KeyError, TypeError, ValueError):
                self.at_least = True
        self._write(running=True)

    @property
    def seconds(self) -> float:
        """All seconds so far."""
        return self.before + time.monotonic() - self.started

    def stop(self) -> None:
        """Write down the time."""
        self._write(running=False)

    def _write(self, *, running: bool) -> None:
        if self.path is not None:
            about = {"seconds": self.seconds, "at_least": self.at_least, "running": running}
            write_atomically(self.path, json.dumps(about).encode())


def keep_tasks(store: str | Path, tasks: Sequence[Task]) -> None:
    """Write finished tasks into a folder or bucket, each into a file of its own."""
    for task in tasks:
        write_object(store, task.name, to_bytes(task))


def finished_tasks(
    store: str | Path, design: Experiment, keys: Iterable[tuple[str, int]] | None = None
) -> list[Task]:
    """Return the finished tasks of an experiment in a folder or bucket; every file is checked.

    Args:
        keys: parts and seeds of those to read; by default all.
    """
    names = [name for name in names_of(store, SUFFIX) if name.startswith(f"{design.name}.")]
    if keys is not None:
        wanted = {name_of(design.name, part, seed) for part, seed in keys}
        names = [name for name in names if name in wanted]
    return [from_bytes(read_object(store, name), f"{store}/{name}") for name in names]


@dataclass
class Budget:
    """Time to spend.

    Attributes:
        seconds: of the clock; None for no limit.
        spent: of these, when the budget is made.
        rates: seconds per step of one replicate, by what is trained; filled while running.
    """

    seconds: float | None = None
    spent: float = 0.0

    def __post_init__(self) -> None:
        self.started = time.monotonic() - self.spent
        self.rates: dict[str, float] = {}

    @property
    def trial(self) -> float:
        """Seconds of training after which it is clear whether a job can be finished."""
        return 0.0 if self.seconds is None else min(10.0, max(0.5, _TRIAL * self.seconds))

    @property
    def left(self) -> float:
        """Seconds until training has to stop: a little is kept for writing."""
        if self.seconds is None:
            return float("inf")
        return self.seconds * (1 - _RESERVE) - (time.monotonic() - self.started)


class Place(Protocol):
    """Where the jobs of an experiment are run: its data, its folders, and who takes the tasks."""

    data: Dataset
    workdir: Path
    store: str | Path

    def take(self, job: Job) -> bool:
        """Take in the tasks of a job that another machine has finished; whether there are all."""
        ...

    def finish(self, job: Job, tasks: Sequence[Task]) -> None:
        """Take the tasks of a job that is finished."""
        ...


def run_jobs(
    jobs: Sequence[Job], places: Mapping[str, Place], *, budget: Budget, watch: Watch
) -> list[Job]:
    """Run jobs while there is time; return those that are left.

    Whole ones first: a job whose first steps show that it will not be finished in time waits for
    the others. When none can be finished, the first that is left uses the time, up to a
    checkpoint.

    Args:
        places: by name of the experiment.
        watch: with a reason to stop, nothing more begins.
    """
    left, too_long = list(jobs), set()
    while left and not watch.reason:
        job = next((each for each in left if each not in too_long), left[0])
        trial, place = job not in too_long and len(left) > 1, places[job.design.name]
        if place.take(job):
            left.remove(job)
            continue
        known = budget.rates.get(rate_key(job))
        if trial and known is not None and budget.seconds is not None:
            if known * steps_of(job, place.data) * _MARGIN > budget.left:
                too_long.add(job)
                continue
        outcome = _run_one(job, place, budget, watch, trial)
        if outcome == _TOO_LONG:
            too_long.add(job)
        elif not isinstance(outcome, str):
            left.remove(job)
            place.finish(job, outcome)
    return left


_TOO_LONG = "it will not be finished in time"


def _run_one(job: Job, place: Place, budget: Budget, watch: Watch, trial: bool) -> list[Task] | str:
    """Return the tasks of a job, or why it was stopped."""
    started = time.monotonic()

    def judge(inner: Watch) -> str:
        if watch.look():
            return watch.reason
        rate = inner.seconds_per_step()
        if rate is None or time.monotonic() - inner.trained_at[0] < budget.trial:
            return ""
        budget.rates[rate_key(job)] = rate
        need = rate * (inner.total - inner.seen)
        return _TOO_LONG if trial and need * _MARGIN > budget.left else ""

    inner = Watch(deadline=time.monotonic() + budget.left, judge=judge)
    try:
        with watching(inner):
            tasks = run_job(job, place.data, place.workdir)
    except Stopped as stopped:
        reason = inner.reason or str(stopped)
        if reason != _TOO_LONG:
            watch.reason = watch.reason or reason
        return reason
    if inner.total and inner.trained_at is not None:
        trained = inner.seen - inner.trained_at[1]
        if trained >= inner.total / 2:  # what it really takes, evaluation and pruning included
            budget.rates[rate_key(job)] = (time.monotonic() - started) / trained
    return tasks


def rate_key(job: Job) -> str:
    """Return what determines how long a step of a job takes, as text."""
    part = job.part
    configs = [v for v in vars(part).values() if hasattr(v, "batch_size")]
    batches = [(c.batch_size, c.optimizer, c.precision, c.augment) for c in configs]
    model = getattr(part, "model", getattr(part, "hidden", ""))
    return f"{type(part).__name__} {model} {batches} × {len(job.seeds)}"


class _Announced(Exception):
    """The number of steps is known; nothing needs to be trained for it."""


@lru_cache(maxsize=256)
def steps_of(job: Job, data: Dataset) -> int:
    """Return how many steps a job takes, over all its replicates; 0 if it does not announce them.

    It begins, and ends where its progress bar announces its steps, or where it would train.
    """

    def stop(watch: Watch) -> None:
        raise _Announced

    watch = Watch(deadline=0.0, announced=stop)
    try:
        with watching(watch):
            job.part.measure(data, job.seeds[:1], None)
    except (_Announced, Stopped):
        pass
    bars = len(getattr(job.part, "criteria", ("one",)))  # one for each criterion
    return watch.total * bars * len(job.seeds)
