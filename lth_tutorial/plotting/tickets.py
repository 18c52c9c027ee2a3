"""Figures of the lottery: tickets and their controls against the dense network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lth_tutorial.plotting.card import (
    METHODS,
    check_rows,
    density_axis,
    draw_band,
    draw_legend,
    error_axis,
    new_figure,
    replicates_note,
    scale_of,
    value_label,
)
from lth_tutorial.results.intervals import (
    check_margin,
    matching,
    pair_seeds,
    paired_difference,
    summarize,
)
from lth_tutorial.safety.arguments import checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame, Series

ROW_COLUMNS = ("arm", "seed", "round", "density")


@checked
def accuracy_vs_density(
    rows: DataFrame,
    *,
    margin: float | None = None,
    value: str = "accuracy",
    arms: Sequence[str] | None = None,
    seeds: bool = False,
    as_error: bool = False,
) -> Figure:
    """Plot each arm's mean and 95% interval against the share of weights that remains.

    The words *winning ticket* appear, with a star on each round that earned them, only where the
    ticket matches the dense network by the rule of `results.matching`.

    Args:
        rows: as from `lottery_experiment`.
        margin: what a matching ticket may lose, in units of `value` (0.005 is half a percentage
            point of accuracy). Without one, nothing is called winning.
        value: the column on the vertical axis.
        arms: the arms to draw; all of them by default.
        seeds: also draw every replicate as a faint dot.
        as_error: draw the test error on a log axis, on which half a point shows.

    Raises:
        ValueError: for a missing column, an unknown arm, a negative margin, or errors of anything
            but the accuracy.
    """
    arms = check_rows(rows, [*ROW_COLUMNS, value], arms)
    if as_error and value != "accuracy":
        raise ValueError(f"as_error draws 1 - accuracy; got value={value!r}")
    rows, shown = rows.assign(error=1 - rows[value]), "error" if as_error else value
    figure, axes = new_figure()
    _draw_dense(axes, rows, shown)
    for arm in arms:
        summary = _draw_arm(axes, rows, arm, shown, seeds)
        if arm == "ticket" and margin is not None:
            _mark_winners(axes, rows, summary, margin, value, shown)
    density_axis(axes, rows["density"])
    if as_error:
        error_axis(axes, 100 * rows["error"].min())
    axes.set_ylabel(value_label(shown))
    draw_legend(axes, replicates_note(rows, value))
    return figure


@checked
def steps_vs_density(
    rows: DataFrame,
    *,
    value: str = "steps_to_95",
    arms: Sequence[str] | None = None,
    seeds: bool = False,
) -> Figure:
    """Plot how many training steps each arm needs against the share of weights that remains.

    A hollow marker says that a replicate had not got there when its budget ended. The budget is
    counted in its place, so the true mean is larger.

    Args:
        rows: as from `lottery_experiment`.
        value: the column on the vertical axis, with a column `<value>_censored` beside it if it
            can be cut off by the budget.
        arms: the arms to draw; all of them by default.
        seeds: also draw every replicate as a faint dot.

    Raises:
        ValueError: for a missing column or an unknown arm.
    """
    arms = check_rows(rows, [*ROW_COLUMNS, value], arms)
    figure, axes = new_figure()
    _draw_dense(axes, rows, value)
    any_hollow = False
    for arm in arms:
        summary = _draw_arm(axes, rows, arm, value, seeds)
        hollow = summary[summary["round"].isin(_censored_rounds(rows, arm, value))]
        axes.plot(
            hollow["density"],
            hollow["mean"],
            linestyle="none",
            marker=METHODS[arm]["marker"],
            markerfacecolor="white",
            markeredgecolor=METHODS[arm]["color"],
            zorder=4,
        )
        any_hollow = any_hollow or len(hollow) > 0
    if any_hollow:
        axes.plot(
            [],
            [],
            "o",
            markerfacecolor="white",
            markeredgecolor="black",
            label="hollow: a lower bound, since not\nevery run got there in its budget",
        )
    density_axis(axes, rows["density"])
    axes.set_ylabel(value_label(value))
    _steps_axis(axes, rows[value].dropna())
    draw_legend(axes, replicates_note(rows, value))
    return figure


def _steps_axis(axes: Axes, steps: Series) -> None:
    """Make the vertical axis logarithmic where all runs took steps: 13 and 40 stay apart."""
    if steps.empty or steps.min() <= 0:
        axes.set_ylim(bottom=0)
        return
    low, high = steps.min() / 1.3, steps.max() * 1.3
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    ticks = [step * 10**power for power in range(7) for step in (1, 2, 5)]
    axes.set_yticks(*zip(*[(t, f"{t:,}") for t in ticks if low <= t <= high], strict=True))
    axes.minorticks_off()


@checked
def differences(
    rows: DataFrame,
    arm_a: str,
    arms_b: Sequence[str],
    *,
    value: str = "accuracy",
    margin: float | None = None,
    seeds: bool = False,
) -> Figure:
    """Plot the paired difference `arm_a` − `arm_b` with its 95% interval, round by round.

    To compare two arms read this figure, not whether their bands overlap: pairing by seed takes
    out what both share, and the interval is that of the difference itself.

    Args:
        rows: as from `lottery_experiment`.
        arm_a: the arm that is compared, e.g. "ticket".
        arms_b: the arms it is compared with; "dense" stands for round 0.
        value: the column to compare.
        margin: also draw what a matching arm may lose, in units of `value`.
        seeds: also draw every seed's difference as a faint dot.

    Raises:
        ValueError: for a missing column, an unknown arm or a negative margin.
    """
    arm_a, *arms_b = check_rows(
        rows, [*ROW_COLUMNS, value], [arm_a, *([arms_b] if isinstance(arms_b, str) else arms_b)]
    )
    scale = scale_of(value)
    figure, axes = new_figure()
    axes.axhline(0, color="black", linewidth=1)
    if margin is not None:
        check_margin(margin)
        label = f"matching margin, −{scale * margin:g}"
        axes.axhline(-scale * margin, color="black", linewidth=1, linestyle=":", label=label)
    density = rows[rows["arm"] == arm_a].groupby("round")["density"].mean()
    for i, arm_b in enumerate(arms_b):
        style = METHODS[arm_b]
        paired = paired_difference(rows, arm_a, arm_b, value=value)[
            lambda table: table["round"] > 0
        ]
        # Side by side, or the intervals of several arms would cover each other.
        shift = 1.025 ** (i - (len(arms_b) - 1) / 2)
        mean, low, high = (scale * paired[column] for column in ("mean", "low", "high"))
        axes.errorbar(
            paired["round"].map(density) * shift,
            mean,
            yerr=[mean - low, high - mean],
            color=style["color"],
            marker=style["marker"],
            markersize=5.5,
            linestyle="none",
            capsize=3,
            label=f"minus {style['label']}",
            zorder=3,
        )
        if seeds:
            each = pair_seeds(rows, arm_a, arm_b, value=value)[lambda table: table["round"] > 0]
            x, y = each["round"].map(density) * shift, scale * each["difference"]
            axes.plot(x, y, ".", color=style["color"], alpha=0.3, markersize=4)
    density_axis(axes, rows["density"])
    points = value_label(value).replace("(%)", "(percentage points)")
    axes.set_ylabel(f"difference in\n{points}")
    draw_legend(axes, f"{METHODS[arm_a]['label']}: {replicates_note(rows, value)}")
    return figure


def _draw_dense(axes: Axes, rows: DataFrame, value: str) -> None:
    """Draw the dense network's mean and interval as a dashed line with a band, all across."""
    dense = rows[rows["round"] == 0].drop_duplicates("seed")
    if dense.empty:
        return
    mean, low, high = summarize(dense, "round", value=value).loc[0, ["mean", "low", "high"]]
    scale, style = scale_of(value), METHODS["dense"]
    label = style["label"]
    if f"{value}_censored" in dense and dense[f"{value}_censored"].astype(bool).any():
        label += " (a lower bound)"
    if not math.isnan(low):
        axes.axhspan(scale * low, scale * high, color=style["color"], alpha=0.1, linewidth=0)
    axes.axhline(scale * mean, color=style["color"], linestyle="--", label=label)


def _draw_arm(axes: Axes, rows: DataFrame, arm: str, value: str, seeds: bool) -> DataFrame:
    """Draw one arm's means and intervals; return them with the density of each round."""
    own = rows[rows["arm"] == arm].sort_values("round")
    summary = summarize(own, "round", value=value)
    summary["density"] = summary["round"].map(own.groupby("round")["density"].mean())
    draw_band(axes, summary["density"], summary, arm, value)
    if seeds:
        color = METHODS[arm]["color"]
        y = scale_of(value) * own[value].astype(float)
        axes.plot(own["density"], y, ".", color=color, alpha=0.3, markersize=4)
    return summary


def _mark_winners(
    axes: Axes, rows: DataFrame, summary: DataFrame, margin: float, value: str, shown: str
) -> None:
    """Put a star on every round whose ticket matches the dense network."""
    table = matching(rows, "ticket", margin=margin, value=value)
    passed = table.loc[table["matches"] & (table["round"] > 0), "round"]
    won = summary[summary["round"].isin(passed)]
    if won.empty:
        return
    scale = scale_of(value)
    unit = " points" if scale == 100 else f" of {value}"
    axes.plot(
        won["density"],
        scale_of(shown) * won["mean"],
        linestyle="none",
        marker="*",
        markersize=14,
        color=METHODS["ticket"]["color"],
        markeredgecolor="white",
        zorder=5,
        label=f"winning ticket: within {scale * margin:g}{unit}",
    )


def _censored_rounds(rows: DataFrame, arm: str, value: str) -> set[int]:
    """Return the rounds in which a replicate of the arm was cut off by its budget."""
    column = f"{value}_censored"
    if column not in rows:
        return set()
    cut_off = (rows["arm"] == arm) & rows[column].astype(bool)
    return set(rows.loc[cut_off, "round"])
