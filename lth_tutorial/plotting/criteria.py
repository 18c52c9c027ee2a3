"""Figures of criteria: which weights two rankings keep, and which layers stay connected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from lth_tutorial.plotting.card import FONT, METHODS, check_rows, new_figure
from lth_tutorial.runtime import choose
from lth_tutorial.safety.arguments import checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame


@checked
def saliency_plane(weight: Tensor, curvature: Tensor, share: float, *, points: int = 400) -> Figure:
    """Show every weight by its size and its curvature, and what two rankings keep of them.

    Magnitude cuts the plane by a vertical line, w² h / 2 by a falling diagonal one.

    Args:
        weight, curvature: one number per weight, in the same order; curvature at least 0.
        share: share of the weights that both rankings keep, in (0, 1).
        points: weights to draw, evenly spaced; the cuts are those of all.

    Raises:
        ValueError: if the two have different lengths, or the share is out of range.
    """
    size, h = weight.detach().abs().flatten().double(), curvature.detach().flatten().double()
    if len(size) != len(h) or not 0 < share < 1:
        raise ValueError(
            f"weight and curvature have equal lengths and share lies in (0, 1); got {len(size)}, "
            f"{len(h)} and {share!r}"
        )
    saliency = size.square() * h / 2
    cut, line = (values.quantile(1 - share).item() for values in (size, saliency))
    figure, axes = new_figure(height=4.2)
    drawn = slice(None, None, max(1, len(size) // points))
    low_x, low_y = size.quantile(0.02).item(), max(h.quantile(0.1).item(), 1e-9)
    kinds = {
        "kept by both": ((size >= cut) & (saliency >= line), "#000000", "o"),
        "by magnitude only": (
            (size >= cut) & (saliency < line),
            METHODS["magnitude"]["color"],
            "<",
        ),
        "by saliency only": ((size < cut) & (saliency >= line), METHODS["obd"]["color"], ">"),
        "by neither": ((size < cut) & (saliency < line), "#B0B0B0", "."),
    }
    for label, (chosen, color, marker) in kinds.items():
        part = chosen[drawn]
        x, y = size[drawn][part].clamp(min=low_x), h[drawn][part].clamp(min=low_y)
        text = f"{label} ({chosen.double().mean().item():.0%})"
        axes.plot(x.numpy(), y.numpy(), marker, color=color, markersize=4, label=text)
    axes.axvline(cut, color=METHODS["magnitude"]["color"], linestyle="--", linewidth=1.5)
    ends = [low_x, size.max().item()]
    heights = [2 * line / x**2 for x in ends]
    axes.plot(ends, heights, color=METHODS["obd"]["color"], linewidth=1.5)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.set_xlim(low_x / 1.1, ends[1] * 1.1)
    axes.set_ylim(low_y / 1.5, h.max().item() * 1.5)
    axes.set_xlabel("magnitude |w|", fontsize=FONT)
    axes.set_ylabel("curvature h", fontsize=FONT)
    look = {"ncols": 2, "frameon": False, "fontsize": FONT - 1, "markerscale": 2}
    figure.legend(loc="outside lower center", **look)
    return figure


@checked
def connected_layers(
    rows: DataFrame, *, density: float, arms: Sequence[str] | None = None
) -> Figure:
    """Show layer by layer how many weights are kept, and how many of those are on a path.

    Args:
        rows: columns arm, density, layer (numbered from 1), kept and connected (numbers of
            weights of one network).
        density: which rows to show.
        arms: what to draw, one picture each.

    Raises:
        ValueError: for a missing column, an unknown arm, or a density that was not measured.
    """
    rows = rows.assign(seed=0) if "seed" not in rows else rows
    arms = check_rows(rows, ("arm", "density", "layer", "kept", "connected"), arms)
    choose("density", f"{density:g}", [f"{d:g}" for d in rows["density"].unique()])
    figure, first = new_figure(width=6.8, height=3.4)
    first.remove()
    panels = figure.subplots(1, len(arms), sharey=True)
    shown = rows[(rows["density"] - density).abs() < 1e-9]
    for axes, arm in zip(panels if len(arms) > 1 else [panels], arms, strict=True):
        _draw_layers(axes, shown[shown["arm"] == arm], arm)
    first = panels[0] if len(arms) > 1 else panels
    first.set_ylabel("weights in the layer", fontsize=FONT)
    first.set_ylim(0, rows["kept"].max() * 2)
    figure.supxlabel("layer, from input to output", fontsize=FONT)
    return figure


def _draw_layers(axes: Axes, rows: DataFrame, arm: str) -> None:
    axes.set_facecolor("white")
    style = METHODS[arm]
    axes.set_yscale("symlog", linthresh=1)
    axes.bar(rows["layer"], rows["kept"], width=0.85, color="#CFCFCF")
    axes.bar(rows["layer"], rows["connected"], width=0.85, color=style["color"])
    alive = "alive" if (rows["connected"] > 0).all() else "collapsed"
    axes.set_title(f"{style['label']}\n{alive}", fontsize=FONT - 1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=FONT - 2, colors="black")
    axes.set_xticks([1, int(rows["layer"].max())])
