"""Training under a mask: one loop for one network or for many replicates at once.

Three properties matter for lottery tickets, and each is tested. Pruned weights are exactly zero
after *every* step, because the mask is applied after the optimiser (masking gradients is not
enough: momentum and weight decay would revive them). Which batch a step sees depends on
(data_seed, step) alone. And a snapshot is a copy that later training cannot change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from lth_tutorial.data.dataset import DataOrder, Dataset, generator_for
from lth_tutorial.pruning.masks import Mask
from lth_tutorial.runtime import progress_bar, tick
from lth_tutorial.safety.arguments import checked
from lth_tutorial.safety.locks import one_writer
from lth_tutorial.safety.watch import is_time, stop
from lth_tutorial.training.attacks import Adversary
from lth_tutorial.training.branches import Branches, alone
from lth_tutorial.training.checkpoints import Checkpoints
from lth_tutorial.training.checks import check_run
from lth_tutorial.training.config import TrainConfig
from lth_tutorial.training.evaluation import losses
from lth_tutorial.training.failures import explained
from lth_tutorial.training.groups import SingleModel, Stack
from lth_tutorial.training.outcome import SNAPSHOT, TrainResult, divergence_message
from lth_tutorial.training.precision import arithmetic
from lth_tutorial.training.progress import Run, identity
from lth_tutorial.training.steps import Step, apply_masks, make_update, masked_parameters


@checked
def train(
    model: nn.Module,
    data: Dataset,
    config: TrainConfig,
    *,
    mask: Mask | None = None,
    start_step: int = 0,
    stop_step: int | None = None,
    data_seed: int = 0,
    save_at: Iterable[int] = (),
    workdir: str | Path | None = None,
) -> TrainResult:
    """Train the model in place, from step `start_step` to `stop_step`.

    Args:
        model: any module from a batch [batch, …] to logits [batch, classes], on data's device.
        mask: weights to keep; the others are zero before the first step and after each one, or,
            with `config.removal`, drawn to zero by a penalty that grows.
        start_step: where in the schedule and in the data order to begin. The optimiser starts
            with empty momentum.
        stop_step: where to stop; default the end of the budget, `config.steps`.
        data_seed: draws the order of the data, and nothing else.
        save_at: steps at which to take snapshots; step k is the state after k updates.
        workdir: folder to continue from. A run that was killed goes on at its last checkpoint, to
            the same bits on a CPU; one that was finished returns at once.

    Raises:
        ValueError: for arguments that do not fit each other, or a workdir that belongs to another
            configuration, before the first step.
        OSError: if the workdir cannot be written; what it holds stays whole.
        FloatingPointError: if the loss becomes NaN or infinite; names the step.
        RuntimeError: if the GPU fails; says where the run can go on.
        Stopped: if a `Watch` says that it is time; the workdir then holds a checkpoint.
    """
    group = alone(model, config)
    masks = None if mask is None else [mask]
    steps = (config.steps if stop_step is None else stop_step) - start_step
    with progress_bar(max(steps, 0), "training") as bar:
        (result,) = fit(
            group, data, config, masks=masks, start_step=start_step, stop_step=stop_step,
            data_seeds=[data_seed], save_at=save_at, on_step=bar.update, workdir=workdir,
        )  # fmt: skip
    if result.diverged_step is not None:
        raise FloatingPointError(divergence_message(result.diverged_step, data_seed, config))
    return result


@one_writer
def fit(
    group: SingleModel | Stack | Branches,
    data: Dataset,
    config: TrainConfig,
    *,
    masks: Sequence[Mask] | None,
    start_step: int,
    data_seeds: Sequence[int],
    stop_step: int | None = None,
    save_at: Iterable[int] = (),
    on_step: Callable[[], object] = lambda: None,
    workdir: str | Path | None = None,
) -> list[TrainResult]:
    """Train every replicate of a group; the loop behind `train` and `train_replicates`.

    The losses of the replicates are summed, not averaged, so that each takes the step of its own
    run. A replicate whose loss is no longer finite leaves the sum; the others go on.
    """
    save_at, stop_step = set(save_at), config.steps if stop_step is None else stop_step
    check_run(group, data, config, masks, start_step, stop_step, data_seeds, save_at)
    masked = masked_parameters(group, masks)
    if config.removal is None:
        apply_masks(masked)
    run = Run(group, data, config, start_step)
    files = None
    if workdir is not None:
        files = _files(run, masks, start_step, stop_step, save_at, data_seeds, workdir)
        results = files.load_results()
        if results is not None:
            run.set_weights([result.final for result in results])
            tick(on_step, stop_step - start_step)
            return results
        progress = files.load_progress()
        if progress is not None:
            run.resume(*progress)
            tick(on_step, run.step - start_step)
    order = DataOrder(data, config.batch_size, data_seeds, augmented=config.augment)
    diverged = run.diverged
    adversary = None if config.attack is None else Adversary(config.attack, data, data_seeds)
    plain = Step(group, run.optimizer, config, masked, data.device, adversary)
    for i in diverged:
        plain.drop(i)
    update = make_update(plain, order, run.step, stop_step)
    check_every = 1 if data.device.type == "cpu" else 50  # reading a number stalls a GPU
    with (
        explained(workdir),
        arithmetic(config.precision, data.device),
        torch.random.fork_rng(enabled=group.is_random),
    ):
        for step in range(run.step, stop_step + 1):
            stopping = step < stop_step and is_time()
            if files is not None and step > run.step and (files.is_due() or stopping):
                files.save_progress(*run.progress(step))
            if stopping:
                stop()
            at_end = step == stop_step or len(diverged) == len(data_seeds)
            if step in save_at:
                run.keep(f"{SNAPSHOT}{step}")
            if _is_validation_point(step, start_step, config) or (at_end and config.eval_every):
                run.record(step)
            if at_end:
                for i in _diverged(group, *order.batch(step)):
                    diverged.setdefault(i, step)
                break
            if group.is_random:
                torch.manual_seed(generator_for("layers", data_seeds[0], step).initial_seed())
            plain.set_penalty(step)
            loss, logits, y = update(step)
            if step % check_every == 0 and not math.isfinite(loss.item()):
                for i in _not_finite(losses(logits, y)):
                    diverged.setdefault(i, step)
                    plain.drop(i)
            on_step()
    group.restore_modes()
    results = run.results(stop_step)
    if files is not None:
        files.save_results(results)
        results = files.load_results() or results
    group.write_back()  # last: whoever runs out of memory before finds the models as they were
    return results


@one_writer
def keep_results(
    group: SingleModel | Stack | Branches,
    data: Dataset,
    config: TrainConfig,
    results: Sequence[TrainResult],
    *,
    masks: Sequence[Mask],
    start_step: int,
    data_seeds: Sequence[int],
    workdir: str | Path,
) -> list[TrainResult]:
    """Put results into the folder where `fit`, called with these arguments, will find them.

    For a group that was trained as a part of a larger one; it holds the weights that training
    began with. Returns the results, their states to be read from there.
    """
    apply_masks(masked_parameters(group, masks))
    run = Run(group, data, config, start_step)
    files = _files(run, masks, start_step, config.steps, (), data_seeds, workdir)
    files.save_results(results)
    return files.load_results() or list(results)


def _files(run: Run, masks, start_step, stop_step, save_at, data_seeds, workdir) -> Checkpoints:
    """Return the files of a run; raise a ValueError if the folder belongs to another."""
    asked = (start_step, stop_step, sorted(save_at), list(data_seeds))
    return Checkpoints(
        workdir, identity(run, masks, *asked), run.group.size, run.data.device, run.group.state()
    )


def _is_validation_point(step: int, start_step: int, config: TrainConfig) -> bool:
    return bool(config.eval_every) and (step == start_step or step % config.eval_every == 0)


@torch.no_grad()
def _diverged(group, x: Tensor, y: Tensor) -> list[int]:
    """Return the replicates whose last steps went wrong: their loss on a batch is not finite."""
    group.set_training(False)
    return _not_finite(losses(group.logits(x).float(), y))


def _not_finite(values: Tensor) -> list[int]:
    return (~values.isfinite()).nonzero().flatten().tolist()
