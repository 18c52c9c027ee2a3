"""The control of structured pruning: the same small network, trained from new weights.

Liu et al. (2019), *Rethinking the Value of Network Pruning*, section 3, train it either for as
many epochs as the large network (Scratch-E), or until it has cost as many floating-point
operations (Scratch-B).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.networks.initialization import reinitialize
from lth_tutorial.runtime import choose
from lth_tutorial.safety.arguments import checked, different_seeds
from lth_tutorial.safety.locks import one_writer
from lth_tutorial.structured.cost import flops
from lth_tutorial.tickets.arms import OTHER_INITIALIZATION
from lth_tutorial.training.config import TrainConfig
from lth_tutorial.training.identity import within
from lth_tutorial.training.outcome import TrainResult
from lth_tutorial.training.replicates import train_replicates

BUDGETS = ("epochs", "flops")


@checked
def scratch_config(
    config: TrainConfig,
    dense: nn.Module,
    small: nn.Module,
    x: Tensor,
    *,
    budget: Literal["epochs", "flops"],
    longest: float = 2.0,
) -> TrainConfig:
    """Return how to train a small network from scratch, given how the dense one was trained.

    Args:
        config: of the dense network.
        x: an example input [batch, …].
        budget: "epochs" (Scratch-E) is the same configuration; "flops" (Scratch-B) stretches
            steps, rate drops and warm-up by the ratio of the networks' FLOPs.
        longest: the largest such ratio; the paper's is 2, even where more FLOPs were saved.

    Raises:
        ValueError: for an unknown budget, `longest` below 1, or a "small" network with more FLOPs.
    """
    if choose("budget", budget, BUDGETS) == "epochs":
        return config
    if not longest >= 1:
        raise ValueError(f"longest is a factor of at least 1; got {longest!r}")
    ratio = flops(dense, x) / flops(small, x)
    if ratio < 1:
        raise ValueError(
            f"the small network takes {1 / ratio:.2f} times the FLOPs of the dense one; were they "
            f"exchanged?"
        )
    return stretched(config, min(ratio, longest))


def stretched(config: TrainConfig, factor: float) -> TrainConfig:
    """Return a configuration whose steps, rate drops and warm-up take `factor` times as long."""
    return replace(
        config,
        steps=round(factor * config.steps),
        lr_drops=tuple(round(factor * drop) for drop in config.lr_drops),
        warmup_steps=round(factor * config.warmup_steps),
    )


@checked
@one_writer
def scratch(
    models: Sequence[nn.Module],
    data: Dataset,
    config: TrainConfig,
    *,
    seeds: Sequence[int],
    budget: Literal["epochs", "flops"] = "epochs",
    dense: nn.Module | None = None,
    longest: float = 2.0,
    on_step: Callable[[], object] = lambda: None,
    workdir: str | Path | None = None,
) -> list[TrainResult]:
    """Draw the small networks' weights anew, in place, and train them: Scratch-E or Scratch-B.

    Args:
        models: small networks, e.g. of `remove_units`, one per seed.
        config: how the dense network was trained.
        seeds: a seed draws new weights, unrelated to those that it gave the dense network, and
            the data order that it gave the dense network.
        budget, longest: see `scratch_config`.
        dense: the dense network; needed for the budget "flops".
        workdir: folder to continue from, as for `train`.

    Raises:
        ValueError: as `scratch_config` and `train_replicates`, and if `dense` is missing.
    """
    if choose("budget", budget, BUDGETS) == "flops" and dense is None:
        raise ValueError("the budget 'flops' is that of the dense network: pass dense=…")
    seeds = different_seeds(seeds)
    if len(models) != len(seeds):
        raise ValueError(
            f"one seed per model is needed; got {len(models)} models, {len(seeds)} seeds"
        )
    x = data.normalize(data.x_train[:1])
    configs = [config for _ in models]
    if dense is not None:
        configs = [
            scratch_config(config, dense, model, x, budget=budget, longest=longest)
            for model in models
        ]
    for model, seed in zip(models, seeds, strict=True):
        reinitialize(model, seed + OTHER_INITIALIZATION)
    results: dict[int, TrainResult] = {}
    for steps in dict.fromkeys(c.steps for c in configs):  # equal budgets train as one
        chosen = [i for i, c in enumerate(configs) if c.steps == steps]
        trained = train_replicates(
            [models[i] for i in chosen], data, configs[chosen[0]],
            data_seeds=[seeds[i] for i in chosen], on_step=on_step,
            workdir=within(workdir, f"steps_{steps}"),
        )  # fmt: skip
        results |= dict(zip(chosen, trained, strict=True))
    return [results[i] for i in range(len(models))]
