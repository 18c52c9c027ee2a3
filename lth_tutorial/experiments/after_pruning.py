"""The experiment of chapter 7: what to do after pruning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.experiments.design import Experiment
from lth_tutorial.tickets.retraining import WAYS, retraining_experiment
from lth_tutorial.training.config import IMPConfig, TrainConfig

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RetrainingPart:
    """Ways to train a pruned network on, by `retraining_experiment`."""

    model: str
    train: TrainConfig
    imp: IMPConfig
    rewind_steps: tuple[int, ...]
    arms: tuple[str, ...] = WAYS
    iterative: bool = True
    label: str = ""

    def measure(
        self, data: Dataset, seeds: Sequence[int], workdir: str | Path | None
    ) -> pd.DataFrame:
        """Return one row per arm, seed, rewind step (in the column `step`) and round."""
        rows = retraining_experiment(
            self.model, data, self.train, self.imp, arms=self.arms, seeds=seeds,
            rewind_steps=self.rewind_steps, iterative=self.iterative, workdir=workdir,
        )  # fmt: skip
        return rows.rename(columns={"rewind_step": "step"})


# One network pruned once, at two rates: the shallow network of chapter 7 in the quarrel.
SHALLOW = TrainConfig(steps=400, batch_size=50, lr=0.1, lr_drops=(200, 300))
ONCE = IMPConfig(rounds=2, fraction=0.75)

EXPERIMENTS = (
    Experiment(
        name="digits-single-weights",
        chapter=5,
        question="In a shallow network, are inherited or initial single weights worth something?",
        dataset="digits",
        seeds=tuple(range(500, 516)),
        parts=tuple(
            RetrainingPart(
                "mlp_100_50", replace(SHALLOW, lr=rate), ONCE, (0,),
                ("rewind", "fine_tune", "reinit"), iterative=False, label=name,
            )
            for name, rate in (("low rate", 0.01), ("high rate", 0.1))
        ),
    ),
    Experiment(
        name="cifar10-resnet20-after-pruning",
        chapter=7,
        question="Fine-tune, rewind weights, or rewind the learning rate of a pruned ResNet-20?",
        dataset="cifar10",
        seeds=tuple(range(3)),
        parts=(
            RetrainingPart(
                model="resnet_20",
                train=TrainConfig(
                    steps=63_000, batch_size=128, lr=0.1, weight_decay=1e-4,
                    lr_drops=(32_000, 48_000), augment=True,
                ),
                # Densities of 45, 20 and 9.1 %, each by pruning the dense network once: in rounds
                # it would cost three times as much.
                imp=IMPConfig(rounds=3, fraction=0.55),
                # Nearly the whole schedule; the last half, with both drops; the last rate only.
                rewind_steps=(2_000, 31_500, 50_000),
                iterative=False,
            ),
        ),
    ),
)  # fmt: skip
