"""Start runs with a working directory, kill them (kill -9) at many moments, and start them again.

`python killed_runs.py KIND FOLDER KILLS` kills at random moments; `KIND@disk` before every call in
turn that changes the disk (at most KILLS of them, evenly spread). It prints, as JSON, how many runs
were killed, how many of them after their first checkpoint, and whether every survivor gave what an
undisturbed run gives. The runs are forked from one process, so that PyTorch is imported once.

No moment is taken from the clock, which on a busy machine says nothing of how far a run is: a
random moment is a step, and a number of calls and returns of functions, in Python or C, after it;
that of a run with workers is the n-th change in its folder, and some milliseconds more. Checkpoints
are due after a number of steps.

KIND is one of KINDS below, or "all": every kind, at random moments and at the disk.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import joblib.externals.loky  # noqa: F401
import pandas  # noqa: F401  imported before the fork, like all that takes long
import safetensors.torch  # noqa: F401
import torch
from torch import nn

import lth_tutorial as lt
from lth_tutorial.training import checkpoints

CHECKPOINT_EVERY = 10
"""Looks of a run at its clock, one a step."""
DISK = ("replace", "unlink", "rmdir", "mkdir", "fsync", "chmod")


def digest(states: list[lt.State]) -> str:
    return "\n".join(map(lt.state_hash, states))


def dropout_network(data: lt.Dataset, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 40), nn.BatchNorm1d(40), nn.Dropout(0.2), nn.ReLU(),
        nn.Linear(40, data.num_classes),
    )  # fmt: skip


def sgd(data: lt.Dataset, workdir: Path | None) -> str:
    model = dropout_network(data)
    config = lt.TrainConfig(steps=400, batch_size=30, lr=0.05, weight_decay=1e-3, eval_every=20)
    result = lt.train(model, data, config, save_at={50, 300}, workdir=workdir)
    states = [result.start, result.final, result.early_stop, *result.snapshots.values()]
    return digest([*states, lt.snapshot(model)]) + json.dumps(result.history)


def adam_pruning(data: lt.Dataset, workdir: Path | None) -> str:
    model = dropout_network(data)
    config = lt.TrainConfig(steps=100, batch_size=30, optimizer="adam", lr=5e-3, eval_every=20)
    imp = lt.IMPConfig(rounds=3, rewind_step=20)
    rounds = lt.iterative_magnitude_pruning(model, data, config, imp, workdir=workdir)
    return digest([r.state for r in rounds]) + str([r.accuracy for r in rounds])


def experiment(data: lt.Dataset, workdir: Path | None, *, model="mlp_20", **options) -> str:
    config = lt.TrainConfig(steps=60, batch_size=30, optimizer="adam", lr=5e-3, eval_every=20)
    imp = lt.IMPConfig(rounds=2, rewind_step=10)
    rows = lt.lottery_experiment(model, data, config, imp, seeds=[0, 1], workdir=workdir, **options)
    return rows.to_csv()


def workers(data: lt.Dataset, workdir: Path | None) -> str:
    """Two seeds in two processes, which die with their parent."""
    return experiment(data, workdir, model=lambda seed: dropout_network(data, seed), workers=2)


def signs(data: lt.Dataset, workdir: Path | None) -> str:
    config = lt.TrainConfig(steps=30, batch_size=30, lr=0.05)
    imp = lt.IMPConfig(rounds=2)
    return lt.signs_experiment("mlp_16", data, config, imp, seeds=[0], workdir=workdir).to_csv()


def supermask(data: lt.Dataset, workdir: Path | None) -> str:
    model = lt.build_model("mlp_20", seed=0, data=data)
    found = lt.biprop(model, data, 0.5, lt.TrainConfig(steps=80, batch_size=30), workdir=workdir)
    return digest([found.mask, found.scores]) + str(found.accuracy)


def record(data: lt.Dataset, workdir: Path | None) -> str:
    """A record is replaced by one with more rows, and read after that."""
    rows = lt.load_rows("digits-wide-multi-prize")
    root = workdir or Path(os.environ["UNDISTURBED"])
    about = rows.attrs["provenance"]
    if lt.recorded(root=root):
        lt.load_rows("r", root=root)  # after whatever kill there was
    for seeds in range(3, 1 + int(rows["seed"].max())):
        lt.save_rows(rows[rows["seed"] <= seeds], "r", about, root=root)
        lt.load_rows("r", root=root)
    return lt.load_rows("r", root=root).to_csv()


KINDS = {
    "sgd": sgd, "adam": adam_pruning, "experiment": experiment, "workers": workers,
    "signs": signs, "supermask": supermask, "record": record,
}  # fmt: skip


def die_at_disk_call(n: int) -> None:
    """Kill this process before its n-th call that changes the disk."""
    count = itertools.count(1)

    def counting(function):
        def call(*arguments, **options):
            if next(count) == n:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    for name in DISK:
        setattr(os, name, counting(getattr(os, name)))


class Clock:
    """Tells how often it was looked at, and kills this process at a moment.

    The moment comes after so many looks and then so many calls and returns of functions; after 0
    of these it never comes.
    """

    def __init__(self, look: int = 0, events: float = 0) -> None:
        self.moment = look, events
        self.looks = self.events = 0
        self._count_from_here()

    def _count_from_here(self) -> None:
        if self.looks == self.moment[0] and self.moment[1]:
            sys.setprofile(self._count)

    def _count(self, *_) -> None:
        self.events += 1
        if self.events == self.moment[1]:
            os.kill(os.getpid(), signal.SIGKILL)

    def monotonic(self) -> int:
        self.looks += 1
        self._count_from_here()
        return self.looks


def start(
    kind: str, data: lt.Dataset, workdir: Path | None, out: Path, *, disk_call: int = 0,
    moment: tuple[int, float] = (0, 0), every: int = CHECKPOINT_EVERY,
) -> int:  # fmt: skip
    """Fork a run that writes its digest to `out`; return the process id.

    Args:
        disk_call: die before this call that changes the disk, from 1; 0: never.
        moment: when to die by the `Clock`. A run that gets to its end leaves the looks and the
            events that it counted in the file "moments" beside `out`.
        every: looks at the clock between two checkpoints; 0 saves at every step.
    """
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        checkpoints.SAVE_EVERY_S = every
        checkpoints.time = clock = Clock(*moment)
        os.environ["UNDISTURBED"] = str(out.with_name("undisturbed"))
        if disk_call:
            die_at_disk_call(disk_call)
        found = KINDS[kind](data, workdir)
        sys.setprofile(None)
        out.with_name("moments").write_text(f"{clock.looks} {clock.events}")
        out.write_text(found)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def finish(child: int, is_time: Callable[[], bool] = lambda: False) -> bool:
    """Wait for a run, or kill it when it is time; return whether it ended by itself."""
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            assert code in (0, -signal.SIGKILL), "a run failed"
            return code == 0
        if is_time():
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            return os.waitstatus_to_exitcode(status) == 0  # it may have ended meanwhile
        time.sleep(0.001)


class Changes:
    """Counts the files that appear or change in a folder; true from the n-th on."""

    def __init__(self, folder: Path, n: float, pause_s: float = 0.0) -> None:
        self.folder, self.n, self.pause_s = folder, n, pause_s
        self.seen = self._now()
        self.count = 0

    def _now(self) -> set:
        found = set()
        for place, folders, files in os.walk(self.folder):  # passes over what vanishes meanwhile
            found |= {(place, name, 0) for name in folders}
            for name in files:
                with contextlib.suppress(FileNotFoundError):
                    found.add((place, name, os.stat(os.path.join(place, name)).st_mtime_ns))
        return found

    def __call__(self) -> bool:
        now = self._now()
        self.count, self.seen = self.count + len(now - self.seen), self.seen | now
        if self.count < self.n:
            return False
        time.sleep(self.pause_s)
        return True


def at_random(kind: str, data: lt.Dataset, folder: Path, kills: int, expected: str):
    """Yield, for every kill, whether it came after a checkpoint; then True or False at the end."""
    out, workdir, draw = folder / "out", folder / "work", random.Random(0)
    killed, survived = 0, False
    all_changes = Changes(workdir, math.inf)
    assert finish(start(kind, data, workdir, out, moment=(0, math.inf)), all_changes)
    looks, events = map(int, out.with_name("moments").read_text().split())
    yield "survivor", out.read_text() == expected
    shutil.rmtree(workdir)
    while killed < kills or not survived:
        resumed = any(workdir.rglob("*.safetensors"))
        if killed >= kills:  # beyond the last kill a run may take its time
            survived = finish(start(kind, data, workdir, out))
        elif kind == "workers":
            n = draw.randint(0, all_changes.count)
            when = Changes(workdir, n, draw.uniform(0, 0.05))
            survived = finish(start(kind, data, workdir, out), when)
        else:
            moment = draw.randint(0, looks), draw.randint(1, 1 + events // (1 + looks))
            survived = finish(start(kind, data, workdir, out, moment=moment))
        if survived:
            yield "survivor", out.read_text() == expected
            shutil.rmtree(workdir)
        else:
            killed += 1
            yield "killed", resumed


def at_the_disk(kind: str, data: lt.Dataset, folder: Path, kills: int, expected: str):
    """Yield the same for kills at the calls that change the disk, each followed by a new start.

    These runs save at every step: by the clock, how many calls there are would differ from one run
    to the next, and the last kills would fall behind the end.
    """
    out, workdir = folder / "out", folder / "work"
    calls, step, growing = 1, 64, True
    while step:  # how many calls there are: in steps twice as long each, then half as long
        finished = finish(start(kind, data, workdir, out, disk_call=calls + step, every=0))
        shutil.rmtree(workdir, ignore_errors=True)
        growing = growing and not finished
        calls = calls if finished else calls + step
        step = 2 * step if growing else step // 2
    for at in sorted({1 + round(i * (calls - 1) / max(kills - 1, 1)) for i in range(kills)}):
        if not finish(start(kind, data, workdir, out, disk_call=at, every=0)):
            yield "killed", any(workdir.rglob("*.safetensors"))
            finish(start(kind, data, workdir, out))
        yield "survivor", out.read_text() == expected
        shutil.rmtree(workdir)


def main(kind: str, folder: Path, kills: int) -> dict:
    kind, _, disk = kind.partition("@")
    folder.mkdir(parents=True, exist_ok=True)
    data, out = lt.load_dataset("digits"), folder / "out"
    finish(start(kind, data, None, out))
    expected = out.read_text()
    if disk:
        found = list(at_the_disk(kind, data, folder, kills, expected))
    else:
        found = list(at_random(kind, data, folder, kills, expected))
    killed = [value for what, value in found if what == "killed"]
    survivors = [value for what, value in found if what == "survivor"]
    return {"killed": len(killed), "resumed": sum(killed), "survivors": survivors}


if __name__ == "__main__":
    lt.limit_threads()
    torch.optim.Adam([torch.zeros(1)]).step()  # imports the compiler
    kind, place, number = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    kinds = [f"{k}{at}" for k in KINDS for at in ("", "@disk")] if kind == "all" else [kind]
    for each in kinds:
        found = main(each, place / each, number)
        print(json.dumps({"kind": each} | found if kind == "all" else found), flush=True)
