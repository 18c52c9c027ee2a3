"""Named experiments, each defined once: the settings behind the records that chapters show.

`python -m lth_tutorial.experiments list` says what there is, `show NAME` prints the settings and
what they cost, `run NAME` measures what its record lacks, in the time there is and on the machines
there are, `merge` joins what several machines measured, `status` says how far all of it is, and
`pack NAME` writes packed tickets of the best runs. Read `design` first (what an experiment consists
of), then `running` (how it is measured piece by piece); most other modules define the experiments,
chapter by chapter.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.experiments import (
    after_pruning,
    criteria,
    early,
    generalised,
    looks,
    pruned_random,
    quarrel,
    short,
    spiral,
    stability,
    structured,
    supermasks,
    winning_tickets,
)
from lth_tutorial.experiments.design import Experiment, scaled
from lth_tutorial.experiments.running import jobs_of, run_job
from lth_tutorial.experiments.settings import changed_settings, check_same
from lth_tutorial.results.tasks import join
from lth_tutorial.runtime import choose

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "EXPERIMENTS", "Experiment", "changed_settings", "check_same", "experiment", "run", "scaled",
]  # fmt: skip

EXPERIMENTS: tuple[Experiment, ...] = (
    *winning_tickets.EXPERIMENTS,
    *quarrel.EXPERIMENTS,
    *stability.EXPERIMENTS,
    *after_pruning.EXPERIMENTS,
    *structured.EXPERIMENTS,
    *criteria.EXPERIMENTS,
    *early.EXPERIMENTS,
    *supermasks.EXPERIMENTS,
    *pruned_random.EXPERIMENTS,
    *generalised.EXPERIMENTS,
    *looks.EXPERIMENTS,
    *short.EXPERIMENTS,
    *spiral.EXPERIMENTS,
)


def experiment(name: str) -> Experiment:
    """Return the experiment of that name.

    Raises:
        ValueError: if there is none; names the nearest.
    """
    choose("experiment", name, [each.name for each in EXPERIMENTS])
    return next(each for each in EXPERIMENTS if each.name == name)


def run(
    design: Experiment, data: Dataset, *, scale: float = 1.0, workdir: str | Path | None = None
) -> tuple[pd.DataFrame, dict]:
    """Run an experiment as a whole and return its long rows and their provenance.

    Args:
        data: usually `load_dataset(design.dataset)`; its name is written into the rows.
        scale: see `scaled`.
        workdir: folder to continue from, as for `lottery_experiment`.
    """
    chosen = scaled(design, scale)
    folder = None if workdir is None else Path(workdir)
    tasks = [task for job in jobs_of(chosen, scale) for task in run_job(job, data, folder)]
    parts = [json.loads(json.dumps(asdict(part))) for part in chosen.parts]
    rows, about = join(tasks, parts)
    command = command_of(design, data.name, data.device.type, scale)
    return rows, {"command": command, **about, "scale": scale, "data": data.name}


def command_of(design: Experiment, data: str, device: str, scale: float) -> str:
    """Return the command that measures an experiment."""
    option = "" if scale == 1 else f" --scale {scale:g}"
    option += "" if data == design.dataset else f" --data {data.replace('folder-', 'folder:', 1)}"
    option += "" if device == "cpu" else f" --device {device}"
    return f"python -m lth_tutorial.experiments run {design.name}{option}"
