"""Figures of chapter 10: accuracy of networks that are never trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from lth_tutorial.plotting.card import (
    FONT,
    METHODS,
    draw_band,
    new_figure,
    value_label,
)
from lth_tutorial.results.intervals import summarize
from lth_tutorial.runtime import choose
from lth_tutorial.safety.arguments import checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame
    from torch import Tensor

_LABELS = {"width": "width of the hidden layers (log scale)", "density": "share of weights kept"}


@checked
def supermask_accuracy(rows: DataFrame, x: Literal["width", "density"]) -> Figure:
    """Show test accuracy against width or density, with every seed as a dot.

    Args:
        rows: arm, seed, round, accuracy and the column `x`; round 0 is the dense network. Against
            density it is a dashed line.

    Raises:
        ValueError: for another `x`, or an unknown arm.
    """
    choose("x", x, _LABELS)
    figure, axes = new_figure(height=4.8)
    _draw_accuracies(axes, rows, x)
    figure.legend(
        loc="outside lower center", ncols=2, fontsize=FONT - 1, frameon=False,
        title=f"mean and 95% interval, n = {rows['seed'].nunique()} seeds",
        title_fontsize=FONT - 1,
    )  # fmt: skip
    return figure


@checked
def mask_and_accuracy(weights: Tensor, rows: DataFrame, *, round: int) -> Figure:
    """Show the kept weights of one layer beside the accuracy at every density.

    Args:
        weights: effective weights of the layer [outputs, inputs]: zero where pruned.
        rows: as for `supermask_accuracy` against density.
        round: the density to mark.

    Raises:
        ValueError: if the weights are no matrix, or the round was not measured.
    """
    import matplotlib

    if weights.ndim != 2:
        raise ValueError(f"weights are a matrix [outputs, inputs]; got {tuple(weights.shape)}")
    if round not in set(rows["round"]):
        raise ValueError(f"round {round!r} was not measured; there are {rows['round'].unique()}")
    figure, first = new_figure(width=6.4, height=3.6)
    first.remove()
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    sign = weights.detach().cpu().sign()
    colours = matplotlib.colormaps["RdBu_r"].with_extremes(bad="#D9D9D9")
    left.imshow(sign.masked_fill(sign == 0, torch.nan).numpy(), cmap=colours, vmin=-1.4, vmax=1.4)
    left.set(xticks=[], yticks=[])
    left.set_xlabel("inputs (red +, blue −, grey pruned)", fontsize=FONT)
    left.set_ylabel("first-layer neurons", fontsize=FONT)
    _draw_accuracies(right, rows, "density")
    marked = rows.loc[rows["round"] == round, "density"].mean()
    right.axvline(marked, color="black", linewidth=1, linestyle=":")
    right.set_facecolor("white")
    right.tick_params(labelsize=FONT, colors="black")
    right.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_accuracies(axes: Axes, rows: DataFrame, x: str) -> None:
    rows = rows.assign(arm=rows["arm"].where(rows["round"] > 0, "dense"))
    rows = rows.drop_duplicates(["arm", "seed", x])
    for arm in [arm for arm in METHODS if arm in set(rows["arm"])]:
        own = rows[rows["arm"] == arm].sort_values(x)
        look = {"color": METHODS[arm]["color"]}
        if arm == "dense" and x == "density":
            mean = 100 * own["accuracy"].mean()
            axes.axhline(
                mean, linestyle="--", linewidth=1.2, label=METHODS["dense"]["label"], **look
            )
            continue
        draw_band(axes, own[x].drop_duplicates(), summarize(own, x), arm, "accuracy")
        look |= {"linestyle": "", "marker": ".", "markersize": 4, "alpha": 0.6}
        axes.plot(own[x], 100 * own["accuracy"], **look)
    # Against width everything lies well above chance, and single points should show.
    low = 100 * rows["accuracy"].min() - 2 if x == "width" else 0
    axes.set_ylim(low, 101 if x == "width" else 102)
    axes.set_xlabel(_LABELS[x], fontsize=FONT)
    axes.set_ylabel(value_label("accuracy"), fontsize=FONT)
    if x == "width":
        widths = sorted(set(rows[x]))
        axes.set_xscale("log", base=2)
        axes.set_xticks(widths, [f"{width}" for width in widths])
    else:
        axes.set_xlim(0, 1)
