"""Measures that the claims about networks that are never trained share (chapters 10 and 12)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lth_tutorial.claims.rules import Measured

if TYPE_CHECKING:
    import pandas as pd
    from pandas import Series

Cell = tuple[str, int]
"""An arm and a round."""


def value(arm: str, round: int, metric: str = "accuracy") -> Callable[[pd.DataFrame], Measured]:
    """Return the measure of a metric of one arm in one round."""
    return lambda rows: Measured(_column(rows, arm, round, metric))


def between(
    a: Cell, b: Cell, metric: str = "accuracy", other: str | None = None
) -> Callable[[pd.DataFrame], Measured]:
    """Return the measure a − b of a metric, seed by seed; each side is an arm and a round.

    Args:
        other: another metric for b.
    """

    def measure(rows: pd.DataFrame) -> Measured:
        return Measured((_column(rows, *a, metric) - _column(rows, *b, other or metric)).dropna())

    return measure


def gap_closes(small: Cell, large: Cell) -> Callable[[pd.DataFrame], Measured]:
    """Return the measure of how much nearer to its dense network the larger one is.

    (dense − supermask) of the small network minus that of the large one, seed by seed.
    """

    def gap(rows: pd.DataFrame, cell: Cell) -> Series:
        return _column(rows, cell[0], 0, "accuracy") - _column(rows, *cell, "accuracy")

    return lambda rows: Measured((gap(rows, small) - gap(rows, large)).dropna())


def _column(rows: pd.DataFrame, arm: str, round: int, metric: str) -> Series:
    if metric not in rows:
        return rows.iloc[:0].set_index("seed")["density"]
    one = rows[(rows["arm"] == arm) & (rows["round"] == round)].sort_values("seed")
    return one.set_index("seed")[metric].astype(float).dropna()
