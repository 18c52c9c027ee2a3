"""Searching small networks for the sparsest one that solves the Cubist Spiral.

Nobody can try every mask of every network. Three searches, from the surest to the one that gets
furthest: `enumerate_masks` lists *every* mask of a small network, `random_masks` draws some, and
`descend` removes one weight after the other, each time the one without which the best of some
hundred networks trains best. Hundreds of networks train as one stack.

What a search finds is an upper bound: so many weights are enough. That fewer are not enough is only
known where every mask was tried, and even then only as far as training finds good weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise, permutations, product

import numpy as np
import torch
from torch import nn

from lth_tutorial.data.dataset import Dataset, generator_for
from lth_tutorial.pruning.masks import Mask, apply_mask_, dense_mask
from lth_tutorial.safety.arguments import at_least, checked
from lth_tutorial.states import State, snapshot
from lth_tutorial.training.config import TrainConfig
from lth_tutorial.training.replicates import train_replicates
from lth_tutorial.variants.spiral import accuracies, spiral_network

LARGEST_SPACE = 300_000
"""Masks that `enumerate_masks` looks at, at most."""
_STACK = 256  # networks trained as one: more of them leave the processor's cache


@dataclass(frozen=True)
class Found:
    """The best network that a search knows with some number of weights.

    Attributes:
        weights: how many its mask keeps.
        accuracy: on the training points, in [0, 1].
        trainings: networks trained up to here, each from new or inherited weights.
        mask, state: of the network; pruned weights are zero.
    """

    weights: int
    accuracy: float
    trainings: int
    mask: Mask
    state: State


@checked
def descend(
    widths: Sequence[int],
    data: Dataset,
    first: TrainConfig,
    again: TrainConfig,
    *,
    seed: int,
    restarts: int = 64,
    pool: int = 16,
    children: int = 96,
    fewest: int = 10,
    floor: float = 0.9,
    on_found: Callable[[Found], object] = lambda found: None,
) -> list[Found]:
    """Remove weights one at a time from the best of many networks; return the best of each count.

    Every network of the pool loses each of its weights in turn. The `children` with the lowest
    loss train on, and the best of those are the next pool. So each removal is judged by what
    training makes of it: a search that costs hundreds of trainings for every weight removed.

    Args:
        widths: of the three hidden layers of the dense networks to start from.
        first: how those are trained.
        again: how a network that has lost a weight trains on, from the weights that it has.
        seed: draws weights and data orders.
        restarts: dense networks that are trained.
        pool: networks that are kept with every number of weights.
        children: networks that train on after a removal.
        fewest: where to stop.
        floor: stop as soon as the best accuracy is below this.

    Raises:
        ValueError: for widths as `spiral_network`, or numbers below 1.
    """
    seeds = [1_000 * seed + i for i in range(restarts)]
    models = [spiral_network(widths, each) for each in seeds]
    trained = _train(models, [dense_mask(m) for m in models], data, first, seeds)[:pool]
    trainings, found = restarts, [_found(trained[0], restarts)]
    on_found(found[0])
    while found[-1].weights > fewest and found[-1].accuracy >= floor:
        candidates = [(m, new) for m, mask in _distinct(trained) for new in _without_one(mask)]
        networks = []
        for model, mask in candidates:
            networks.append(copy.deepcopy(model))
            apply_mask_(networks[-1], mask)
        order = accuracies(networks, data)[0].argsort(stable=True)[:children].tolist()
        networks, masks = [networks[i] for i in order], [candidates[i][1] for i in order]
        seeds = [1_000_000 * (seed + 1) + trainings + i for i in range(len(networks))]
        trained = _train(networks, masks, data, again, seeds)[:pool]
        trainings += len(networks)
        found.append(_found(trained[0], trainings))
        on_found(found[-1])
    return found


@checked
def random_masks(widths: Sequence[int], weights: int, n: int, seed: int) -> list[Mask]:
    """Draw masks with so many weights in which no unit is without an input or an output.

    Args:
        widths: of the three hidden layers.
        weights: that each mask keeps.
        n: how many masks; one may be drawn twice.
        seed: draws them.

    Raises:
        ValueError: if no such mask exists, or they are so rare that drawing does not find them.
    """
    at_least("n", n, 1)
    sizes = _sizes(widths, weights)
    total = sum(sizes)
    generator, masks, tries = generator_for("random masks", seed, weights), [], 0
    while len(masks) < n:
        tries += 1
        if tries > 2_000 * n:
            raise ValueError(
                f"fewer than one mask in 2,000 with {weights} weights in a network of widths "
                f"{tuple(widths)} connects all units; take narrower layers or more weights"
            )
        kept = torch.zeros(total, dtype=torch.bool)
        kept[torch.randperm(total, generator=generator)[:weights]] = True
        mask = _as_mask(kept, widths)
        if _is_whole(mask):
            masks.append(mask)
    return masks


@checked
def enumerate_masks(widths: Sequence[int], weights: int) -> list[Mask]:
    """Return every mask with so many weights in which each unit has an input and an output.

    Of masks that differ by a relabelling of hidden units only one is listed: they are the same
    network. Masks that leave a unit unconnected belong to a narrower network.

    Raises:
        ValueError: if there are more than 300,000 masks to look at; says how many.
    """
    total = sum(_sizes(widths, weights))
    count = math.comb(total, weights)
    if count > LARGEST_SPACE:
        raise ValueError(
            f"a network of widths {tuple(widths)} has {total} weights, and {count:,} masks keep "
            f"{weights} of them; at most {LARGEST_SPACE:,} are enumerated. Take narrower layers, "
            f"or draw some with random_masks"
        )
    orders = [np.array(each) for each in _relabellings(widths)]
    powers = 1 << np.arange(total, dtype=np.int64)[::-1]
    found = {}
    for chosen in combinations(range(total), weights):
        kept = np.zeros(total, dtype=bool)
        kept[list(chosen)] = True
        mask = _as_mask(torch.from_numpy(kept), widths)
        if _is_whole(mask):
            name = min(int(kept[order] @ powers) for order in orders)
            found.setdefault(name, mask)
    return list(found.values())


@checked
def train_masks(
    widths: Sequence[int], masks: Sequence[Mask], data: Dataset, config: TrainConfig, *, seed: int
) -> list[tuple[nn.Module, Mask, float, float]]:
    """Train one network per mask from new weights; best first: network, mask, loss, accuracy."""
    if not len(masks):
        raise ValueError("masks are one or more; got none: []")
    seeds = [1_000_000 * seed + i for i in range(len(masks))]
    return _train([spiral_network(widths, s) for s in seeds], list(masks), data, config, seeds)


def _train(models, masks, data, config, seeds) -> list[tuple[nn.Module, Mask, float, float]]:
    """Train networks, hundreds as one stack; best accuracy first, then lowest loss."""
    for i in range(0, len(models), _STACK):
        part = slice(i, i + _STACK)
        train_replicates(models[part], data, config, data_seeds=seeds[part], masks=masks[part])
    loss, accuracy = accuracies(models, data)
    order = sorted(range(len(models)), key=lambda i: (-float(accuracy[i]), float(loss[i])))
    return [(models[i], masks[i], float(loss[i]), float(accuracy[i])) for i in order]


def _found(best: tuple[nn.Module, Mask, float, float], trainings: int) -> Found:
    model, mask, _, accuracy = best
    weights = sum(int(kept.sum()) for kept in mask.values())
    return Found(weights, accuracy, trainings, mask, snapshot(model))


def _distinct(trained) -> Iterator[tuple[nn.Module, Mask]]:
    """Give every network whose mask no better one has."""
    seen = set()
    for model, mask, _, _ in trained:
        key = b"".join(kept.numpy().tobytes() for kept in mask.values())
        if key not in seen:
            seen.add(key)
            yield model, mask


def _without_one(mask: Mask) -> Iterator[Mask]:
    """Give the masks that keep one weight less."""
    for name, kept in mask.items():
        for i in kept.flatten().nonzero().flatten().tolist():
            smaller = kept.clone()
            smaller.view(-1)[i] = False
            yield mask | {name: smaller}


def _shapes(widths: Sequence[int]) -> dict[str, tuple[int, int]]:
    a, b, c = widths
    return {
        "fc1.weight": (a, 2), "fc2.weight": (b, a), "fc3.weight": (c, b), "output.weight": (1, c),
    }  # fmt: skip


def _sizes(widths: Sequence[int], weights: int) -> list[int]:
    spiral_network(widths, 0)  # refuses wrong widths
    sizes = [math.prod(shape) for shape in _shapes(widths).values()]
    if not 1 <= weights <= sum(sizes):
        raise ValueError(
            f"a network of widths {tuple(widths)} keeps 1 to {sum(sizes)} weights; got {weights!r}"
        )
    return sizes


def _as_mask(kept: torch.Tensor, widths: Sequence[int]) -> Mask:
    shapes = _shapes(widths)
    parts = kept.split([math.prod(shape) for shape in shapes.values()])
    return {n: part.view(s).clone() for (n, s), part in zip(shapes.items(), parts, strict=True)}


def _is_whole(mask: Mask) -> bool:
    """Return whether every hidden unit has an input and an output."""
    layers = list(mask.values())
    return all(
        bool(a.any(dim=1).all()) and bool(b.any(dim=0).all()) for a, b in pairwise(layers)
    ) and bool(layers[-1].any())


def _relabellings(widths: Sequence[int]) -> Iterator[list[int]]:
    """Give, for every relabelling of hidden units, where each weight of the mask comes from."""
    shapes = list(_shapes(widths).values())
    starts = np.cumsum([0, *(math.prod(shape) for shape in shapes)])
    for orders in product(*(permutations(range(w)) for w in widths)):
        units = [range(2), *orders, range(1)]
        yield [
            int(starts[layer]) + row * shapes[layer][1] + column
            for layer in range(4)
            for row in units[layer + 1]
            for column in units[layer]
        ]
