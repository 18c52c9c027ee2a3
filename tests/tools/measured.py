"""Compare the live verdicts of a build of the book with those that are kept in the package.

Processors round differently and training amplifies it, so a fresh estimate only has to lie in the
kept 95 % interval, and a verdict may change where the interval ends near its threshold: less than
a quarter of the interval's width from it. What a clock measures is a property of the machine and of
what else it does, so that neither is compared. `make book` runs this after the pages are built.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from book_pages import HTML

from lth_tutorial.claims import CLAIMS
from lth_tutorial.claims.live import kept, noted
from lth_tutorial.claims.rules import Effect

VERDICTS = HTML.parent / "verdicts"
"""Where the chapters of a build note what they measure."""
NEAR = 0.25
"""Of the width of an interval: so far from its threshold a verdict may not change."""

EFFECTS = {
    claim.key: [effect for setting in claim.settings for effect in setting.effects]
    for claim in CLAIMS
}


def differences(
    old: Sequence[dict], new: Sequence[dict], effects: dict[str, list[Effect]] = EFFECTS
) -> list[str]:
    """Return what a chapter measured otherwise than what is kept of it, in sentences.

    Args:
        old: the verdicts kept of a chapter, each as from `as_entry`.
        new: those of the build.
        effects: of each claim by its key, for the thresholds.
    """
    before, after = ({entry["key"]: entry for entry in entries} for entries in (old, new))
    found = [f"{key}: kept, and not measured any more" for key in before if key not in after]
    found += [f"{key}: measured, and not kept" for key in after if key not in before]
    for key in before.keys() & after.keys():
        found += [f"{key}: {text}" for text in changes(before[key], after[key], effects[key])]
    return sorted(found)


def changes(old: dict, new: dict, effects: Sequence[Effect]) -> list[str]:
    """Return what differs in one claim."""
    if old["criterion"] != new["criterion"]:
        return [f"judged by “{old['criterion']}” when it was kept, now by “{new['criterion']}”"]
    found, excused = [], False
    for was, now, effect in zip(old["parts"], new["parts"], effects, strict=True):
        name = f"{was['setting']}, {was['effect']}"
        if was["n"] != now["n"]:
            found.append(f"{name}: {was['n']} seeds, now {now['n']}")
        elif effect.timed:
            excused = True
        elif not agrees(was, now):
            found.append(
                f"{name}: {now['mean']:g}, outside the kept interval "
                f"[{was['low']:g}, {was['high']:g}]"
            )
        elif was["verdict"] != now["verdict"]:
            excused = near(was, effect)
            if not excused:
                found.append(
                    f"{name}: {was['verdict']}, now {now['verdict']}, although [{was['low']:g}, "
                    f"{was['high']:g}] lies clear of the threshold {effect.threshold:g}"
                )
    if old["verdict"] != new["verdict"] and not (found or excused):
        found.append(f"{old['verdict']}, now {new['verdict']}, and no part of it has changed")
    return found


def agrees(was: dict, now: dict) -> bool:
    """Return whether a fresh estimate lies in the kept interval; without one, whether it is equal.

    All seeds may give one and the same number (a path exists, or none): then nothing may differ.
    """
    if was["low"] is None or now["mean"] is None:
        return was["mean"] == now["mean"]
    slack = 1e-5 * max(abs(was["low"]), abs(was["high"]))  # kept are six digits
    return was["low"] - slack <= now["mean"] <= was["high"] + slack


def near(was: dict, effect: Effect) -> bool:
    """Return whether an interval holds its threshold, or ends near it."""
    if was["low"] is None:
        return False
    gap = max(was["low"] - effect.threshold, effect.threshold - was["high"], 0.0)
    return gap < NEAR * (was["high"] - was["low"]) or math.isclose(gap, 0.0)


def compare(folder: Path) -> list[str]:
    """Return what the chapters that ran in a build measured otherwise, chapter by chapter."""
    chapters = kept()
    if not chapters:
        return ["no chapter has been measured: run `make normalise`"]
    return [
        f"{stem}: {text}"
        for stem, chapter in chapters.items()
        for text in differences(chapter["verdicts"], noted(folder, int(stem[:2])))
    ]
