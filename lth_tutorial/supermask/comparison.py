"""Supermasks beside the dense network that is trained, over several seeds: tidy rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from torch import nn

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.networks.layers import with_batch_norm
from lth_tutorial.pruning.masks import density
from lth_tutorial.runtime import choose, progress_bar
from lth_tutorial.safety.arguments import checked, different_arms, different_seeds
from lth_tutorial.safety.kinds import as_python
from lth_tutorial.safety.locks import one_writer
from lth_tutorial.supermask.design import SupermaskConfig, check_design
from lth_tutorial.supermask.frozen import kaiming_normal_, signed_constant_
from lth_tutorial.supermask.search import Supermask, train_supermasks
from lth_tutorial.tickets.arms import model_builder
from lth_tutorial.training.config import TrainConfig
from lth_tutorial.training.evaluation import evaluate
from lth_tutorial.training.identity import within
from lth_tutorial.training.outcome import TrainResult
from lth_tutorial.training.replicates import train_replicates

if TYPE_CHECKING:
    import pandas as pd

ARMS: dict[str, dict] = {
    "edge_popup": {"method": "edge_popup"},
    "edge_popup_norm": {"method": "edge_popup", "learn_batchnorm": True},
    "biprop": {"method": "biprop"},
    "biprop_norm": {"method": "biprop", "learn_batchnorm": True},
    "biprop_1_1": {"method": "biprop", "binary_activations": True},
    "biprop_1_1_norm": {"method": "biprop", "binary_activations": True, "learn_batchnorm": True},
    "sampled": {"method": "sampled"},
    "sampled_rescaled": {"method": "sampled", "rescale": True},
}
"""Ways to find a supermask by name; `_norm` learns batch norm, `1_1` has binary activations."""

WEIGHTS = {"signed_constant": signed_constant_, "kaiming_normal": kaiming_normal_}


@checked
@one_writer
def supermask_experiment(
    model: str | Callable[[int], nn.Module],
    data: Dataset,
    config: TrainConfig,
    *,
    arms: Sequence[str] = ("edge_popup",),
    keeps: Sequence[float] = (0.5,),
    weights: Literal["signed_constant", "kaiming_normal"] = "signed_constant",
    scaled: bool = False,
    batch_norm: bool = False,
    dense_config: TrainConfig | None = None,
    seeds: Sequence[int] = range(8),
    workdir: str | Path | None = None,
) -> pd.DataFrame:
    """Compare supermasks of untrained networks with the trained network; one row per arm and seed.

    Args:
        model: a name for `build_model`, or a function from a seed to a module.
        config: how scores are trained.
        arms: names in `supermask.ARMS`, e.g. "edge_popup", "biprop", "biprop_norm" (batch norm
            learned), "biprop_1_1" (binary activations), "sampled" (Zhou et al. 2019).
        keeps: densities; each is a round, counted from 1. Sampled masks find their own (round 1).
        weights: how the frozen weights are drawn.
        scaled: scale them by the density.
        batch_norm: put batch norm before the activations, in all arms and in the dense network.
        dense_config: how the dense network is trained; None leaves it out.
        seeds: replicates; a seed draws frozen weights, scores and the order of the data.
        workdir: folder to continue from.

    Returns:
        A frame with the columns arm, seed, round, density, accuracy (test, [0, 1]; missing where
        training diverged). Round 0 of every arm is the dense network, trained from the same frozen
        weights (unscaled) on the same batches.

    Raises:
        ValueError: for unknown arms or weights, repeated seeds or keeps, or what the searches
            refuse, before the first step.
    """
    import pandas as pd

    arms, seeds, keeps = _check(arms, seeds, keeps, weights)
    drawn = {"weights": weights, "batch_norm": batch_norm, "seeds": seeds}
    searches = [
        (arm, i, SupermaskConfig(**ARMS[arm], keep=keep))
        for arm in arms
        for i, keep in _rounds(arm, keeps)
    ]
    for _, _, design in searches:
        check_design(draw_models(model, data, **drawn)[0], design)
    total = len(searches) * config.steps + (dense_config.steps if dense_config else 0)
    rows = []
    with progress_bar(total * len(seeds), "supermasks") as bar:
        if dense_config is not None:
            models, folder = draw_models(model, data, **drawn), within(workdir, "dense")
            results = train_replicates(
                models, data, dense_config, data_seeds=seeds, on_step=bar.update, workdir=folder
            )
            pairs = zip(seeds, models, results, strict=True)
            dense = [(seed, _accuracy(m, data, result)) for seed, m, result in pairs]
            rows += [_row(arm, seed, 0, 1.0, value) for arm in arms for seed, value in dense]
        for arm, i, design in searches:
            models = draw_models(model, data, keep=design.keep if scaled else None, **drawn)
            folder = within(workdir, arm, f"round_{i}")
            found = train_supermasks(
                models, data, design, config, seeds=seeds, on_step=bar.update, workdir=folder
            )
            rows += [_found_row(arm, seed, i, one) for seed, one in zip(seeds, found, strict=True)]
    frame = pd.DataFrame(rows)
    rank = frame["arm"].map({arm: i for i, arm in enumerate(arms)})
    frame = frame.assign(rank=rank).sort_values(["rank", "seed", "round"], ignore_index=True)
    return frame.drop(columns="rank")


def draw_models(
    model: str | Callable[[int], nn.Module],
    data: Dataset,
    *,
    weights: str,
    batch_norm: bool,
    seeds: Sequence[int],
    keep: float | None = None,
) -> list[nn.Module]:
    """Return one network per seed with frozen weights, scaled by a density if `keep` is given."""
    build = model_builder(model, data)
    models = [with_batch_norm(build(seed)) if batch_norm else build(seed) for seed in seeds]
    for seed, made in zip(seeds, models, strict=True):
        WEIGHTS[weights](made, seed, keep=keep)
    return models


def _rounds(arm: str, keeps: Sequence[float]) -> list[tuple[int, float | None]]:
    if ARMS[arm]["method"] == "sampled":
        return [(1, None)]
    return list(enumerate(keeps, start=1))


def _found_row(arm: str, seed: int, round: int, found: Supermask) -> dict:
    accuracy = found.accuracy if found.diverged_step is None else math.nan
    return _row(arm, seed, round, density(found.mask), accuracy)


def _accuracy(model: nn.Module, data: Dataset, result: TrainResult) -> float:
    return evaluate(model, data).accuracy if result.diverged_step is None else math.nan


def _row(arm: str, seed: int, round: int, density: float, accuracy: float) -> dict:
    return {"arm": arm, "seed": seed, "round": round, "density": density, "accuracy": accuracy}


def _check(arms, seeds, keeps, weights) -> tuple[list[str], list[int], list[float]]:
    arms, keeps = different_arms(arms, ARMS), [as_python(keep) for keep in keeps]
    choose("weights", weights, WEIGHTS)
    if not keeps or len(set(keeps)) < len(keeps):
        raise ValueError(f"keeps are one or more different shares in (0, 1]; got {keeps}")
    return arms, different_seeds(seeds), keeps
