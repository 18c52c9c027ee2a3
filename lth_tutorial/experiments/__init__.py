"""Named experiments, each defined once: the settings behind the records that chapters show.

`python -m lth_tutorial.experiments list` says what there is, `show NAME` prints the settings, and
`run NAME` measures it and writes rows and provenance.
"""

from __future__ import annotations

import datetime
import platform
import subprocess
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from lth_tutorial.checkpoints import within
from lth_tutorial.data import Dataset
from lth_tutorial.experiments import (
    after_pruning,
    criteria,
    pruned_random,
    stability,
    structured,
    supermasks,
    winning_tickets,
)
from lth_tutorial.experiments.design import Experiment, scaled
from lth_tutorial.records import lengthen
from lth_tutorial.runtime import choose, versions

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["EXPERIMENTS", "Experiment", "experiment", "run", "scaled"]

EXPERIMENTS: tuple[Experiment, ...] = (
    *winning_tickets.EXPERIMENTS,
    *stability.EXPERIMENTS,
    *after_pruning.EXPERIMENTS,
    *structured.EXPERIMENTS,
    *criteria.EXPERIMENTS,
    *supermasks.EXPERIMENTS,
    *pruned_random.EXPERIMENTS,
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
    """Run an experiment and return its long rows and their provenance.

    Args:
        data: usually `load_dataset(design.dataset)`; its name is written into the rows.
        scale: see `scaled`.
        workdir: folder to continue from, as for `lottery_experiment`.
    """
    import pandas as pd

    started, chosen = time.time(), scaled(design, scale)
    resumed = workdir is not None and any(Path(workdir).rglob("identity.json"))
    tables = []
    for i, part in enumerate(chosen.parts):
        wide = part.measure(data, chosen.seeds, within(workdir, f"part_{i}"))
        if part.label:
            wide = wide.assign(arm=f"{part.label}: " + wide["arm"])
        tables.append(lengthen(wide, record=design.name, data=data.name, scale=scale))
    option = "" if scale == 1 else f" --scale {scale:g}"
    option += "" if data.name == design.dataset else f" --data {data.name}"
    option += "" if data.device.type == "cpu" else f" --device {data.device.type}"
    provenance = {
        "command": f"python -m lth_tutorial.experiments run {design.name}{option}",
        "commit": _commit(),
        "versions": versions(),
        "device": _device_name(data),
        "date": datetime.date.today().isoformat(),
        "wall_time_s": round(time.time() - started, 1),
        "resumed": resumed,  # then the time is that of the last part
        "seeds": list(chosen.seeds),
        "scale": scale,
        "data": data.name,
        "parts": [asdict(part) for part in chosen.parts],
    }
    return pd.concat(tables, ignore_index=True), provenance


def _commit() -> str:
    """Return the commit that the package's code is at, marked if it has uncommitted changes."""
    package = Path(__file__).parent.parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # else it is another project's repository
        changed = git("status", "--porcelain", "--", "*.py")
        return git("rev-parse", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _device_name(data: Dataset) -> str:
    if data.device.type == "cuda":
        return versions()["cuda_device"]
    names = Path("/proc/cpuinfo")
    lines = names.read_text().splitlines() if names.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"CPU ({models[0] if models else platform.machine()})"
