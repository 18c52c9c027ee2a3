"""What the chapters measured when they last ran: their verdicts, and the time it took.

A chapter computes verdicts from rows that it has just measured. Where the environment variable
`LTH_TUTORIAL_VERDICTS` names a folder, `claims` also notes them there, and the tools of the book
keep them: one small file per chapter in the package, from which the claims table has its live rows.
A build of the book compares what it measures with what is kept (tests/tools/measured.py).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from lth_tutorial.claims.rules import Claim, Part
from lth_tutorial.results.intervals import Interval

VARIABLE = "LTH_TUTORIAL_VERDICTS"
KEPT = Path(str(files("lth_tutorial"))) / "_data" / "chapters"


def note(claim: Claim, parts: Sequence[Part]) -> None:
    """Append a live verdict to the notes of its chapter, if anybody asked for them."""
    folder = os.environ.get(VARIABLE, "")
    if folder and any(part.interval.n for part in parts):
        with (Path(folder) / f"{claim.chapter:02d}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(as_entry(claim, parts), ensure_ascii=False) + "\n")


def noted(folder: Path, chapter: int) -> list[dict]:
    """Return the notes of a chapter that has run, one per claim; the last word counts."""
    path = folder / f"{chapter:02d}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return list({entry["key"]: entry for entry in map(json.loads, lines)}.values())


def as_entry(claim: Claim, parts: Sequence[Part]) -> dict:
    """Return a verdict as it is kept: the criterion it answers, and numbers of six digits."""
    return {
        "key": claim.key,
        "criterion": "; ".join(setting.criterion() for setting in claim.settings),
        "verdict": claim.joined(parts),
        "parts": [
            {
                "setting": part.setting,
                "effect": part.effect,
                "n": part.interval.n,
                "mean": _short(part.interval.mean),
                "low": _short(part.interval.low),
                "high": _short(part.interval.high),
                "agree": part.agree,
                "verdict": part.verdict,
            }
            for part in parts
        ],
    }


def parts_of(entry: dict) -> tuple[Part, ...]:
    """Return the parts of a verdict that was kept."""
    return tuple(
        Part(
            each["setting"],
            each["effect"],
            Interval(*(_number(each[end]) for end in ("mean", "low", "high")), each["n"]),
            each["agree"],
            each["verdict"],
        )
        for each in entry["parts"]
    )


@cache
def kept() -> dict[str, dict]:
    """Return what the package keeps of its chapters, by their names: seconds and verdicts."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(KEPT.glob("*.json"))
    }


def live_entries(chapters: Iterable[dict]) -> dict[str, dict]:
    """Return the verdicts of some chapters by the claim's key."""
    return {entry["key"]: entry for chapter in chapters for entry in chapter["verdicts"]}


def _short(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.6g}")


def _number(value: float | None) -> float:
    return math.nan if value is None else value
