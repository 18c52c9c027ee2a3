"""Pruning before training, beside what it has to beat: chapter 8's experiment.

`prune_before_training` masks untrained networks by several methods, trains them under their
masks, and returns rows like those of `lottery_experiment`. A check spoils one thing on the way:
the data that a method looks at, the places of its mask, or the initial weights.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from lth_tutorial.criteria import (
    connected_weights,
    grasp_scores,
    magnitude_scores,
    random_scores,
    snip_scores,
    synflow_scores,
)
from lth_tutorial.data.corruption import CORRUPTIONS, corrupt_data
from lth_tutorial.data.dataset import Dataset
from lth_tutorial.pruning.masks import Mask, dense_mask, density, shuffle_within_layers
from lth_tutorial.pruning.prune import LayerCollapseWarning, keep_best
from lth_tutorial.pruning.schedules import layer_counts, prune_to_density
from lth_tutorial.runtime import choose, is_whole, progress_bar
from lth_tutorial.safety.arguments import checked
from lth_tutorial.safety.kinds import as_python
from lth_tutorial.safety.locks import one_writer
from lth_tutorial.states import State, snapshot
from lth_tutorial.tickets.arms import OTHER_INITIALIZATION, model_builder
from lth_tutorial.tickets.lottery import converged, train_all
from lth_tutorial.training.config import TrainConfig
from lth_tutorial.training.evaluation import evaluate
from lth_tutorial.training.identity import claim_folder, describe_model, within
from lth_tutorial.training.outcome import TrainResult

if TYPE_CHECKING:
    import pandas as pd

METHODS = ("random", "smart", "magnitude", "snip", "grasp", "synflow", "after_training")
CHECKS = ("shuffled", "reinit", *CORRUPTIONS)


@checked
@one_writer
def prune_before_training(
    model: str | Callable[[int], nn.Module],
    data: Dataset,
    config: TrainConfig,
    *,
    densities: Sequence[float],
    arms: Sequence[str] = METHODS,
    seeds: Sequence[int] = range(8),
    synflow_rounds: int = 100,
    workdir: str | Path | None = None,
) -> pd.DataFrame:
    """Prune untrained networks by several methods and train them; one row per arm, seed, density.

    Args:
        model: a name for `build_model`, or a function from a seed to a module.
        densities: shares of weights to keep, each in (0, 1).
        arms: methods, or "method/check". The methods are "random" (over the whole network),
            "smart" (random with smart ratios), "magnitude", "snip", "grasp" (one step, all
            training examples), "synflow" (`synflow_rounds` steps), and for comparison
            "after_training": the largest weights of the *trained* network, put back to their
            initial values (no rows where that training diverged). The checks are "shuffled" (the
            mask, within its layers), "reinit" (the mask on another initialisation), and, for the
            data that a method looks at, "random_labels", "shuffled_pixels" and "half".
        seeds: replicates; a seed draws initial weights, data order, and whatever is random.
        workdir: folder to continue from if the run is killed.

    Returns:
        A frame with the columns arm, seed, round (0 is the dense network, the same row in every
        arm; then the densities in order), density, accuracy (test, [0, 1]; missing where training
        diverged), train_accuracy and connected (share of all weights that are kept *and* lie on a
        path from input to output; 0 where a layer has collapsed).

    Raises:
        ValueError: for unknown arms, repeated seeds, densities out of range, a workdir of another
            configuration, or a network that a method cannot score; before any training.

    Source: the comparison of Frankle et al. 2021 (missing the mark); the checks of Su et al. 2020.
    """
    import pandas as pd

    arms, seeds, densities = _check_design(arms, seeds, densities)
    build = model_builder(model, data)
    _check_methods(build(seeds[0]), data, arms)
    if workdir is not None:
        settings = {"model": describe_model(build(seeds[0])), "synflow_rounds": synflow_rounds}
        claim_folder(workdir, settings | {"train_config": config, "data": data.fingerprint})
    rows: list[dict] = []
    with progress_bar(
        config.steps * len(seeds) * (1 + len(arms) * len(densities)), "pruning before training"
    ) as bar:

        def measure(arm: str, index: int, models, masks) -> dict[int, State]:
            share = density(next(iter(masks.values())))
            folder = within(workdir, arm.replace("/", "-"), f"{share:.6f}")
            folder = within(folder, *(["all"] if len(seeds) > 20 else ["_".join(map(str, seeds))]))
            results = train_all(
                models, data, config, masks=[masks[s] for s in models], on_step=bar.update,
                workdir=folder,
            )  # fmt: skip
            rows.extend(
                {"arm": arm, "seed": seed, "round": index}
                | _measured(models[seed], data, masks[seed], result)
                for seed, result in results.items()
            )
            return {seed: r.final for seed, r in results.items() if converged(r)}

        models = {seed: build(seed) for seed in seeds}
        trained = measure("dense", 0, models, {s: dense_mask(m) for s, m in models.items()})
        rows[:] = [row | {"arm": arm} for arm in arms for row in rows]
        for index, share in enumerate(densities, start=1):
            for arm in arms:
                with warnings.catch_warnings():  # `connected` tells it
                    warnings.simplefilter("ignore", LayerCollapseWarning)
                    masks = {
                        seed: _mask_of_arm(arm, build, data, share, seed, trained, synflow_rounds)
                        for seed in (trained if arm.startswith("after_training") else seeds)
                    }
                other = OTHER_INITIALIZATION if arm.endswith("/reinit") else 0
                if masks:
                    measure(arm, index, {seed: build(seed + other) for seed in masks}, masks)
    frame = pd.DataFrame(rows)
    rank = frame["arm"].map({arm: i for i, arm in enumerate(arms)})
    frame = frame.assign(rank=rank).sort_values(["rank", "seed", "round"], ignore_index=True)
    return frame.drop(columns="rank")


def _measured(model: nn.Module, data: Dataset, mask: Mask, result: TrainResult) -> dict:
    """Return the columns that a trained network fills."""
    good = converged(result)
    return {
        "density": density(mask),
        "accuracy": evaluate(model, data).accuracy if good else math.nan,
        "train_accuracy": evaluate(model, data, "train").accuracy if good else math.nan,
        "connected": density(connected_weights(model, data, mask)),
    }


def _mask_of_arm(
    arm: str,
    build: Callable[[int], nn.Module],
    data: Dataset,
    share: float,
    seed: int,
    trained: Mapping[int, State],
    synflow_rounds: int,
) -> Mask:
    """Return the mask of "method" or "method/check" for one seed."""
    method, _, check = arm.partition("/")
    mask = initial_mask(
        method,
        build(seed),
        corrupt_data(data, check, seed) if check in CORRUPTIONS else data,
        share,
        seed,
        trained=trained[seed] if method == "after_training" else None,
        synflow_rounds=synflow_rounds,
    )
    return shuffle_within_layers(mask, seed) if check == "shuffled" else mask


def initial_mask(
    method: str,
    model: nn.Module,
    data: Dataset,
    share: float,
    seed: int,
    *,
    trained: State | None = None,
    synflow_rounds: int = 100,
) -> Mask:
    """Return a method's mask of an untrained network; see `prune_before_training`.

    Args:
        trained: the weights that "after_training" ranks.
    """
    mask = dense_mask(model)
    if method in ("random", "smart"):
        keep = round(share * sum(kept.numel() for kept in mask.values()))
        counts = layer_counts(mask, share, "smart") if method == "smart" else keep
        return keep_best(random_scores(mask, seed), mask, counts)
    if method in ("magnitude", "after_training"):
        state = snapshot(model) if method == "magnitude" else trained
        return prune_to_density(lambda *_: magnitude_scores(state, mask), model, data, share)
    criterion = {"snip": snip_scores, "grasp": grasp_scores, "synflow": synflow_scores}[method]
    rounds = synflow_rounds if method == "synflow" else 1
    return prune_to_density(criterion, model, data, share, rounds=rounds)


def _check_methods(model: nn.Module, data: Dataset, arms: Sequence[str]) -> None:
    """Raise, as the criteria do, what they would raise after hours: on a few examples."""
    mask, methods = dense_mask(model), {arm.partition("/")[0] for arm in arms}
    connected_weights(model, data, mask)
    few = min(len(data.x_train), 2 * data.num_classes)
    for method, criterion in (("snip", snip_scores), ("grasp", grasp_scores)):
        if method in methods:
            criterion(model, data, mask, examples=few)
    if "synflow" in methods:
        synflow_scores(model, data, mask)


def _check_design(arms, seeds, densities) -> tuple[list[str], list[int], list[float]]:
    arms = [arms] if isinstance(arms, str) else list(arms)
    seeds, densities = list(seeds), [as_python(d) for d in densities]
    for arm in arms:
        method, slash, check = str(arm).partition("/")
        choose("method", method, METHODS)
        if slash:
            choose("check", check, CHECKS)
    whole = all(is_whole(seed) and 0 <= seed < OTHER_INITIALIZATION for seed in seeds)
    for name, values in (("arms", arms), ("seeds", seeds), ("densities", densities)):
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{name} are one or more different values; got {values}")
    if not whole:
        raise ValueError(f"seeds are whole numbers in 0 … {OTHER_INITIALIZATION - 1}; got {seeds}")
    if not all(isinstance(d, float) and 0 < d < 1 for d in densities):
        raise ValueError(f"densities are shares of weights to keep, in (0, 1); got {densities}")
    return arms, [int(seed) for seed in seeds], densities
