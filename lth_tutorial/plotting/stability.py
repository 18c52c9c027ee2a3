"""Figures of stability: barriers against the step of branching, paths, and planes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lth_tutorial.plotting.card import (
    FONT,
    METHODS,
    check_rows,
    draw_legend,
    new_figure,
)
from lth_tutorial.results.intervals import summarize
from lth_tutorial.safety.arguments import checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from lth_tutorial.stability.landscape import Plane

NETWORK_COLOURS = ("#0072B2", "#DD7711", "#009E73", "#A6428A", "#7A4419")
STABLE = 0.02
"""Barrier below which Frankle et al. (2020) call training stable."""


@checked
def barrier_vs_step(
    rows: DataFrame,
    *,
    step: str = "branch_step",
    by: str | None = None,
    value: str = "height",
    stable: bool = True,
) -> Figure:
    """Plot barriers against the step at which the copies part: a dot per seed, and the mean.

    Diverged runs have no barrier and no dot. Steps stand side by side, not to scale: most of the
    change happens in the first of them.

    Args:
        rows: one row per step and seed, as from `instability`.
        step: the column with the step.
        by: a column that tells several networks apart, in the order of the rows.
        value: the column on the vertical axis, a share in [0, 1], drawn in points.
        stable: draw the line of 2 points below which training counts as stable.

    Raises:
        ValueError: for a missing column.
    """
    check_rows(rows.assign(arm="dense"), [step, value, "seed", *([by] if by else [])], None)
    figure, axes = new_figure(height=4.2)
    names = list(dict.fromkeys(rows[by])) if by else [None]
    steps = sorted(int(k) for k in rows[step].unique())
    place = {k: i for i, k in enumerate(steps)}
    for i, (name, colour) in enumerate(zip(names, NETWORK_COLOURS, strict=False)):
        own = rows if name is None else rows[rows[by] == name]
        own = own.dropna(subset=[value]).sort_values(step)
        shift = 0.14 * (i - (len(names) - 1) / 2)
        x = own[step].map(place) + shift
        axes.plot(x, 100 * own[value], ".", color=colour, alpha=0.45, markersize=7)
        means = own.groupby(step)[value].mean()
        axes.plot(
            [place[int(k)] + shift for k in means.index], 100 * means, color=colour,
            marker="_", markersize=16, markeredgewidth=2.5, label=name or "mean over seeds",
        )  # fmt: skip
    if stable:
        axes.axhline(100 * STABLE, color="black", linestyle=":", linewidth=1)
        axes.annotate(
            "stable: below 2", (1, 100 * STABLE), xycoords=("axes fraction", "data"),
            xytext=(-2, 3), textcoords="offset points", ha="right", fontsize=FONT - 1,
        )  # fmt: skip
    axes.set_xticks(range(len(steps)), [f"{k:,}" for k in steps])
    axes.set_yscale("symlog", linthresh=1, linscale=0.6)
    axes.set_yticks((0, 1, 2, 5, 10, 20, 50), ("0", "1", "2", "5", "10", "20", "50"))
    axes.minorticks_off()
    axes.set_ylim(min(-0.5, 100 * rows[value].min() - 0.3), max(3.0, 130 * rows[value].max()))
    axes.set_xlabel("step at which the copies part")
    axes.set_ylabel("error barrier (points, log scale from 1)")
    draw_legend(axes, f"dots: seeds, n = {rows['seed'].nunique()}; lines: means")
    return figure


@checked
def error_along_path(
    curves: Mapping[str, Sequence[Sequence[float]]], *, mark: float | None = None
) -> Figure:
    """Plot the error on the line between two networks: thin, a line per seed; thick, the mean.

    Args:
        curves: by name, one sequence per seed of errors in [0, 1] at evenly spaced positions.
        mark: a position α in [0, 1] to mark on the means.

    Raises:
        ValueError: for no curves, curves of different lengths, or a mark outside [0, 1].
    """
    import numpy as np

    if not curves or any(len({len(line) for line in lines}) != 1 for lines in curves.values()):
        raise ValueError("curves holds, by name, one or more sequences of the same length")
    if mark is not None and not 0 <= mark <= 1:
        raise ValueError(f"mark is a position in [0, 1]; got {mark!r}")
    figure, axes = new_figure(height=4.2)
    for (name, lines), colour in zip(curves.items(), NETWORK_COLOURS, strict=False):
        errors = 100 * np.asarray(lines, dtype=float)
        alphas = np.linspace(0, 1, errors.shape[1])
        if len(errors) > 1:
            axes.plot(alphas, errors.T, color=colour, alpha=0.25, linewidth=1)
        mean = np.nanmean(errors, axis=0)
        axes.plot(alphas, mean, color=colour, linewidth=2.5, label=name)
        if mark is not None:
            y = float(np.interp(mark, alphas, mean))
            axes.plot(mark, y, "o", color=colour, markersize=9, markeredgecolor="white")
            axes.annotate(
                f"{y:.1f}", (mark, y), xytext=(0, 9), textcoords="offset points", ha="center",
                fontsize=FONT, color=colour,
            )  # fmt: skip
    axes.set_ylim(0, None)
    axes.set_xlabel("position α on the line: 0 is one copy, 1 the other")
    axes.set_ylabel("test error (%)")
    n = {len(lines) for lines in curves.values()}
    draw_legend(axes, f"thin: seeds, n = {max(n)}; thick: mean" if max(n) > 1 else "one seed")
    return figure


@checked
def stability_and_error(
    rows: DataFrame, *, step: str = "rewind_step", arms: Sequence[str] | None = None
) -> Figure:
    """Plot barrier and test error side by side against the rewind step, at one density.

    Args:
        rows: of one round besides round 0, as from `rewinding_experiment`, with the arm "dense"
            where it was measured.
        step: the column with the rewind step.
        arms: the arms to draw; default all, the dense network dashed.

    Raises:
        ValueError: for a missing column, an unknown arm, or rows of several rounds of an arm.
    """
    arms = check_rows(rows, [step, "seed", "height", "accuracy"], arms)
    steps = sorted(int(k) for k in rows[step].unique())
    figure, first = new_figure(width=6.4, height=4.2)
    first.remove()
    panels = zip(
        figure.subplots(1, 2),
        ("height", "error"),
        ("error barrier (points, log scale from 1)", "test error (%, log scale)"),
        strict=True,
    )
    shown = [*(["dense"] if "dense" in set(rows["arm"]) else []), *arms]
    for axes, value, label in panels:
        for i, arm in enumerate(shown):
            own = rows[rows["arm"] == arm].assign(error=lambda r: 1 - r["accuracy"])
            _draw_against_step(axes, own, step, steps, value, arm, 0.06 * (i - len(shown) / 2))
        axes.set_xticks(range(len(steps)), [f"{k:,}" for k in steps])
        axes.set_yscale("log" if value == "error" else "symlog", **_scale_of(value))
        ticks = (1, 2, 3, 4, 6, 8, 10, 20, 50) if value == "error" else (0, 1, 2, 5, 10, 20, 50)
        axes.set_yticks(ticks, map(str, ticks))
        axes.minorticks_off()
        axes.set_ylim(*_limits(rows, value))
        axes.set_facecolor("white")
        axes.set_xlabel("rewind step", fontsize=FONT)
        axes.set_ylabel(label, fontsize=FONT)
        axes.tick_params(labelsize=FONT, colors="black")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#E3E3E3", linewidth=0.8)
    draw_legend(axes, f"means and 95% intervals, n = {rows['seed'].nunique()}")
    return figure


def _limits(rows: DataFrame, value: str) -> tuple[float, float]:
    if value == "height":
        return min(-0.5, 100 * rows["height"].min() - 0.3), max(3.0, 130 * rows["height"].max())
    error = 100 * (1 - rows["accuracy"])
    return max(error.min(), 0.05) / 1.3, 1.3 * error.max()


def _scale_of(value: str) -> dict:
    return {} if value == "error" else {"linthresh": 1, "linscale": 0.5}


def _draw_against_step(
    axes: Axes, rows: DataFrame, step: str, steps: list[int], value: str, arm: str, shift: float
) -> None:
    summary = summarize(rows.dropna(subset=[value]), step, value=value).sort_values(step)
    x = [steps.index(int(k)) + shift for k in summary[step]]
    mean, low, high = (100 * summary[column].to_numpy(float) for column in ("mean", "low", "high"))
    style = METHODS[arm]
    axes.errorbar(
        x, mean, yerr=[mean - low, high - mean], color=style["color"], marker=style["marker"],
        linestyle="--" if arm == "dense" else "-", markersize=5.5, capsize=3,
        label=style["label"] if value == "error" else None,
    )  # fmt: skip


@checked
def surface(plane: Plane, names: Sequence[str], *, value: str = "errors") -> Figure:
    """Draw error or loss on the plane through three networks as a map with level lines.

    Args:
        names: of the three networks, in the order in which `plane` took them.
        value: "errors" or "losses".

    Raises:
        ValueError: unless there are three names, or for an unknown value.
    """
    import numpy as np

    if len(names) != 3 or value not in ("errors", "losses"):
        raise ValueError(f"a plane has three names and errors or losses; got {names}, {value!r}")
    figure, axes = new_figure(height=4.8)
    z = np.asarray(getattr(plane, value)) * (100 if value == "errors" else 1)
    levels = np.geomspace(max(z.min(), z.max() / 1000, 1e-3), z.max(), 12)
    image = axes.contourf(plane.x, plane.y, np.maximum(z, levels[0]), levels, cmap="cividis_r")
    axes.contour(plane.x, plane.y, z, levels, colors="white", linewidths=0.5)
    for (x, y), name in zip(plane.anchors, names, strict=True):
        axes.plot(x, y, "o", color="white", markeredgecolor="black", markersize=9)
        axes.annotate(
            name, (x, y), xytext=(0, 9), textcoords="offset points", ha="center", fontsize=FONT,
            bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5},
        )  # fmt: skip
    bar = figure.colorbar(image, ax=axes, format=lambda level, _: f"{level:.2g}")
    bar.set_label("test error (%)" if value == "errors" else "test loss (nats)", fontsize=FONT)
    axes.set_aspect("equal")
    axes.set_xlabel("distance between weights")
    axes.set_ylabel("distance between weights")
    axes.grid(False)
    return figure
