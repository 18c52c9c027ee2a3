"""Start runs with a working directory, kill them (kill -9) at random moments, and start them again.

`python killed_runs.py KIND FOLDER KILLS` prints, as JSON, how many runs were killed, how many of
them after their first checkpoint, and the digests of an undisturbed run and of every survivor. The
runs are forked from one process, so that PyTorch is imported once.
"""

from __future__ import annotations

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


def digest(states: list[lt.State]) -> str:
    return "\n".join(map(lt.state_hash, states))


def dropout_network(data: lt.Dataset) -> nn.Module:
    torch.manual_seed(0)
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


def experiment(data: lt.Dataset, workdir: Path | None) -> str:
    config = lt.TrainConfig(steps=60, batch_size=30, optimizer="adam", lr=5e-3, eval_every=20)
    imp = lt.IMPConfig(rounds=2, rewind_step=10)
    rows = lt.lottery_experiment("mlp_20", data, config, imp, seeds=[0, 1], workdir=workdir)
    return rows.to_csv()


def start(kind: str, data: lt.Dataset, workdir: Path | None, out: Path) -> int:
    """Fork a run that writes its digest to `out`; return the process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        checkpoints.SAVE_EVERY_S = CHECKPOINT_EVERY_S
        out.write_text(
            {"sgd": sgd, "adam": adam_pruning, "experiment": experiment}[kind](data, workdir)
        )
        status = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(status)


def finish(child: int, seconds: float | None = None) -> bool:
    """Wait for a run, or kill it after some seconds; return whether it ended by itself."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0, "a run failed"
            return True
        if deadline is not None and time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            return os.waitstatus_to_exitcode(status) == 0  # it may have ended meanwhile
        time.sleep(0.001)


def main(kind: str, folder: Path, kills: int) -> None:
    lt.limit_threads()
    torch.optim.Adam([torch.zeros(1)]).step()  # imports the compiler
    data, out, workdir = lt.load_dataset("digits"), folder / "out", folder / "work"
    began = time.monotonic()
    finish(start(kind, data, None, out))
    duration = time.monotonic() - began
    expected, survivors, killed, later = out.read_text(), [], 0, 0
    draw = random.Random(0)
    while killed < kills or not survivors:
        child = start(kind, data, workdir, out)
        resumed = any(workdir.rglob("*.safetensors"))
        # Beyond the last kill a run may take its time.
        seconds = draw.uniform(0, duration) if killed < kills else None
        if finish(child, seconds):
            survivors.append(out.read_text() == expected)
            shutil.rmtree(workdir)
        else:
            killed, later = killed + 1, later + resumed
    print(json.dumps({"killed": killed, "resumed": later, "survivors": survivors}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
