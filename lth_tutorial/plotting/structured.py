"""The figures of structured pruning: what is coupled, which scales are small, what removal buys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lth_tutorial.plotting.card import FONT, METHODS, draw_band, new_figure
from lth_tutorial.results.intervals import summarize
from lth_tutorial.runtime import choose
from lth_tutorial.safety.arguments import checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame
    from torch import Tensor

    from lth_tutorial.structured.units import UnitGroup

COLOURS = ("#0072B2", "#DD7711", "#009E73", "#A6428A", "#7A4419", "#5C6BC0", "#00838F", "#B2182B")
PINNED = "#BFBFBF"
COSTS = {
    "parameters": "parameters",
    "nonzeros": "non-zeros",
    "bytes": "bytes",
    "flops": "FLOPs",
    "latency_ms": "time (measured)",
}


@checked
def coupling(groups: Mapping[str, UnitGroup]) -> Figure:
    """Draw which layers make units, and which of them can only lose a unit together.

    One bar per layer in the order of the forward pass, as long as it has units. Arcs join the
    layers of one group; grey, hatched bars cannot lose a unit.

    Args:
        groups: as from `unit_groups`.
    """
    layers = [(layer, group) for group in groups.values() for layer in group.rows]
    order = _forward_order(groups)
    layers.sort(key=lambda pair: order.index(pair[0]))
    figure, axes = new_figure(width=6.4, height=1.2 + 0.27 * len(layers))
    widest = max(group.size for _, group in layers)
    height = {layer: i for i, (layer, _) in enumerate(layers)}
    several = [group.name for group in groups.values() if len(group.rows) > 1 and not group.pinned]
    for layer, group in layers:
        colour = PINNED if group.pinned else "#4D4D4D"
        if group.name in several:
            colour = COLOURS[several.index(group.name) % len(COLOURS)]
        hatch = "///" if group.pinned else None
        look = {"color": colour, "hatch": hatch, "edgecolor": "white" if hatch else colour}
        axes.barh(height[layer], group.size / widest, height=0.62, **look)
    for group in groups.values():
        colour = COLOURS[several.index(group.name) % len(COLOURS)] if group.name in several else ""
        for a, b in zip(group.rows, list(group.rows)[1:], strict=False):
            _draw_arc(axes, group.size / widest, height[a], height[b], colour or PINNED)
    axes.set_yticks(range(len(layers)), [layer for layer, _ in layers], fontsize=FONT - 2)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.35)
    axes.set_xticks([group.size / widest for group in _by_size(groups)])
    axes.set_xticklabels([str(group.size) for group in _by_size(groups)])
    axes.set_xlabel("units; arcs join layers that lose a unit together")
    axes.grid(False)
    return figure


@checked
def cost_bars(table: DataFrame) -> Figure:
    """Draw every cost of some networks as a share of the first network's.

    Args:
        table: as from `cost_table`.

    Raises:
        ValueError: if a column is missing.
    """
    for column in ("network", *COSTS):
        choose("column", column, table.columns)
    figure, axes = new_figure(height=3.6)
    n = len(table)
    for i, (_, row) in enumerate(table.iterrows()):
        shares = [100 * row[column] / table.iloc[0][column] for column in COSTS]
        places = [k + 0.8 * ((i + 0.5) / n - 0.5) for k in range(len(COSTS))]
        colour = "#000000" if i == 0 else COLOURS[i - 1]
        bars = axes.bar(places, shares, width=0.74 / n, color=colour, label=row["network"])
        # 100 beside 100 beside 100 would run into each other.
        texts = [f"{share:.0f}" if abs(share - 100) >= 0.5 else "" for share in shares]
        axes.bar_label(bars, texts, fontsize=FONT - 2)
    axes.set_xticks(range(len(COSTS)), list(COSTS.values()), fontsize=FONT - 1)
    axes.set_ylim(0, 1.12 * max(bar.get_height() for bar in axes.patches))
    axes.set_ylabel(f"% of {table.iloc[0]['network']}")
    axes.grid(axis="x", visible=False)
    look = {"ncols": n, "frameon": False, "fontsize": FONT - 1}
    axes.figure.legend(loc="outside lower center", **look)
    return figure


@checked
def scales_and_accuracy(
    scales: Mapping[str, Mapping[str, Tensor]], rows: DataFrame, *, fraction: float
) -> Figure:
    """Show which channels a global threshold on batch-norm scales removes, and what that costs.

    Above, every channel's |γ|, sorted within its layer, for each arm: solid where it is kept.
    Below, the mean accuracy of all seeds right after removal, against the share removed.

    Args:
        scales: arm to group to |γ| of one network, as from `unit_scores(…, "bn_scale")`.
        rows: with the columns arm, seed, fraction and accuracy.
        fraction: the share to mark; one that was measured.

    Raises:
        ValueError: for an arm without rows, or a fraction that was not measured.
    """
    import torch

    for arm in scales:
        choose("arm", arm, rows["arm"].unique())
    if fraction not in set(rows["fraction"]):
        raise ValueError(f"fraction {fraction!r} was not measured; {sorted(set(rows['fraction']))}")
    figure, first = new_figure(height=5.4)
    first.remove()
    grid = figure.add_gridspec(2, len(scales), height_ratios=(1, 1.1))
    top = max(float(s.max()) for groups in scales.values() for s in groups.values())
    for i, (arm, groups) in enumerate(scales.items()):
        axes = figure.add_subplot(grid[0, i])
        every = torch.cat(list(groups.values())).sort().values
        cut = float(every[round(fraction * len(every)) - 1]) if fraction else -1.0
        _draw_scales(axes, groups, cut, METHODS[arm])
        axes.set_ylim(-0.05 * top, 1.08 * top)
    axes = figure.add_subplot(grid[1, :])
    for arm in scales:
        own = rows[rows["arm"] == arm]
        summary = summarize(own, "fraction")
        draw_band(axes, 100 * summary["fraction"], summary, arm, "accuracy")
    axes.axvline(100 * fraction, color="black", linestyle=":", linewidth=1)
    _dress(axes, "channels removed (%)", "test accuracy (%)")
    axes.set_ylim(0, 104)
    axes.legend(loc="lower left", fontsize=FONT - 1, frameon=False)
    return figure


def _draw_scales(
    axes: Axes, groups: Mapping[str, Tensor], cut: float, style: Mapping[str, str]
) -> None:
    start, ticks = 0, []
    for name, values in groups.items():
        ordered = values.detach().cpu().sort(descending=True).values.numpy()
        edges, kept = range(start, start + len(ordered) + 1), int((ordered > cut).sum())
        # Two outlines per layer, not a marker per channel: a page bears few of those.
        for part, ends, fill in (
            (ordered[:kept], edges[: kept + 1], True),
            (ordered[kept:], edges[kept:], False),
        ):
            if len(part):
                axes.stairs(part, ends, fill=fill, color=style["color"], linewidth=1)
        ticks.append((start + len(ordered) / 2, name))
        start += len(ordered) + 4
    if cut >= 0:
        axes.axhline(cut, color="black", linestyle="--", linewidth=1)
    _dress(axes, "channels, by layer", "scale |γ|")
    axes.set_xticks(*zip(*ticks, strict=True))
    axes.set_title(style["label"], fontsize=FONT)


def _dress(axes: Axes, x: str, y: str) -> None:
    axes.set_facecolor("white")
    axes.set_xlabel(x, fontsize=FONT)
    axes.set_ylabel(y, fontsize=FONT)
    axes.tick_params(which="both", labelsize=FONT - 1, colors="black")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E3E3E3", linewidth=0.8)
    axes.set_axisbelow(True)


def _draw_arc(axes: Axes, x: float, a: int, b: int, colour: str) -> None:
    look = {"arrowstyle": "-", "color": colour, "linewidth": 1.6}
    look |= {"connectionstyle": f"arc3,rad={-0.25 if b > a else 0.25}"}
    axes.annotate("", xy=(x + 0.01, b), xytext=(x + 0.01, a), arrowprops=look)


def _forward_order(groups: Mapping[str, UnitGroup]) -> Sequence[str]:
    """Return the layers as they are named in the network: block by block."""
    import re

    def key(layer: str) -> list:
        parts = re.split(r"(\d+)", layer)
        return [int(part) if part.isdigit() else part for part in parts]

    inside = [layer for group in groups.values() for layer in group.rows]
    first, *_, last = list(groups.values())
    ends = [next(iter(first.rows)), *last.rows]
    middle = sorted((layer for layer in inside if layer not in ends), key=key)
    return [ends[0], *middle, *(end for end in ends[1:] if end != ends[0])]


def _by_size(groups: Mapping[str, UnitGroup]) -> Sequence[UnitGroup]:
    return list({group.size: group for group in groups.values()}.values())
