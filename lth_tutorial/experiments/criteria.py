"""The experiments of chapter 8: criteria inside iterative pruning, and pruning before training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from lth_tutorial.criteria import fisher_scores, gradient_scores, random_scores
from lth_tutorial.data.dataset import Dataset
from lth_tutorial.experiments.design import Experiment
from lth_tutorial.pruning.masks import Criterion, Mask, Scores
from lth_tutorial.runtime import choose
from lth_tutorial.states import snapshot, state_hash
from lth_tutorial.tickets.arms import lottery_experiment
from lth_tutorial.tickets.before_training import METHODS, prune_before_training
from lth_tutorial.training.config import IMPConfig, TrainConfig
from lth_tutorial.training.identity import within

if TYPE_CHECKING:
    import pandas as pd


def gradient(model: nn.Module, data: Dataset, mask: Mask) -> Scores:
    """|w| times the gradient of the mean training loss."""
    return gradient_scores(model, data, mask)


def batch_gradient(model: nn.Module, data: Dataset, mask: Mask) -> Scores:
    """|w| times the mean size of the gradients of 100 minibatches."""
    return gradient_scores(
        model, data, mask, batch_size=60, examples=6_000 if _many(data) else None
    )


def fisher(model: nn.Module, data: Dataset, mask: Mask) -> Scores:
    """w² times the empirical Fisher information of 2,000 examples."""
    return fisher_scores(model, data, mask, examples=2_000 if _many(data) else None)


def random(model: nn.Module, data: Dataset, mask: Mask) -> Scores:
    """Uniform scores, other ones for every network and round."""
    return random_scores(mask, int(state_hash(snapshot(model))[:8], 16))


def random_gradient(model: nn.Module, data: Dataset, mask: Mask) -> Scores:
    """Uniform scores times the gradient of the mean training loss."""
    return gradient_scores(model, data, mask, base=random(model, data, mask))


CRITERIA: dict[str, Criterion | None] = {
    "magnitude": None,
    "gradient": gradient,
    "batch_gradient": batch_gradient,
    "fisher": fisher,
    "random": random,
    "random_gradient": random_gradient,
}
"""Arms of a `CriteriaPart`: what ranks the trained weights. None is their magnitude."""


def _many(data: Dataset) -> bool:
    return len(data.x_train) >= 6_000


@dataclass(frozen=True)
class CriteriaPart:
    """Iterative pruning with rewinding, one arm per criterion of `CRITERIA`."""

    model: str
    train: TrainConfig
    imp: IMPConfig
    criteria: tuple[str, ...]
    label: str = ""

    def measure(
        self, data: Dataset, seeds: Sequence[int], workdir: str | Path | None
    ) -> pd.DataFrame:
        """Return one row per criterion, seed and round."""
        import pandas as pd

        tables = []
        for name in self.criteria:
            choose("criterion", name, CRITERIA)
            rows = lottery_experiment(
                self.model, data, self.train, self.imp, criterion=CRITERIA[name],
                arms=["ticket"], seeds=seeds, workdir=within(workdir, name),
            )  # fmt: skip
            tables.append(rows.assign(arm=name))
        return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True)
class BeforeTrainingPart:
    """Pruning before training, by `prune_before_training`."""

    model: str
    train: TrainConfig
    densities: tuple[float, ...]
    arms: tuple[str, ...] = METHODS
    synflow_rounds: int = 100
    label: str = ""

    def measure(
        self, data: Dataset, seeds: Sequence[int], workdir: str | Path | None
    ) -> pd.DataFrame:
        """Return one row per arm, seed and density."""
        return prune_before_training(
            self.model, data, self.train, densities=self.densities, arms=self.arms, seeds=seeds,
            synflow_rounds=self.synflow_rounds, workdir=workdir,
        )  # fmt: skip


CHECKED = (
    *METHODS, "snip/shuffled", "snip/reinit", "snip/random_labels", "snip/shuffled_pixels",
    "synflow/shuffled", "synflow/reinit", "after_training/shuffled",
)  # fmt: skip

EXPERIMENTS = (
    Experiment(
        name="mnist-data-dependent",
        chapter=8,
        question="Does a factor from the loss gradient help magnitude inside iterative pruning?",
        dataset="mnist",
        seeds=tuple(range(5)),
        parts=(
            CriteriaPart(
                model="mlp_100_50",
                train=TrainConfig(steps=4_000, batch_size=60, optimizer="adam", lr=1.2e-3),
                imp=IMPConfig(rounds=6, fraction=0.5),
                criteria=tuple(CRITERIA),
            ),
        ),
    ),
    Experiment(
        name="mnist-pruning-at-init",
        chapter=8,
        question="What do masks that are drawn before training know, on MNIST?",
        dataset="mnist",
        seeds=tuple(range(5)),
        parts=(
            BeforeTrainingPart(
                model="mlp_100_50",
                train=TrainConfig(steps=4_000, batch_size=60, optimizer="adam", lr=1.2e-3),
                densities=(0.1, 0.05, 0.02),
                arms=CHECKED,
            ),
        ),
    ),
    Experiment(
        name="cifar10-pruning-at-init",
        chapter=8,
        question="The same for a residual network, with the magnitudes of a trained one beside.",
        dataset="cifar10",
        seeds=tuple(range(3)),
        parts=(
            BeforeTrainingPart(
                model="resnet_20",
                train=TrainConfig(
                    steps=30_000, batch_size=128, lr=0.1, weight_decay=1e-4,
                    lr_drops=(15_000, 22_500), augment=True,
                ),
                densities=(0.2, 0.1, 0.05, 0.02),
                arms=CHECKED,
            ),
        ),
    ),
)  # fmt: skip
