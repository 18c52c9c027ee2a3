"""Figures of chapter 11: subset sums, and what random networks pruned onto targets lose."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lth_tutorial.plotting.card import (
    FONT,
    METHODS,
    check_rows,
    draw_band,
    new_figure,
    value_label,
)
from lth_tutorial.results.intervals import summarize
from lth_tutorial.safety.arguments import checked
from lth_tutorial.theory import Subset, typical_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

_LEFT_OUT = "#8C8C8C"


@checked
def subset_sums(values: Tensor, target: float, found: Subset, sums: Tensor) -> Figure:
    """Show which numbers a subset keeps, and where all subset sums lie.

    Above, the numbers one after the other: a kept one starts where the last kept one ended, one
    that is left out is hollow. Below, how many of the subset sums fall where.

    Args:
        values: shape [n].
        target: what the sum is to meet.
        found: of `best_subset(values, target)`.
        sums: all subset sums, shape [2ⁿ].
    """
    figure, first = new_figure(width=6.4, height=4.4)
    first.remove()
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(1.5, 1))
    green, place = METHODS["subset"]["color"], 0.0
    for row, (value, kept) in enumerate(zip(values.tolist(), found.kept.tolist(), strict=True)):
        look = {"color": green} if kept else {"facecolor": "none", "edgecolor": _LEFT_OUT}
        top.barh(row, value, left=place, height=0.62, **look)
        place += value if kept else 0.0
    top.set_ylim(len(values) - 0.4, -0.6)
    top.set_yticks([])
    _dress(top, "", "products,\none per row")
    bins = torch.linspace(-2, 2, 81).tolist()
    # One outline instead of eighty bars: a frame of the interactive figure stays small.
    bottom.hist(sums.tolist(), bins=bins, color=green, alpha=0.55, histtype="stepfilled")
    bottom.set_yscale("log")
    bottom.set_ylim(0.5, 1000)
    bottom.minorticks_off()
    _dress(bottom, "sum", "subsets\n(log scale)")
    for axes in (top, bottom):
        axes.axvline(target, color="black", linestyle="--", linewidth=1.2)
        axes.set_xlim(-2, 2)
    top.set_title(
        f"{int(found.kept.sum())} of {len(values)} products kept, target {target:g}: "
        f"error {found.error.item():.1g}",
        fontsize=FONT,
    )
    return figure


@checked
def imitated_lines(x: Tensor, target: Tensor, imitations: Mapping[str, Tensor]) -> Figure:
    """Show functions of one input beside the target that they imitate.

    Args:
        x: inputs, shape [points].
        target: of the same shape; drawn black and dashed.
        imitations: by label, of the same shape.
    """
    figure, axes = new_figure(height=3.6)
    for i, (label, y) in enumerate(imitations.items()):
        alpha = 1 - 0.7 * (len(imitations) - 1 - i) / max(1, len(imitations) - 1)
        look = {"color": METHODS["subset"]["color"], "alpha": alpha, "linewidth": 2.2}
        axes.plot(x.tolist(), y.tolist(), label=label, **look)
    axes.plot(x.tolist(), target.tolist(), color="black", linestyle="--", label="target")
    _dress(axes, "input x", "output")
    axes.legend(fontsize=FONT - 1, frameon=False)
    return figure


@checked
def error_vs_products(rows: DataFrame) -> Figure:
    """Show the error of subset sums against the number of products, on two horizontal axes.

    On the left the axis is linear: what falls exponentially is straight there. On the right it is
    logarithmic: what falls like a power of n is straight there. Dots are seeds; the fitted line is
    one of least squares through the logarithm of the subsets' mean errors from 5 products on.

    Args:
        rows: of `subset_sum_experiment`; one call or several put together.
    """
    arms = check_rows(rows, ("arm", "seed", "products", "median_error"), None)
    figure, first = new_figure(width=6.4, height=4.6)
    first.remove()
    left, right = figure.subplots(1, 2, sharey=True)
    for axes in (left, right):
        for arm in arms:
            _draw_arm(axes, rows[rows["arm"] == arm], arm, "median_error")
        axes.set_yscale("log")
        _dress(axes, "", "")
    most = int(rows.loc[rows["arm"] == "subset", "products"].max())
    counted = list(range(1, most + 1))
    left.plot(
        counted, [typical_error(n) for n in counted], color="black", linestyle=":",
        label="by counting: ½, ¼, ⅛, …",
    )  # fmt: skip
    fitted = summarize(
        rows[(rows["arm"] == "subset") & (rows["products"] >= 5)], "products", "median_error"
    )
    if len(fitted) > 2:
        n = fitted["products"].astype(float)
        slope, start = np.polyfit(n, np.log(fitted["mean"]), 1)
        left.plot(
            n, np.exp(slope * n + start), color="black", linestyle="--", linewidth=1,
            label=f"fit: × {math.exp(slope):.2f} per product", zorder=4,
        )  # fmt: skip
    left.set_xlim(0, most + 1)
    left.set_xticks(range(0, most + 1, 5))
    right.set_xscale("log")
    left.set_ylabel("median error (log scale)", fontsize=FONT)
    left.set_xlabel("number of products", fontsize=FONT)
    right.set_xlabel("number of products\n(log scale)", fontsize=FONT)
    handles, labels = left.get_legend_handles_labels()
    _legend(figure, handles, labels, _seeds_note(rows))
    return figure


@checked
def imitation(rows: DataFrame) -> Figure:
    """Show accuracy and output error of pruned random networks against products per weight.

    Dots are seeds. The dashed line is the mean accuracy of the target networks.

    Args:
        rows: of `imitation_experiment`, with round 0.
    """
    columns = ("arm", "seed", "round", "products", "accuracy", "output_error")
    arms = check_rows(rows, columns, None)
    figure, first = new_figure(width=6.4, height=5.2)
    first.remove()
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(1.2, 1))
    pruned = rows[rows["round"] > 0]
    for arm in arms:
        own = pruned[pruned["arm"] == arm]
        _draw_arm(top, own, arm, "accuracy")
        _draw_arm(bottom, own, arm, "output_error")
    target = 100 * rows.loc[rows["round"] == 0, "accuracy"].mean()
    top.axhline(target, color="black", linestyle="--", linewidth=1.2, label="target network")
    bottom.set_yscale("log")
    _dress(top, "", value_label("accuracy"))
    _dress(bottom, "products per weight to choose from", "output error\n(log scale)")
    _legend(figure, *top.get_legend_handles_labels(), _seeds_note(rows))
    return figure


def _draw_arm(axes: Axes, own: DataFrame, arm: str, value: str) -> None:
    summary = summarize(own, "products", value)
    # The lower end of an interval may be negative, which a logarithmic axis cannot show.
    summary["low"] = summary["low"].clip(lower=own[value].min() / 2)
    draw_band(axes, summary["products"], summary, arm, value)
    scale = 100 if value == "accuracy" else 1
    axes.plot(
        own["products"], scale * own[value], linestyle="", marker=".", markersize=3, alpha=0.5,
        color=METHODS[arm]["color"],
    )  # fmt: skip


def _seeds_note(rows: DataFrame) -> str:
    return f"mean and 95% interval, n = {rows['seed'].nunique()} seeds"


def _legend(figure: Figure, handles: Sequence, labels: Sequence[str], title: str) -> None:
    figure.legend(
        handles, labels, loc="outside lower center", ncols=2, title=title, fontsize=FONT - 1,
        title_fontsize=FONT - 1, frameon=False,
    )  # fmt: skip


def _dress(axes: Axes, x: str, y: str) -> None:
    axes.set_facecolor("white")
    axes.set_xlabel(x, fontsize=FONT)
    axes.set_ylabel(y, fontsize=FONT)
    axes.tick_params(which="both", labelsize=FONT, colors="black")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#E3E3E3", linewidth=0.8)
    axes.set_axisbelow(True)
