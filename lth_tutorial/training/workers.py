"""Seeds in processes: what a CPU with several cores does with networks that cannot be stacked."""

from __future__ import annotations

import functools
import math
import os
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from pathlib import Path

import torch

from lth_tutorial.safety.files import write_atomically
from lth_tutorial.safety.warn import warn
from lth_tutorial.safety.watch import Stopped, Watch, current, is_time, stop, until, watching

_STOP = "stop"
"""Name of the file that tells the workers to stop."""


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
            warn(warning)
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
