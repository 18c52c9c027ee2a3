"""The experiment of chapter 11: a random network pruned onto a network trained on MNIST."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.experiments.design import Experiment
from lth_tutorial.theory import imitation_experiment, relu_network
from lth_tutorial.training.config import TrainConfig

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ImitationPart:
    """Random networks pruned onto a trained one with these hidden widths."""

    hidden: tuple[int, ...]
    train: TrainConfig
    numbers: tuple[int, ...]
    label: str = ""

    def measure(
        self, data: Dataset, seeds: Sequence[int], workdir: str | Path | None
    ) -> pd.DataFrame:
        """Return one row per arm, seed and number of products, by `imitation_experiment`."""
        sizes = (torch.Size(data.shape).numel(), *self.hidden, data.num_classes)
        return imitation_experiment(
            lambda seed: relu_network(sizes, seed=seed).to(data.device), data, self.train,
            numbers=self.numbers, seeds=seeds, workdir=workdir,
        )  # fmt: skip


EXPERIMENTS = (
    Experiment(
        name="mnist-pruned-random-network",
        chapter=11,
        question="Does a random network contain one that was trained on MNIST?",
        dataset="mnist",
        seeds=tuple(range(5)),
        parts=(
            ImitationPart(
                hidden=(100,),
                train=TrainConfig(steps=5_000, batch_size=60, optimizer="adam", lr=1.2e-3),
                numbers=(2, 4, 6, 8, 10, 12, 16),
            ),
        ),
    ),
)
