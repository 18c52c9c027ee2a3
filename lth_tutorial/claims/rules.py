"""What a claim is, and how a verdict follows from rows.

A claim is declared in code, with its criterion, before the run that decides it. The rules:

- *holds*: the 95 % interval of every effect lies wholly beyond its threshold;
- *fails here*: the interval of at least one lies wholly short of it;
- *inconclusive*: neither;
- *not enough runs (1 of 3)*: fewer replicates than three, or than the claim's declared minimum;
- *not yet run*: there are no rows.

A time that was never reached is censored: its true value is at least the budget. Such values may
support a verdict that they only make stronger, never the opposite one.

A claim that needs any one of several effects holds if one of them does, and fails if all do. A
claim with declared sub-settings is about all of them: it fails if it holds in none and fails in
one, however open the others are; where it holds in some, it *holds only if …* it names those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from lth_tutorial.results.intervals import (
    MINIMUM_REPLICATES,
    Interval,
    format_interval,
    format_number,
    pair_seeds,
    t_interval,
)

if TYPE_CHECKING:
    import pandas as pd


NOT_ENOUGH = "not enough runs"
"""How the verdict of too few replicates begins; it says how many there are, and are needed."""


class Measured(NamedTuple):
    """One number per seed; whether some are only lower bounds, or only upper bounds."""

    values: Sequence[float]
    at_least: bool = False
    at_most: bool = False


@dataclass(frozen=True)
class Effect:
    """A quantity with one value per seed, and the threshold that its mean must lie beyond.

    Attributes:
        name: what is measured, in words.
        measure: from wide rows to one number per seed; no numbers where rows are missing.
        threshold: in the quantity's units.
        beyond: "above" or "below" the threshold.
        unit: "points" prints hundredths (accuracies), "steps" and "" print the number itself.
        timed: measured by a clock, so that another machine, or a busy one, measures otherwise.
    """

    name: str
    measure: Callable[[pd.DataFrame], Measured]
    threshold: float
    beyond: Literal["above", "below"] = "above"
    unit: Literal["points", "steps", ""] = "points"
    timed: bool = False

    def interval(self, rows: pd.DataFrame) -> Interval:
        """Return mean, 95 % interval and n over the seeds."""
        return t_interval(self.measure(rows).values)

    def verdict(self, rows: pd.DataFrame, minimum_n: int = MINIMUM_REPLICATES) -> str:
        """Return "holds", "fails here", "inconclusive", "not enough runs (…)" or "not yet run"."""
        measured = self.measure(rows)
        return too_few([t_interval(measured.values).n], minimum_n) or self.judge(measured)

    def judge(self, measured: Measured) -> str:
        """Return "holds", "fails here" or "inconclusive" for what was measured in enough seeds."""
        interval = t_interval(measured.values)
        low, high = interval.low - self.threshold, interval.high - self.threshold
        upward, downward = measured.at_most, measured.at_least
        if self.beyond == "below":
            low, high, upward, downward = -high, -low, downward, upward
        if low < 0 <= high:
            return "inconclusive"
        # Values that are only bounds may not carry the verdict to the side they leave open.
        if low >= 0:
            return "inconclusive" if upward else "holds"
        return "inconclusive" if downward else "fails here"

    def agreeing(self, measured: Measured) -> int:
        """Return how many seeds lie beyond the threshold, each by itself."""
        sign = 1 if self.beyond == "above" else -1
        return sum(bool(sign * (value - self.threshold) >= 0) for value in measured.values)

    def criterion(self) -> str:
        """Return the condition in words, e.g. "ticket − re-initialised ≥ 0.3 points"."""
        sign = "≥" if self.beyond == "above" else "≤"
        threshold = format_number(self.threshold, self.unit)
        return f"{self.name} {sign} {_with_unit(threshold, self.unit)}"

    def describe(self, interval: Interval) -> str:
        """Return the mean and its interval in the effect's unit."""
        return _with_unit(format_interval(interval, self.unit), self.unit)


def too_few(counts: Sequence[int], minimum_n: int) -> str:
    """Return the verdict where the replicates of one effect are too few to decide, else ""."""
    least = max(minimum_n, MINIMUM_REPLICATES)
    if min(counts) >= least:
        return ""
    return f"{NOT_ENOUGH} ({min(counts)} of {least})" if any(counts) else "not yet run"


class Part(NamedTuple):
    """One effect of a claim in one of its settings, as measured.

    `agree` counts the seeds that lie beyond the threshold, each by itself.
    """

    setting: str
    effect: str
    interval: Interval
    agree: int
    verdict: str


@dataclass(frozen=True)
class Setting:
    """One setting in which a claim is tested: a name and the effects that decide."""

    name: str
    effects: tuple[Effect, ...]
    need: Literal["all", "any"] = "all"

    def verdict(self, rows: pd.DataFrame, minimum_n: int = MINIMUM_REPLICATES) -> str:
        """Return the verdict in this setting."""
        return self.joined([part.verdict for part in self.parts(rows, minimum_n)])

    def parts(self, rows: pd.DataFrame, minimum_n: int = MINIMUM_REPLICATES) -> list[Part]:
        """Return what was measured of each effect; where one has too few seeds, none decides."""
        measured = [effect.measure(rows) for effect in self.effects]
        intervals = [t_interval(each.values) for each in measured]
        lacking = too_few([interval.n for interval in intervals], minimum_n)
        return [
            Part(self.name, effect.name, i, effect.agreeing(m), lacking or effect.judge(m))
            for effect, m, i in zip(self.effects, measured, intervals, strict=True)
        ]

    def joined(self, each: Sequence[str]) -> str:
        """Return the verdict in this setting from those of its effects."""
        if len(set(each)) == 1:
            return each[0]
        decisive, other = ("fails here", "holds") if self.need == "all" else ("holds", "fails here")
        if decisive in each:
            return decisive
        return other if all(verdict == other for verdict in each) else "inconclusive"

    def criterion(self) -> str:
        """Return all conditions in words."""
        joint = " and " if self.need == "all" else " or "
        return joint.join(effect.criterion() for effect in self.effects)


@dataclass(frozen=True)
class Claim:
    """A claim of the literature, tested on one record.

    Attributes:
        key: short name, unique.
        chapter: number of the chapter that tells it.
        statement: the claim in one sentence.
        source: paper and section.
        record: the rows that decide.
        network: network, data and training in words.
        settings: one or more settings with their criteria.
        minimum_n: replicates without which nothing is decided; more for small effects.
        live_only: there is no record; the seeds that its chapter runs decide.
    """

    key: str
    chapter: int
    statement: str
    source: str
    record: str
    network: str
    settings: tuple[Setting, ...]
    minimum_n: int = MINIMUM_REPLICATES
    live_only: bool = False

    @property
    def level(self) -> str:
        """ "live" for what a chapter runs and for records on the digits, else "full scale"."""
        live = self.live_only or self.record.startswith("digits")
        return "live" if live else "full scale"

    def parts(self, rows: pd.DataFrame | None) -> tuple[Part, ...]:
        """Return what was measured of each effect in each setting; nothing without rows."""
        if rows is None:
            return ()
        found = [part for s in self.settings for part in s.parts(rows, self.minimum_n)]
        lacking = too_few([part.interval.n for part in found], self.minimum_n)
        return tuple(part._replace(verdict=lacking or part.verdict) for part in found)

    def verdict(self, rows: pd.DataFrame | None) -> str:
        """Return the verdict that the rows give, by the rules of this module."""
        return self.joined(self.parts(rows))

    def joined(self, parts: Sequence[Part]) -> str:
        """Return the verdict that follows from those of the parts, as from `parts`."""
        if not parts:
            return "not yet run"
        verdicts = self.by_setting(parts)
        if len(set(verdicts.values())) == 1:
            return next(iter(verdicts.values()))
        held = [name for name, verdict in verdicts.items() if verdict == "holds"]
        # Different verdicts, and none of them "holds": then at least one is "fails here".
        return f"holds only if {' or '.join(held)}" if held else "fails here"

    def by_setting(self, parts: Sequence[Part]) -> dict[str, str]:
        """Return the verdict in each setting, by its name."""
        return {
            setting.name: setting.joined([p.verdict for p in parts if p.setting == setting.name])
            for setting in self.settings
        }


def difference(
    metric: str, a: str, b: str, *, round: int, factor: float = 1.0
) -> Callable[[pd.DataFrame], Measured]:
    """Return the measure a − factor · b of a metric in one round, seed by seed."""

    def pairs(rows: pd.DataFrame, column: str) -> pd.DataFrame:
        if not {a, b} <= {"dense", *rows["arm"]}:
            return rows.iloc[:0].assign(a=[], b=[])
        every = pair_seeds(rows, a, b, value=column)
        return every[every["round"] == round]

    def measure(rows: pd.DataFrame) -> Measured:
        found = pairs(rows, metric)
        values = found["a"] - factor * found["b"]
        if f"{metric}_censored" not in rows:
            return Measured(values)
        censored = pairs(rows, f"{metric}_censored")
        return Measured(values, bool(censored["a"].any()), bool(censored["b"].any()))

    return measure


def _with_unit(text: str, unit: str) -> str:
    return f"{text} {unit}" if unit else text
