"""Claims and verdicts: what the papers say, and what our rows say about it.

A claim is declared here, with its criterion, before the run that decides it; the verdict is
computed from rows. The rules:

- *holds*: the 95 % interval of every effect lies wholly beyond its threshold;
- *fails here*: the interval of at least one lies wholly short of it;
- *inconclusive*: neither;
- *single run*: fewer than three replicates;
- *not yet run*: there are no rows.

A claim that needs any one of several effects holds if one of them does, and fails if all do. A
claim with declared sub-settings *holds only if …* it names those in which it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lth_tutorial.results import (
    MINIMUM_REPLICATES,
    Interval,
    load_rows,
    pair_seeds,
    recorded,
    t_interval,
    widen,
)
from lth_tutorial.runtime import choose

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Effect:
    """A quantity with one value per seed, and the threshold that its mean must lie beyond.

    Attributes:
        name: what is measured, in words.
        measure: from wide rows to one number per seed.
        threshold: in the quantity's units.
        beyond: "above" or "below" the threshold.
        unit: "points" prints hundredths (accuracies), "steps" and "" print the number itself.
    """

    name: str
    measure: Callable[[pd.DataFrame], Sequence[float]]
    threshold: float
    beyond: Literal["above", "below"] = "above"
    unit: Literal["points", "steps", ""] = "points"

    def interval(self, rows: pd.DataFrame) -> Interval:
        """Return mean, 95 % interval and n over the seeds."""
        return t_interval(self.measure(rows))

    def verdict(self, interval: Interval) -> str:
        """Return "holds", "fails here", "inconclusive" or "single run"."""
        if interval.n < MINIMUM_REPLICATES:
            return "single run"
        low, high = interval.low - self.threshold, interval.high - self.threshold
        if self.beyond == "below":
            low, high = -high, -low
        return "holds" if low >= 0 else "fails here" if high < 0 else "inconclusive"

    def criterion(self) -> str:
        """Return the condition in words, e.g. "ticket − re-initialised ≥ 0.3 points"."""
        sign = "≥" if self.beyond == "above" else "≤"
        return f"{self.name} {sign} {_number(self.threshold, self.unit)}"

    def describe(self, interval: Interval) -> str:
        """Return the mean and its interval in the effect's unit."""
        mean, low, high = (_number(v, self.unit, sign=True, named=False) for v in interval[:3])
        return f"{mean} [{low}, {high}]{_unit_name(self.unit)}"


@dataclass(frozen=True)
class Setting:
    """One setting in which a claim is tested: a name and the effects that decide."""

    name: str
    effects: tuple[Effect, ...]
    need: Literal["all", "any"] = "all"

    def verdict(self, rows: pd.DataFrame) -> str:
        """Return the verdict in this setting."""
        each = [effect.verdict(effect.interval(rows)) for effect in self.effects]
        if "single run" in each:
            return "single run"
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
    """

    key: str
    chapter: int
    statement: str
    source: str
    record: str
    network: str
    settings: tuple[Setting, ...]

    @property
    def level(self) -> str:
        """ "live" for a record on the embedded digits, else "full scale"."""
        return "live" if self.record.startswith("digits") else "full scale"

    def verdict(self, rows: pd.DataFrame | None) -> str:
        """Return the verdict that the rows give, by the rules of this module."""
        if rows is None:
            return "not yet run"
        verdicts = {setting.name: setting.verdict(rows) for setting in self.settings}
        if len(set(verdicts.values())) == 1:
            return next(iter(verdicts.values()))
        held = [name for name, verdict in verdicts.items() if verdict == "holds"]
        return f"holds only if {' or '.join(held)}" if held else "inconclusive"


def difference(
    metric: str, a: str, b: str, *, round: int, factor: float = 1.0
) -> Callable[[pd.DataFrame], Sequence[float]]:
    """Return the measure a − factor · b of a metric in one round, seed by seed."""

    def measure(rows: pd.DataFrame) -> Sequence[float]:
        pairs = pair_seeds(rows, a, b, value=metric)
        pairs = pairs[pairs["round"] == round]
        return pairs["a"] - factor * pairs["b"]

    return measure


def best_density(rows: pd.DataFrame) -> Sequence[float]:
    """Return the density at which each seed's ticket is most accurate (the densest, if tied)."""
    tickets = rows[rows["arm"] == "ticket"].dropna(subset="accuracy")
    ordered = tickets.sort_values(["seed", "round"])
    return ordered.loc[ordered.groupby("seed")["accuracy"].idxmax(), "density"]


def claims(
    rows: Mapping[str, pd.DataFrame] | None = None,
    *,
    chapter: int | None = None,
    level: str | None = None,
) -> pd.DataFrame:
    """Return the claims table, its verdicts computed from rows now.

    Args:
        rows: wide rows by record name that replace the recorded ones, e.g. those of a live run.
        chapter: only the claims of this chapter.
        level: only "live" (the embedded digits) or only "full scale".

    Returns:
        one row per claim: chapter, claim, source, setting, criterion, n, effect (mean and 95 %
        interval), verdict, level, record, key.
    """
    import pandas as pd

    if level is not None:
        choose("level", level, ("live", "full scale"))
    available = _Rows(rows or {})
    selected = [
        claim
        for claim in CLAIMS
        if chapter in (None, claim.chapter) and level in (None, claim.level)
    ]
    return pd.DataFrame([_table_row(claim, available(claim.record)) for claim in selected])


class _Rows:
    """Wide rows by record name, each recorded table read once; None where there is none."""

    def __init__(self, given: Mapping[str, pd.DataFrame]) -> None:
        self.tables = dict(given)

    def __call__(self, name: str) -> pd.DataFrame | None:
        if name not in self.tables:
            self.tables[name] = widen(load_rows(name)) if name in recorded() else None
        return self.tables[name]


def _table_row(claim: Claim, rows: pd.DataFrame | None) -> dict:
    settings = claim.settings
    named = len(settings) > 1

    def lines(texts: Sequence[str]) -> str:
        pairs = zip(settings, texts, strict=True)
        return "; ".join(f"{s.name}: {text}" if named else text for s, text in pairs)

    intervals = (
        [[e.interval(rows) for e in s.effects] for s in settings] if rows is not None else []
    )
    effects = [
        ", ".join(e.describe(i) for e, i in zip(s.effects, each, strict=True))
        for s, each in zip(settings, intervals, strict=bool(intervals))
    ]
    return {
        "chapter": claim.chapter,
        "claim": claim.statement,
        "source": claim.source,
        "setting": f"{claim.network}, {' / '.join(s.name for s in settings)}",
        "criterion": lines([s.criterion() for s in settings]),
        "n": min((i.n for each in intervals for i in each), default=0),
        "effect": lines(effects) if effects else "–",
        "verdict": claim.verdict(rows),
        "level": claim.level,
        "record": claim.record,
        "key": claim.key,
    }


def _number(value: float, unit: str, *, sign: bool = False, named: bool = True) -> str:
    plus = "+" if sign else ""
    if unit == "points":
        text = f"{100 * value:{plus}.2f}"
    elif unit == "steps":
        text = f"{value:{plus}.0f}"
    else:
        text = f"{value:{plus}.3g}"
    return text.replace("-", "−") + (_unit_name(unit) if named else "")


def _unit_name(unit: str) -> str:
    return f" {unit}" if unit else ""


# --- the claims -----------------------------------------------------------------------------------
# Live criteria were fixed after a pilot with seeds 100 to 115, before the seeds that decide were
# run. They differ from the full-scale ones where the small setting cannot resolve those: one test
# image of the digits is 0.2 points, and the step of minimum validation loss scatters widely over
# 300 validation images, so speed is measured by the steps to 95 % there.

_LIVE = "100-50 network on digits, Adam, 600 steps"
_LENET = "LeNet-300-100 on MNIST, Adam, 50,000 steps"
_PAPER = "Frankle & Carbin 2019"


def _ticket_minus(other: str, round: int, threshold: float) -> Effect:
    names = {"reinit": "re-initialised", "one_shot": "one-shot"}
    measure = difference("accuracy", "ticket", other, round=round)
    return Effect(f"accuracy: ticket − {names.get(other, other)}", measure, threshold)


def _sooner(metric: str, slow: str, round: int, factor: float = 1.0) -> Effect:
    words = metric.replace("_", " ").replace("steps to 95", "steps to 95 %")
    times = "" if factor == 1 else f"{factor:g} · "
    measure = difference(metric, slow, "ticket", round=round, factor=factor)
    return Effect(f"{words}: {slow} − {times}ticket", measure, 0.0, unit="steps")


def _inverted_u(last: int) -> tuple[Effect, ...]:
    below = Effect(
        "accuracy: dense − sparsest ticket",
        difference("accuracy", "dense", "ticket", round=last),
        0.0,
    )
    return (
        Effect("best density", best_density, 0.05, unit=""),
        Effect("best density", best_density, 0.60, beyond="below", unit=""),
        below,
    )


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "tickets-match", 4,
        "A sparse subnetwork, trained from its own initial weights, matches the dense network and "
        "learns no later.",
        f"{_PAPER}, sections 1 and 2", "digits-winning-tickets", _LIVE,
        (Setting("26 % of weights", (
            _ticket_minus("dense", 2, -0.005), _sooner("steps_to_95", "dense", 2),
        )),),
    ),
    Claim(
        "tickets-match-mnist", 4,
        "A sparse subnetwork, trained from its own initial weights, matches the dense network and "
        "learns no later.",
        f"{_PAPER}, sections 1 and 2", "mnist-lenet-imp", _LENET,
        (Setting("21 % of weights", (
            _ticket_minus("dense", 7, -0.001), _sooner("early_stop_step", "dense", 7),
        )),),
    ),
    Claim(
        "initialisation-matters", 4,
        "With other initial weights, the same mask is less accurate or learns later.",
        f"{_PAPER}, section 2", "digits-winning-tickets", _LIVE,
        (Setting("26 % of weights", (
            _ticket_minus("reinit", 2, 0.003), _sooner("steps_to_95", "reinit", 2, 1.5),
        ), "any"),),
    ),
    Claim(
        "initialisation-matters-mnist", 4,
        "With other initial weights, the same mask is less accurate or learns later.",
        f"{_PAPER}, section 2", "mnist-lenet-imp", _LENET,
        (Setting("21 % of weights", (
            _ticket_minus("reinit", 7, 0.003), _sooner("early_stop_step", "reinit", 7, 1.5),
        ), "any"),),
    ),
    Claim(
        "mask-matters", 4,
        "It matters which weights survive, not only how many in each layer.",
        f"{_PAPER}, section 2", "digits-winning-tickets", _LIVE,
        (Setting("4.0 % of weights", (_ticket_minus("random", 5, 0.005),)),),
    ),
    Claim(
        "mask-matters-mnist", 4,
        "It matters which weights survive, not only how many in each layer.",
        f"{_PAPER}, section 2", "mnist-lenet-imp", _LENET,
        (Setting("3.6 % of weights", (_ticket_minus("random", 15, 0.005),)),),
    ),
    Claim(
        "inverted-u", 4,
        "Accuracy first rises and then falls as weights are removed.",
        f"{_PAPER}, section 2", "digits-winning-tickets", _LIVE,
        (Setting("2.2 to 100 % of weights", _inverted_u(6)),),
    ),
    Claim(
        "inverted-u-mnist", 4,
        "Accuracy first rises and then falls as weights are removed.",
        f"{_PAPER}, section 2", "mnist-lenet-imp", _LENET,
        (Setting("1.2 to 100 % of weights", _inverted_u(20)),),
    ),
    Claim(
        "iterative-beats-one-shot", 4,
        "Pruning little by little finds better tickets than pruning once.",
        f"{_PAPER}, section 2", "digits-winning-tickets", _LIVE,
        (Setting("4.0 % of weights", (_ticket_minus("one_shot", 5, 0.003),)),),
    ),
    Claim(
        "iterative-beats-one-shot-mnist", 4,
        "Pruning little by little finds better tickets than pruning once.",
        f"{_PAPER}, section 2", "mnist-lenet-imp", _LENET,
        (Setting("3.6 % of weights", (_ticket_minus("one_shot", 15, 0.003),)),),
    ),
    Claim(
        "masks-know", 4,
        "A ticket's mask alone lifts the untrained network far above chance.",
        "Zhou et al. 2019, section 5", "digits-winning-tickets", _LIVE,
        (Setting("26 % of weights", (
            Effect(
                "accuracy before training: ticket − random",
                difference("start_accuracy", "ticket", "random", round=2), 0.20,
            ),
        )),),
    ),
)  # fmt: skip
