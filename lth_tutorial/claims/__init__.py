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
from lth_tutorial.claims.afterwards import AFTERWARDS
from lth_tutorial.claims.live import kept, live_entries, note, parts_of
from lth_tutorial.claims.rules import Claim, Part, Setting
from lth_tutorial.results.records import load_rows, recorded, widen
from lth_tutorial.results.verdicts import mark
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
    live: bool = False,
) -> pd.DataFrame:
    """Return the claims table, its verdicts computed from rows now.

    Args:
        rows: wide rows by record name that replace the recorded ones, e.g. those of a live run.
            Claims that are measured in their chapter only are listed where their rows are given.
        chapter: only the claims of this chapter.
        level: only "live" (the embedded digits) or only "full scale".
        record: only the claims that this record decides.
        live: add what each chapter measured itself when the book was last made, a row for every
            claim that it decided; a claim that has a record as well then stands there twice.
            Rows that are given come in their place.

    Returns:
        one row per claim: chapter, claim, source, setting, departs, criterion, n, effect (mean and
        95 % interval, a line for each of several settings), agree, verdict, level, measured,
        afterwards, record, key.
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
    entries = live_entries(kept().values()) if live else {}
    table = []
    for claim in CLAIMS:
        wanted = ((chapter, claim.chapter), (level, claim.level), (record, claim.record))
        if any(asked not in (None, own) for asked, own in wanted):
            continue
        if claim.key in entries and claim.record not in rows:
            table.append(_table_row(claim, parts_of(entries[claim.key]), "", "live"))
        if claim.live_only and claim.record not in rows and (claim.key in entries or not live):
            continue
        wide, apart = available(claim.record)
        parts = claim.parts(wide)
        if claim.record in rows:
            note(claim, parts)
        where = "live" if claim.record in rows else f"recorded, {SIZES[claim.level]}"
        table.append(_table_row(claim, parts, apart, where))
    return pd.DataFrame(table)


SIZES = {"live": "small", "full scale": "large"}
"""How large the setting of a record is, by the level of its claim."""


FOLLOWS = frozenset(
    f"cifar10-{name}"
    for name in (
        "conv2-imp", "edge-popup", "multi-prize", "resnet20-after-pruning", "resnet20-instability",
        "resnet20-rewinding", "vgg16-filters",
    )
) | {"mnist-lenet-imp", "mnist-lenet-instability", "subset-sums"}  # fmt: skip
"""Records in the setting of the paper whose claims they decide: its network, data and training."""


def departs(claim: Claim, apart: str) -> str:
    """Return in words how a setting departs from that of the claim's paper; "" if it does not.

    This is the one rule for all tables: settings on the digits and short protocols are smaller;
    others have the paper's network, data and training where `FOLLOWS` says so, and then depart
    only in what sets the record `apart` from the full run.
    """
    if claim.record in FOLLOWS:
        return apart.strip(" ()")
    smaller = claim.level == "live" or claim.record.endswith("-short")
    return "smaller than the paper's" if smaller else "another network or training than the paper's"


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


def _table_row(claim: Claim, parts: Sequence[Part], apart: str, measured: str) -> dict:
    settings, names = claim.settings, [s.name for s in claim.settings if s.name]
    named = len(settings) > 1
    verdicts = claim.by_setting(parts) if parts else {}
    effects = [
        (f"{mark(verdict)} {s.name}: " if named else "") + (_describe(s, parts) or "–")
        for s, verdict in zip(settings, verdicts.values(), strict=bool(parts))
    ]
    criteria = [(f"{s.name}: " if named else "") + s.criterion() for s in settings]
    return {
        "chapter": claim.chapter,
        "claim": claim.statement,
        "source": claim.source,
        "setting": ", ".join(filter(None, [claim.network + apart, " / ".join(names)])),
        "departs": departs(claim, apart),
        "criterion": "; ".join(criteria),
        "n": min((part.interval.n for part in parts), default=0),
        "effect": "\n".join(effects) or "–",
        "agree": agreement(parts),
        "verdict": claim.joined(parts),
        "level": claim.level,
        "measured": measured,
        "afterwards": AFTERWARDS.get(claim.key, ""),
        "record": claim.record,
        "key": claim.key,
    }


def agreement(parts: Sequence[Part]) -> str:
    """Return in one sentence how many seeds agree, e.g. "18 of 24 seeds agree."; "" without any."""
    counts = [(part.agree, part.interval.n) for part in parts if part.interval.n]
    if not counts:
        return ""
    sizes = {n for _, n in counts}
    if len(counts) == 1 or len(set(counts)) == 1:
        each = " in each comparison" if len(counts) > 1 else ""
        return f"{counts[0][0]} of {counts[0][1]} seeds agree{each}."
    if len(sizes) == 1:
        listed, all_of = [str(agree) for agree, _ in counts], f" of {sizes.pop()}"
    else:
        listed, all_of = [f"{agree} of {n}" for agree, n in counts], ""
    return f"{', '.join(listed[:-1])} and {listed[-1]}{all_of} seeds agree, in the order above."


def _describe(setting: Setting, parts: Sequence[Part]) -> str:
    """Return the measured effects of a setting, each with its name where there are several."""
    effects = {effect.name: effect for effect in setting.effects}
    found = [part for part in parts if part.setting == setting.name and part.interval.n]
    return "; ".join(
        (f"{part.effect}: " if len(effects) > 1 else "")
        + effects[part.effect].describe(part.interval)
        for part in found
    )
