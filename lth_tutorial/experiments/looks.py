"""The experiments of chapter 14 on images: where the pixels lie that a unit keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.data.surgery import gaussian_clone, permute_pixels, restore_pixels
from lth_tutorial.experiments.design import Experiment
from lth_tutorial.experiments.shipping import file_name, ship
from lth_tutorial.networks.build import build_model
from lth_tutorial.pruning.masks import dense_mask
from lth_tutorial.runtime import choose, progress_bar
from lth_tutorial.training.config import IMPConfig, TrainConfig
from lth_tutorial.training.evaluation import evaluate
from lth_tutorial.training.identity import within
from lth_tutorial.training.replicates import train_replicates
from lth_tutorial.training.workers import available_workers, map_seeds
from lth_tutorial.variants.shipped import pack_masks
from lth_tutorial.variants.sifting import (
    locality_experiment,
    sifting_network,
    small_convolution,
)

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

IMAGES = ("original", "permuted", "gaussian_class", "gaussian_shared")


@dataclass(frozen=True)
class LocalityPart:
    """Pruning on images of one kind, by `locality_experiment`; masks of some rounds are shipped.

    `model` is a name for `build_model`, or "sifting_100_100" for a `sifting_network`.
    """

    model: str
    train: TrainConfig
    imp: IMPConfig
    arm: str = "ticket"
    images: Literal["original", "permuted", "gaussian_class", "gaussian_shared"] = "original"
    label: str = ""

    def measure(
        self, data: Dataset, seeds: Sequence[int], workdir: str | Path | None
    ) -> pd.DataFrame:
        """Return one row per seed and round; ship the last masks, of one seed those of all."""
        import pandas as pd

        choose("images", self.images, IMAGES)
        again = self.train.steps - (0 if self.arm == "sifted" else self.imp.rewind_step)
        steps = len(seeds) * (self.train.steps + self.imp.rounds * again)
        with progress_bar(steps, self.label or self.arm) as bar:
            tables, kept = zip(*self._runs(data, seeds, bar, workdir), strict=True)
        self._ship({cell: mask for each in kept for cell, mask in each.items()}, seeds[0], workdir)
        return pd.concat(tables, ignore_index=True)

    def _runs(
        self, data: Dataset, seeds: Sequence[int], bar, workdir: str | Path | None
    ) -> list[tuple[pd.DataFrame, dict]]:
        """Return rows, and masks by cell, of the seeds: one by one on a CPU, else all together."""
        restore = None
        if self.images == "permuted":
            original, data = data, permute_pixels(data, 0)
            restore = partial(restore_pixels, data=original, seed=0)
        elif self.images.startswith("gaussian"):
            data = gaussian_clone(data, covariance=self.images.removeprefix("gaussian_"))

        def some_seeds(seeds: Sequence[int], on_step: Callable) -> tuple[pd.DataFrame, dict]:
            kept = {}

            def keep(index: int, masks: dict) -> None:
                for seed, mask in masks.items():
                    kept[self.label or self.arm, seed, index] = {
                        name: each.cpu() for name, each in mask.items()
                    }

            rows = locality_experiment(
                partial(self.network, data), data, self.train, self.imp, arm=self.arm,
                seeds=seeds, restore=restore, on_masks=keep, on_step=on_step,
                workdir=within(workdir, "runs", "_".join(map(str, seeds))),
            )  # fmt: skip
            return rows, kept

        if data.device.type != "cpu":
            return [some_seeds(seeds, bar.update)]

        def one_seed(seed: int, on_step: Callable) -> tuple[pd.DataFrame, dict]:
            return some_seeds([seed], on_step)

        return map_seeds(one_seed, seeds, workers=available_workers(), bar=bar)

    def _ship(self, kept: dict, first: int, workdir: str | Path | None) -> None:
        """Ship every seed's last mask, and all of the first seed's tickets on the images."""
        last = {}
        for _, seed, index in kept:
            last[seed] = max(index, last.get(seed, 0))
        every = self.arm == "ticket" and self.images == "original"
        some = {
            cell: mask for cell, mask in kept.items()
            if cell[2] == last[cell[1]] or (every and cell[1] == first)
        }  # fmt: skip
        ship(workdir, f"{file_name(self.label or self.arm)}.npz", pack_masks(some))

    def network(self, data: Dataset, seed: int) -> nn.Module:
        """Return the untrained network of a seed."""
        if self.model.startswith("sifting_"):
            widths = [int(width) for width in self.model.split("_")[1:]]
            return sifting_network(widths, data, seed)
        return build_model(self.model, seed=seed, data=data)


@dataclass(frozen=True)
class ConvolutionPart:
    """A small convolutional network with about as many weights as the sparse tickets have."""

    train: TrainConfig
    label: str = ""

    def measure(
        self, data: Dataset, seeds: Sequence[int], workdir: str | Path | None
    ) -> pd.DataFrame:
        """Return one row per seed: arm "conv", round 0, accuracy and number of weights."""
        import pandas as pd

        models = [self.network(data, seed).to(data.device) for seed in seeds]
        with progress_bar(len(seeds) * self.train.steps, self.label) as bar:
            train_replicates(
                models, data, self.train, data_seeds=seeds, on_step=bar.update, workdir=workdir
            )
        weights = sum(kept.numel() for kept in dense_mask(models[0]).values())
        return pd.DataFrame(
            {"arm": "conv", "seed": seed, "round": 0, "density": 1.0, "weights": weights,
             "accuracy": evaluate(model, data).accuracy}
            for seed, model in zip(seeds, models, strict=True)
        )  # fmt: skip

    def network(self, data: Dataset, seed: int) -> nn.Module:
        """Return the untrained network of a seed."""
        return small_convolution(data, seed)


# 55,000 training images in batches of 100: nearly four epochs a round.
MNIST = TrainConfig(steps=2_000, batch_size=100, optimizer="adam", lr=2e-3)
SIFTING = TrainConfig(steps=2_000, batch_size=100, optimizer="sgd", lr=0.1, momentum=0.0)
HALF = {"fc1.weight": 0.5, "fc2.weight": 0.5, "output.weight": 0.25}
FIVE = IMPConfig(rounds=5, fraction=HALF, scope="layer")
# The densities of round 5, by one pruning.
ONCE = IMPConfig(
    rounds=1, fraction={name: 1 - (1 - share) ** 5 for name, share in HALF.items()}, scope="layer"
)
LAST_DENSE = HALF | {"output.weight": 0.0}
SIFTED = IMPConfig(rounds=5, fraction=LAST_DENSE, scope="layer", rewind_step=50)

# The paper trains for 100,000 steps a round on images of ImageNet; 45 batches are an epoch here.
CIFAR_SIFTING = replace(SIFTING, steps=10_000, batch_size=1_000)
CIFAR_SIFTED = IMPConfig(
    rounds=12, scope="layer", rewind_step=100,
    fraction={"fc1.weight": 0.3, "fc2.weight": 0.3, "fc3.weight": 0.3, "output.weight": 0.0},
)  # fmt: skip

EXPERIMENTS = (
    Experiment(
        name="mnist-locality",
        chapter=14,
        question="Do the pixels that a unit keeps lie together, and what must the images be like?",
        dataset="mnist",
        seeds=tuple(range(8)),
        parts=(
            LocalityPart("mlp_100_100", MNIST, FIVE, label="original"),
            LocalityPart("mlp_100_100", MNIST, ONCE, "one_shot", label="once"),
            LocalityPart("sifting_100_100", SIFTING, SIFTED, "sifted", label="sifting"),
            LocalityPart("mlp_100_100", MNIST, FIVE, images="permuted", label="permuted"),
            LocalityPart(
                "mlp_100_100", MNIST, FIVE, images="gaussian_class", label="class clone"
            ),
            LocalityPart(
                "mlp_100_100", MNIST, FIVE, images="gaussian_shared", label="shared clone"
            ),
            ConvolutionPart(MNIST, label="convolution"),
        ),
    ),
    Experiment(
        name="cifar10-locality",
        chapter=14,
        question="Locality by the protocol of Pellegrini & Biroli (2021), with colour channels.",
        dataset="cifar10",
        seeds=tuple(range(3)),
        parts=(
            LocalityPart(
                "sifting_1024_1024_1024", CIFAR_SIFTING, CIFAR_SIFTED, "sifted", label="sifting"
            ),
            LocalityPart(
                "sifting_1024_1024_1024", CIFAR_SIFTING, CIFAR_SIFTED, "sifted",
                images="gaussian_class", label="class clone",
            ),
        ),
    ),
)  # fmt: skip
