"""Sifting: pruning a fully connected network and looking at where its kept pixels lie.

`locality_experiment` prunes networks by one of three procedures and measures every round's masks:
our iterative magnitude pruning ("ticket"), one pruning to the same counts ("one_shot"), and the
procedure of Pellegrini & Biroli ("sifted"), which differs from ours in four ways that its docstring
lists. Read `locality` first: it holds the measure and its nulls.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from lth_tutorial.data.dataset import Dataset, generator_for
from lth_tutorial.networks.architectures import glorot_normal_, kaiming_normal_
from lth_tutorial.networks.layers import AppendOne
from lth_tutorial.networks.weights import prunable_weights
from lth_tutorial.pruning.masks import Mask, density, shuffle_within_layers
from lth_tutorial.runtime import choose
from lth_tutorial.safety.arguments import checked, different_seeds
from lth_tutorial.safety.locks import one_writer
from lth_tutorial.tickets.lottery import IMPRound, dense_round, pruned_rounds, train_from
from lth_tutorial.training.config import IMPConfig, TrainConfig
from lth_tutorial.training.identity import within
from lth_tutorial.variants.locality import (
    as_images,
    check_matrices,
    connected_units,
    first_layer,
    neighbour_share,
    paths_to,
    shuffle_units,
)

if TYPE_CHECKING:
    import pandas as pd

SIFTING_ARMS = ("ticket", "one_shot", "sifted")
LEAST_CONNECTED = 0.2

OnMasks = Callable[[int, dict[int, Mask]], object]


@checked
def sifting_network(widths: Sequence[int], data: Dataset, seed: int) -> nn.Sequential:
    """Return the fully connected network of Pellegrini & Biroli (2021), of any widths.

    Batch norm on the *input* of each layer, ReLU between them. Biases are weights of an input that
    is always 1, the last column of each matrix: so they are ranked together with the weights. In
    no other network of this package can a mask hold a bias; `count_biases` counts them apart.

    Args:
        widths: of the hidden layers; the paper has 1024, 1024, 1024.
        data: gives the number of pixels and of classes.
        seed: draws the weights, Glorot normal; biases start at 0.

    Raises:
        ValueError: for a width below 1.
    """
    if not all(width >= 1 for width in widths):
        raise ValueError(f"widths are whole numbers of at least 1; got {widths!r}")
    sizes = [int(np.prod(data.shape)), *widths, data.num_classes]
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    names = [*(f"fc{i}" for i in range(1, len(sizes) - 1)), "output"]
    for name, inputs, outputs in zip(names, sizes[:-1], sizes[1:], strict=True):
        layers[f"{name}_norm"] = nn.BatchNorm1d(inputs)
        layers[f"{name}_one"] = AppendOne()
        layers[name] = nn.Linear(inputs + 1, outputs, bias=False)
        if name != "output":
            layers[f"{name}_relu"] = nn.ReLU()
    model = nn.Sequential(layers)
    model.initialization = _draw
    _draw(model, generator_for("initial weights", seed))
    return model


def _draw(model: nn.Module, generator) -> None:
    glorot_normal_(model, generator)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.weight.data[:, -1] = 0.0


@checked
def small_convolution(data: Dataset, seed: int) -> nn.Sequential:
    """Return a convolutional network with about 5,000 weights on MNIST, Kaiming normal.

    Two 5×5 convolutions of 8 and 16 channels with stride 2, max-pooling, one dense layer: what
    locality gives to a network that is told of it, with as many weights as a ticket at 2 %.
    """
    channels, height, width = data.shape
    height, width = ((side + 3) // 4 // 2 for side in (height, width))
    model = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 8, 5, stride=2, padding=2),
            conv1_relu=nn.ReLU(),
            conv2=nn.Conv2d(8, 16, 5, stride=2, padding=2),
            conv2_relu=nn.ReLU(),
            pool=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            output=nn.Linear(16 * height * width, data.num_classes),
        )
    )
    model.initialization = kaiming_normal_
    kaiming_normal_(model, generator_for("initial weights", seed))
    return model


@checked
def count_biases(mask: Mask) -> int:
    """Return how many biases the mask of a `sifting_network` keeps.

    Raises:
        ValueError: if a layer's mask is no matrix [units, inputs and a bias].
    """
    check_matrices(mask)
    return sum(int(kept[:, -1].sum()) for kept in mask.values())


@checked
@one_writer
def locality_experiment(
    model: Callable[[int], nn.Module],
    data: Dataset,
    config: TrainConfig,
    imp: IMPConfig,
    *,
    arm: str = "ticket",
    seeds: Sequence[int] = range(8),
    restore: Callable[[Tensor], Tensor] | None = None,
    on_masks: OnMasks | None = None,
    on_step: Callable[[], object] = lambda: None,
    workdir: str | Path | None = None,
) -> pd.DataFrame:
    """Prune networks and measure where the weights of their first layers lie.

    Args:
        model: from a seed to a network whose first layer is fully connected.
        data: images.
        config: how to train.
        imp: rounds, fraction, scope and rewind step.
        arm: "ticket": iterative magnitude pruning; "one_shot": the dense network pruned once to
            the counts of each round, rewound and trained; "sifted": as in the paper. There,
            after a rewind the *weights* are those of step k, but the steps count from 0 again, so
            that every round trains for all of `config.steps`; biases are ranked with the weights
            and the last layer is left alone (both by the network and by `imp.fraction`); and
            pruning stops when fewer than 20 % of a layer's units are connected.
        seeds: replicates.
        restore: puts the pixels of a mask's rows back into the images' order, for data with
            permuted pixels; the measures "…_here" are then those of the permuted order.
        on_masks: is called with every round and its masks by seed.
        on_step: is called once for every step of every network.
        workdir: folder to continue from.

    Returns:
        one row per seed and round: arm, seed, round, density, first_density (of the first layer),
        accuracy (test), weights (kept), neighbours (see `neighbour_share`), neighbours_matched
        (of a mask with the same counts per unit and per pixel), neighbours_uniform, the same three
        with the prefix `second_` for the inputs that have a path to a unit of the second layer
        (where there is one), neighbours_here and neighbours_here_matched (with `restore`),
        connected (smallest share of a layer's units), biases (kept; of sifted networks).

    Raises:
        ValueError: for an unknown arm, a network whose first layer is not fully connected or does
            not fit the images, and as `iterative_magnitude_pruning`.
    """
    import pandas as pd

    choose("arm", arm, SIFTING_ARMS)
    models = {seed: model(seed).to(data.device) for seed in different_seeds(seeds)}
    rows: list[dict] = []
    for by_seed in _rounds(models, data, config, imp, arm, on_step, workdir):
        for seed, one in by_seed.items():
            first_layer(one.mask, data.shape)
            rows.append(_row(arm, seed, one, data, restore))
        if on_masks is not None:
            on_masks(rows[-1]["round"], {seed: one.mask for seed, one in by_seed.items()})
    return pd.DataFrame(rows)


def _rounds(models, data, config, imp, arm, on_step, workdir) -> Iterator[dict[int, IMPRound]]:
    for one in models.values():
        first_layer_fits(one, data)

    def folder(index: int) -> Path | None:
        return within(workdir, f"round_{index:02d}")

    dense = dense_round(models, data, config, {imp.rewind_step}, on_step, folder(0))
    yield dense

    def from_zero(models, starts, masks, data, config, start_step, *, on_step, workdir=None):
        return train_from(models, starts, masks, data, config, 0, on_step=on_step, workdir=workdir)

    pruned = pruned_rounds(
        models, data, config, imp, dense, on_step, workdir, iterative=arm != "one_shot",
        train=from_zero if arm == "sifted" else None,
    )  # fmt: skip
    for by_seed in pruned:
        yield by_seed
        shares = [min(connected_units(one.mask).values()) for one in by_seed.values()]
        if arm == "sifted" and min(shares) < LEAST_CONNECTED:
            return


def first_layer_fits(model: nn.Module, data: Dataset) -> None:
    """Raise a ValueError unless the first layer with weights takes every pixel of the images."""
    name, weight = next(iter(prunable_weights(model).items()))
    as_images(weight, data.shape, name)


def _row(arm: str, seed: int, one: IMPRound, data: Dataset, restore) -> dict:
    mask, shape = one.mask, data.shape
    pixels = int(np.prod(shape))
    here = next(iter(mask.values()))[:, :pixels].cpu()
    kept = here if restore is None else restore(here)
    layers = list(mask.values())
    row = {
        "arm": arm, "seed": seed, "round": one.index, "density": density(mask),
        "first_density": float(kept.double().mean()), "accuracy": one.accuracy,
        "weights": sum(int(kept.sum()) for kept in mask.values()),
        "connected": min(connected_units(mask).values()),
    }  # fmt: skip
    row |= _with_nulls("", kept, shape, seed)
    if len(layers) > 2:
        paths = paths_to(mask, 2)[:, :pixels].cpu() > 0
        row |= _with_nulls("second_", paths if restore is None else restore(paths), shape, seed)
    if restore is not None:
        row["neighbours_here"] = neighbour_share(here, shape)
        row["neighbours_here_matched"] = neighbour_share(shuffle_units(here, seed), shape)
    if layers[0].shape[1] == pixels + 1:
        row["biases"] = count_biases(mask)
    return row


def _with_nulls(prefix: str, kept: Tensor, shape: tuple[int, ...], seed: int) -> dict[str, float]:
    uniform = shuffle_within_layers({"kept": kept}, seed)["kept"]
    return {
        f"{prefix}neighbours": neighbour_share(kept, shape),
        f"{prefix}neighbours_matched": neighbour_share(shuffle_units(kept, seed), shape),
        f"{prefix}neighbours_uniform": neighbour_share(uniform, shape),
    }
