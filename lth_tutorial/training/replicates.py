"""Many replicates at once.

Every measured statement of the book has several seeds behind it. Small networks are limited by
the overhead of each operation, not by arithmetic, so R of them are trained as one: their weights
are stacked into tensors [R, outputs, inputs] and each step is one batched product. Networks that
cannot be stacked run side by side on a GPU, as branches of one recording; on a CPU one after the
other, or in processes. The functions here choose; the numbers are those of the plain loop, to
floating-point tolerance.
"""

from __future__ import annotations

import functools
import math
import os
import re
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from functools import partial
from pathlib import Path

import torch
from torch import nn

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.pruning.masks import Mask, weights_under
from lth_tutorial.runtime import tick
from lth_tutorial.safety.arguments import checked
from lth_tutorial.safety.files import write_atomically
from lth_tutorial.safety.locks import only_worker
from lth_tutorial.safety.watch import Stopped, Watch, current, is_time, stop, until, watching
from lth_tutorial.states import State, load_state_, snapshot
from lth_tutorial.training.branches import alone, can_branch, side_by_side, structure
from lth_tutorial.training.checks import check_model
from lth_tutorial.training.config import TrainConfig
from lth_tutorial.training.failures import Tick, in_parts
from lth_tutorial.training.groups import SingleModel, Stack, can_stack
from lth_tutorial.training.identity import within
from lth_tutorial.training.loop import fit, keep_results
from lth_tutorial.training.outcome import DivergenceWarning, TrainResult, divergence_message

_STOP = "stop"
"""Name of the file that tells the workers to stop."""


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
            warnings.warn(message, DivergenceWarning, stacklevel=3)
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


def map_seeds(
    function: Callable[[int, Callable[[], object]], object],
    seeds: Sequence[int],
    *,
    workers: int,
    bar=None,
) -> list:
    """Return `[function(seed, on_step) for seed in seeds]`, computed in `workers` processes.

    Functions and models defined in a notebook travel to the workers too. Each worker uses one
    thread: two one-thread processes do twice the work of one, two threads do not. What a worker
    reports by `on_step` moves the progress bar here. The seeds of a worker that dies (killed, or
    out of memory) are computed once more.

    Raises:
        RuntimeError: if the worker of a seed dies again; names the seed.
        Stopped: if a `Watch` says that it is time.
    """
    if is_time():
        stop()
    if workers <= 1 or len(seeds) <= 1:
        return [function(seed, bar.update if bar else lambda: None) for seed in seeds]
    done: dict[int, tuple[object, list[Warning]]] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        watch = current()
        end = (watch.deadline if watch else math.inf, str(Path(folder, _STOP)), os.getpid())
        jobs = {
            seed: (_in_worker, function, seed, end, str(Path(folder, str(seed)))) for seed in seeds
        }
        _run_jobs(jobs, min(workers, len(seeds)), done, bar)
        # One process each: a process that dies takes those beside it in the pool along.
        for seed in [seed for seed in seeds if seed not in done]:
            _run_jobs({seed: jobs[seed]}, 1, done, bar)
            if seed not in done:
                raise RuntimeError(
                    f"the worker process of seed {seed} died twice; it may need more memory than "
                    f"there is: ask for fewer workers (now {workers}), or workers=1 to see why"
                )
    for seed in seeds:
        for warning in done[seed][1]:
            warnings.warn(warning, stacklevel=2)
    return [done[seed][0] for seed in seeds]


def _run_jobs(jobs: dict[int, tuple], workers: int, done: dict, bar) -> None:
    """Run jobs in a pool and put what comes back into `done`; those that died are not in it."""
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import BrokenProcessPool

    pool = get_reusable_executor(workers)
    stopped = None
    try:
        futures = {pool.submit(*job): seed for seed, job in jobs.items()}
        waiting, seen = set(futures), 0
        while waiting:
            finished, waiting = wait(waiting, timeout=1, return_when=FIRST_EXCEPTION)
            for future in finished:
                try:
                    done[futures[future]] = future.result()
                except BrokenProcessPool:
                    continue
                except Stopped as error:  # the others stop too, each after its checkpoint
                    stopped = error
            if bar is not None:
                before, seen = seen, sum(_steps_reported(job[-1]) for job in jobs.values())
                bar.update(seen - before)
            if is_time():
                write_atomically(Path(next(iter(jobs.values()))[-1]).with_name(_STOP), b"stopped")
    except BaseException:  # an error of one seed, or Ctrl-C: nobody waits for the others
        pool.shutdown(wait=False, kill_workers=True)
        raise
    if stopped is not None:
        raise stopped


class _Reporter:
    """Counts steps, and writes the number to a file once a second."""

    def __init__(self, path: str) -> None:
        self.path, self.steps, self.at = path, 0, 0.0

    def __call__(self) -> None:
        self.steps += 1
        if time.monotonic() - self.at > 1:
            self.write()

    def write(self) -> None:
        self.at = time.monotonic()
        write_atomically(self.path, str(self.steps).encode())


def _steps_reported(path: str) -> int:
    return int(Path(path).read_text()) if Path(path).exists() else 0


@functools.cache
def _end_with(parent: int) -> None:
    """Let this process end soon after its parent: nobody else would take its results.

    A parent that is killed cannot end its workers itself; they would go on, and write into a
    folder that the next run takes for its own.
    """
    if os.name != "posix":
        return
    if os.getppid() != parent:  # it died while this worker was still importing
        os._exit(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def available_workers() -> int:
    """Return the number of processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _in_worker(function, seed: int, end, report_to: str) -> tuple[object, list[Warning]]:
    """Return the function's value, and its warnings for the parent process to show.

    Args:
        end: when to stop by the clock, the file that says to stop before, and the process without
            which to stop at once.
    """
    torch.set_num_threads(1)
    reporter, (deadline, stop_file, parent) = _Reporter(report_to), end
    _end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    watch = Watch(deadline, judge=until(Path(stop_file)))
    with watching(watch), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        value = function(seed, reporter)
    reporter.write()
    return value, [warning.message for warning in caught]
