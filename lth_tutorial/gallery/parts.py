"""The rows of one part of a record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lth_tutorial.experiments.design import Part

if TYPE_CHECKING:
    import pandas as pd


def part_rows(part: Part, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of one part of a record, its label taken from the names of the arms."""
    if not part.label:
        return rows[~rows["arm"].str.contains(": ")]
    own = rows[rows["arm"].str.startswith(f"{part.label}: ")]
    return own.assign(arm=own["arm"].str.removeprefix(f"{part.label}: "))
