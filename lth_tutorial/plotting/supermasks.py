"""Figures of networks that are never trained: accuracy by density, and what a layer consists of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lth_tutorial.plotting.card import (
    FONT,
    METHODS,
    check_rows,
    density_axis,
    draw_band,
    draw_legend,
    new_figure,
    replicates_note,
    value_label,
)
from lth_tutorial.results.intervals import paired_difference, summarize, t_interval
from lth_tutorial.safety.arguments import checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame
    from torch import Tensor

COLUMNS = ("arm", "seed", "round", "density", "accuracy")


@checked
def supermasks_vs_density(rows: DataFrame, *, arms: Sequence[str] | None = None) -> Figure:
    """Plot the accuracy of supermasks against their density: every seed, mean and 95% interval.

    Args:
        rows: as from `supermask_experiment`; round 0, the trained network, is a dashed line.
        arms: the arms to draw; all of them by default.

    Raises:
        ValueError: for a missing column or an unknown arm.
    """
    arms = check_rows(rows, COLUMNS, arms)
    figure, axes = new_figure()
    _draw_dense(axes, rows)
    masked = rows[rows["round"] > 0]
    for arm in arms:
        own = masked[masked["arm"] == arm]
        summary = summarize(own, "round")
        summary["density"] = own.groupby("round", sort=False)["density"].mean().to_numpy()
        summary = summary.sort_values("density", ascending=False)
        draw_band(axes, summary["density"], summary, arm, "accuracy")
        look = {"color": METHODS[arm]["color"], "alpha": 0.35, "markersize": 3, "linestyle": "none"}
        axes.plot(own["density"], 100 * own["accuracy"], marker=".", **look)
    density_axis(axes, masked["density"])
    axes.set_ylabel(value_label("accuracy"))
    axes.set_ylim(100 * rows["accuracy"].min() - 3, 100.5)
    draw_legend(axes, replicates_note(rows, "accuracy"))
    return figure


@checked
def minus_dense(rows: DataFrame, *, arms: Sequence[str] | None = None) -> Figure:
    """Plot each arm minus the dense network, paired by seed, with its 95% interval, by density.

    Within two points the axis is linear, beyond it logarithmic: arms that differ by tenths of a
    point at one density and by tens at another stay apart in one picture. Densities stand side by
    side, not to scale.

    Args:
        rows: as from `supermask_experiment`; round 0 is the dense network.
        arms: the arms to draw; all of them by default.

    Raises:
        ValueError: for a missing column or an unknown arm.
    """
    arms = check_rows(rows, COLUMNS, arms)
    figure, axes = new_figure(height=4.8)
    axes.axhline(0, color="black", linestyle="--", linewidth=1.2, label="dense network")
    masked = rows[rows["round"] > 0]
    rounds = masked.groupby("round")["density"].mean().sort_values(ascending=False)
    place = {index: i for i, index in enumerate(rounds.index)}
    for i, arm in enumerate(arms):
        table = paired_difference(rows, arm, "dense")[lambda t: t["round"] > 0]
        x = table["round"].map(place) + 0.13 * (i - (len(arms) - 1) / 2)
        mean, low, high = (100 * table[column] for column in ("mean", "low", "high"))
        look = {key: METHODS[arm][key] for key in ("color", "marker", "label")}
        axes.errorbar(
            x, mean, yerr=[mean - low, high - mean], linestyle="", capsize=3, markersize=6, **look
        )
    axes.set_xticks(range(len(rounds)), [f"{100 * share:.3g}%" for share in rounds])
    axes.set_yscale("symlog", linthresh=2, linscale=1.2)
    low, high = axes.get_ylim()
    ticks = [-50, -20, -10, -5, -2, -1, 0, 1, 2, 5, 10]
    ticks = [t for t in ticks if low <= t <= high]
    ticks = [-3, *ticks] if -5 < low <= -3 else ticks
    axes.set_yticks(ticks, [f"{t:+d}".replace("-", "−") if t else "0" for t in ticks])
    axes.minorticks_off()
    axes.set_xlabel("weights kept")
    axes.set_ylabel("test accuracy minus dense network\n(points, log scale beyond ±2)")
    draw_legend(axes, replicates_note(rows, "accuracy"))
    return figure


@checked
def accuracy_by_network(rows: DataFrame) -> Figure:
    """Plot the accuracy of every arm in several networks: a dot per seed, mean and 95% interval.

    Args:
        rows: arm, seed, round, accuracy and `network`, the name that its line of the figure gets;
            round 0 is the dense network. One row per network, arm and seed.

    Raises:
        ValueError: for a missing column, an unknown arm, or a seed that stands twice.
    """
    check_rows(rows, ("arm", "seed", "round", "accuracy", "network"), None)
    rows = rows.assign(arm=rows["arm"].where(rows["round"] > 0, "dense"))
    rows = rows.drop_duplicates(["network", "arm", "seed", "accuracy"])
    networks = list(dict.fromkeys(rows["network"]))
    arms = [arm for arm in METHODS if arm in set(rows["arm"])]
    figure, axes = new_figure(height=1.9 + 0.55 * len(networks) + 0.15 * len(arms))
    for i, arm in enumerate(arms):
        own = rows[rows["arm"] == arm]
        summary = summarize(own, "network")
        shift = 0.7 * ((i + 0.5) / len(arms) - 0.5)
        place = {name: k + shift for k, name in enumerate(networks)}
        style = METHODS[arm]
        look = {"color": style["color"], "marker": style["marker"], "linestyle": "none"}
        axes.plot(100 * own["accuracy"], own["network"].map(place), alpha=0.3, markersize=3, **look)
        mean, low, high = (100 * summary[part] for part in ("mean", "low", "high"))
        axes.errorbar(
            mean, summary["network"].map(place), xerr=[mean - low, high - mean], markersize=6,
            capsize=3, label=style["label"], **look,
        )  # fmt: skip
    axes.set_yticks(range(len(networks)), networks)
    axes.set_ylim(len(networks) - 0.5, -0.5)
    axes.set_xlabel(value_label("accuracy"))
    axes.grid(axis="y", visible=False)
    draw_legend(axes, f"mean and 95% interval, n = {rows['seed'].nunique()} seeds")
    return figure


@checked
def layer_and_arms(frozen: Tensor, effective: Tensor, rows: DataFrame, *, round: int) -> Figure:
    """Show what a layer was drawn as, what it computes with, and every seed's accuracy beside it.

    Args:
        frozen, effective: weights of one layer, before and after mask and signs.
        rows: as from `supermask_experiment`.
        round: the density to show.

    Raises:
        ValueError: for a missing column, or a round that was not measured.
    """
    arms = check_rows(rows, COLUMNS, None)
    if round not in set(rows["round"]):
        raise ValueError(f"round {round!r} was not measured; there are {rows['round'].unique()}")
    figure, first = new_figure(width=6.4, height=3.8)
    first.remove()
    left, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
    _draw_weights(left, frozen.detach().cpu().flatten(), effective.detach().cpu().flatten())
    _draw_seeds(right, rows, arms, round)
    for axes in (left, right):
        axes.set_facecolor("white")
        axes.tick_params(labelsize=FONT - 1, colors="black")
        axes.spines[["top", "right"]].set_visible(False)
        for text in (axes.xaxis.label, axes.yaxis.label):
            text.set(fontsize=FONT, color="black")
    figure.get_layout_engine().set(w_pad=0.08)
    return figure


def _draw_dense(axes: Axes, rows: DataFrame) -> None:
    dense = rows[rows["round"] == 0].drop_duplicates("seed")
    if len(dense):
        mean, low, high, _ = t_interval(dense["accuracy"])
        label = METHODS["dense"]["label"]
        axes.axhline(100 * mean, color="black", linestyle="--", label=label)
        axes.axhspan(100 * low, 100 * high, color="black", alpha=0.1, linewidth=0)


def _draw_weights(axes: Axes, frozen: Tensor, effective: Tensor) -> None:
    limit = frozen.abs().max().item()
    bins = [limit * (i / 20 - 1) for i in range(41)]
    axes.hist(frozen.numpy(), bins, histtype="stepfilled", color="#CFCFCF", label="drawn")
    values, counts = effective.unique(return_counts=True)
    if len(values) <= 3:
        look = {
            "width": 0.06 * limit,
            "color": METHODS["biprop"]["color"],
            "label": "computed with",
        }
        axes.bar(values.numpy(), counts.numpy(), **look)
    axes.set_yscale("log")
    axes.set_xlabel("weight")
    axes.set_ylabel("number of weights (log scale)")
    axes.legend(
        frameon=False, fontsize=FONT - 2, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2
    )


def _draw_seeds(axes: Axes, rows: DataFrame, arms: Sequence[str], round: int) -> None:
    dense = rows[(rows["round"] == 0) & (rows["arm"] == arms[0])].assign(arm="dense")
    shown = [*(["dense"] if len(dense) else []), *arms]
    for i, arm in enumerate(shown):
        own = dense if arm == "dense" else rows[(rows["arm"] == arm) & (rows["round"] == round)]
        style = METHODS[arm]
        axes.plot(
            100 * own["accuracy"], [i] * len(own), linestyle="none", marker=style["marker"],
            color=style["color"], alpha=0.6, markersize=5,
        )  # fmt: skip
        axes.plot([100 * own["accuracy"].mean()] * 2, [i - 0.3, i + 0.3], color=style["color"])
    axes.set_yticks(range(len(shown)), [METHODS[arm]["label"] for arm in shown])
    axes.invert_yaxis()
    low = 100 * rows["accuracy"].min()
    axes.set_xlim(min(90.0, low - 2), 100.5)
    axes.set_xlabel("test accuracy (%)")
    axes.grid(axis="x", color="#E3E3E3", linewidth=0.8)
