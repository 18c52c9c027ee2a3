"""Do the pixels that a hidden unit keeps lie side by side? (Pellegrini & Biroli 2021.)

A fully connected first layer knows nothing of neighbourhood: permute the pixels of all images, and
it trains as well. If a mask keeps pixels that lie together, pruning found that out from the data.
The measure is the share of the neighbours of a kept pixel that the same unit keeps too. By itself
it says little: a mask that has dropped the always black border keeps neighbours as well. So it
stands beside `shuffle_units`, masks with the same number of weights in every unit *and* at every
pixel, and beside uniform ones.

Read `neighbour_share` first, then the nulls; `matching` goes on from there. Chapter 14 uses all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lth_tutorial.data.dataset import generator_for
from lth_tutorial.pruning.masks import Mask, check_boolean
from lth_tutorial.safety.arguments import checked

if TYPE_CHECKING:
    import pandas as pd

Shape = tuple[int, ...]


@checked
def first_layer(mask: Mask, shape: Shape) -> Tensor:
    """Return the mask of the first layer, bool [units, channels, height, width].

    Args:
        mask: of a network whose first layer is fully connected.
        shape: of one image: (height, width) or (channels, height, width). A last column beyond
            the pixels is taken for the bias (see `sifting_network`) and left out.

    Raises:
        ValueError: if the first layer is no matrix, or takes another number of pixels.
    """
    check_boolean(mask)
    name, kept = next(iter(mask.items()))
    return as_images(kept, shape, name)


def as_images(kept: Tensor, shape: Shape, name: str = "the mask") -> Tensor:
    """Return the rows of a mask [units, pixels] as images, bool [units, channels, height, width].

    Raises:
        ValueError: for a shape that is none of an image, or a mask of another size.
    """
    good = len(shape) in (2, 3) and all(isinstance(side, int) and side > 0 for side in shape)
    if not good:
        raise ValueError(
            f"the shape of an image is (height, width) or (channels, height, width); got {shape!r}"
        )
    shape = (1, *shape) if len(shape) == 2 else tuple(shape)
    if kept.ndim != 2:
        raise ValueError(
            f"{name} has shape {tuple(kept.shape)}: locality is asked of a fully connected first "
            f"layer, a matrix [units, pixels]; a convolution is local by construction"
        )
    pixels = int(np.prod(shape))
    if kept.shape[1] not in (pixels, pixels + 1):
        raise ValueError(
            f"{name} has {kept.shape[1]} inputs; images of shape {shape} have {pixels} pixels"
        )
    return kept[:, :pixels].reshape(-1, *shape)


@checked
def displacements(kept: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """Count, over all units, the pairs of kept pixels with every displacement.

    Args:
        kept: bool [units, pixels], or how many paths lead from a pixel to a unit.
        shape: of one image.

    Returns:
        two tensors of counts, float64 [2·height − 1, 2·width − 1], the displacement (0, 0) in the
        middle: pairs within one colour channel, and pairs of two different channels. Each pair
        counts once in either direction; a pixel is no pair with itself.

    Raises:
        ValueError: as `as_images`.

    Source: Pellegrini & Biroli 2021, section 4 (their S_sc and S_dc).
    """
    images = as_images(kept, shape).double()
    height, width = images.shape[2:]
    size = (2 * height - 1, 2 * width - 1)
    spectrum = torch.fft.rfft2(images, s=size)
    same = spectrum.abs().square().sum(dim=(0, 1))
    every = spectrum.sum(dim=1).abs().square().sum(dim=0)
    counts = []
    for power in (same, every - same):
        count = torch.fft.irfft2(power, s=size).round()
        counts.append(torch.fft.fftshift(count))
    counts[0][height - 1, width - 1] -= images.square().sum()
    return counts[0], counts[1]


def _possible(kept: Tensor, shape: Shape) -> Tensor:
    """Count the kept pixels that have a pixel at every displacement, inside the image."""
    images = as_images(kept, shape).double().sum(dim=(0, 1))
    height, width = images.shape
    size = (2 * height - 1, 2 * width - 1)
    ones = torch.fft.rfft2(torch.ones_like(images), s=size)
    count = torch.fft.irfft2(torch.fft.rfft2(images, s=size).conj() * ones, s=size)
    return torch.fft.fftshift(count.round())


@checked
def neighbour_share(kept: Tensor, shape: Shape) -> float:
    """Return the share of the neighbours of kept pixels that the same unit keeps, in [0, 1].

    Neighbours are the up to four pixels of the same channel beside, above and below. A uniform
    random mask of density d has about d. NaN if nothing is kept.

    Raises:
        ValueError: as `as_images`.
    """
    same, _ = displacements(kept > 0, shape)
    possible = _possible(kept > 0, shape)
    middle_y, middle_x = (side // 2 for side in same.shape)
    around = ((middle_y + y, middle_x + x) for y, x in ((0, 1), (1, 0), (0, -1), (-1, 0)))
    beside = [(y, x) for y, x in around if 0 <= y < same.shape[0] and 0 <= x < same.shape[1]]
    pairs, places = (sum(float(t[at]) for at in beside) for t in (same, possible))
    return pairs / places if places else float("nan")


@checked
def kept_at_distance(kept: Tensor, shape: Shape, *, longest: int = 10) -> pd.DataFrame:
    """Return how often the pixel at a distance from a kept one is kept by the same unit.

    Args:
        longest: the largest distance, in pixels.

    Returns:
        one row per distance 1 … longest (rounded to whole pixels): distance, same (share within
        the channel, in [0, 1]) and different (in another channel; NaN for grey images).

    Raises:
        ValueError: as `as_images`.
    """
    import pandas as pd

    images = as_images(kept, shape)
    channels, height, width = images.shape[1:]
    same, different = displacements(kept, shape)
    possible = _possible(kept, shape)
    y = torch.arange(1 - height, height)[:, None].double()
    x = torch.arange(1 - width, width)[None, :].double()
    distance = (y.square() + x.square()).sqrt().round()
    rows = []
    for r in range(1, longest + 1):
        ring = distance == r
        places = float(possible[ring].sum())
        others = places * (channels - 1)
        rows.append(
            {
                "distance": r,
                "same": float(same[ring].sum()) / places if places else float("nan"),
                "different": float(different[ring].sum()) / others if others else float("nan"),
            }
        )
    return pd.DataFrame(rows)


@checked
def shuffle_units(kept: Tensor, seed: int) -> Tensor:
    """Return a random mask with the same counts in every row and in every column.

    The null of locality: every unit keeps as many pixels, every pixel is kept by as many units, and
    nothing else is left. Two rows trade what only one of them has, again and again.

    Args:
        kept: bool [units, inputs].
        seed: draws the trades, five per row.

    Raises:
        ValueError: if the mask is no matrix.

    Source: Strona et al. 2014 (the curveball algorithm).
    """
    if kept.ndim != 2:
        raise ValueError(
            f"units are shuffled in a matrix [units, inputs]; got shape {tuple(kept.shape)}"
        )
    rows = kept.cpu().numpy().copy()
    n = len(rows)
    word = int(torch.randint(2**62, (1,), generator=generator_for("shuffled units", seed)))
    random = np.random.default_rng(word)
    for _ in range(5 * n if n > 1 else 0):
        a, b = random.choice(n, 2, replace=False)
        only = np.flatnonzero(rows[a] != rows[b])
        first = int(rows[a][only].sum())
        random.shuffle(only)
        rows[a][only], rows[b][only] = False, True
        rows[a][only[:first]], rows[b][only[:first]] = True, False
    return torch.from_numpy(rows).to(kept.device)


@checked
def paths_to(mask: Mask, layer: int) -> Tensor:
    """Return how many paths of kept weights lead from every input to every unit of a layer.

    Args:
        mask: of a fully connected network, layers in order; a last column for the bias, as in
            `sifting_network`, leads nowhere.
        layer: 1 is the first.

    Returns:
        float64 [units, inputs]; above 0 where there is a path.

    Raises:
        ValueError: if there is no such layer, or the layers do not fit each other.
    """
    check_boolean(mask)
    layers = list(mask.items())
    if not 1 <= layer <= len(layers):
        raise ValueError(f"layer is 1 … {len(layers)}; got {layer!r}")
    paths = layers[0][1].double()
    for name, kept in layers[1:layer]:
        if kept.ndim != 2 or kept.shape[1] not in (len(paths), len(paths) + 1):
            raise ValueError(
                f"{name} has shape {tuple(kept.shape)}; behind {len(paths)} units a fully "
                f"connected layer has that many inputs"
            )
        paths = kept[:, : len(paths)].double() @ paths
    return paths


@checked
def connected_units(mask: Mask) -> dict[str, float]:
    """Return the share of every layer's units that keep an input *and* are kept by the next layer.

    The units of the last layer need an input only. Sifting stops when a layer falls below 20 %.

    Raises:
        ValueError: if a layer's mask is no matrix [units, inputs].
    """
    check_matrices(mask)
    layers = list(mask.items())
    shares = {}
    for i, (name, kept) in enumerate(layers):
        alive = kept.any(dim=1)
        if i + 1 < len(layers):
            alive = alive & layers[i + 1][1][:, : len(kept)].any(dim=0)
        shares[name] = float(alive.double().mean())
    return shares


def check_matrices(mask: Mask) -> None:
    """Raise a ValueError unless a mask is that of fully connected layers."""
    check_boolean(mask)
    for name, kept in mask.items():
        if kept.ndim != 2:
            raise ValueError(
                f"{name} has shape {tuple(kept.shape)}; the mask of a fully connected layer is a "
                f"matrix [units, inputs]"
            )
