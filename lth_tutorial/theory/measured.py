"""The two experiments of chapter 11: subset sums, and random networks pruned onto trained ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from lth_tutorial.data.dataset import Dataset, generator_for
from lth_tutorial.pruning.masks import apply_mask_, density, shuffle_within_layers
from lth_tutorial.runtime import is_whole, progress_bar
from lth_tutorial.safety.arguments import checked, different_arms, different_seeds
from lth_tutorial.safety.locks import one_writer
from lth_tutorial.theory.construction import check_imitation, output_error, prune_random_network
from lth_tutorial.theory.subsets import best_single, best_subset, random_products
from lth_tutorial.tickets.lottery import converged
from lth_tutorial.training.config import TrainConfig
from lth_tutorial.training.evaluation import evaluate
from lth_tutorial.training.identity import within
from lth_tutorial.training.replicates import train_replicates

if TYPE_CHECKING:
    import pandas as pd

IMITATIONS = ("subset", "single", "random")


@checked
def subset_sum_experiment(
    numbers: Sequence[int],
    *,
    arms: Sequence[str] = ("subset", "single"),
    seeds: Sequence[int] = tuple(range(8)),
    targets: int = 200,
) -> pd.DataFrame:
    """Return how well sums of random products meet targets in [−1, 1].

    Every seed draws `targets` targets, and for each of them fresh products of two uniform numbers;
    with more products the first ones stay the same, and both arms see the same ones.

    Args:
        numbers: how many products there are to choose from, increasing, at least 1.
        arms: "subset" (`best_subset`), "single" (`best_single`).
        targets: targets per seed, at least 1.

    Returns:
        one row per arm, seed and number: arm, seed, round (counted from 1), products,
        median_error and worst_error (over the targets, in their units).

    Raises:
        ValueError: for numbers that are not increasing whole numbers, an unknown arm, no target,
            and as the searches.
    """
    import pandas as pd

    arms, seeds = different_arms(arms, ("subset", "single")), different_seeds(seeds)
    _check(numbers)
    if not (is_whole(targets) and targets >= 1):
        raise ValueError(f"targets is a whole number of at least 1; got {targets!r}")
    search = {"subset": best_subset, "single": best_single}
    rows = []
    for seed in seeds:
        generator = generator_for("targets of subset sums", seed)
        target = 2 * torch.rand(targets, generator=generator, dtype=torch.float64) - 1
        products = random_products(targets, max(numbers), seed=seed)
        for arm in arms:
            for i, n in enumerate(numbers, start=1):
                error = search[arm](products[:, :n], target).error
                row = {"arm": arm, "seed": seed, "round": i, "products": n}
                rows.append(
                    row | {"median_error": error.median().item(), "worst_error": error.max().item()}
                )
    return pd.DataFrame(rows)


@checked
@one_writer
def imitation_experiment(
    model: Callable[[int], nn.Sequential],
    data: Dataset,
    train_config: TrainConfig,
    *,
    numbers: Sequence[int],
    arms: Sequence[str] = IMITATIONS,
    seeds: Sequence[int] = tuple(range(8)),
    workdir: str | Path | None = None,
) -> pd.DataFrame:
    """Train target networks, prune random networks onto them, and measure what is lost.

    A seed draws the target's initial weights, the order of its data and the random network, which
    is the same for the arms "subset" and "random" and different for every number.

    Args:
        model: from a seed to an untrained target, a network as `relu_network` makes them.
        train_config: how the targets are trained.
        numbers: expected products per target weight (see `prune_random_layer`), increasing.
        arms: "subset" and "single" choose the products as `prune_random_network` does; "random"
            keeps as many weights in each layer as "subset", at random places.
        workdir: folder in which training continues after an interruption; the rest is repeated.

    Returns:
        one row per arm, seed and round; none for a target whose training diverged. Round 0 is the
        target network, round i has `numbers[i-1]` products per weight. Columns: arm, seed, round,
        products, density (kept share of the random network), accuracy (test, [0, 1]),
        output_error (see `output_error`, the root mean square), target_weights, random_weights,
        kept_weights.

    Raises:
        ValueError: for numbers that are not increasing whole numbers, an unknown arm, and as
            `train_replicates` and `prune_random_network`; bad targets and numbers are found before
            anything is trained.
    """
    import pandas as pd

    arms, seeds = different_arms(arms, IMITATIONS), different_seeds(seeds)
    _check(numbers)
    targets = [model(seed) for seed in seeds]
    for target in targets[:1]:
        for arm in arms:
            check_imitation(target, max(numbers), "single" if arm == "single" else "subset")
    with progress_bar(train_config.steps * len(seeds), "training the targets") as bar:
        results = train_replicates(
            targets, data, train_config, data_seeds=seeds, on_step=bar.update,
            workdir=within(workdir, "targets"),
        )  # fmt: skip
    rows = []
    for seed, target, result in zip(seeds, targets, results, strict=True):
        if not converged(result):
            continue  # train_replicates has warned
        weights = sum(weight.numel() for weight in target.parameters())
        start = {"products": 0, "density": 1.0, "output_error": 0.0, "random_weights": weights}
        start |= {"target_weights": weights, "kept_weights": weights}
        accuracy = evaluate(target, data).accuracy
        rows += [{"arm": a, "seed": seed, "round": 0, "accuracy": accuracy} | start for a in arms]
        for i, n in enumerate(numbers, start=1):
            for arm, row in _imitations(target, data, n, seed, arms):
                rows.append({"arm": arm, "seed": seed, "round": i, "products": n} | row)
    return pd.DataFrame(rows)


def _imitations(target: nn.Sequential, data: Dataset, n: int, seed: int, arms: Sequence[str]):
    """Yield each arm with what was measured of it."""
    for search in ("subset", "single"):
        asked = [arm for arm in arms if {"random": "subset"}.get(arm, arm) == search]
        if not asked:
            continue
        found = prune_random_network(target, n, seed=seed, search=search)
        counts = {
            "density": density(found.mask),
            "target_weights": found.target_weights,
            "random_weights": found.random_weights,
            "kept_weights": found.kept_weights,
        }
        for arm in asked:
            network = found.pruned
            if arm == "random":
                network = found.random
                apply_mask_(network, shuffle_within_layers(found.mask, seed))
            measured = {
                "accuracy": evaluate(network, data).accuracy,
                "output_error": output_error(network, target, data)[0],
            }
            yield arm, counts | measured


def _check(numbers: Sequence[int]) -> None:
    numbers = list(numbers)
    whole = all(is_whole(n) and n >= 1 for n in numbers)
    if not numbers or not whole or sorted(set(numbers)) != numbers:
        raise ValueError(f"numbers are increasing whole numbers of at least 1; got {numbers}")
