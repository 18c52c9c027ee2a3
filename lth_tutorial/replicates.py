"""Many replicates at once.

Every measured statement of the book has several seeds behind it. Small networks are limited by
the overhead of each operation, not by arithmetic, so R of them are trained as one: their weights
are stacked into tensors [R, outputs, inputs] and each step is one batched product. Networks that
cannot be stacked, or are large enough to keep a core busy, run in processes. The functions here
choose; the numbers are those of the plain loop, to floating-point tolerance.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

from lth_tutorial.config import TrainConfig
from lth_tutorial.data import Dataset
from lth_tutorial.groups import SingleModel, Stack, can_stack
from lth_tutorial.masks import Mask
from lth_tutorial.training import (
    DivergenceWarning,
    TrainResult,
    divergence_message,
    fit,
)


def train_replicates(
    models: Sequence[nn.Module],
    data: Dataset,
    config: TrainConfig,
    *,
    data_seeds: Sequence[int],
    masks: Sequence[Mask] | None = None,
    start_step: int = 0,
    stop_step: int | None = None,
    save_at: Iterable[int] = (),
    on_step: Callable[[], object] = lambda: None,
) -> list[TrainResult]:
    """Train one model per data seed in place, as `train` would each, and return their results.

    Args:
        models: networks of the same shape, each with its own initial weights.
        data_seeds: one per model.
        masks: one per model, or None.
        on_step: called once for every step of every model.

    Warns:
        DivergenceWarning: naming step and data seed of each replicate whose loss became NaN or
            infinite. Its result has a `diverged_step`; the others go on.

    Raises:
        ValueError: as `train`, and if the numbers of models, masks and seeds differ.
    """
    models, data_seeds = list(models), list(data_seeds)
    if not models or len(models) != len(data_seeds) or len(masks or models) != len(models):
        raise ValueError(
            f"one data seed and one mask per model are needed; got {len(models)} models, "
            f"{len(data_seeds)} data seeds and {'no' if masks is None else len(masks)} masks"
        )
    if len(models) > 1 and can_stack(models):
        groups = [(Stack(models), masks, data_seeds, lambda: [on_step() for _ in models])]
    else:
        each_mask = [None] * len(models) if masks is None else [[mask] for mask in masks]
        triples = zip(models, each_mask, data_seeds, strict=True)
        groups = [(SingleModel(model), mask, [seed], on_step) for model, mask, seed in triples]
    results = []
    for group, group_masks, seeds, tick in groups:
        results += fit(
            group, data, config, masks=group_masks, start_step=start_step, stop_step=stop_step,
            data_seeds=seeds, save_at=save_at, on_step=tick,
        )  # fmt: skip
    for result, seed in zip(results, data_seeds, strict=True):
        if result.diverged_step is not None:
            message = divergence_message(result.diverged_step, seed, config)
            warnings.warn(message, DivergenceWarning, stacklevel=2)
    return results


def map_seeds(function: Callable[[int], object], seeds: Sequence[int], *, workers: int) -> list:
    """Return `[function(seed) for seed in seeds]`, computed in `workers` processes.

    Functions and models defined in a notebook travel to the workers too. Each worker uses one
    thread: two one-thread processes do twice the work of one, two threads do not.
    """
    if workers <= 1 or len(seeds) <= 1:
        return [function(seed) for seed in seeds]
    from joblib import Parallel, delayed

    returned = Parallel(n_jobs=min(workers, len(seeds)), backend="loky")(
        delayed(_one_thread)(function, seed) for seed in seeds
    )
    for _, caught in returned:
        for warning in caught:
            warnings.warn(warning, stacklevel=2)
    return [value for value, _ in returned]


def available_workers() -> int:
    """Return the number of processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _one_thread(function: Callable[[int], object], seed: int) -> tuple[object, list[Warning]]:
    """Return the function's value, and its warnings for the parent process to show."""
    torch.set_num_threads(1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        value = function(seed)
    return value, [warning.message for warning in caught]
