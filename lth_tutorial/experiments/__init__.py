"""Named experiments, each defined once: the settings behind the records that chapters show.

`python -m lth_tutorial.experiments list` says what there is, `show NAME` prints the settings, and
`run NAME` measures it and writes rows and provenance.
"""

from __future__ import annotations

import datetime
import platform
import subprocess
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lth_tutorial.arms import ARMS, lottery_experiment
from lth_tutorial.config import IMPConfig, TrainConfig
from lth_tutorial.data import Dataset
from lth_tutorial.records import lengthen
from lth_tutorial.runtime import choose, versions

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Experiment:
    """A lottery experiment with a name.

    Attributes:
        name: of the record.
        chapter: number of the chapter that shows it.
        question: what it is to answer.
        dataset: name for `load_dataset`.
        model: name for `build_model`.
        train, imp: settings at scale 1.
        seeds: replicates.
        arms: of `lottery_experiment`.
    """

    name: str
    chapter: int
    question: str
    dataset: str
    model: str
    train: TrainConfig
    imp: IMPConfig
    seeds: tuple[int, ...]
    arms: tuple[str, ...] = ARMS


EXPERIMENTS = (
    Experiment(
        name="digits-winning-tickets",
        chapter=4,
        question="Do tickets found by iterative magnitude pruning beat their controls?",
        dataset="digits",
        model="mlp_100_50",
        train=TrainConfig(steps=600, batch_size=50, optimizer="adam", lr=5e-3, eval_every=5),
        imp=IMPConfig(
            rounds=6,
            fraction={"fc1.weight": 0.5, "fc2.weight": 0.5, "output.weight": 0.25},
            scope="layer",
        ),
        seeds=tuple(range(24)),
    ),
    Experiment(
        name="mnist-lenet-imp",
        chapter=4,
        question="The same by the protocol of Frankle & Carbin (2019): LeNet-300-100 on MNIST.",
        dataset="mnist",
        model="lenet_300_100",
        # 200 validation points: at 500, evaluating takes a CPU longer than training.
        train=TrainConfig(steps=50_000, batch_size=60, optimizer="adam", lr=1.2e-3, eval_every=250),
        imp=IMPConfig(
            rounds=20,
            fraction={"fc1.weight": 0.2, "fc2.weight": 0.2, "output.weight": 0.1},
            scope="layer",
        ),
        seeds=tuple(range(5)),
    ),
    Experiment(
        name="cifar10-conv2-imp",
        chapter=4,
        question="Do convolutional tickets generalise better than the dense network?",
        dataset="cifar10",
        model="conv_2",
        train=TrainConfig(steps=20_000, batch_size=60, optimizer="adam", lr=2e-4, eval_every=100),
        imp=IMPConfig(
            rounds=16,
            fraction={
                "conv1.weight": 0.1,
                "conv2.weight": 0.1,
                "fc1.weight": 0.2,
                "fc2.weight": 0.2,
                "output.weight": 0.1,
            },
            scope="layer",
        ),
        seeds=tuple(range(3)),
    ),
)


def experiment(name: str) -> Experiment:
    """Return the experiment of that name.

    Raises:
        ValueError: if there is none; names the nearest.
    """
    choose("experiment", name, [each.name for each in EXPERIMENTS])
    return next(each for each in EXPERIMENTS if each.name == name)


def scaled(design: Experiment, scale: float) -> Experiment:
    """Return the experiment with every number of steps multiplied by `scale`.

    Steps, rate drops, warm-up, evaluation interval and rewind step shrink together; rounds and
    seeds never do.

    Raises:
        ValueError: if `scale` is not in (0, 1].
    """
    if not 0 < scale <= 1:
        raise ValueError(f"scale multiplies the steps, in (0, 1]; got {scale!r}")

    def shrink(steps: int) -> int:
        return max(1, round(scale * steps))

    train = design.train
    train = replace(
        train,
        steps=shrink(train.steps),
        eval_every=None if train.eval_every is None else shrink(train.eval_every),
        warmup_steps=round(scale * train.warmup_steps),
        lr_drops=tuple(shrink(drop) for drop in train.lr_drops),
    )
    imp = replace(design.imp, rewind_step=round(scale * design.imp.rewind_step))
    return replace(design, train=train, imp=imp)


def run(
    design: Experiment, data: Dataset, *, scale: float = 1.0, workdir: str | Path | None = None
) -> tuple[pd.DataFrame, dict]:
    """Run an experiment and return its long rows and their provenance.

    Args:
        data: usually `load_dataset(design.dataset)`; its name is written into the rows.
        scale: see `scaled`.
        workdir: folder to continue from, as for `lottery_experiment`.
    """
    started, chosen = time.time(), scaled(design, scale)
    resumed = workdir is not None and Path(workdir, "identity.json").exists()
    wide = lottery_experiment(
        chosen.model, data, chosen.train, chosen.imp, arms=chosen.arms, seeds=chosen.seeds,
        workdir=workdir,
    )  # fmt: skip
    rows = lengthen(wide, record=design.name, data=data.name, scale=scale)
    option = "" if scale == 1 else f" --scale {scale:g}"
    option += "" if data.name == design.dataset else f" --data {data.name}"
    option += "" if data.device.type == "cpu" else f" --device {data.device.type}"
    provenance = {
        "command": f"python -m lth_tutorial.experiments run {design.name}{option}",
        "commit": _commit(),
        "versions": versions(),
        "device": _device_name(data),
        "date": datetime.date.today().isoformat(),
        "wall_time_s": round(time.time() - started, 1),
        "resumed": resumed,  # then the time is that of the last part
        "seeds": list(chosen.seeds),
        "scale": scale,
        "data": data.name,
        "model": chosen.model,
        "train": asdict(chosen.train),
        "imp": asdict(chosen.imp),
    }
    return rows, provenance


def _commit() -> str:
    """Return the commit that the package's code is at, marked if it has uncommitted changes."""
    package = Path(__file__).parent.parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # else it is another project's repository
        changed = git("status", "--porcelain", "--", "*.py")
        return git("rev-parse", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _device_name(data: Dataset) -> str:
    if data.device.type == "cuda":
        return versions()["cuda_device"]
    names = Path("/proc/cpuinfo")
    lines = names.read_text().splitlines() if names.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"CPU ({models[0] if models else platform.machine()})"
