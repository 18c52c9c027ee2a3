"""What a named experiment is: some parts, each measured over the same seeds, one table of rows.

A part holds the settings of one design (the network, how it is trained, what is compared) and
measures it. The experiments themselves stand in the modules beside this one, by topic.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.stability.instability import instability
from lth_tutorial.tickets.arms import ARMS, lottery_experiment
from lth_tutorial.training.config import IMPConfig, TrainConfig

if TYPE_CHECKING:
    import pandas as pd

STEPS = ("branch_steps", "rewind_steps", "measure_steps", "draw_steps", "penalised_steps", "ramp")
"""Names of settings of a part that are steps of training, besides those of its configurations."""


class Part(Protocol):
    """A frozen dataclass with settings; `label` goes before the names of its arms."""

    label: str

    def measure(
        self, data: Dataset, seeds: Sequence[int], workdir: str | Path | None
    ) -> pd.DataFrame:
        """Return wide rows: arm, seed, round, density, step where it has one, and metrics."""
        ...


@dataclass(frozen=True)
class Experiment:
    """Parts with a name.

    Attributes:
        name: of the record.
        chapter: number of the chapter that shows it.
        question: what it is to answer.
        dataset: name for `load_dataset`.
        seeds: replicates.
        parts: what is measured. Arms of a part with a label are called "label: arm".
        together: how many of the seeds are trained side by side, group by group; all of them by
            default. Rows depend on it by rounding, so it is a part of the definition.
    """

    name: str
    chapter: int
    question: str
    dataset: str
    seeds: tuple[int, ...]
    parts: tuple[Part, ...]
    together: tuple[int, ...] = ()


def groups_of_seeds(design: Experiment) -> list[tuple[int, ...]]:
    """Return the groups of an experiment's seeds that are trained side by side.

    Raises:
        ValueError: if the sizes of the groups do not add up to the number of seeds.
    """
    sizes = design.together or (len(design.seeds),)
    if sum(sizes) != len(design.seeds):
        raise ValueError(
            f"{design.name} has {len(design.seeds)} seeds, and together={sizes} makes {sum(sizes)}"
        )
    ends = list(itertools.accumulate(sizes, initial=0))
    return [design.seeds[start:end] for start, end in itertools.pairwise(ends)]


@dataclass(frozen=True)
class LotteryPart:
    """Tickets and their controls, by `lottery_experiment`; on the first `images` if given."""

    model: str
    train: TrainConfig
    imp: IMPConfig
    arms: tuple[str, ...] = ARMS
    images: int | None = None
    label: str = ""

    def measure(
        self, data: Dataset, seeds: Sequence[int], workdir: str | Path | None
    ) -> pd.DataFrame:
        """Return one row per arm, seed and round."""
        return lottery_experiment(
            self.model, first_images(data, self.images), self.train, self.imp, arms=self.arms,
            seeds=seeds, workdir=workdir,
        )  # fmt: skip


@dataclass(frozen=True)
class InstabilityPart:
    """Barriers of the dense network against the step at which copies part, by `instability`."""

    model: str
    train: TrainConfig
    branch_steps: tuple[int, ...]
    points: int = 11
    images: int | None = None
    label: str = ""

    def measure(
        self, data: Dataset, seeds: Sequence[int], workdir: str | Path | None
    ) -> pd.DataFrame:
        """Return one row per seed and branch step, which stands in the column `step`."""
        rows = instability(
            self.model, first_images(data, self.images), self.train,
            branch_steps=self.branch_steps, seeds=seeds, points=self.points,
            workdir=workdir,
        )  # fmt: skip
        rows = rows.drop(columns=["branch_a", "branch_b"]).rename(columns={"branch_step": "step"})
        return rows.assign(arm="dense", round=0, density=1.0)


def first_images(data: Dataset, images: int | None) -> Dataset:
    """Return the data with the first training images only; validation and test stay whole."""
    if images is None:
        return data
    return replace(data, x_train=data.x_train[:images], y_train=data.y_train[:images])


def scaled(design: Experiment, scale: float) -> Experiment:
    """Return the experiment with every number of steps multiplied by `scale`.

    Steps, rate drops, warm-up, evaluation interval, rewind and branch steps shrink together;
    rounds and seeds never do.

    Raises:
        ValueError: if `scale` is not in (0, 1].
    """
    if not 0 < scale <= 1:
        raise ValueError(f"scale multiplies the steps, in (0, 1]; got {scale!r}")
    return replace(design, parts=tuple(_scaled_part(part, scale) for part in design.parts))


def _scaled_part(part: Part, scale: float) -> Part:
    changes = {}
    for field in fields(part):
        value = getattr(part, field.name)
        if isinstance(value, TrainConfig):
            changes[field.name] = _scaled_config(value, scale)
        elif isinstance(value, IMPConfig):
            step = round(scale * value.rewind_step)
            changes[field.name] = replace(value, rewind_step=step)
        elif field.name in STEPS and not isinstance(value, tuple):
            changes[field.name] = max(1, round(scale * value))
        elif field.name in STEPS:
            # Steps that fall together at a small scale count once.
            changes[field.name] = tuple(dict.fromkeys(round(scale * step) for step in value))
    return replace(part, **changes)


def _scaled_config(train: TrainConfig, scale: float) -> TrainConfig:
    def shrink(steps: int) -> int:
        return max(1, round(scale * steps))

    steps = shrink(train.steps)
    drops = (shrink(drop) for drop in train.lr_drops)
    return replace(
        train,
        steps=steps,
        eval_every=None if train.eval_every is None else shrink(train.eval_every),
        warmup_steps=round(scale * train.warmup_steps),
        lr_drops=tuple(dict.fromkeys(drop for drop in drops if drop < steps)),
    )
