"""How far all records are: one line per part, with the time that is left on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lth_tutorial.experiments import EXPERIMENTS, experiment
from lth_tutorial.experiments.budget import in_words
from lth_tutorial.experiments.cost import DEVICES, part_costs
from lth_tutorial.experiments.growing import Growing, growing
from lth_tutorial.experiments.merging import folder_name
from lth_tutorial.experiments.provenance import device_at_hand
from lth_tutorial.results.records import load_provenance, recorded

MARKS = {"done": "■", "in part": "◧", "missing": "·"}
"""How the states of a task are drawn."""


@dataclass(frozen=True)
class Line:
    """The state of one part of a record.

    Attributes:
        record, part: names.
        states: of the seeds in order: "done", "in part" (a checkpoint is there) or "missing".
        seconds: that the rest would take on the device at hand; None if unknown.
    """

    record: str
    part: str
    states: tuple[str, ...]
    seconds: float | None


def lines_of(
    record: Growing, workdir: Path, seconds_per_task: Sequence[float | None]
) -> list[Line]:
    """Return the states of all parts of a record.

    Args:
        workdir: where checkpoints would be.
        seconds_per_task: estimate by part, on the device at hand.
    """
    begun = {key for job in record.jobs() if job.folder(workdir).is_dir() for key in job.keys}
    found = []
    for part, each in zip(record.design.parts, seconds_per_task, strict=True):
        states = tuple(
            "done" if (part.label, seed) in record.tasks
            else "in part" if (part.label, seed) in begun else "missing"
            for seed in record.design.seeds
        )  # fmt: skip
        left = sum(state != "done" for state in states)
        seconds = 0.0 if not left else None if each is None else left * each
        found.append(Line(record.design.name, part.label, states, seconds))
    return found


def status(names: Sequence[str], out: str | Path | None, device: str, runs: Path) -> list[Line]:
    """Return the state of every part of the named experiments, or of all.

    The record of an experiment is the one that stands in `out`; where there is none, one at full
    scale on the experiment's own data is meant.

    Raises:
        ValueError: for a name that no experiment has, or a damaged record.
    """
    lines: list[Line] = []
    for design in [experiment(name) for name in names] or EXPERIMENTS:
        scale, data = 1.0, design.dataset
        if design.name in recorded(root=out):
            about = load_provenance(design.name, root=out)
            scale, data = about["scale"], about["data"]
        record = growing(design, scale, data, out)
        workdir = runs / folder_name(design.name, data, scale)
        lines += lines_of(record, workdir, _seconds_per_task(record, device))
    return lines


def _seconds_per_task(record: Growing, device: str) -> list[float | None]:
    """Return seconds by part: as measured on this device, or estimated if it is a known one."""
    here = device_at_hand(device)
    if len(record.tasks) == record.size:
        return [0.0 for _ in record.design.parts]
    known = next((name for name in DEVICES if name in here), None)
    known = "H200" if "H100" in here else "CPU core" if here.startswith("CPU") else known
    costs = part_costs(record.design) if known else []
    found: list[float | None] = []
    for i, part in enumerate(record.design.parts):
        own = [t for t in record.tasks.values() if t.part == part.label]
        timed = [t.about["seconds"] for t in own if t.about.get("device") == here]
        if timed:
            found.append(sum(timed) / len(timed))
        elif known and costs[i] is not None:
            minutes = costs[i].minutes[known] * record.scale
            found.append(60 * minutes / len(record.design.seeds))
        else:
            found.append(None)
    return found


def table(lines: Sequence[Line]) -> str:
    """Return lines as a table to print."""
    width = max(len(line.record) for line in lines)
    parts = max((len(line.part) for line in lines), default=0)
    seeds = max(len(line.states) for line in lines)
    rows = [f"{'record':{width}}  {'part':{parts}}  {'seeds':{max(seeds, 5)}}  left"]
    for line in lines:
        marks = "".join(MARKS[state] for state in line.states)
        left = "?" if line.seconds is None else in_words(line.seconds) if line.seconds else "–"
        rows.append(f"{line.record:{width}}  {line.part:{parts}}  {marks:{max(seeds, 5)}}  {left}")
    legend = ", ".join(f"{mark} {state}" for state, mark in MARKS.items())
    return "\n".join([*rows, f"one mark per seed: {legend}"])
