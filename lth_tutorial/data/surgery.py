"""Data surgery: what is left of an effect when a property of the images is taken away.

`permute_pixels` takes away which pixels are neighbours, for the reader and not for a fully
connected network, which never knew. `gaussian_clone` takes away everything but means and
covariances. Both return a new `Dataset`, to be used like any other.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from lth_tutorial.data.dataset import SPLITS, Dataset, generator_for, make_dataset, permutation
from lth_tutorial.runtime import choose
from lth_tutorial.safety.arguments import checked
from lth_tutorial.safety.warn import warn

SHRINKAGE = 0.1


class CloneWarning(UserWarning):
    """There were too few examples for a covariance; it was shrunk towards its diagonal."""


@checked
def pixel_order(data: Dataset, seed: int) -> Tensor:
    """Return the order that `permute_pixels` puts the pixels into, int64 [height · width].

    Pixel i of a permuted image is pixel `order[i]` of the original.
    """
    return permutation(_pixels(data), "pixel order", seed).to(data.device)


@checked
def permute_pixels(data: Dataset, seed: int) -> Dataset:
    """Return the data set with the pixels of all images in one and the same random order.

    Channels of a pixel stay together. To a fully connected network it is the same problem: with
    its first layer's weights permuted likewise, it computes the same numbers. See
    `restore_pixels` for the way back.

    Args:
        seed: draws the order.

    Raises:
        ValueError: if the examples are no images [channels, height, width].
    """
    order = pixel_order(data, seed)

    def permuted(x: Tensor) -> Tensor:
        return x.flatten(2)[:, :, order].view_as(x)

    name = f"{data.name}[permuted]"
    parts = {f"x_{split}": permuted(getattr(data, f"x_{split}")) for split in SPLITS}
    return replace(data, name=name, **parts)


@checked
def restore_pixels(rows: Tensor, data: Dataset, seed: int) -> Tensor:
    """Put what belongs to permuted pixels back to where those pixels were.

    Args:
        rows: [..., channels · height · width], such as the mask of a first layer that was trained
            on `permute_pixels(data, seed)`.

    Raises:
        ValueError: for another number of columns.
    """
    pixels, channels = _pixels(data), data.shape[0]
    if rows.ndim == 0 or rows.shape[-1] != pixels * channels:
        raise ValueError(
            f"images of shape {data.shape} have {pixels * channels} values; got rows of "
            f"{rows.shape[-1] if rows.ndim else 'no dimension'}"
        )
    restored = torch.empty_like(rows).view(*rows.shape[:-1], channels, pixels)
    restored[..., pixel_order(data, seed).to(rows.device)] = rows.view(restored.shape)
    return restored.view(rows.shape)


@checked
def gaussian_clone(
    data: Dataset, *, covariance: Literal["class", "shared"] = "class", seed: int = 0
) -> Dataset:
    """Return a data set of Gaussian noise with the means and covariances of the original.

    Training, validation and test examples are all drawn anew, as many of each class as there
    were, from the statistics of the training examples. A network may learn from means and
    covariances; every higher moment (strokes, edges) is gone. Values are not clipped to the
    range of pixels, which would bring higher moments back. A constant pixel stays constant.

    Args:
        covariance: "class": every class has its own mean and covariance; "shared": its own mean,
            and the covariance within classes, averaged over all of them.
        seed: draws the examples.

    Raises:
        ValueError: for an unknown kind of covariance, or a class of fewer than two examples.

    Warns:
        CloneWarning: if a covariance has fewer examples than values per example. It is then
            shrunk by a tenth towards its own diagonal; else the clone would lie in the span of
            those examples and have no noise outside it.

    Source: Redman et al. 2024, section 3 (Gaussian clones of a data set).
    """
    choose("covariance", covariance, ("class", "shared"))
    x, y = data.x_train.flatten(1).double().cpu(), data.y_train.cpu()
    classes = range(data.num_classes)
    counts = torch.bincount(y, minlength=data.num_classes).tolist()
    if min(counts) < 2:
        c = counts.index(min(counts))
        raise ValueError(
            f"class {c} of {data.name} has {counts[c]} training examples; a mean and a covariance "
            f"need at least two"
        )
    means = torch.stack([x[y == c].mean(dim=0) for c in classes])
    if covariance == "shared":
        roots = [_root(x - means[y], data.name)] * data.num_classes
    else:
        roots = [_root(x[y == c] - means[c], f"{data.name}, class {c}") for c in classes]

    def draw(split: str) -> tuple[Tensor, Tensor]:
        labels = getattr(data, f"y_{split}").cpu()
        images = torch.empty(len(labels), x.shape[1])
        for c in classes:
            own = (labels == c).nonzero().flatten()
            generator = generator_for(f"clone, {covariance}, {split}", seed, c)
            noise = torch.randn(len(own), x.shape[1], generator=generator)
            images[own] = means[c].float() + noise @ roots[c].T
        return images.view(-1, *data.shape), labels

    name = f"{data.name}[gaussian, {covariance}]"
    val = draw("val") if len(data.y_val) else None
    return make_dataset(name, draw("train"), val, draw("test")).to(data.device)


def _root(centred: Tensor, name: str) -> Tensor:
    """Return R with R Rᵀ the covariance of centred examples, float32."""
    n, values = centred.shape
    matrix = centred.T @ centred / (n - 1)
    if n <= values:
        matrix = (1 - SHRINKAGE) * matrix + SHRINKAGE * torch.diag(matrix.diagonal())
        warn(
            f"{name}: {n} examples for a covariance of {values} values; it was shrunk by "
            f"{SHRINKAGE:g} towards its diagonal",
            CloneWarning,
        )
    # By eigenvalues, not by Cholesky: constant pixels make the matrix singular.
    levels, axes = torch.linalg.eigh(matrix)
    return (axes * levels.clamp(min=0).sqrt()).float()


def _pixels(data: Dataset) -> int:
    if len(data.shape) != 3:
        raise ValueError(
            f"pixels are permuted in images [channels, height, width]; {data.name} has examples "
            f"of shape {data.shape}"
        )
    return math.prod(data.shape[1:])
