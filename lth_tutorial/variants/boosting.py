"""Boosting tickets: masks found at a low rate that lead when they are trained at a high one.

Chapter 9 needs this. Li et al. (2020) train a network at a low learning rate, prune once by
magnitude relative to the layer, rewind to step 0, and train at a high rate with warm-up;
adversarial training, where every step is dear, is what it is meant for. `boosting_experiment`
puts such tickets beside everything that could explain the lead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from lth_tutorial.criteria.weights import relative_magnitude_scores
from lth_tutorial.data.dataset import Dataset
from lth_tutorial.networks.first_pass import first_pass
from lth_tutorial.pruning.masks import Mask, dense_mask, density, shuffle_within_layers
from lth_tutorial.pruning.prune import check_fraction, prune
from lth_tutorial.runtime import progress_bar
from lth_tutorial.safety.arguments import checked, different_arms, different_seeds
from lth_tutorial.safety.locks import one_writer
from lth_tutorial.states import State, load_state_, snapshot
from lth_tutorial.tickets.arms import OTHER_INITIALIZATION, model_builder
from lth_tutorial.tickets.lottery import converged
from lth_tutorial.training.attacks import Attack
from lth_tutorial.training.config import TrainConfig
from lth_tutorial.training.evaluation import evaluate
from lth_tutorial.training.identity import within
from lth_tutorial.training.loop import train
from lth_tutorial.training.outcome import TrainResult
from lth_tutorial.training.replicates import train_replicates

if TYPE_CHECKING:
    import pandas as pd

ARMS = (
    "low_mask", "low_mask_reinit", "high_mask", "high_mask_reinit", "low_mask_random",
    "natural_mask", "strong_mask", "narrow", "dense",
)  # fmt: skip
"""What `boosting_experiment` can train: masks by where they were found, and two dense networks."""


@checked
def boosting_mask(
    model: nn.Module,
    data: Dataset,
    config: TrainConfig,
    *,
    fraction: float = 0.8,
    data_seed: int = 0,
) -> Mask:
    """Train the model at a low rate, prune it once, and rewind it to where it started, in place.

    Afterwards `train(model, data, high, mask=mask)` with a high rate and `warmup_steps` is the
    training of a boosting ticket. (The paper warms up from the low rate, `train` from zero.)

    Args:
        config: of the training that finds the mask, at a low rate.
        fraction: share of the weights to remove in one step, over the whole network.

    Raises:
        ValueError, FloatingPointError: as `train` and `prune`.

    Source: Li et al. 2020, section 3.1; the score is that of the authors' code.
    """
    check_fraction(fraction, "global")
    start = snapshot(model)
    names = dense_mask(model)
    result = train(model, data, config, data_seed=data_seed)
    mask = _mask_of(result, names, fraction)
    load_state_(model, start)
    return mask


@checked
@one_writer
def boosting_experiment(
    model: str | Callable[[int], nn.Module],
    data: Dataset,
    config: TrainConfig,
    low: TrainConfig,
    *,
    fraction: float = 0.8,
    measure_steps: Sequence[int],
    arms: Sequence[str] = ("low_mask", "low_mask_reinit", "high_mask", "high_mask_reinit", "dense"),
    measure: Attack | None = None,
    strong: Attack | None = None,
    narrow: str | Callable[[int], nn.Module] | None = None,
    high: TrainConfig | None = None,
    seeds: Sequence[int] = range(8),
    workdir: str | Path | None = None,
) -> pd.DataFrame:
    """Train boosting tickets beside their controls; one row per arm, seed and measured step.

    Args:
        config: how every arm is trained, at the high rate.
        low: how the masks of "low_mask" arms are found, at the low rate.
        fraction: share of the weights that a mask removes.
        measure_steps: when accuracy is measured; 0 is before the first step.
        arms: "low_mask" and "high_mask" (found by `low`, or by `high`; on the weights that they
            were found from), the same with "_reinit" (on new weights), "low_mask_random" (as many
            weights per layer at random, on the same weights), "natural_mask" (found by `low`
            without its attack), "strong_mask" (found by `low` with the attack `strong`), "narrow"
            (the dense network `narrow`) and "dense".
        measure: an attack under which accuracy is measured too.
        high: how the masks of "high_mask" arms are found; default `config`.
        seeds: replicates; a seed draws initial weights and data order.

    Returns:
        arm, seed, round (place of the step in `measure_steps`, from 1), step, density, accuracy
        (test, [0, 1]), and with `measure` robust_accuracy (test) and val_robust_accuracy; missing
        where training diverged before. A seed for which an arm's mask could not be found, since
        that training diverged, has no rows in it.

    Raises:
        ValueError: for unknown arms, steps out of range, or what `train` refuses.
    """
    import pandas as pd

    check_fraction(fraction, "global")
    arms, seeds = different_arms(arms, ARMS), different_seeds(seeds)
    steps = [int(step) for step in measure_steps]
    if not steps or not all(0 <= step <= config.steps for step in steps):
        raise ValueError(f"measure_steps lie in 0 … {config.steps}; got {list(measure_steps)}")
    if ("narrow" in arms) != (narrow is not None) or ("strong_mask" in arms and strong is None):
        raise ValueError(
            "the arm 'narrow' needs narrow=…, a model; 'strong_mask' needs strong=…, an attack"
        )
    build, finders = model_builder(model, data), _finders(arms, config, low, strong, high)
    for each in (build, *(() if narrow is None else (model_builder(narrow, data),))):
        first = each(seeds[0])
        dense_mask(first)
        first_pass(first, data)
    total = sum(c.steps for c in finders.values()) + config.steps * len(arms)
    rows, starts = [], {seed: snapshot(build(seed)) for seed in seeds}
    with progress_bar(total * len(seeds), "boosting") as bar:
        found: dict[str, dict[int, Mask]] = {}
        for name, finder in finders.items():
            models, folder = [build(seed) for seed in seeds], within(workdir, f"find_{name}")
            results = train_replicates(
                models, data, finder, data_seeds=seeds, on_step=bar.update, workdir=folder
            )
            found[name] = {
                seed: _mask_of(result, dense_mask(network), fraction)
                for seed, result, network in zip(seeds, results, models, strict=True)
                if converged(result)
            }
        for arm in arms:
            known = found.get(arm.split("_mask")[0])  # "dense" and "narrow" need none
            own = seeds if known is None else list(known)
            if not own:
                continue
            models = _start(arm, build, narrow, data, own, starts)
            masks = _masks(arm, known, models)
            results = train_replicates(
                models, data, config, masks=masks, data_seeds=own, save_at=steps,
                on_step=bar.update, workdir=within(workdir, arm),
            )  # fmt: skip
            for seed, network, mask, result in zip(own, models, masks, results, strict=True):
                rows += _measured(arm, seed, network, mask, result, data, steps, measure)
    return pd.DataFrame(rows)


def _finders(arms, config, low, strong, high) -> dict[str, TrainConfig]:
    """Return how each mask that the arms need is found."""
    known = {
        "low": low,
        "high": high or config,
        "natural": replace(low, attack=None),
        "strong": replace(low, attack=strong),
    }
    return {n: c for n, c in known.items() if any(arm.startswith(f"{n}_mask") for arm in arms)}


def _start(arm, build, narrow, data, seeds, starts) -> list[nn.Module]:
    if arm == "narrow":
        own = model_builder(narrow, data)
        return [own(seed) for seed in seeds]
    if arm.endswith("_reinit"):
        return [build(seed + OTHER_INITIALIZATION) for seed in seeds]
    models = [build(seed) for seed in seeds]
    for seed, network in zip(seeds, models, strict=True):
        load_state_(network, starts[seed])
    return models


def _masks(arm: str, known: Mapping[int, Mask] | None, models: Sequence[nn.Module]) -> list[Mask]:
    if known is None:
        return [dense_mask(network) for network in models]
    if arm.endswith("_random"):
        return [shuffle_within_layers(mask, seed) for seed, mask in known.items()]
    return list(known.values())


def _mask_of(result: TrainResult, mask: Mask, fraction: float) -> Mask:
    return prune(relative_magnitude_scores(result.final, mask), mask, fraction)


def _measured(
    arm: str, seed: int, network: nn.Module, mask: Mask, result: TrainResult, data: Dataset,
    steps: Sequence[int], measure: Attack | None,
) -> list[dict]:  # fmt: skip
    rows, last, snapshots = [], result.diverged_step, result.snapshots
    for place, step in enumerate(steps, start=1):
        whole = last is None or step < last
        row = {"arm": arm, "seed": seed, "round": place, "step": step, "density": density(mask)}
        state: State = snapshots[step] if whole else result.start
        load_state_(network, state)
        row["accuracy"] = evaluate(network, data).accuracy if whole else math.nan
        if measure is not None:
            for key, split in (("robust_accuracy", "test"), ("val_robust_accuracy", "val")):
                value = (
                    evaluate(network, data, split, attack=measure).accuracy if whole else math.nan
                )
                row[key] = value
        rows.append(row)
    return rows
