"""Start runs with a working directory, kill them (kill -9) at many moments, and start them again.

`python killed_runs.py KIND FOLDER KILLS` kills at random moments; `KIND@disk` before every call in
turn that changes the disk (at most KILLS of them, evenly spread). It prints, as JSON, how many runs
were killed, how many of them after their first checkpoint, and whether every survivor gave what an
undisturbed run gives. The runs are forked from one process, so that PyTorch is imported once.

KIND is one of KINDS below, or "all": every kind, at random moments and at the disk.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

import joblib.externals.loky  # noqa: F401
import pandas  # noqa: F401  imported before the fork, like all that takes long
import safetensors.torch  # noqa: F401
import torch
from torch import nn

import lth_tutorial as lt
from lth_tutorial.training import checkpoints

CHECKPOINT_EVERY_S = 0.01
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


def start(
    kind: str, data: lt.Dataset, workdir: Path | None, out: Path, at: int = 0,
    every: float = CHECKPOINT_EVERY_S,
) -> int:  # fmt: skip
    """Fork a run that writes its digest to `out`; return the process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        checkpoints.SAVE_EVERY_S = every
        os.environ["UNDISTURBED"] = str(out.with_name("undisturbed"))
        if at:
            die_at_disk_call(at)
        found = KINDS[kind](data, workdir)
        out.write_text(found)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def finish(child: int, seconds: float | None = None) -> bool:
    """Wait for a run, or kill it after some seconds; return whether it ended by itself."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            assert code in (0, -signal.SIGKILL), "a run failed"
            return code == 0
        if deadline is not None and time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            return os.waitstatus_to_exitcode(status) == 0  # it may have ended meanwhile
        time.sleep(0.001)


def at_random(kind: str, data: lt.Dataset, folder: Path, kills: int, expected: str, duration):
    """Yield, for every kill, whether it came after a checkpoint; then True or False at the end."""
    out, workdir, draw = folder / "out", folder / "work", random.Random(0)
    killed, survived = 0, False
    while killed < kills or not survived:
        child = start(kind, data, workdir, out)
        resumed = any(workdir.rglob("*.safetensors"))
        # Beyond the last kill a run may take its time.
        seconds = draw.uniform(0, duration) if killed < kills else None
        survived = finish(child, seconds)
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
        finished = finish(start(kind, data, workdir, out, at=calls + step, every=0))
        shutil.rmtree(workdir, ignore_errors=True)
        growing = growing and not finished
        calls = calls if finished else calls + step
        step = 2 * step if growing else step // 2
    for at in sorted({1 + round(i * (calls - 1) / max(kills - 1, 1)) for i in range(kills)}):
        if not finish(start(kind, data, workdir, out, at=at, every=0)):
            yield "killed", any(workdir.rglob("*.safetensors"))
            finish(start(kind, data, workdir, out))
        yield "survivor", out.read_text() == expected
        shutil.rmtree(workdir)


def main(kind: str, folder: Path, kills: int) -> dict:
    kind, _, disk = kind.partition("@")
    folder.mkdir(parents=True, exist_ok=True)
    data, out = lt.load_dataset("digits"), folder / "out"
    began = time.monotonic()
    finish(start(kind, data, None, out))
    duration, expected = time.monotonic() - began, out.read_text()
    if disk:
        found = list(at_the_disk(kind, data, folder, kills, expected))
    else:
        found = list(at_random(kind, data, folder, kills, expected, duration))
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
