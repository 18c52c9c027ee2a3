"""The experiment of structured pruning: chosen units beside random ones and beside no inheritance.

One row per arm, seed and fraction of units removed. Every arm of a seed starts from the same
trained network, or only from the shape of what is left of it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.networks.calls import copied
from lth_tutorial.networks.initialization import reinitialize
from lth_tutorial.pruning.masks import density
from lth_tutorial.pruning.prune import SCOPES, LayerCollapseWarning, Scope, prune
from lth_tutorial.runtime import choose, is_number, progress_bar
from lth_tutorial.safety.arguments import checked, different_arms, different_seeds
from lth_tutorial.safety.kinds import as_python
from lth_tutorial.safety.locks import one_writer
from lth_tutorial.structured.cost import flops
from lth_tutorial.structured.removal import remove_units, unit_mask
from lth_tutorial.structured.scratch import scratch
from lth_tutorial.structured.units import all_units, unit_groups, unit_scores
from lth_tutorial.tickets.arms import model_builder
from lth_tutorial.tickets.lottery import converged
from lth_tutorial.training.config import TrainConfig
from lth_tutorial.training.evaluation import evaluate
from lth_tutorial.training.identity import claim_folder, describe_model, within
from lth_tutorial.training.outcome import TrainResult
from lth_tutorial.training.replicates import train_replicates

if TYPE_CHECKING:
    import pandas as pd

CRITERION_OF = {"units_l1": "l1", "units_bn_scale": "bn_scale", "units_random": "random"}
BUDGET_OF = {"scratch_e": "epochs", "scratch_b": "flops"}
ARMS = ("units_l1", "units_random", "scratch_e", "scratch_b")


@checked
@one_writer
def structured_experiment(
    model: str | Callable[[int], nn.Module],
    data: Dataset,
    train_config: TrainConfig,
    finetune_config: TrainConfig,
    *,
    fractions: Sequence[float] = (0.5,),
    arms: Sequence[str] = ARMS,
    scope: Scope = "layer",
    seeds: Sequence[int] = range(8),
    workdir: str | Path | None = None,
) -> pd.DataFrame:
    """Compare ways to get a small network; one row per arm, seed and fraction.

    Args:
        model: a name for `build_model`, or a function from a seed to a module.
        train_config: of the dense network, and of the arms from scratch.
        finetune_config: of the arms that inherit weights; a training of its own from step 0.
        fractions: shares of the units to remove, each from the dense network in one step.
        arms: any of "units_l1", "units_bn_scale", "units_random" (units chosen by that criterion
            are removed, the rest is fine-tuned), "scratch_e" and "scratch_b" (the shape that the
            first of these leaves, see `scratch`).
        scope: "layer" removes the share from every group of units, "global" ranks all together.
            At least one unit of each group stays.
        seeds: replicates; a seed draws the initial weights and the order of the data.
        workdir: folder to continue from, as for `train`.

    Returns:
        A frame with the columns arm, seed, round (0 is the dense network, the same row in every
        arm, i the i-th fraction), density (share of prunable weights left), fraction, accuracy
        (test, [0, 1]; missing where training diverged), start_accuracy (before fine-tuning;
        missing for arms from scratch), parameters, flops (of one example) and steps (of this
        arm's training).

    Raises:
        ValueError: for unknown arms, no arm that inherits weights, or settings that do not fit.
        UntraceableError: if the network's coupling cannot be traced.

    Source: Li et al. 2017; Liu et al. 2017; Liu et al. 2019 (Rethinking), sections 3 and 4.
    """
    import pandas as pd

    arms = different_arms(arms, (*CRITERION_OF, *BUDGET_OF))
    inheriting = [arm for arm in arms if arm in CRITERION_OF]
    if not inheriting:
        raise ValueError(f"one arm must choose units: {', '.join(CRITERION_OF)}; got {arms}")
    seeds, fractions = different_seeds(seeds), [as_python(f) for f in fractions]
    if not fractions or not all(is_number(f) and 0 < f < 1 for f in fractions):
        raise ValueError(f"fractions are shares of units to remove, in (0, 1); got {fractions}")
    if len(set(fractions)) < len(fractions):
        raise ValueError(f"fractions are different shares; got {fractions}")
    choose("scope", scope, SCOPES)
    build, x = model_builder(model, data), data.normalize(data.x_train[:4])
    models = [build(seed) for seed in seeds]
    all_units(unit_groups(models[0], x))  # refuses what cannot be pruned before training
    if set(arms) & set(BUDGET_OF):  # or drawn anew
        reinitialize(copied(models[0]), 0)
    if workdir is not None:
        about = {
            "model": describe_model(models[0]), "data": data.fingerprint,
            "train_config": train_config, "finetune_config": finetune_config, "scope": scope,
            "fractions": list(fractions), "seeds": seeds,
        }  # fmt: skip
        claim_folder(workdir, about)
    total = train_config.steps + len(fractions) * sum(
        finetune_config.steps if arm in CRITERION_OF else train_config.steps for arm in arms
    )
    with progress_bar(total * len(seeds), "structured experiment") as bar:
        results = train_replicates(
            models, data, train_config, data_seeds=seeds, on_step=bar.update,
            workdir=within(workdir, "dense"),
        )  # fmt: skip
        n = len(seeds)
        dense = _rows("dense", 0, 0.0, seeds, models, data, results, [1.0] * n, [math.nan] * n)
        rows = [row | {"arm": arm} for arm in arms for row in dense]
        trio = zip(models, seeds, results, strict=True)
        pairs = [(model, seed) for model, seed, result in trio if converged(result)]
        if not pairs:
            return pd.DataFrame(rows)
        for index, fraction in enumerate(fractions, start=1):
            pruned = {
                arm: [_pruned(*each, fraction, CRITERION_OF[arm], scope, x) for each in pairs]
                for arm in inheriting
            }
            for arm in arms:
                folder = within(workdir, f"fraction_{fraction:g}", arm)
                configs = train_config, finetune_config
                options = {"on_step": bar.update, "workdir": folder}
                networks = pruned.get(arm, pruned[inheriting[0]])
                trained = _train_arm(arm, pairs, networks, data, configs, options)
                rows += _rows(arm, index, fraction, [seed for _, seed in pairs], *trained)
    return pd.DataFrame(rows)


def _train_arm(
    arm: str,
    pairs: Sequence[tuple[nn.Module, int]],
    pruned: Sequence[tuple[nn.Module, float]],
    data: Dataset,
    configs: tuple[TrainConfig, TrainConfig],
    options: dict,
) -> tuple:
    """Train one arm from the pruned networks; return what `_rows` says about it.

    Args:
        pairs: dense networks and their seeds.
        pruned: of each, the smaller network and the share of weights that is left.
        configs: of training from scratch, and of fine-tuning.
    """
    small, densities = zip(*pruned, strict=True)
    small, seeds = [copied(each) for each in small], [seed for _, seed in pairs]
    train_config, finetune_config = configs
    if arm in CRITERION_OF:
        before = [evaluate(each, data).accuracy for each in small]
        results = train_replicates(small, data, finetune_config, data_seeds=seeds, **options)
    else:
        before = [math.nan] * len(small)
        results = scratch(
            small, data, train_config, seeds=seeds, budget=BUDGET_OF[arm], dense=pairs[0][0],
            **options,
        )  # fmt: skip
    return small, data, results, densities, before


def _pruned(
    model: nn.Module, seed: int, fraction: float, by: str, scope: Scope, x: Tensor
) -> tuple[nn.Module, float]:
    """Return the network without a share of its units, and the share of weights that is left."""
    groups = unit_groups(model, x)
    scores = unit_scores(model, groups, by, seed=seed)
    with warnings.catch_warnings():
        # It warns that a layer would die at the next such pruning; there is none.
        warnings.simplefilter("ignore", LayerCollapseWarning)
        units = prune(scores, all_units(groups), fraction, scope=scope, min_per_layer=1)
    return remove_units(model, units, x), density(unit_mask(model, units, groups))


def _rows(
    arm: str,
    index: int,
    fraction: float,
    seeds: Sequence[int],
    models: Sequence[nn.Module],
    data: Dataset,
    results: Sequence[TrainResult],
    densities: Sequence[float],
    before: Sequence[float],
) -> list[dict]:
    x = data.normalize(data.x_train[:1])
    return [
        {
            "arm": arm,
            "seed": seed,
            "round": index,
            "density": density,
            "fraction": fraction,
            "accuracy": evaluate(model, data).accuracy if converged(result) else math.nan,
            "start_accuracy": start,
            "parameters": sum(p.numel() for p in model.parameters()),
            "flops": flops(model, x),
            "steps": result.steps,
        }
        for seed, model, result, density, start in zip(
            seeds, models, results, densities, before, strict=True
        )
    ]
