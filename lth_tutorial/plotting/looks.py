"""Figures of chapter 14: masks as receptive fields, and networks on the Cubist Spiral."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from lth_tutorial.plotting.card import (
    FONT,
    LEGEND_FONT,
    METHODS,
    check_rows,
    density_axis,
    draw_legend,
    new_figure,
)
from lth_tutorial.results.intervals import summarize
from lth_tutorial.safety.arguments import checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame
    from torch import Tensor, nn

    from lth_tutorial.data.dataset import Dataset
    from lth_tutorial.pruning.masks import Mask

CURVES = {
    "kept": {"label": "the mask", "color": "#0072B2", "marker": "o"},
    "matched": {"label": "shuffled, same counts per unit and pixel", "color": "#DD7711",
                "marker": "s"},
    "uniform": {"label": "uniformly random", "color": "#808080", "marker": "^"},
}  # fmt: skip
"""A mask and its two nulls, in every figure that shows them."""

_POSITIVE, _NEGATIVE = "#B2182B", "#2166AC"


@checked
def receptive_fields(
    kept: Tensor, image_shape: tuple[int, int], *, columns: int = 10, rows: int = 4, title: str = ""
) -> Figure:
    """Show which pixels each hidden unit keeps: one small picture per unit, most pixels first.

    Args:
        kept: the mask of a fully connected first layer, bool [units, pixels].
        image_shape: height and width.
        columns, rows: of the grid; units beyond it are not shown.
        title: stands above the pictures.

    Raises:
        ValueError: if the mask has another number of pixels than the images.
    """
    height, width = image_shape
    if kept.ndim != 2 or kept.shape[1] != height * width:
        raise ValueError(
            f"the mask has shape {tuple(kept.shape)}; for images of {height} by {width} pixels it "
            f"has shape (units, {height * width})"
        )
    order = kept.sum(dim=1).argsort(descending=True, stable=True)[: rows * columns]
    fields = kept[order].view(-1, height, width).cpu()
    # One picture of all units, with a frame of one pixel around each: a figure of a hundred axes
    # would take seconds, and more bytes than a page may have.
    sheet = torch.full((rows * (height + 1) + 1, columns * (width + 1) + 1), 0.5)
    for i, field in enumerate(fields):
        y, x = divmod(i, columns)
        top, left = y * (height + 1) + 1, x * (width + 1) + 1
        sheet[top : top + height, left : left + width] = field.float()
    figure, axes = new_figure(width=6.4, height=0.55 + 6.2 * sheet.shape[0] / sheet.shape[1])
    axes.imshow(sheet.numpy(), cmap=_field_colours(), vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_title(title, fontsize=FONT)
    return figure


def _field_colours():
    from matplotlib.colors import ListedColormap

    return ListedColormap(["#FFFFFF", "#BFBFBF", "#0B3C5D"])


@checked
def locality_curves(tables: Mapping[str, DataFrame], *, value: str = "same") -> Figure:
    """Plot how often a pixel is kept, against its distance from a kept one.

    Args:
        tables: as from `kept_at_distance`, by "kept", "matched" and "uniform".
        value: "same" or "different" channel.

    Raises:
        ValueError: for another name, or a table without the column.
    """
    figure, axes = new_figure(height=4.2)
    for name, table in tables.items():
        if name not in CURVES:
            raise ValueError(f"tables are named {', '.join(CURVES)}; got {name!r}")
        axes.plot(table["distance"], 100 * table[value], markersize=5.5, **CURVES[name])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("distance from a kept pixel (pixels)")
    axes.set_ylabel("kept by the same unit (%)")
    draw_legend(axes, "")
    return figure


@checked
def neighbours_vs_density(rows: DataFrame) -> Figure:
    """Plot the share of kept neighbours against the density of the first layer, with both nulls.

    Args:
        rows: of one arm, as from `locality_experiment`: seed, round, first_density, neighbours,
            neighbours_matched, neighbours_uniform.
    """
    check = {"neighbours": "kept", "neighbours_matched": "matched", "neighbours_uniform": "uniform"}
    figure, axes = new_figure(height=4.4)
    density = rows.groupby("round")["first_density"].mean()
    for value, name in check.items():
        table = summarize(rows, "round", value)
        at, look = table["round"].map(density), CURVES[name]
        axes.fill_between(
            at, 100 * table["low"], 100 * table["high"], color=look["color"], alpha=0.2, linewidth=0
        )
        axes.plot(at, 100 * table["mean"], markersize=5, **look)
    density_axis(axes, density)
    axes.set_xlabel("first-layer weights remaining (log scale)")
    least = 100 * rows[list(check)].min().min()
    axes.set_yscale("log")
    axes.set_ylim(max(least, 0.5) / 1.2, 110)
    ticks = [t for t in (100, 50, 20, 10, 5, 2, 1) if t >= least / 1.2]
    axes.set_yticks(ticks, [str(t) for t in ticks])
    axes.minorticks_off()
    axes.set_ylabel("neighbours of a kept pixel\nthat are kept (%, log scale)")
    draw_legend(axes, f"mean and 95% interval, n = {rows['seed'].nunique()}")
    return figure


@checked
def excess_by_arm(rows: DataFrame, labels: Mapping[str, str], *, value: str = "excess") -> Figure:
    """Plot the locality beyond the null for several arms: a dot per seed, mean and 95% interval.

    Args:
        rows: arm, seed and the value (a share); one row per arm and seed.
        labels: words for every arm, in the order of the figure.
    """
    arms = [arm for arm in labels if arm in set(rows["arm"])]
    figure, axes = new_figure(height=1.5 + 0.42 * len(arms))
    summary = summarize(rows, "arm", value).set_index("arm")
    for place, arm in enumerate(arms):
        own = rows[rows["arm"] == arm]
        axes.plot(100 * own[value], [place] * len(own), "o", color="#0072B2", alpha=0.3, ms=4)
        mean, low, high = (100 * summary.loc[arm, part] for part in ("mean", "low", "high"))
        axes.errorbar(
            mean, place, xerr=[[mean - low], [high - mean]], fmt="D", color="#0072B2", ms=5,
            capsize=3,
        )  # fmt: skip
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(range(len(arms)), [labels[arm] for arm in arms])
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.set_xlabel("kept neighbours beyond the matched null (points)")
    axes.grid(axis="y", visible=False)
    return figure


@checked
def spiral_and_wiring(model: nn.Module, data: Dataset, mask: Mask, *, title: str = "") -> Figure:
    """Draw what a network makes of the plane, beside its wiring.

    Left, the regions of the two classes and the points. Right, every kept weight as a line, red
    where it is positive and blue where it is negative, thicker for larger ones (thickness is also
    what tells apart weights in grey); units that lie on no path from input to output are hollow.

    Args:
        model: from `lt.spiral_network`, with the trained weights.
        data: the spiral.
        mask: the kept weights.
        title: stands above.
    """
    from lth_tutorial.criteria import connected_weights

    figure, first = new_figure(width=6.4, height=3.5)
    first.remove()
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    _draw_regions(left, model, data)
    _draw_wiring(right, model, mask, connected_weights(model, data, mask))
    figure.suptitle(title, fontsize=FONT)
    return figure


@torch.no_grad()
def _draw_regions(axes: Axes, model: nn.Module, data: Dataset) -> None:
    from matplotlib.colors import ListedColormap

    limit = 1.08 * float(data.x_train.abs().max())
    side = torch.linspace(-limit, limit, 140)
    y, x = torch.meshgrid(side, side, indexing="ij")
    plane = data.normalize(torch.stack([x.flatten(), y.flatten()], dim=1))
    logits = model(plane.to(data.device)).cpu()
    regions = (logits[:, 1] > logits[:, 0]).view(140, 140).float()
    axes.imshow(
        regions.numpy(), origin="lower", extent=(-limit, limit, -limit, limit),
        cmap=ListedColormap(["#F3DCC2", "#CFE3F1"]), vmin=0, vmax=1, interpolation="nearest",
    )  # fmt: skip
    # Points that lie in order along an arm, as the spiral's do, make a line of few bytes.
    points, labels = data.x_train.cpu(), data.y_train.cpu()
    for label, color, style in ((0, "#A65E00", "-"), (1, "#0072B2", "--")):
        own = points[labels == label][:: max(1, len(points) // 400)]
        axes.plot(own[:, 0], own[:, 1], style, color=color, linewidth=1.4)
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel("two arms, two regions", fontsize=FONT)
    axes.grid(False)


def _draw_wiring(axes: Axes, model: nn.Module, mask: Mask, needed: Mask) -> None:
    weights = {n: tensor.detach() for n, tensor in model.named_parameters() if n in mask}
    layers = list(mask)
    sizes = [mask[layers[0]].shape[1], *(len(mask[name]) for name in layers)]
    places = [_column(size) for size in sizes]
    used = [set() for _ in sizes]
    for i, name in enumerate(layers):
        largest = float(weights[name][mask[name]].abs().max()) if mask[name].any() else 1.0
        for to, from_ in mask[name].nonzero().tolist():
            weight, counts = float(weights[name][to, from_]), bool(needed[name][to, from_])
            if counts:
                used[i].add(from_)
                used[i + 1].add(to)
            axes.plot(
                [i, i + 1], [places[i][from_], places[i + 1][to]],
                color=_POSITIVE if weight > 0 else _NEGATIVE, zorder=1,
                linewidth=0.6 + 2.4 * abs(weight) / largest if counts else 0.8,
                linestyle="-" if counts else ":",
            )  # fmt: skip
    for i, column in enumerate(places):
        for j, place in enumerate(column):
            look = {"markerfacecolor": "black" if j in used[i] else "white"}
            axes.plot(i, place, "o", color="black", ms=5, zorder=2, **look)
    axes.set_xlim(-0.3, len(sizes) - 0.7)
    axes.set_xticks(range(len(sizes)), ["inputs", *["hidden"] * (len(sizes) - 2), "output"])
    axes.tick_params(axis="x", labelsize=LEGEND_FONT - 1, length=0)
    axes.set_yticks([])
    axes.set_ylim(-1.1, 1.1)
    axes.grid(False)
    axes.set_facecolor("white")
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)


def _column(size: int) -> list[float]:
    return [0.0] if size == 1 else np.linspace(-1, 1, size).tolist()


@checked
def weights_vs_width(table: DataFrame, *, fewest: int | None = None, target: str = "95%") -> Figure:
    """Plot how many weights each method needs against the width of the network it starts from.

    Args:
        table: arm, width, seed, weights, pruned (see `fewest_weights`). Hollow: in one seed or more
            only the dense network reaches the accuracy, and the mark is an upper bound.
        fewest: the fewest weights known to be enough; a dashed line.
        target: accuracy that is reached, in words.

    Raises:
        ValueError: for a missing column or an unknown arm.
    """
    arms = check_rows(table, ("arm", "width", "seed", "weights", "pruned"), None)
    figure, axes = new_figure(height=4.8)
    for i, arm in enumerate(arms):
        own = table[table["arm"] == arm]
        summary = summarize(own, "width", "weights").sort_values("width")
        style = METHODS[arm]
        mean, low, high = (summary[part].clip(lower=1) for part in ("mean", "low", "high"))
        # A little apart, so that intervals of one width can be told apart.
        at = summary["width"] * 1.03 ** (i - len(arms) / 2)
        axes.errorbar(
            at, mean, yerr=[mean - low, high - mean], color=style["color"],
            marker=style["marker"], label=style["label"], capsize=2, markersize=6,
        )  # fmt: skip
        short = ~own.groupby("width")["pruned"].all()[summary["width"]].to_numpy(dtype=bool)
        if short.any():
            axes.plot(
                at[short], mean[short], linestyle="", marker=style["marker"], markersize=5,
                color=style["color"], markerfacecolor="white", zorder=5,
            )  # fmt: skip
    if fewest is not None:
        axes.axhline(fewest, color="black", linestyle="--", label=f"fewest known: {fewest}")
    widths = sorted(table["width"].unique())
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(widths, [str(w) for w in widths])
    ticks = [
        t
        for t in (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
        if t <= 1.2 * table["weights"].max()
    ]
    axes.set_yticks(ticks, [str(t) for t in ticks])
    axes.minorticks_off()
    axes.set_xlabel("width of the hidden layers")
    axes.set_ylabel(f"weights needed for {target} (log scale)")
    draw_legend(axes, f"mean and 95% interval, n = {table['seed'].nunique()}")
    return figure


@checked
def weights_vs_accuracy(rows: DataFrame, *, target: float = 0.95) -> Figure:
    """Plot the accuracy on the spiral against the number of weights needed, a dot per network.

    Args:
        rows: as from `compare_on_spiral`: arm, seed, weights, accuracy; also of searches.
        target: accuracy with a dashed line.

    Raises:
        ValueError: for a missing column or an unknown arm.
    """
    arms = check_rows(rows, ("arm", "seed", "weights", "accuracy"), None)
    figure, axes = new_figure(height=4.6)
    for arm in arms:
        own, style = rows[(rows["arm"] == arm) & (rows["weights"] > 0)], METHODS[arm]
        look = {"color": style["color"], "marker": style["marker"], "label": style["label"]}
        axes.plot(own["weights"], 100 * own["accuracy"], linestyle="", alpha=0.6, ms=5, **look)
    axes.axhline(100 * target, color="black", linestyle="--", linewidth=1)
    axes.set_xscale("log")
    ticks = [t for t in (10, 20, 50, 100, 200, 500) if t <= 1.2 * rows["weights"].max()]
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.minorticks_off()
    axes.set_xlabel("weights needed (log scale)")
    axes.set_ylabel("accuracy on the spiral (%)")
    draw_legend(axes, "a mark for each network")
    return figure
