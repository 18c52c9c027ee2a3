"""Claims and verdicts: what the papers say, and what our rows say about it.

`rules` says what a claim is and how its verdict follows; each chapter declares its claims in a
module of its own. `claims()` is the table of them all, computed from the recorded rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lth_tutorial.claims import (
    chapter_01,
    chapter_02,
    chapter_03,
    chapter_04,
    chapter_05,
    chapter_06,
    chapter_07,
    chapter_08,
    chapter_09,
    chapter_10,
    chapter_10_live,
    chapter_11,
    chapter_12,
    chapter_13,
    chapter_14,
    quarrel,
)
from lth_tutorial.claims.rules import Claim, Effect
from lth_tutorial.results.intervals import Interval
from lth_tutorial.results.records import load_rows, recorded, widen
from lth_tutorial.runtime import choose
from lth_tutorial.safety.arguments import at_least, checked

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Claim", "CLAIMS", "claims"]

CLAIMS: tuple[Claim, ...] = (
    *chapter_01.CLAIMS,
    *chapter_02.CLAIMS,
    *chapter_03.CLAIMS,
    *chapter_04.CLAIMS,
    *chapter_05.CLAIMS,
    *quarrel.CLAIMS,
    *chapter_06.CLAIMS,
    *chapter_07.CLAIMS,
    *chapter_08.CLAIMS,
    *chapter_09.CLAIMS,
    *chapter_10.CLAIMS,
    *chapter_10_live.CLAIMS,
    *chapter_11.CLAIMS,
    *chapter_12.CLAIMS,
    *chapter_13.CLAIMS,
    *chapter_14.CLAIMS,
)


@checked
def claims(
    rows: Mapping[str, pd.DataFrame] | None = None,
    *,
    chapter: int | None = None,
    level: str | None = None,
    record: str | None = None,
) -> pd.DataFrame:
    """Return the claims table, its verdicts computed from rows now.

    Args:
        rows: wide rows by record name that replace the recorded ones, e.g. those of a live run.
            Claims that are measured in their chapter only are listed where their rows are given.
        chapter: only the claims of this chapter.
        level: only "live" (the embedded digits) or only "full scale".
        record: only the claims that this record decides.

    Returns:
        one row per claim: chapter, claim, source, setting, criterion, n, effect (mean and 95 %
        interval), verdict, level, record, key.
    """
    import pandas as pd

    if level is not None:
        choose("level", level, ("live", "full scale"))
    if record is not None:
        choose("record", record, dict.fromkeys(claim.record for claim in CLAIMS))
    if chapter is not None:
        at_least("chapter", chapter, 0)
    rows = rows or {}
    for name in rows:
        choose("record", name, dict.fromkeys(claim.record for claim in CLAIMS))
    available = _Rows(rows)
    selected = [
        claim
        for claim in CLAIMS
        if chapter in (None, claim.chapter)
        and level in (None, claim.level)
        and record in (None, claim.record)
        and (not claim.live_only or claim.record in rows)
    ]
    return pd.DataFrame([_table_row(claim, *available(claim.record)) for claim in selected])


class _Rows:
    """Wide rows and how they came about, by record name, each table read once."""

    def __init__(self, given: Mapping[str, pd.DataFrame]) -> None:
        self.tables = {name: (rows, "") for name, rows in given.items()}

    def __call__(self, name: str) -> tuple[pd.DataFrame | None, str]:
        if name not in self.tables:
            if name in recorded():
                rows = load_rows(name)
                self.tables[name] = widen(rows), _apart(rows)
            else:
                self.tables[name] = None, ""
        return self.tables[name]


def _apart(rows: pd.DataFrame) -> str:
    """Return in words what sets a record apart from the full run on the named data, if anything."""
    about, scale = rows.attrs.get("provenance", {}), float(rows["scale"].iloc[0])
    data = str(rows["data"].iloc[0])
    found = [] if scale == 1 else [f"run at scale {scale:g}: {scale:.0%} of the steps"]
    if data.startswith("folder-"):
        found.append(f"measured on {data}")
    devices = {str(entry.get("device")) for entry in about.get("tasks", [])}
    if len(devices) > 1:
        found.append(f"on {len(devices)} kinds of device")
    return f" ({'; '.join(found)})" if found else ""


def _table_row(claim: Claim, rows: pd.DataFrame | None, apart: str) -> dict:
    settings = claim.settings
    named = len(settings) > 1

    def lines(texts: Sequence[str]) -> str:
        pairs = zip(settings, texts, strict=True)
        return "; ".join(f"{s.name}: {text}" if named else text for s, text in pairs)

    intervals = (
        [[e.interval(rows) for e in s.effects] for s in settings] if rows is not None else []
    )
    effects = [
        _describe(s.effects, each) or "–"
        for s, each in zip(settings, intervals, strict=bool(intervals))
    ]
    return {
        "chapter": claim.chapter,
        "claim": claim.statement,
        "source": claim.source,
        "setting": f"{claim.network}{apart}, {' / '.join(s.name for s in settings)}",
        "criterion": lines([s.criterion() for s in settings]),
        "n": min((i.n for each in intervals for i in each), default=0),
        "effect": lines(effects) if effects else "–",
        "verdict": claim.verdict(rows),
        "level": claim.level,
        "record": claim.record,
        "key": claim.key,
    }


def _describe(effects: Sequence[Effect], intervals: Sequence[Interval]) -> str:
    """Return the measured effects, each with its name where there are several."""
    pairs = [(e, i) for e, i in zip(effects, intervals, strict=True) if i.n]
    return "; ".join(
        f"{effect.name}: {effect.describe(interval)}"
        if len(effects) > 1
        else effect.describe(interval)
        for effect, interval in pairs
    )
