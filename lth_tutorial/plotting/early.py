"""Figures of chapter 9: when masks settle, what a mask drawn early is worth, who leads when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lth_tutorial.plotting.card import (
    FONT,
    METHODS,
    check_rows,
    draw_band,
    draw_legend,
    new_figure,
    replicates_note,
    value_label,
)
from lth_tutorial.results.intervals import summarize, t_interval
from lth_tutorial.safety.arguments import checked

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame
    from torch import Tensor

_LINES = ("#0072B2", "#B2182B", "#009E73", "#8C510A", "#6A3D9A", "#5D6D1E", "#C0398B", "#455A64")


@checked
def mask_distances(matrices: Mapping[str, Tensor], drawn: Mapping[str, float]) -> Figure:
    """Draw how far the masks of every two epochs are from each other, a map per training.

    Args:
        matrices: title to distances [epochs, epochs] over those of unrelated masks, missing where
            a mask keeps nothing.
        drawn: title to the mean epoch at which the rule was met; missing where it was not.
    """
    import math

    figure, first = new_figure(width=6.4, height=3.6)
    first.remove()
    shown = figure.subplots(1, len(matrices), squeeze=False)[0]
    for axes, (title, matrix) in zip(shown, matrices.items(), strict=True):
        picture = axes.imshow(matrix.numpy(), vmin=0, vmax=1, cmap="viridis", origin="lower")
        epoch = drawn.get(title, math.nan)
        if not math.isnan(epoch):
            for line in (axes.axvline, axes.axhline):
                line(epoch, color="white", linewidth=1.2, linestyle="--")
            title = f"{title}: drawn at {epoch:.0f}"
        else:
            title = f"{title}: no ticket"
        axes.set_title(title, fontsize=FONT - 1, color="black")
        axes.set_xlabel("epoch", fontsize=FONT, color="black")
        axes.tick_params(labelsize=FONT - 1, colors="black")
    shown[0].set_ylabel("epoch", fontsize=FONT, color="black")
    bar = figure.colorbar(picture, ax=list(shown), shrink=0.8)
    bar.set_label("distance / unrelated masks", fontsize=FONT - 1, color="black")
    bar.ax.tick_params(labelsize=FONT - 1)
    return figure


@checked
def settling(rows: DataFrame, *, value: str = "to_final") -> Figure:
    """Plot how far the mask of every epoch is from the last one: mean and 95% interval.

    Args:
        rows: as from `settling_experiment`; round is the epoch. Unrelated masks lie at 1.
        value: "to_final" or "to_previous".

    Raises:
        ValueError: for a missing column.
    """
    from lth_tutorial.runtime import choose

    for column in ("arm", "seed", "round", value):
        choose("column", column, rows.columns)
    figure, axes = new_figure()
    first = 1 if value == "to_previous" else 0
    for arm, color in zip(dict.fromkeys(rows["arm"]), _LINES * 3, strict=False):
        own = rows[(rows["arm"] == arm) & (rows["round"] >= first)].dropna(subset=[value])
        if value == "to_final":  # the last mask is no distance from itself
            own = own[own["round"] < own["round"].max()]
        summary = summarize(own, "round", value).sort_values("round")
        axes.fill_between(
            summary["round"], summary["low"], summary["high"], color=color, alpha=0.18, linewidth=0
        )
        dashed = "--" if arm.endswith("random") else "-"
        axes.plot(summary["round"], summary["mean"], color=color, linestyle=dashed, label=arm)
    axes.axhline(1, color="black", linewidth=0.8, linestyle=":")
    axes.set_ylim(0, 1.6)
    axes.set_xlabel("epoch")
    other = "the last epoch's" if value == "to_final" else "the epoch's before"
    axes.set_ylabel(f"distance to {other} mask\nover that of unrelated masks")
    draw_legend(axes, replicates_note(rows, value))
    return figure


@checked
def accuracy_vs_drawing(rows: DataFrame, *, arms: Sequence[str] | None = None) -> Figure:
    """Plot accuracy at the end of training against the step at which the mask was drawn.

    Args:
        rows: as from `early_bird_experiment`; round 0, the dense network, is a dashed line.
        arms: the arms to draw; all of them by default.

    Raises:
        ValueError: for a missing column or an unknown arm.
    """
    arms = check_rows(rows, ("arm", "seed", "round", "step", "accuracy"), arms)
    figure, axes = new_figure()
    mean, low, high, _ = t_interval(rows[rows["round"] == 0].drop_duplicates("seed")["accuracy"])
    axes.axhline(100 * mean, color="black", linestyle="--", label=METHODS["dense"]["label"])
    axes.axhspan(100 * low, 100 * high, color="black", alpha=0.1, linewidth=0)
    drawn = rows[rows["round"] > 0].assign(step=lambda table: table["step"].astype(int))
    for arm in arms:
        summary = summarize(drawn[drawn["arm"] == arm], "step").sort_values("step")
        draw_band(axes, summary["step"], summary, arm, "accuracy")
    axes.set_xlabel("step at which the mask was drawn")
    axes.set_ylabel(value_label("accuracy"))
    least = 100 * summarize(drawn, ["arm", "step"])["mean"].min()
    axes.set_ylim(least - 3, 100.5)
    draw_legend(axes, replicates_note(rows, "accuracy"))
    return figure


@checked
def accuracy_vs_step(
    rows: DataFrame, *, value: str = "robust_accuracy", arms: Sequence[str] | None = None
) -> Figure:
    """Plot accuracy against the step of training: who leads, and for how long.

    Args:
        rows: as from `boosting_experiment`.
        value: "accuracy" or "robust_accuracy".
        arms: the arms to draw; all of them by default.

    Raises:
        ValueError: for a missing column or an unknown arm.
    """
    listed = arms or [arm for arm in METHODS if arm in set(rows["arm"])]
    arms = check_rows(rows, ("arm", "seed", "step", value), listed)
    figure, axes = new_figure()
    rows = rows.assign(step=rows["step"].astype(int))
    for arm in arms:
        summary = summarize(rows[rows["arm"] == arm].dropna(subset=[value]), "step", value)
        summary = summary.sort_values("step")
        draw_band(axes, summary["step"], summary, arm, value)
    points = sorted(set(rows["step"]))
    axes.set_xscale("symlog", linthresh=max(points[1] if len(points) > 1 else 1, 1))
    axes.set_xticks(points, [str(point) for point in points], rotation=40)
    axes.minorticks_off()
    axes.set_xlabel("step of training (log scale)")
    axes.set_ylabel(value_label(value))
    axes.set_ylim(bottom=0)
    draw_legend(axes, replicates_note(rows, value))
    return figure
