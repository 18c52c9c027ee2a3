"""Figures that show a mask as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lth_tutorial.plotting.card import FONT, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor


def mask_image(kept: Tensor, image_shape: tuple[int, int], *, title: str = "") -> Figure:
    """Show how many weights of the first layer each input pixel keeps.

    Args:
        kept: the mask of a fully connected first layer, shape (outputs, pixels), True = kept.
        image_shape: height and width of the images.
        title: stands above the picture.

    Raises:
        ValueError: if the mask has another number of pixels than the images.
    """
    from matplotlib.ticker import MaxNLocator

    kept = torch.as_tensor(kept).cpu()
    height, width = image_shape
    if kept.ndim != 2 or kept.shape[1] != height * width:
        raise ValueError(
            f"the mask has shape {tuple(kept.shape)}; for images of {height} by {width} pixels it "
            f"has shape (outputs, {height * width})"
        )
    counts = kept.sum(0).view(height, width).numpy()
    figure, axes = new_figure(width=5.2, height=4.4)
    # From 0, so that the colours of two rounds or two masks can be compared by the bar's numbers.
    image = axes.imshow(counts, cmap="cividis", vmin=0, vmax=max(1, counts.max()))
    bar = figure.colorbar(image, ax=axes, ticks=MaxNLocator(6, integer=True))
    bar.set_label(f"weights kept per pixel (of {len(kept)})", fontsize=FONT)
    bar.ax.tick_params(labelsize=FONT)
    axes.set(xticks=[], yticks=[], xlabel="pixel column", ylabel="pixel row", title=title)
    axes.grid(False)
    return figure
