"""A record is a set of finished tasks, so that it can grow piece by piece, on several machines.

A *task* is one part of an experiment for one seed: its rows, and how they came about. Tasks whose
networks train faster side by side are run together, but recorded each for itself. `split` takes a
record apart, `join` puts one together, `combine` brings tasks of several machines together, and
`to_bytes` and `from_bytes` let a task travel in a file of its own.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lth_tutorial.results.records import COLUMNS
from lth_tutorial.safety.files import read_json

if TYPE_CHECKING:
    import pandas as pd

SUFFIX = ".task.json"
SCHEMA = 1
ABOUT = (
    "commit", "versions", "device", "precision", "date", "finished", "seconds", "at_least",
    "together", "fingerprint",
)  # fmt: skip
"""What a task knows of how it came about, as far as it is known: `finished` (UTC), `seconds` (its
share of the time), `at_least` (whether some time was lost by a kill), `together` (the seeds that
were trained side by side with it) and `fingerprint` (of the data)."""
_TIMES = "second"  # metrics with this in their names are times by the clock


@dataclass(frozen=True, eq=False)
class Task:
    """A finished task.

    Attributes:
        record: name of the experiment.
        part: label of its part; empty where there is one part without a label.
        seed: of the replicate.
        settings: of the part, as it was run, so with the steps of its scale.
        rows: long rows.
        about: how they came about, with keys of `ABOUT`.
    """

    record: str
    part: str
    seed: int
    settings: Mapping
    rows: pd.DataFrame
    about: Mapping

    @property
    def key(self) -> tuple[str, int]:
        """What it measures within its record."""
        return self.part, self.seed

    @property
    def name(self) -> str:
        """The name of its file; two tasks of one record never share one."""
        return name_of(self.record, self.part, self.seed)

    @property
    def kind(self) -> tuple:
        """Where rows must come out equal: device, versions and precision."""
        used = {k: v for k, v in dict(self.about.get("versions", {})).items() if k != "cuda_device"}
        return self.about.get("device"), json.dumps(used, sort_keys=True), self.precision

    @property
    def precision(self) -> str:
        """The arithmetic it was computed in."""
        return self.about.get("precision") or precision_of(self.settings)

    def describe(self) -> str:
        """Return task, device and date in words."""
        part = f"{self.part}, " if self.part else ""
        when = self.about.get("finished") or self.about.get("date", "date unknown")
        return f"{part}seed {self.seed} ({self.about.get('device', 'device unknown')}, {when})"


def precision_of(settings: Mapping) -> str:
    """Return the arithmetic that the settings of a part ask for, e.g. "fp32" or "bf16, fp32"."""
    asked = {
        value.get("precision", "fp32")
        for value in settings.values()
        if isinstance(value, Mapping) and "steps" in value
    }
    return ", ".join(sorted(asked)) or "fp32"


def lines_of(rows: pd.DataFrame, *, times: bool = True) -> list[str]:
    """Return rows as the sorted lines of a record's table: equal lists, equal measurements."""
    if not times:
        rows = rows[~rows["metric"].str.contains(_TIMES)]
    text = rows[list(COLUMNS)].to_csv(index=False, header=False, float_format="%.6g")
    return sorted(text.splitlines())


def to_bytes(task: Task) -> bytes:
    """Return a task as the content of a file, under a checksum."""
    content = {
        "what": "a finished task of a record of lth_tutorial", "schema": SCHEMA,
        "record": task.record, "part": task.part, "seed": int(task.seed),
        "settings": task.settings, "about": dict(task.about),
        "rows": task.rows[list(COLUMNS)].to_csv(index=False, lineterminator="\n"),
    }  # fmt: skip
    text = json.dumps(content, indent=1, sort_keys=True, default=list)
    digest = hashlib.sha256(_canonical(json.loads(text)).encode()).hexdigest()
    return json.dumps({"sha256": digest, "task": json.loads(text)}, indent=1).encode()


def from_bytes(content: bytes, where: object) -> Task:
    """Return the task that `to_bytes` wrote.

    Args:
        where: name of the file, for messages.

    Raises:
        ValueError: naming the file, if it is damaged, no task, or of another schema.
    """
    import pandas as pd

    try:
        found = read_json(content)
        digest, found = found["sha256"], found["task"]
        if digest != hashlib.sha256(_canonical(found).encode()).hexdigest():
            raise ValueError("its checksum is wrong")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where} is damaged, or no finished task ({error})") from error
    if found.get("schema") != SCHEMA:
        raise ValueError(
            f"{where} has schema {found.get('schema')!r}; this version of lth_tutorial reads tasks "
            f"of schema {SCHEMA}: merge with the version that wrote it "
            f"({found.get('about', {}).get('versions', {}).get('lth_tutorial', 'unknown')})"
        )
    integers = dict.fromkeys(("seed", "round", "step"), "Int64")
    # As text first: pandas' own reader is one bit off now and then.
    texts = dict.fromkeys(("arm", "density", "value", "scale"), str)
    rows = pd.read_csv(io.StringIO(found["rows"]), dtype={**texts, **integers})
    rows = rows.astype(dict.fromkeys(("density", "value", "scale"), float))
    return Task(
        found["record"], found["part"], found["seed"], found["settings"], rows, found["about"]
    )


def split(rows: pd.DataFrame) -> list[Task]:
    """Return the tasks of a record, also of one that was written before there were tasks.

    Args:
        rows: long rows with their provenance, as from `load_rows`.
    """
    provenance = rows.attrs["provenance"]
    record = str(rows["record"].iloc[0])
    known = {
        (entry["part"], seed): entry | {"seconds": entry["seconds"][i]}
        for entry in provenance.get("tasks", [])
        for i, seed in enumerate(entry["seeds"])
    }
    settings = {part.get("label", ""): part for part in provenance["parts"]}
    labels = rows["arm"].map({arm: label_of(arm) for arm in rows["arm"].unique()})
    own = dict(list(rows.groupby([labels, rows["seed"].astype(int)], sort=False)))
    tasks = []
    for label, part in settings.items():
        seeds = [seed for part_of_it, seed in own if part_of_it == label]
        for seed in _in_order(seeds, provenance["seeds"]):
            entry = known.get((label, seed)) or _older(provenance, seed, len(settings))
            about = {key: entry[key] for key in ABOUT if key in entry}
            chosen = own[label, seed].reset_index(drop=True)
            chosen.attrs = {}
            tasks.append(Task(record, label, int(seed), part, chosen, about))
    return tasks


def label_of(arm: str) -> str:
    """Return the label of the part that an arm of a record belongs to."""
    return arm.rpartition(": ")[0]


def _in_order(present: Iterable[int], order: Sequence[int]) -> list[int]:
    present = {int(seed) for seed in present}
    return [s for s in order if s in present] + sorted(present - set(order))


def _older(provenance: Mapping, seed: int, parts: int) -> dict:
    """Return how a seed came about in a record that was written before there were tasks."""
    earlier = provenance.get("earlier", [])
    latest = {k: v for k, v in provenance.items() if k != "earlier"}
    latest["wall_time_s"] = provenance["wall_time_s"] - sum(e["wall_time_s"] for e in earlier)
    latest["seeds"] = [s for s in provenance["seeds"] if all(s not in e["seeds"] for e in earlier)]
    entry = next(e for e in [*earlier, latest] if seed in e["seeds"])
    return {
        **entry, "seconds": entry["wall_time_s"] / (parts * len(entry["seeds"])),
        "at_least": bool(entry.get("resumed")), "together": list(entry["seeds"]),
    }  # fmt: skip


def join(tasks: Sequence[Task], parts: Sequence[Mapping]) -> tuple[pd.DataFrame, dict]:
    """Return the long rows of tasks, and how they came about, as `save_rows` takes them.

    The order of the rows is that of parts and seeds, whatever order the tasks were finished in.

    Args:
        tasks: of one record, each once.
        parts: settings of all parts of the experiment, measured or not.
    """
    import pandas as pd

    order = {part.get("label", ""): i for i, part in enumerate(parts)}
    tasks = sorted(tasks, key=lambda task: (order[task.part], task.seed))
    latest = max(tasks, key=lambda task: (_when(task), task.seed)).about
    devices = dict.fromkeys(str(task.about.get("device", "unknown")) for task in tasks)
    provenance = {
        "commit": latest.get("commit", "unknown"),
        "versions": latest.get("versions", {}),
        "device": " and ".join(devices),
        "date": latest.get("date", ""),
        "wall_time_s": round(sum(task.about.get("seconds", 0.0) for task in tasks), 1),
        "resumed": any(task.about.get("at_least") for task in tasks),
        "seeds": sorted({task.seed for task in tasks}),
        "parts": list(parts),
        "tasks": _entries(tasks),
    }
    return pd.concat([task.rows for task in tasks], ignore_index=True), provenance


def _entries(tasks: Sequence[Task]) -> list[dict]:
    """Return how tasks came about, what several seeds of a part have in common once."""
    entries: list[dict] = []
    for task in tasks:
        about = {k: v for k, v in task.about.items() if k != "seconds"}
        entry = next((e for e in entries if e["part"] == task.part and e["about"] == about), None)
        if entry is None:
            entry = {"part": task.part, "seeds": [], "seconds": [], "about": about}
            entries.append(entry)
        entry["seeds"].append(task.seed)
        entry["seconds"].append(round(task.about.get("seconds", 0.0), 3))
    return [{k: v for k, v in e.items() if k != "about"} | e["about"] for e in entries]


def name_of(record: str, part: str, seed: int) -> str:
    """Return the name of a task's file."""
    label = re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-")
    digest = hashlib.sha256(part.encode()).hexdigest()[:6]
    return f"{record}.{label}-{digest}.{seed}{SUFFIX}"


def combine(
    tasks: Iterable[tuple[str, Task]], prefer: str = ""
) -> tuple[list[Task], list[tuple[str, Task]]]:
    """Return every task once, and those that are set aside with the names of their sources.

    Of tasks that measure the same, the one that was finished first stays, or the first whose
    source or device holds the text `prefer`.

    Args:
        tasks: of one record, each with the name of its source.

    Raises:
        ValueError: if the same task, on the same kind of device and with the same versions and
            precision, has other rows elsewhere: shows both.
    """
    groups: dict[tuple[str, int], list[tuple[str, Task]]] = {}
    for source, task in tasks:
        groups.setdefault(task.key, []).append((source, task))
    kept, aside = [], []
    for group in groups.values():
        group.sort(key=lambda pair: (not _preferred(pair, prefer), _when(pair[1])))
        different: list[tuple[str, Task]] = []
        for source, task in group:
            twin = next((each for each in different if each[1].kind == task.kind), None)
            if twin is None:
                different.append((source, task))
            else:
                _check_equal(twin, (source, task))
        kept.append(different[0][1])
        aside += different[1:]
    return kept, aside


def _preferred(pair: tuple[str, Task], prefer: str) -> bool:
    source, task = pair
    return bool(prefer) and (prefer in source or prefer in str(task.about.get("device")))


def _when(task: Task) -> str:
    return str(task.about.get("finished") or task.about.get("date") or "")


def _check_equal(a: tuple[str, Task], b: tuple[str, Task]) -> None:
    one, other = (lines_of(task.rows, times=False) for _, task in (a, b))
    if one == other:
        return
    only = [sorted(set(x) - set(y))[:2] or ["nothing"] for x, y in ((one, other), (other, one))]
    raise ValueError(
        f"{a[1].record}, {a[1].describe()}: two runs on the same kind of device, with the same "
        f"versions, have different rows; only {a[0]} has {'; '.join(only[0])}; only {b[0]} has "
        f"{'; '.join(only[1])}. Nothing was written: leave one of them out, or find out which is "
        f"wrong"
    )


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True)
