"""The rows of one part of a record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lth_tutorial.experiments.design import Part
from lth_tutorial.experiments.generalised import ElasticPart

if TYPE_CHECKING:
    import pandas as pd


def part_rows(part: Part, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of one part of a record, its label taken from the names of the arms."""
    if not part.label:
        # The arms of moved tickets name their networks: "6 blocks: ticket".
        own_names = isinstance(part, ElasticPart)
        return rows if own_names else rows[~rows["arm"].str.contains(": ")]
    own = rows[rows["arm"].str.startswith(f"{part.label}: ")]
    return own.assign(arm=own["arm"].str.removeprefix(f"{part.label}: "))
