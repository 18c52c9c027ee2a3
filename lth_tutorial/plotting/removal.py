"""The figure of pruning once: which weights go, and what that does to the accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lth_tutorial.plotting.card import (
    FONT,
    METHODS,
    check_rows,
    density_axis,
    new_figure,
    value_label,
)
from lth_tutorial.plotting.images import _draw_mask
from lth_tutorial.results.intervals import summarize
from lth_tutorial.safety.arguments import checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from lth_tutorial.pruning.masks import Mask
    from lth_tutorial.states import State


@checked
def weights_and_accuracy(
    state: State, mask: Mask, image_shape: tuple[int, int], rows: DataFrame, *, round: int
) -> Figure:
    """Show the weights that a pruning keeps, and the accuracy before and after fine-tuning.

    Above, a histogram of all prunable weights, cut at the smallest magnitude kept, and the mask
    of the first layer by pixel; below, the means of all seeds at every density.

    Args:
        state: the trained weights, before pruning.
        mask: what the pruning keeps; its first entry is a fully connected layer on images.
        image_shape: height and width of the images.
        rows: with the arms "no_retraining" and "one_shot".
        round: the round to mark in the lower picture.

    Raises:
        ValueError: if an arm is missing, or the round was not measured.
    """
    arms = check_rows(
        rows, ("arm", "seed", "round", "density", "accuracy"), ["no_retraining", "one_shot"]
    )
    if round not in set(rows["round"]):
        raise ValueError(f"round {round!r} was not measured; there are {rows['round'].unique()}")
    figure, first = new_figure(width=6.4, height=6.6)
    first.remove()
    grid = figure.add_gridspec(2, 2, width_ratios=(1.15, 1), height_ratios=(1.3, 1))
    _draw_histogram(figure.add_subplot(grid[0, 0]), state, mask)
    _draw_mask(figure.add_subplot(grid[0, 1]), next(iter(mask.values())), image_shape)
    _draw_accuracies(figure.add_subplot(grid[1, :]), rows, arms, round)
    figure.get_layout_engine().set(w_pad=0.08)
    return figure


def _draw_histogram(axes: Axes, state: State, mask: Mask) -> None:
    weights = torch.cat([state[name].detach().cpu().flatten() for name in mask])
    kept = torch.cat([kept.cpu().flatten() for kept in mask.values()])
    limit = weights.abs().max().item()
    bins = [limit * (i / 15 - 1) for i in range(31)]
    parts = [weights[kept].numpy(), weights[~kept].numpy()]
    colours = [METHODS["one_shot"]["color"], "#BFBFBF"]
    look = {"stacked": True, "color": colours, "label": ["kept", "removed"]}
    axes.hist(parts, bins, histtype="stepfilled", **look)
    if not kept.all():
        threshold = weights[kept].abs().min().item()
        for side in (-threshold, threshold):
            axes.axvline(side, color="black", linestyle="--", linewidth=1)
    _dress(axes, "trained weight", "number of weights")
    look = {"ncols": 2, "frameon": False, "handlelength": 1, "columnspacing": 1}
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=FONT - 1, **look)


def _draw_accuracies(axes: Axes, rows: DataFrame, arms: list[str], round: int) -> None:
    for arm in arms:
        own = rows[rows["arm"] == arm]
        means = summarize(own, "round").set_index("round")["mean"]
        density = own.groupby("round")["density"].mean()
        style = METHODS[arm]
        label = {"no_retraining": "before fine-tuning", "one_shot": "after fine-tuning"}[arm]
        look = {"color": style["color"], "marker": style["marker"]}
        axes.plot(density, 100 * means[density.index], markersize=5, label=label, **look)
        axes.plot(density[round], 100 * means[round], markersize=12, **look)
    axes.axvline(density[round], color="black", linewidth=1, linestyle=":")
    density_axis(axes, rows["density"])
    _dress(axes, "weights remaining (log scale)", value_label("accuracy"))
    axes.set_ylim(0, 104)
    axes.legend(loc="lower left", fontsize=FONT - 1, frameon=False)


def _dress(axes: Axes, x: str, y: str) -> None:
    axes.set_facecolor("white")
    axes.set_xlabel(x, fontsize=FONT)
    axes.set_ylabel(y, fontsize=FONT)
    axes.tick_params(which="both", labelsize=FONT, colors="black")
    axes.spines[["top", "right"]].set_visible(False)
    axes.locator_params(axis="y", nbins=5)
    axes.grid(axis="y", color="#E3E3E3", linewidth=0.8)
    axes.set_axisbelow(True)
