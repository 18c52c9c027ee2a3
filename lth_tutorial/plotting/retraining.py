"""Figures of what comes after pruning: schedules, and accuracy against the budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lth_tutorial.plotting.card import (
    FONT,
    METHODS,
    check_rows,
    draw_band,
    draw_legend,
    error_axis,
    new_figure,
    replicates_note,
)
from lth_tutorial.results.intervals import summarize
from lth_tutorial.safety.arguments import checked

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


@checked
def learning_rates(rows: DataFrame) -> Figure:
    """Plot the learning rate of each arm against the steps trained in all, dense ones included.

    Args:
        rows: the columns arm, step (counted from the first step of the dense network) and
            learning_rate.

    Raises:
        ValueError: for a missing column or an unknown arm.
    """
    present = check_rows(rows, ("arm", "step", "learning_rate"), None)
    figure, axes = new_figure(height=3.6)
    # Thick below thin, so that curves which lie on each other all show.
    widths = dict(zip(["dense", *present], (2.5, 6.0, 2.5, 2.5, 2.5), strict=False))
    for arm, width in widths.items():
        own = rows[rows["arm"] == arm]
        style = METHODS[arm]
        faint = {"alpha": 0.45} if width > 3 else {}
        axes.plot(
            own["step"], own["learning_rate"], color=style["color"], label=style["label"],
            linewidth=width, drawstyle="steps-post", **faint,
        )  # fmt: skip
    pruning = rows.loc[rows["arm"] == "dense", "step"].max()
    axes.axvline(pruning, color="black", linestyle=":", linewidth=1)
    axes.annotate(" pruning", (pruning, 0.5), xycoords=("data", "axes fraction"), fontsize=FONT)
    axes.set_yscale("log")
    axes.set_xlabel("steps of training in all")
    axes.set_ylabel("learning rate (log scale)")
    draw_legend(axes, "")
    return figure


@checked
def accuracy_vs_budget(
    rows: DataFrame, *, steps: int, round: int, arms: Sequence[str] | None = None
) -> Figure:
    """Plot each arm's test error at one density against the steps it trains after pruning.

    The axes are the same for every round, so that the figures of several rounds can be compared.

    Args:
        rows: as from `retraining_experiment`, with several rewind steps.
        steps: those of the dense network; an arm trains `steps - rewind_step` after pruning.
        round: the round to draw.
        arms: the arms to draw; all of them by default.

    Raises:
        ValueError: for a missing column, an unknown arm, a round that was not measured, or a
            rewind step beyond `steps`.
    """
    columns = ("arm", "seed", "round", "density", "rewind_step", "accuracy")
    arms = check_rows(rows, columns, arms)
    if round not in set(rows["round"]):
        raise ValueError(f"round {round!r} was not measured; there are {rows['round'].unique()}")
    if (rows["rewind_step"] >= steps).any():
        latest = rows["rewind_step"].max()
        raise ValueError(f"a rewind step of {latest} leaves nothing of {steps} steps")
    rows = rows.assign(budget=steps - rows["rewind_step"], error=1 - rows["accuracy"])
    figure, axes = new_figure()
    dense = summarize(rows[rows["round"] == 0].drop_duplicates("seed"), "round", "error").loc[0]
    axes.axhspan(100 * dense["low"], 100 * dense["high"], color="black", alpha=0.1, linewidth=0)
    axes.axhline(100 * dense["mean"], color="black", linestyle="--", label="dense network")
    shown = rows[rows["round"] == round]
    for arm in arms:
        summary = summarize(shown[shown["arm"] == arm], "budget", "error").sort_values("budget")
        draw_band(axes, summary["budget"], summary, arm, "error")
    budgets = sorted(rows["budget"].unique())
    axes.set_xscale("log")
    axes.set_xticks(budgets, [f"{budget:g}" for budget in budgets])
    axes.minorticks_off()
    axes.set_xlabel("steps of training after pruning (log scale)")
    error_axis(axes, 100 * rows["error"].min())
    axes.set_ylim(top=min(100, 130 * rows["error"].max()))
    axes.set_ylabel("test error (%, log scale)")
    draw_legend(
        axes, f"{shown['density'].mean():.1%} of weights; {replicates_note(shown, 'error')}"
    )
    return figure
