"""Figures that show weights and masks as pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from lth_tutorial.plotting.card import (
    FONT,
    METHODS,
    check_rows,
    error_axis,
    new_figure,
    value_label,
)
from lth_tutorial.results.intervals import summarize
from lth_tutorial.safety.arguments import checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame, Series
    from torch import Tensor


@checked
def weight_grids(weights: Mapping[str, Tensor]) -> Figure:
    """Show matrices of one layer side by side, a coloured square per weight, zeros grey.

    Args:
        weights: matrices of one shape [outputs, inputs] by title; all share one colour scale,
            blue for negative, red for positive.

    Raises:
        ValueError: if the matrices have different shapes.
    """
    import matplotlib

    grids = {title: torch.as_tensor(w).detach().cpu().float() for title, w in weights.items()}
    shapes = {tuple(grid.shape) for grid in grids.values()}
    if len(shapes) != 1 or any(len(shape) != 2 for shape in shapes):
        raise ValueError(f"weight_grids shows matrices of one shape; got {sorted(shapes)}")
    figure, first = new_figure(width=6.4, height=1.3 * len(grids))
    first.remove()
    colours = matplotlib.colormaps["RdBu_r"].with_extremes(bad="#BFBFBF")
    limit = max(grid.abs().max().item() for grid in grids.values())
    for axes, (title, grid) in zip(figure.subplots(len(grids), 1), grids.items(), strict=True):
        blank = grid.masked_fill(grid == 0, float("nan")).numpy()
        axes.set_facecolor("white")
        image = axes.imshow(blank, cmap=colours, vmin=-limit, vmax=limit, aspect="auto")
        axes.set(xticks=[], yticks=[])
        axes.set_ylabel(title.replace(", ", ",\n"), rotation=0, ha="right", va="center", size=FONT)
    bar = figure.colorbar(image, ax=figure.axes, location="bottom", aspect=40)
    bar.set_label("weight", fontsize=FONT)
    return figure


@checked
def mask_image(kept: Tensor, image_shape: tuple[int, int], *, title: str = "") -> Figure:
    """Show how many weights of the first layer each input pixel keeps, relative to the average.

    Args:
        kept: the mask of a fully connected first layer, shape (outputs, pixels), True = kept.
        image_shape: height and width of the images.
        title: stands above the picture.

    Raises:
        ValueError: if the mask has another number of pixels than the images.
    """
    figure, axes = new_figure(width=5.2, height=4.4)
    _draw_mask(axes, kept, image_shape)
    axes.set_title(title)
    figure.get_layout_engine().set(w_pad=0.1)
    return figure


@checked
def mask_and_arms(
    kept: Tensor, image_shape: tuple[int, int], rows: DataFrame, *, round: int
) -> Figure:
    """Show a ticket's first-layer mask beside the test errors of all seeds in one round.

    Args:
        kept, image_shape: as for `mask_image`.
        rows: of `lottery_experiment`; the vertical axis covers all of its rounds, so that the
            pictures of different rounds compare.
        round: the round to show.

    Raises:
        ValueError: if the mask does not fit the images, or the round was not measured.
    """
    arms = check_rows(rows, ("arm", "seed", "round", "accuracy"), None)
    shown = rows[rows["round"] == round]
    if shown.empty:
        raise ValueError(f"round {round!r} was not measured; there are {rows['round'].unique()}")
    figure, first = new_figure(width=6.4, height=3.6)
    first.remove()
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    right.set_facecolor("white")
    _draw_mask(left, kept, image_shape)
    means = summarize(shown, "arm").set_index("arm")
    for place, arm in enumerate(arms):
        style, own = METHODS[arm], shown[shown["arm"] == arm]
        look = {"color": style["color"], "marker": style["marker"], "linestyle": ""}
        right.plot([place] * len(own), _error(own["accuracy"]), alpha=0.45, markersize=5, **look)
        mean = _error(means.loc[arm, "mean"])
        right.plot([place - 0.3, place + 0.3], [mean, mean], color=style["color"], linewidth=2)
    names = {"reinit": "re-\ninitialised", "random": "random\nmask", "one_shot": "one-\nshot"}
    right.tick_params(labelsize=FONT, colors="black")
    right.set_xticks(range(len(arms)), [names.get(arm, arm) for arm in arms], fontsize=FONT - 1)
    right.set_xlim(-0.6, len(arms) - 0.4)
    error_axis(right, _error(rows["accuracy"].max()))
    right.set_ylabel(value_label("error"), fontsize=FONT)
    right.grid(axis="y", color="#E3E3E3")
    right.spines[["top", "right"]].set_visible(False)
    return figure


def _error(accuracy: Series | float) -> Series | float:
    return 100 * (1 - accuracy)


def _draw_mask(axes: Axes, kept: Tensor, image_shape: tuple[int, int]) -> None:
    kept = torch.as_tensor(kept).cpu()
    height, width = image_shape
    if kept.ndim != 2 or kept.shape[1] != height * width:
        raise ValueError(
            f"the mask has shape {tuple(kept.shape)}; for images of {height} by {width} pixels it "
            f"has shape (outputs, {height * width})"
        )
    counts = kept.sum(0).view(height, width).float()
    # Relative to the average pixel, so that one scale of colours serves every density.
    relative = (counts / counts.mean().clamp(min=1e-12)).numpy()
    image = axes.imshow(relative, cmap="cividis", vmin=0, vmax=3)
    bar = axes.figure.colorbar(image, ax=axes, ticks=[0, 1, 2, 3], extend="max")
    bar.set_label("weights kept per pixel (average = 1)", fontsize=FONT)
    bar.ax.tick_params(labelsize=FONT)
    axes.set_facecolor("white")
    axes.set(xticks=[], yticks=[], xlabel="pixel column", ylabel="pixel row")
    axes.grid(False)
