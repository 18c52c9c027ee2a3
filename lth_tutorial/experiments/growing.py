"""A record that grows: what it has, what it lacks, and how a finished task gets into it.

A record is written whenever a job is finished, so that it is shown as far as it goes. One that was
measured otherwise (at a smaller scale, on other data, by other settings) is replaced only when the
new one is complete.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lth_tutorial.experiments.design import Experiment, groups_of_seeds, scaled
from lth_tutorial.experiments.running import Job
from lth_tutorial.experiments.settings import changed_settings, differences
from lth_tutorial.results.records import load_rows, record_path, recorded, save_rows
from lth_tutorial.results.tasks import Task, combine, join, split, to_bytes
from lth_tutorial.safety.files import write_atomically


@dataclass
class Growing:
    """A record on its way.

    Attributes:
        design: the experiment as it is defined.
        scale: of its steps.
        data: name of the data set.
        out: folder of the record; None for the package's own.
        tasks: those that are finished, by part and seed.
        other: what distinguishes the record that stands in `out`, if it is another one.
        command: what measures all of it.
    """

    design: Experiment
    scale: float
    data: str
    out: str | Path | None
    tasks: dict[tuple[str, int], Task] = field(default_factory=dict)
    other: str = ""
    command: str = ""

    def jobs(self) -> list[Job]:
        """Return the jobs of which a task is missing."""
        chosen = scaled(self.design, self.scale)
        every = [
            Job(chosen, self.scale, index, seeds)
            for index in range(len(chosen.parts))
            for seeds in groups_of_seeds(chosen)
        ]
        for job in every:
            self._check_group(job)
        return [job for job in every if any(key not in self.tasks for key in job.keys)]

    def _check_group(self, job: Job) -> None:
        done = [key for key in job.keys if key in self.tasks]
        if done and len(done) < len(job.keys):
            rest = len(job.keys) - len(done)
            raise ValueError(
                f"{job.describe()}: of these, {len(done)} were measured without the others, and "
                f"rows depend on which seeds are trained side by side; say together="
                f"({len(done)}, {rest}) in its definition, so that the rest is a group of its own"
            )

    @property
    def size(self) -> int:
        """How many tasks the record has when it is complete."""
        return len(self.design.parts) * len(self.design.seeds)

    def add(self, tasks: Iterable[tuple[str, Task]], prefer: str = "") -> list[tuple[str, Task]]:
        """Add finished tasks, each with the name of its source; return those set aside.

        Raises:
            ValueError: if a task was measured otherwise, or has other rows than its twin; then
                none is added.
        """
        tasks = list(tasks)
        for source, task in tasks:
            self._check(source, task)
        here = [("the record", task) for task in self.tasks.values()]
        kept, aside = combine([*here, *tasks], prefer)
        self.tasks = {task.key: task for task in kept}
        return aside

    def _check(self, source: str, task: Task) -> None:
        parts = {part.label: part for part in scaled(self.design, self.scale).parts}
        if task.record != self.design.name:
            found = [f"record: {task.record!r} there, {self.design.name!r} here"]
        elif task.part not in parts:
            found = [f"part: {task.part!r} there, none here"]
        else:
            part = parts[task.part]
            found = differences(task.settings, part, part.label or "part 0")
        for column, here in (("data", self.data), ("scale", self.scale)):
            there = task.rows[column].iloc[0]
            if there != here:
                found.append(f"{column}: {there!r} there, {here!r} here")
        there = task.about.get("fingerprint")  # tasks of earlier versions have none
        known = (each.about.get("fingerprint") for each in self.tasks.values())
        here = next(filter(None, known), there)
        if there and there != here:
            found.append(f"the examples of {self.data}: {there[:12]}… there, {here[:12]}… here")
        if found:
            raise ValueError(
                f"{source} has tasks of {task.record} that were measured otherwise "
                f"({'; '.join(found)}); rows of two settings do not mix"
            )

    def write(self) -> Path | None:
        """Write the record as far as it goes; None while it must not replace another."""
        if not self.tasks or (self.other and len(self.tasks) < self.size):
            return None
        chosen = scaled(self.design, self.scale)
        parts = [json.loads(json.dumps(asdict(part))) for part in chosen.parts]
        rows, about = join(list(self.tasks.values()), parts)
        about = {"command": self.command, **about, "scale": self.scale, "data": self.data}
        about["of"] = {"seeds": list(self.design.seeds), "parts": len(parts)}
        path = save_rows(rows, self.design.name, about, root=self.out)
        self.other = ""
        return path

    def keep_aside(self, aside: Iterable[tuple[str, Task]]) -> list[Path]:
        """Write tasks that were set aside beside the record, and return the files."""
        folder = record_path(self.design.name, root=self.out).with_suffix(".aside")
        paths = []
        for _, task in aside:
            content = to_bytes(task)
            same = [path for path in folder.glob(f"{task.name}*") if path.read_bytes() == content]
            path = same[0] if same else folder / f"{task.name}.{len(list(folder.glob('*')))}"
            if not same:
                write_atomically(path, content)
            paths.append(path)
        return paths


def growing(
    design: Experiment, scale: float, data: str, out: str | Path | None, *, anew: bool = False
) -> Growing:
    """Return a record with the tasks that stand in its folder already.

    Args:
        data: name of the data set that the rest is to be measured on.
        anew: take nothing from there.

    Raises:
        ValueError: if the record there is damaged.
    """
    found = Growing(design, scale, data, out)
    if design.name not in recorded(root=out):
        return found
    rows = load_rows(design.name, root=out)
    found.other = "" if not anew else "all is measured anew"
    about: Mapping = rows.attrs["provenance"]
    if about["scale"] != scale:
        found.other = f"scale {about['scale']:g}"
    elif about["data"] != data:
        found.other = f"data {about['data']}"
    elif changed := changed_settings(design, about):
        found.other = "; ".join(changed)
    if not found.other:
        found.tasks = {task.key: task for task in split(rows)}
    return found
