"""The figure of a comparison: every seed of every arm as a dot."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lth_tutorial.plotting.card import (
    FONT,
    METHODS,
    check_rows,
    error_axis,
    new_figure,
    value_label,
)
from lth_tutorial.results.intervals import summarize
from lth_tutorial.safety.arguments import checked

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


@checked
def arm_dots(
    rows: DataFrame,
    *,
    arms: Sequence[str] | None = None,
    title: str = "",
    errors: tuple[float, float] | None = None,
) -> Figure:
    """Plot the test error of every seed of every arm, the mean as a bar with its 95% interval.

    Args:
        rows: one row per arm and seed, of one setting.
        arms: the arms to draw, from left to right; all of them by default.
        title: the setting in words.
        errors: lowest and highest error of the axis, as shares; default those of the rows. Give
            the same to several figures that are to be compared.

    Raises:
        ValueError: for a missing column, an unknown arm, or an arm and seed that stand twice.
    """
    arms = check_rows(rows, ("arm", "seed", "accuracy"), arms)
    if rows.duplicated(["arm", "seed"]).any():
        raise ValueError("an arm and seed stand twice in the rows: select one setting first")
    rows = rows.assign(error=1 - rows["accuracy"])
    means = summarize(rows, "arm", "error").set_index("arm")
    figure, axes = new_figure(height=3.8)
    for place, arm in enumerate(arms):
        style, own = METHODS[arm], rows[rows["arm"] == arm]
        look = {"color": style["color"], "marker": style["marker"], "linestyle": ""}
        axes.plot([place - 0.12] * len(own), 100 * own["error"], alpha=0.4, markersize=5, **look)
        mean, low, high = (100 * means.loc[arm, part] for part in ("mean", "low", "high"))
        axes.errorbar(
            place + 0.15, mean, yerr=[[mean - low], [high - mean]], color=style["color"],
            marker="_", markersize=16, markeredgewidth=2.5, capsize=3,
        )  # fmt: skip
    labels = [
        textwrap.fill(METHODS[arm]["label"], 13, break_on_hyphens=False, break_long_words=False)
        for arm in arms
    ]
    axes.set_xticks(range(len(arms)), labels, fontsize=FONT - 1)
    axes.set_xlim(-0.5, len(arms) - 0.5)
    low, high = errors or (rows["error"].min(), rows["error"].max())
    error_axis(axes, 100 * low)
    axes.set_ylim(100 * max(low, 5e-4) / 1.3, min(100, 130 * high))
    axes.set_ylabel(value_label("error"))
    axes.set_title(title, fontsize=FONT)
    axes.grid(axis="x", visible=False)
    return figure
