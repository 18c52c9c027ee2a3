"""The command `run`: measure what records lack, in the time there is, and write it as it comes."""

from __future__ import annotations

import argparse
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.data.sources import check_known, load_dataset
from lth_tutorial.experiments import command_of, experiment
from lth_tutorial.experiments.budget import in_words
from lth_tutorial.experiments.design import Experiment, scaled
from lth_tutorial.experiments.growing import growing
from lth_tutorial.experiments.merging import ANEW, IDENTITY, claim_workdir, folder_name
from lth_tutorial.experiments.running import (
    Budget,
    Job,
    finished_tasks,
    keep_tasks,
    rate_key,
    run_jobs,
    steps_of,
)
from lth_tutorial.experiments.shipping import SHIPPED
from lth_tutorial.experiments.tickets import has_tickets, pack_tickets
from lth_tutorial.results.objects import check_place
from lth_tutorial.results.records import (
    load_provenance,
    load_rows,
    record_path,
    recorded,
    records_folder,
)
from lth_tutorial.results.tasks import SUFFIX, Task
from lth_tutorial.runtime import choose, limit_threads
from lth_tutorial.safety.files import check_writable, remove_run, write_atomically
from lth_tutorial.safety.locks import only_worker, only_writer
from lth_tutorial.safety.watch import Watch
from lth_tutorial.supermask.shipped import shipped_folder
from lth_tutorial.variants.shipped import shipped_files

TERMINATED = "the process was asked to end"


class Run:
    """One experiment of a call of `run`: its data, its record, and where it works."""

    def __init__(self, design: Experiment, data: Dataset, options: argparse.Namespace) -> None:
        self.design, self.data, self.options = design, data, options
        scale = options.scale
        self.record = growing(design, scale, data.name, options.out, anew=options.anew)
        device = options.device.partition(":")[0]
        self.record.command = command_of(design, data.name, device, scale)
        self.workdir = workdir_of(design, data.name, scale, options)
        self.store = options.store or self.workdir / "tasks"

    def open(self, stack: ExitStack) -> None:
        """Keep other runs away, and take in what was finished before."""
        check_writable(records_folder(self.options.out))
        record = record_path(self.design.name, root=self.options.out)
        stack.enter_context(only_writer(record, wait=0))
        stack.enter_context(only_worker(self.workdir, wait=0))
        if self.workdir.exists() and any(self.workdir.glob("part_*")):
            print(f"continuing from {self.workdir}")
        claim_workdir(self.workdir, self.design, self.options.scale, self.data.name)
        check_place(self.store)
        self.options.begun_in = [*getattr(self.options, "begun_in", []), self.workdir]
        found = [(str(self.store), t) for t in finished_tasks(self.store, self.design)]
        if found:
            self.record.add(found)
            self.record.write()

    def jobs(self) -> list[Job]:
        """Return what is left, of the parts that were asked for."""
        asked = self.options.part
        for label in asked or ():
            choose("part", label, [part.label for part in self.design.parts])
        return [job for job in self.record.jobs() if not asked or job.part.label in asked]

    def take(self, job: Job) -> bool:
        """Take in the tasks of a job that another machine finished in the same store."""
        if self.options.store is None:  # a folder of this run alone
            return False
        there = finished_tasks(self.store, self.design, job.keys)
        if len(there) < len(job.keys):
            return False
        self.record.add([(str(self.store), task) for task in there])
        self.record.write()
        size = self.record.size
        print(f"{job.describe()}: found in {self.store}, {len(self.record.tasks)} of {size} tasks")
        return True

    def finish(self, job: Job, tasks: Sequence[Task]) -> None:
        """Write the tasks of a job, one by one, and the record with them.

        What another machine wrote into the same store meanwhile stays there as it is.
        """
        there = finished_tasks(self.store, self.design, job.keys)
        names = {task.name for task in there}
        keep_tasks(self.store, [task for task in tasks if task.name not in names])
        aside = self.record.add(
            [*((str(self.store), task) for task in there), *(("this run", task) for task in tasks)]
        )
        self.record.keep_aside(aside)
        path = self.record.write()
        where = f"wrote {path}" if path else f"kept in {self.store}"
        print(f"{job.describe()}: {where}, {len(self.record.tasks)} of {self.record.size} tasks")
        ship(self.design, self.options.out, job.folder(self.workdir))
        is_ours = self.options.workdir is None
        if is_ours and not getattr(job.part, "packed", ()):
            remove_job(job.folder(self.workdir))

    def close(self) -> None:
        """Pack tickets of a record that is complete, and remove the folder it was made in."""
        if len(self.record.tasks) < self.record.size:
            return
        if self.options.scale == 1 and self.options.data is None and has_tickets(self.design):
            rows = load_rows(self.design.name, root=self.options.out)
            if all(job.is_dir() for job in self._packed()):
                pack(self.design, self.data, rows, self.options.out, self.workdir)
            else:
                print(f"this packs the best tickets: pack {self.design.name}")
        if self.options.workdir is None:
            for folder in self.workdir.glob("part_*"):
                remove_job(folder)
            remove_run(self.workdir / "tasks", also=rf".*{re.escape(SUFFIX)}")
            remove_run(self.workdir, also=re.escape(IDENTITY))

    def _packed(self) -> list[Path]:
        parts = scaled(self.design, 1).parts
        return [
            self.workdir / f"part_{i}" for i, part in enumerate(parts)
            if getattr(part, "packed", ())
        ]  # fmt: skip


def run_all(options: argparse.Namespace) -> int:
    """Measure what the records of the named experiments lack; return the exit status."""
    designs = [experiment(name) for name in dict.fromkeys(options.names)]
    for design in designs:
        scaled(design, options.scale)  # refuses a wrong scale before anything is loaded
        check_replaceable(design, options)
    budget, watch = Budget(options.budget, options.spent), Watch()
    limit_threads()
    loaded: dict[str, Dataset] = {}
    runs: dict[str, Run] = {}
    with ExitStack() as stack:
        stack.enter_context(ending_cleanly(watch))
        for design in designs:
            name = options.data or design.dataset
            if name not in loaded:
                # On a cluster the nodes hold the device, not this machine.
                device = options.device if options.ray is None else "cpu"
                loaded[name] = load_dataset(name, root=options.root, device=device)
                check_known(loaded[name])
            runs[design.name] = Run(design, loaded[name], options)
            runs[design.name].open(stack)
        for run in runs.values():
            if not run.record.jobs():
                print(
                    f"{run.design.name}: the record has all {run.record.size} tasks; --anew "
                    f"measures them again"
                )
        jobs = [job for run in runs.values() for job in run.jobs()]
        if options.ray is None:
            left = run_jobs(jobs, runs, budget=budget, watch=watch)
        else:
            from lth_tutorial.experiments.cluster import cluster, run_on_cluster

            with cluster(options.ray) as ray:
                left = run_on_cluster(
                    jobs, runs, ray, device=options.device, share=options.share, budget=budget,
                    watch=watch,
                )  # fmt: skip
        for run in runs.values():
            run.close()
        if left:
            tell_rest(left, runs, budget, watch, some=len(left) < len(jobs))
    return 143 if watch.reason == TERMINATED else 0


def tell_rest(
    left: Sequence[Job], runs: dict[str, Run], budget: Budget, watch: Watch, *, some: bool
) -> None:
    """Say what is left, and what it would take."""
    print(f"stopped: {watch.reason}; left:")
    for job in left:
        run, rate = runs[job.design.name], budget.rates.get(rate_key(job))
        time = "" if rate is None else f": about {in_words(rate * steps_of(job, run.data))} in all"
        begun = " (begun)" if job.folder(run.workdir).is_dir() else ""
        print(f"    {job.describe()}{begun}{time}")
    if not some and budget.seconds is not None and watch.reason != TERMINATED:
        print(
            f"the budget of {in_words(budget.seconds)} was too short for any of them as a whole; "
            f"what was computed is kept"
        )
    places = dict.fromkeys(str(runs[job.design.name].workdir) for job in left)
    print(f"the same command goes on from {', '.join(places)}; merge takes that folder elsewhere")


@contextmanager
def ending_cleanly(watch: Watch) -> Iterator[None]:
    """Make a request to end (SIGTERM) a clean stop, as when a machine is taken away."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        watch.reason = TERMINATED

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def check_replaceable(design: Experiment, options: argparse.Namespace) -> None:
    """Raise a ValueError if a record of a larger scale would be replaced by this run."""
    if design.name in recorded(root=options.out):
        existing = load_provenance(design.name, root=options.out)["scale"]
        if existing > options.scale:
            raise ValueError(
                f"there is a record of {design.name} at scale {existing:g}, which a run at scale "
                f"{options.scale:g} would replace; name another folder with --out"
            )


def workdir_of(design: Experiment, data: str, scale: float, options: argparse.Namespace) -> Path:
    """Return the folder in which a run keeps its checkpoints."""
    if options.workdir is not None:
        several = len(options.names) > 1
        return Path(options.workdir) / design.name if several else Path(options.workdir)
    return runs_folder() / (folder_name(design.name, data, scale) + (ANEW if options.anew else ""))


def runs_folder() -> Path:
    """Return the folder of all working directories that nobody named."""
    return Path.home() / ".cache" / "lth_tutorial" / "runs"


def remove_job(folder: Path) -> None:
    """Remove what a job wrote into its folder, and nothing else."""
    remove_run(folder / SHIPPED, also=".*")
    remove_run(folder, also=r"clock\.json")


def ship(design: Experiment, out: str | None, folder: Path) -> None:
    """Copy what a part has left for the record, such as masks, to where it is loaded from."""
    for path in sorted(folder.glob(f"{SHIPPED}/*")):
        target = shipped_files(design.name, root=out) / path.name
        write_atomically(target, path.read_bytes())
        print(f"wrote {target}")


def pack(design: Experiment, data: Dataset, rows, out: str | None, workdir: Path | None) -> None:
    """Write the packed tickets of an experiment."""
    folder = shipped_folder() if out is None else Path(out)
    for path in pack_tickets(design, data, rows, folder, workdir=workdir):
        print(f"wrote {path}")
