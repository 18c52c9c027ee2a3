"""Many replicates at once.

Every measured statement of the book has several seeds behind it. Small networks are limited by
the overhead of each operation, not by arithmetic, so R of them are trained as one: their weights
are stacked into tensors [R, outputs, inputs] and each step is one batched product. Networks that
cannot be stacked run side by side on a GPU, as branches of one recording; on a CPU one after the
other, or in processes (`workers`). The functions here choose; the numbers are those of the plain
loop, to floating-point tolerance.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from torch import nn

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.pruning.masks import Mask, weights_under
from lth_tutorial.runtime import tick
from lth_tutorial.safety.arguments import checked
from lth_tutorial.safety.locks import only_worker
from lth_tutorial.safety.warn import warn
from lth_tutorial.states import State, load_state_, snapshot
from lth_tutorial.training.branches import alone, can_branch, side_by_side, structure
from lth_tutorial.training.checks import check_model
from lth_tutorial.training.config import TrainConfig
from lth_tutorial.training.failures import Tick, in_parts
from lth_tutorial.training.groups import SingleModel, Stack, can_stack
from lth_tutorial.training.identity import within
from lth_tutorial.training.loop import fit, keep_results
from lth_tutorial.training.outcome import DivergenceWarning, TrainResult, divergence_message


@checked
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
    workdir: str | Path | None = None,
) -> list[TrainResult]:
    """Train one model per data seed in place, as `train` would each, and return their results.

    Args:
        models: networks of the same shape, each with its own initial weights.
        data_seeds: one per model.
        masks: one per model, or None.
        on_step: called once for every step of every model.
        workdir: folder to continue from, as for `train`.

    Warns:
        DivergenceWarning: naming step and data seed of each replicate whose loss became NaN or
            infinite. Its result has a `diverged_step`; the others go on.
        MemoryWarning: if the memory of a GPU holds only some of them at once. They are trained in
            parts then.

    Raises:
        ValueError: as `train`, and if the numbers of models, masks and seeds differ.
        RuntimeError: if a GPU has too little memory for one model, or fails.

    A model that is given twice begins twice with the weights with which it arrived.
    """
    models, data_seeds = list(models), list(data_seeds)
    own_masks = models if masks is None else masks
    if not models or len(models) != len(data_seeds) or len(own_masks) != len(models):
        raise ValueError(
            f"one data seed and one mask per model are needed; got {len(models)} models, "
            f"{len(data_seeds)} data seeds and {'no' if masks is None else len(masks)} masks"
        )

    trained_as_one = _trained_as_one(models, workdir)
    again = _check_models(models, masks, data, config) if len(trained_as_one) > 1 else {}

    def fit_members(kind: str, members: Sequence[int], on_step: Tick) -> list[TrainResult]:
        for i in again.keys() & set(members):
            load_state_(models[i], again[i])
        group, group_masks, seeds, folder = _group(
            models, masks, data_seeds, kind, members, config, workdir
        )
        return fit(
            group, data, config, masks=group_masks, start_step=start_step, stop_step=stop_step,
            data_seeds=seeds, save_at=save_at, on_step=lambda: tick(on_step, group.size),
            workdir=folder,
        )  # fmt: skip

    found: dict[int, TrainResult] = {}
    with only_worker(workdir):
        for kind, members in trained_as_one:
            parts = in_parts(partial(fit_members, kind), members, on_step)
            found |= zip(members, parts, strict=True)
    results = [found[i] for i in range(len(models))]
    for result, seed in zip(results, data_seeds, strict=True):
        if result.diverged_step is not None:
            message = divergence_message(result.diverged_step, seed, config)
            warn(message, DivergenceWarning)
    return results


def _check_models(models, masks, data: Dataset, config: TrainConfig) -> dict[int, State]:
    """Check all models before the first is trained; return the starts of those given again.

    Raises:
        ValueError: if one does not fit the data or its mask, or shares weights with another.
    """
    again: dict[int, State] = {}
    owners: dict[int, int] = {}
    for i, model in enumerate(models):
        if model in models[:i]:
            again[i] = snapshot(model)
            continue
        for name, parameter in model.named_parameters():
            if owners.setdefault(id(parameter), i) != i:
                raise ValueError(
                    f"models {owners[id(parameter)]} and {i} share {name}: the training of one "
                    f"would change the other; give each its own weights (copy.deepcopy)"
                )
        check_model(SingleModel(model), data, config.batch_size)
        if masks is not None:
            weights_under(model, masks[i])
    return again


def keep_replicates(
    models: Sequence[nn.Module],
    data: Dataset,
    config: TrainConfig,
    results: Sequence[TrainResult],
    *,
    data_seeds: Sequence[int],
    masks: Sequence[Mask],
    start_step: int,
    workdir: str | Path,
) -> list[TrainResult]:
    """Put results where `train_replicates`, called with these arguments, will find them.

    For models that were trained as a part of a larger stack; they hold their starts. Returns the
    results, their states to be read from there.
    """
    kept: dict[int, TrainResult] = {}
    for kind, members in _trained_as_one(models, workdir):
        group, group_masks, seeds, folder = _group(
            models, masks, data_seeds, kind, members, config, workdir
        )
        own = keep_results(
            group, data, config, [results[i] for i in members], masks=group_masks,
            start_step=start_step, data_seeds=seeds, workdir=folder,
        )  # fmt: skip
        kept |= zip(members, own, strict=True)
    return [kept[i] for i in range(len(models))]


def is_replicates_folder(folder: Path) -> bool:
    """Return whether a folder has the name of one that `train_replicates` makes."""
    return folder.is_dir() and bool(
        re.fullmatch(r"(stack|branches)(_\d+_\d+)?|model_\d+", folder.name)
    )


def has_replicates(workdir: Path | None, n: int) -> bool:
    """Return whether the folder has, whole or damaged, the results of `n` models."""
    return workdir is not None and len(list(workdir.glob("*/result-*.safetensors"))) >= n


def _trained_as_one(models, workdir) -> list[tuple[str, list[int]]]:
    """Return which models train as one, and as what: "stack", "branches" or, alone, "model".

    What a folder holds is continued as it was begun, on whatever machine.
    """
    everyone, begun = list(range(len(models))), _begun(workdir)
    alone = [("model", [i]) for i in everyone]
    if len(models) == 1 or begun == "model":
        return alone
    if begun in ("stack", None) and can_stack(models, at_any_size=begun is not None):
        return [("stack", everyone)]
    if begun != "branches" and not can_branch(models[:1]):
        return alone
    sets: dict[object, list[int]] = {}
    for i, model in enumerate(models):
        sets.setdefault(structure(model), []).append(i)
    return [("branches" if len(members) > 1 else "model", members) for members in sets.values()]


def _begun(workdir: str | Path | None) -> str | None:
    """Return as what the models of a folder were trained so far, or None for a new one."""
    found = [] if workdir is None else Path(workdir).glob("*")
    names = [each.name for each in found if is_replicates_folder(each)]
    kinds = ("stack", "branches", "model")
    return next((kind for kind in kinds if any(n.startswith(kind) for n in names)), None)


def _group(models, masks, data_seeds, kind: str, members: Sequence[int], config, workdir) -> tuple:
    """Return what some models are trained as, with their masks, data seeds and folder."""
    own_models, seeds = [models[i] for i in members], [data_seeds[i] for i in members]
    own_masks = None if masks is None else [masks[i] for i in members]
    first, last = members[0], members[-1]
    if len(members) == 1:
        return alone(own_models[0], config), own_masks, seeds, within(workdir, f"model_{first}")
    group = Stack(own_models) if kind == "stack" else side_by_side(own_models, config)
    folder = kind if len(members) == len(models) else f"{kind}_{first}_{last}"
    return group, own_masks, seeds, within(workdir, folder)
