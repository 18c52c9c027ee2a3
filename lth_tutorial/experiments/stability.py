"""The experiments of chapter 6: when training becomes stable, and what rewinding does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.experiments.design import Experiment, InstabilityPart
from lth_tutorial.stability.rewinding import ARMS, rewinding_experiment
from lth_tutorial.training.config import IMPConfig, TrainConfig

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RewindingPart:
    """Tickets and controls against the rewind step, by `rewinding_experiment`."""

    model: str
    train: TrainConfig
    imp: IMPConfig
    rewind_steps: tuple[int, ...]
    rounds: tuple[int, ...]
    arms: tuple[str, ...] = ARMS
    points: int = 11
    label: str = ""

    def measure(
        self, data: Dataset, seeds: Sequence[int], workdir: str | Path | None
    ) -> pd.DataFrame:
        """Return one row per arm, seed, round and rewind step, which stands in `step`."""
        rows = rewinding_experiment(
            self.model, data, self.train, self.imp, rewind_steps=self.rewind_steps, seeds=seeds,
            arms=self.arms, rounds=self.rounds, points=self.points, workdir=workdir,
        )  # fmt: skip
        rows = rows.rename(columns={"rewind_step": "step"})
        return rows.drop(columns=["branch_a", "branch_b", "loss_height", "max_error"])


DEEP, DEEP_NORMED = "mlp_64_64_64_64_64", "mlp_bn_64_64_64_64_64"
NORMED = TrainConfig(steps=600, batch_size=10, lr=0.1, schedule="cosine")
PLAIN = TrainConfig(steps=800, batch_size=20, lr=0.05, schedule="cosine")
HALVING = IMPConfig(rounds=5, fraction=0.5)

RESNET = TrainConfig(
    steps=63_000, batch_size=128, lr=0.1, weight_decay=1e-4, lr_drops=(32_000, 48_000), augment=True
)
TO_17_PERCENT = IMPConfig(rounds=8, fraction=0.2)

EXPERIMENTS = (
    Experiment(
        name="digits-stability",
        chapter=6,
        question="From which step on is training stable, dense and sparse, and what hides it?",
        dataset="digits",
        seeds=tuple(range(16)),
        parts=(
            InstabilityPart(
                DEEP_NORMED, NORMED, (0, 5, 10, 20, 50, 100, 200), label="batch norm"
            ),
            InstabilityPart(DEEP, PLAIN, (0, 5, 20, 50, 100, 200, 400), label="no batch norm"),
            InstabilityPart(
                DEEP, replace(PLAIN, lr=0.005), (0, 100), label="no batch norm, low rate"
            ),
            InstabilityPart(
                DEEP_NORMED, replace(NORMED, batch_size=50), (0, 50), label="batch norm, batch 50"
            ),
            InstabilityPart(
                "mlp_100_50", replace(NORMED, batch_size=20, lr=0.2), (0,), label="rate too high"
            ),
            RewindingPart(
                DEEP_NORMED, NORMED, HALVING, (0, 10, 50, 150), (0, 3, 4, 5), label="rewound"
            ),
            RewindingPart(
                DEEP_NORMED, replace(NORMED, lr=0.01), HALVING, (0, 50), (0, 4),
                arms=("ticket", "reinit"), label="low rate",
            ),
            RewindingPart(
                DEEP_NORMED, replace(NORMED, warmup_steps=200), HALVING, (0, 50), (0, 4),
                arms=("ticket", "reinit"), label="warm-up",
            ),
            RewindingPart(
                DEEP, PLAIN, HALVING, (0, 100), (0, 4), arms=("ticket", "reinit"),
                label="no batch norm, rewound",
            ),
        ),
    ),
    Experiment(
        name="mnist-lenet-instability",
        chapter=6,
        question="Is LeNet-300-100 on MNIST stable at initialisation, as Frankle et al. found?",
        dataset="mnist",
        seeds=tuple(range(5)),
        parts=(
            InstabilityPart(
                "lenet_300_100",
                TrainConfig(steps=50_000, batch_size=60, optimizer="adam", lr=1.2e-3),
                (0, 500, 2_500), points=21,
            ),
        ),
    ),
    Experiment(
        name="cifar10-resnet20-instability",
        chapter=6,
        question="From which step on is ResNet-20 on CIFAR-10 stable?",
        dataset="cifar10",
        seeds=tuple(range(3)),
        parts=(
            InstabilityPart(
                "resnet_20", RESNET, (0, 100, 500, 1_000, 2_000, 5_000), points=31
            ),
        ),
    ),
    Experiment(
        name="cifar10-resnet20-rewinding",
        chapter=6,
        question="Does rewinding make sparse ResNet-20 stable and accurate together?",
        dataset="cifar10",
        seeds=tuple(range(3)),
        parts=(
            RewindingPart(
                "resnet_20", RESNET, TO_17_PERCENT, (0, 500, 1_000), (0, 8), points=21,
                label="rate 0.1",
            ),
            RewindingPart(
                "resnet_20", replace(RESNET, lr=0.01), TO_17_PERCENT, (0,), (0, 8),
                arms=("ticket", "reinit"), points=21, label="low rate",
            ),
            RewindingPart(
                "resnet_20", replace(RESNET, lr=0.03, warmup_steps=30_000), TO_17_PERCENT, (0,),
                (0, 8), arms=("ticket", "reinit"), points=21, label="warm-up",
            ),
        ),
    ),
)  # fmt: skip
