"""Jobs on a Ray cluster: each writes its tasks' files into one folder or bucket, without locks.

Ray sends the work to whatever nodes there are, and starts a job whose node dies on another one.
The driver only waits and merges: when it is stopped, what was merged stays, and a new one takes in
what was finished meanwhile.
"""

from __future__ import annotations

import contextlib
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.experiments.running import Budget, Job, Place, keep_tasks, run_job
from lth_tutorial.results.objects import is_remote, read_object
from lth_tutorial.results.tasks import from_bytes
from lth_tutorial.runtime import limit_threads
from lth_tutorial.safety.watch import Stopped, Watch, watching

ATTEMPTS = 3
"""How often a job whose node died is started again."""
_GRACE_S = 60.0


@contextlib.contextmanager
def cluster(address: str) -> Iterator:
    """Connect to a cluster, or start one on this machine; the module `ray` inside the context.

    Args:
        address: host:port of a head node, "auto" for the one that runs here, "" to start one.

    Raises:
        ValueError: if Ray is not installed, or nothing answers at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError(
            "Ray is not installed; it comes with pip install 'lth-tutorial[cluster]', and without "
            "--ray everything runs on this machine"
        ) from error
    ours = not ray.is_initialized()
    if ours:
        _check_answers(address)
        options = {"log_to_driver": False, "logging_level": "error"}
        if not address:
            options |= {"include_dashboard": False}
        try:
            ray.init(address=address or "local", **options)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            raise ValueError(f"no Ray cluster answers at {address or 'this machine'!r}: {error}"
                             ) from error  # fmt: skip
    try:
        yield ray
    finally:
        if ours:
            ray.shutdown()


def _check_answers(address: str) -> None:
    """Raise a ValueError at once where Ray itself would wait for a minute."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError) as error:
        raise ValueError(
            f"no Ray cluster answers at {address!r} ({error}); start one there with "
            f"ray start --head, or leave the address out to use this machine"
        ) from error


def run_on_cluster(
    jobs: Sequence[Job],
    places: Mapping[str, Place],
    ray,
    *,
    device: str,
    share: float,
    budget: Budget,
    watch: Watch,
) -> list[Job]:
    """Run jobs on a cluster while there is time; return those that are left.

    Args:
        places: by name of the experiment; all nodes must reach their stores.
        device: "cpu" or "cuda", of every job.
        share: of a GPU (or of the cores of a CPU, 1 for one) that a job takes.

    Raises:
        RuntimeError: naming the jobs that failed, after all others are done.
    """
    resources = {"num_gpus": share, "num_cpus": 1} if device != "cpu" else {"num_cpus": share}
    work = ray.remote(max_retries=ATTEMPTS, **resources)(_work)
    data = {name: ray.put(place.data.to("cpu")) for name, place in places.items()}
    end = None if budget.seconds is None else time.time() + budget.left
    running = {}
    for job in jobs:
        place = places[job.design.name]
        running[
            work.remote(job, data[job.design.name], device, str(place.store), _folder(place), end)
        ] = job
    failed: dict[Job, BaseException] = {}
    left, in_time = list(jobs), True
    try:
        # Jobs stop by themselves when time is up; only one that hangs is cut off.
        while running and not watch.look() and budget.left > -_GRACE_S:
            ready, _ = ray.wait(list(running), timeout=0.5)
            for reference in ready:
                job = running.pop(reference)
                place = places[job.design.name]
                try:
                    names = ray.get(reference)
                except ray.exceptions.RayError as error:
                    failed[job] = error
                    print(f"{job.describe()}: failed ({_first_line(error)})")
                    continue
                if names is None:
                    in_time = False
                    continue
                tasks = [
                    from_bytes(read_object(place.store, n), f"{place.store}/{n}") for n in names
                ]
                left.remove(job)
                place.finish(job, tasks)
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
    if running or not in_time:
        watch.reason = watch.reason or "the time is up"
    if failed:
        lines = "; ".join(f"{job.describe()}: {_first_line(e)}" for job, e in failed.items())
        raise RuntimeError(
            f"{len(failed)} of {len(jobs)} jobs failed, the others are kept: {lines}"
        )
    return left


def _folder(place: Place) -> str | None:
    """Return where checkpoints go: beside a store that is a folder; a bucket keeps none."""
    return None if is_remote(place.store) else str(place.workdir)


def _work(
    job: Job, data: Dataset, device: str, store: str, folder: str | None, end: float | None
) -> list[str] | None:
    """Run a job on a node and write its tasks; return their names, or None if time was up."""
    limit_threads()
    deadline = float("inf") if end is None else time.monotonic() + (end - time.time())
    with contextlib.ExitStack() as stack:
        workdir = folder or stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(watching(Watch(deadline)))
        try:
            tasks = run_job(job, data.to(device), Path(workdir))
        except Stopped:
            return None
        keep_tasks(store, tasks)
    return [task.name for task in tasks]


def _first_line(error: BaseException) -> str:
    cause = getattr(error, "cause", None) or error
    lines = [line for line in str(cause).splitlines() if line.strip()] or [type(cause).__name__]
    return lines[0]
