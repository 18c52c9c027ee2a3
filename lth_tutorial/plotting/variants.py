"""Figures of chapter 13: bases, moved tickets, and weights on their way out."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

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
from lth_tutorial.results.intervals import summarize
from lth_tutorial.runtime import choose
from lth_tutorial.safety.arguments import checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame
    from torch import Tensor


@checked
def basis_images(bases: Mapping[str, Tensor], image_shape: tuple[int, int], n: int = 8) -> Figure:
    """Show basis vectors of the pixels' side as pictures, one row for each basis.

    Args:
        bases: matrices [pixels, at least n] by title, a basis vector per column.
        image_shape: height and width.
        n: how many vectors, the first ones.

    Raises:
        ValueError: if a matrix has another number of pixels than the images.
    """
    pixels = math.prod(image_shape)
    for title, matrix in bases.items():
        if matrix.ndim != 2 or matrix.shape[0] != pixels or matrix.shape[1] < n:
            raise ValueError(
                f"the basis {title!r} has shape {tuple(matrix.shape)}; {n} pictures of "
                f"{image_shape[0]} by {image_shape[1]} pixels need ({pixels}, {n} or more)"
            )
    figure, first = new_figure(height=0.85 * len(bases))
    first.remove()
    grid = figure.subplots(len(bases), n, squeeze=False)
    for row, (title, matrix) in zip(grid, bases.items(), strict=True):
        for k, axes in enumerate(row):
            vector = torch.as_tensor(matrix)[:, k].detach().cpu().float().view(image_shape)
            limit = float(vector.abs().max())
            axes.imshow(vector.numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit)
            axes.set(xticks=[], yticks=[])
        row[0].set_ylabel(title, rotation=0, ha="right", va="center", size=FONT)
    return figure


@checked
def accuracy_vs_stored(rows: DataFrame, *, arms: Sequence[str] | None = None) -> Figure:
    """Plot accuracy against what a pruned network has to store, its basis counted.

    Args:
        rows: as from `basis_experiment`, the arms being bases; round 0 is the dense network.
        arms: the bases to draw; all of them by default.

    Raises:
        ValueError: for a missing column or an unknown arm.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    arms = check_rows(rows, ("arm", "seed", "round", "stored", "accuracy"), arms)
    figure, axes = new_figure()
    pruned = rows[rows["round"] > 0]
    for arm in arms:
        own = pruned[pruned["arm"] == arm]
        summary = summarize(own, "round")
        summary["stored"] = own.groupby("round", sort=False)["stored"].mean().to_numpy()
        draw_band(axes, summary["stored"], summary, arm, "accuracy")
    dense = rows[(rows["round"] == 0) & (rows["arm"] == arms[0])]["accuracy"].mean()
    axes.axhline(100 * dense, color="black", linestyle="--", linewidth=1, label="dense network")
    low, high = pruned["stored"].min(), pruned["stored"].max()
    ticks = [s / 100 for s in (1, 2, 5, 10, 20, 50, 100, 200, 300)]
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([t for t in ticks if low / 1.1 <= t <= high * 1.1]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.3g}%"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(high * 1.15, low / 1.15)
    axes.set_xlabel("stored numbers, basis included (dense = 100%, log scale)")
    axes.set_ylabel(value_label("accuracy"))
    draw_legend(axes, replicates_note(pruned[pruned["arm"].isin(arms)], "accuracy"))
    return figure


@checked
def moved_tickets(rows: DataFrame, pairs: Sequence[tuple[str, str]]) -> Figure:
    """Plot the accuracy of moved tickets and their controls: a dot per seed, mean and interval.

    Args:
        rows: as from `elastic_experiment`.
        pairs: (source, target) in the order of the panels, one below the other.

    Raises:
        ValueError: for a missing column, or a pair that was not measured.
    """
    for column in ("arm", "seed", "round", "accuracy"):
        choose("column", column, rows.columns)
    last = rows[rows["round"] == rows["round"].max()]
    known = list(dict.fromkeys(last["arm"]))
    figure, first = new_figure(height=0.9 + 1.75 * len(pairs))
    first.remove()
    panels = figure.subplots(len(pairs), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (source, target) in zip(panels, pairs, strict=True):
        label = f"{source} to {target}"
        choose("pair", f"{label}, stretched", known)
        names = [a for a in known if a.startswith(f"{label}, ")]
        _dots(axes, last, [f"{target}, ticket", *names])
        dense = rows[(rows["arm"] == f"{target}, ticket") & (rows["round"] == 0)]["accuracy"]
        axes.axvline(100 * dense.mean(), color="black", linestyle="--", linewidth=1)
        axes.set_title(f"from {source} to {target}", fontsize=FONT, loc="left")
    panels[-1].set_xlabel(value_label("accuracy"), fontsize=FONT)
    return figure


@checked
def accuracy_vs_penalty(rows: DataFrame) -> Figure:
    """Plot the accuracy of penalised random masks against λ, beside the controls as lines.

    Args:
        rows: as from `dual_experiment`.

    Raises:
        ValueError: for a missing column or an unknown arm.
    """
    arms = check_rows(rows, ("arm", "seed", "round", "strength", "accuracy"), None)
    figure, axes = new_figure()
    own = rows[(rows["arm"] == "regularised") & (rows["round"] > 0)]
    summary = summarize(own, "round")
    strengths = own.groupby("round", sort=False)["strength"].mean().tolist()
    places = range(len(strengths))
    draw_band(axes, places, summary, "regularised", "accuracy")
    for arm in (arm for arm in arms if arm != "regularised"):
        values = rows[(rows["arm"] == arm) & (rows["round"] == 1)]
        _level(axes, arm, values)
    dense = rows[(rows["arm"] == arms[0]) & (rows["round"] == 0)]
    _level(axes, "dense", dense)
    axes.set_xticks(list(places), [f"{s:g}" for s in strengths])
    axes.set_xlim(-0.3, len(strengths) - 0.7)
    axes.set_xlabel("final strength of the penalty, λ")
    axes.set_ylabel(value_label("accuracy"))
    draw_legend(axes, f"mean and 95% interval, n = {own['seed'].nunique()}")
    return figure


@checked
def weights_leaving(weights: Tensor, kept: Tensor, rows: DataFrame, *, round: int) -> Figure:
    """Show a layer's weights just before a random mask removes some, and all seeds' accuracies.

    Args:
        weights, kept: one layer at the end of the penalised phase, and its mask.
        rows: as from `dual_experiment`.
        round: of "regularised", the strength to show.

    Raises:
        ValueError: for a missing column, or a round that was not measured.
    """
    arms = check_rows(rows, ("arm", "seed", "round", "accuracy", "accuracy_before"), None)
    drawn = rows[(rows["arm"] == "regularised") & (rows["round"] == round)]
    if drawn.empty or round < 1:
        raise ValueError(f"round {round!r} was not measured; there are {rows['round'].unique()}")
    figure, first = new_figure(height=3.4)
    first.remove()
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.1))
    edges = torch.linspace(-0.6, 0.6, 31).tolist()
    values = weights.detach().cpu().clamp(-0.6, 0.6)
    for group, label, color in (
        (~kept.cpu(), "to be removed", METHODS["random"]["color"]),
        (kept.cpu(), "to stay", METHODS["regularised"]["color"]),
    ):
        share = [1 / int(group.sum())] * int(group.sum())
        left.hist(
            values[group].tolist(), edges, weights=share, color=color, alpha=0.65, label=label
        )
    left.set_ylim(0, 0.5)
    left.set_xlabel("weight before the removal", fontsize=FONT)
    left.set_ylabel("share of its group", fontsize=FONT)
    left.legend(fontsize=FONT - 1, frameon=False, loc="upper right")
    shown = [arm for arm in arms if arm != "regularised"]
    before = drawn.assign(accuracy=drawn["accuracy_before"], arm="before")
    each = {"dense": rows[(rows["round"] == 0) & (rows["arm"] == arms[0])]}
    each |= {arm: rows[(rows["arm"] == arm) & (rows["round"] == 1)] for arm in shown}
    each |= {"regularised": drawn, "before": before}
    for place, (arm, own) in enumerate(each.items()):
        style = METHODS["regularised" if arm == "before" else arm]
        fill = "none" if arm == "before" else style["color"]
        right.plot(
            100 * own["accuracy"], [place] * len(own), linestyle="none", marker=style["marker"],
            color=style["color"], markerfacecolor=fill, alpha=0.6, markersize=5,
        )  # fmt: skip
        right.plot([100 * own["accuracy"].mean()] * 2, [place - 0.3, place + 0.3],
                   color=style["color"])  # fmt: skip
    labels = ["before removal" if a == "before" else METHODS[a]["label"] for a in each]
    right.set_yticks(range(len(each)), labels, fontsize=FONT - 1)
    right.invert_yaxis()
    right.set_xlim(min(40.0, 100 * rows["accuracy"].min() - 3), 101)
    right.set_xlabel("test accuracy (%)", fontsize=FONT)
    for axes in (left, right):
        _plain(axes)
    return figure


def _dots(axes: Axes, rows: DataFrame, arms: Sequence[str]) -> None:
    for place, name in enumerate(arms):
        style = METHODS[choose("arm", name.rpartition(", ")[2], METHODS)]
        own = rows[rows["arm"] == name]
        look = {"color": style["color"], "marker": style["marker"], "linestyle": "none"}
        axes.plot(100 * own["accuracy"], [place] * len(own), alpha=0.35, markersize=4, **look)
        mean, low, high = (100 * summarize(own, "arm")[part].iloc[0] for part in
                           ("mean", "low", "high"))  # fmt: skip
        axes.errorbar(mean, place + 0.22, xerr=[[mean - low], [high - mean]], capsize=3, **look)
    labels = [textwrap.fill(METHODS[n.rpartition(", ")[2]]["label"], 26) for n in arms]
    axes.set_yticks(range(len(arms)), labels, fontsize=FONT - 1)
    axes.set_ylim(len(arms) - 0.5, -0.5)
    _plain(axes)


def _level(axes: Axes, arm: str, rows: DataFrame) -> None:
    """Draw an arm without a λ as a horizontal line with its interval."""
    style, line = METHODS[arm], summarize(rows.assign(arm=arm), "arm").iloc[0]
    axes.axhspan(100 * line["low"], 100 * line["high"], color=style["color"], alpha=0.12, lw=0)
    look = {"linestyle": "--", "color": style["color"], "label": style["label"]}
    axes.axhline(100 * line["mean"], **look)


def _plain(axes: Axes) -> None:
    axes.set_facecolor("white")
    axes.tick_params(labelsize=FONT - 1, colors="black")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#E3E3E3", linewidth=0.8)
    axes.set_axisbelow(True)
