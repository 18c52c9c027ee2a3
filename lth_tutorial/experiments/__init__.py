"""Named experiments, each defined once: the settings behind the records that chapters show.

`python -m lth_tutorial.experiments list` says what there is, `show NAME` prints the settings,
`run NAME` measures it and writes rows and provenance, `extend NAME` measures the seeds that a
record lacks, and `pack NAME` writes packed tickets of its best runs. Read `design` first (what an
experiment consists of); the other modules define the experiments, chapter by chapter.
"""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
import time
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.experiments import (
    after_pruning,
    criteria,
    generalised,
    looks,
    pruned_random,
    quarrel,
    stability,
    structured,
    supermasks,
    winning_tickets,
)
from lth_tutorial.experiments.design import Experiment, scaled
from lth_tutorial.results.records import lengthen
from lth_tutorial.runtime import choose, versions
from lth_tutorial.training.checkpoints import within

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "EXPERIMENTS", "Experiment", "changed_settings", "check_same", "experiment", "extend",
    "missing_seeds", "run", "scaled",
]  # fmt: skip

EXPERIMENTS: tuple[Experiment, ...] = (
    *winning_tickets.EXPERIMENTS,
    *quarrel.EXPERIMENTS,
    *stability.EXPERIMENTS,
    *after_pruning.EXPERIMENTS,
    *structured.EXPERIMENTS,
    *criteria.EXPERIMENTS,
    *supermasks.EXPERIMENTS,
    *pruned_random.EXPERIMENTS,
    *generalised.EXPERIMENTS,
    *looks.EXPERIMENTS,
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


def extend(
    design: Experiment, data: Dataset, rows: pd.DataFrame, *, workdir: str | Path | None = None
) -> tuple[pd.DataFrame, dict]:
    """Measure the seeds that a record lacks; return all its long rows and their provenance.

    Scale and data are those of the record. Commit, versions, device and date are those of the new
    seeds, the time is that of all; those of the earlier ones stand in `earlier`.

    Args:
        rows: of the record, with their provenance, as from `load_rows`.

    Raises:
        ValueError: if the record has all seeds, or was measured with other settings or data.
    """
    import pandas as pd

    about = rows.attrs["provenance"]
    seeds = missing_seeds(design, about, data.name)
    more, new = run(replace(design, seeds=seeds), data, scale=about["scale"], workdir=workdir)
    keys = ("seeds", "commit", "versions", "device", "date", "wall_time_s", "resumed")
    earlier = [*about.get("earlier", []), {key: about[key] for key in keys if key in about}]
    together = {
        "seeds": sorted([*about["seeds"], *seeds]),
        "wall_time_s": round(about["wall_time_s"] + new["wall_time_s"], 1),
        "earlier": earlier,
    }
    return pd.concat([rows, more], ignore_index=True), {**new, **together}


def missing_seeds(design: Experiment, about: dict, data: str) -> tuple[int, ...]:
    """Return the seeds of an experiment that are not in its record yet.

    Args:
        about: the provenance of the record.
        data: name of the data set that the other seeds are to be measured on.

    Raises:
        ValueError: if there are none, or the record was measured with other settings or data.
    """
    check_same(design, about, data)
    seeds = tuple(seed for seed in design.seeds if seed not in about["seeds"])
    if not seeds:
        raise ValueError(
            f"the record of {design.name} has all {len(design.seeds)} seeds of the experiment; "
            f"name more in its definition first"
        )
    return seeds


def check_same(design: Experiment, about: dict, data: str) -> None:
    """Raise a ValueError if a record was measured with other settings or data than these."""
    changed = changed_settings(design, about)
    if about["data"] != data:
        changed.append(f"data: {about['data']!r} there, {data!r} here")
    if changed:
        raise ValueError(
            f"the record of {design.name} was measured otherwise ({'; '.join(changed)}), and rows "
            f"of two settings do not mix; use the same data, or measure all seeds anew with run"
        )


def changed_settings(design: Experiment, about: dict) -> list[str]:
    """Return in words which settings of a record are not those of its experiment any more.

    A setting that the record does not know came later: then the rule was what is its default.
    Which arms are packed changes no row and does not count.
    """
    parts, there = scaled(design, about["scale"]).parts, about["parts"]
    if len(there) != len(parts):
        return [f"{len(there)} parts there, {len(parts)} here"]
    return [
        text
        for i, (old, part) in enumerate(zip(there, parts, strict=True))
        for text in _differences(old, part, part.label or f"part {i}")
    ]


def _differences(there: dict, here: object, name: str) -> list[str]:
    """Compare what was written down of a dataclass with one of today."""
    found = [f"{name}, {key}: {there[key]!r} there, none here"
             for key in there if not hasattr(here, key)]  # fmt: skip
    for field in (field for field in fields(here) if field.name != "packed"):
        now, key = getattr(here, field.name), f"{name}, {field.name}"
        before = there.get(field.name, field.default)
        if is_dataclass(now) and isinstance(before, dict):
            found += _differences(before, now, key)
        elif _as_json(before) != _as_json(now):
            found.append(f"{key}: {before!r} there, {now!r} here")
    return found


def _as_json(value: object) -> str:
    return json.dumps(asdict(value) if is_dataclass(value) else value, default=repr)


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
