"""The experiments of chapter 14: where kept pixels lie, and the spiral's sparsest networks."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.data.surgery import gaussian_clone, permute_pixels, restore_pixels
from lth_tutorial.experiments.design import Experiment
from lth_tutorial.networks.build import build_model
from lth_tutorial.pruning.masks import dense_mask
from lth_tutorial.runtime import choose, write_atomically
from lth_tutorial.training.checkpoints import within
from lth_tutorial.training.config import IMPConfig, TrainConfig
from lth_tutorial.training.evaluation import evaluate
from lth_tutorial.training.replicates import available_workers, map_seeds, train_replicates
from lth_tutorial.variants.shipped import SOLUTIONS, pack_masks, pack_solutions
from lth_tutorial.variants.sifting import (
    locality_experiment,
    sifting_network,
    small_convolution,
)
from lth_tutorial.variants.spiral_pruners import PRUNERS, compare_on_spiral
from lth_tutorial.variants.spiral_search import (
    Found,
    descend,
    enumerate_masks,
    random_masks,
    train_masks,
)

if TYPE_CHECKING:
    import pandas as pd

SHIPPED = "shipped"
"""Folder inside a part's workdir with files that come with the record."""
TARGETS = (0.95, 0.995)
IMAGES = ("original", "permuted", "gaussian_class", "gaussian_shared")


@dataclass(frozen=True)
class LocalityPart:
    """Pruning on images of one kind, by `locality_experiment`; masks of some rounds are shipped.

    `model` is a name for `build_model`, or "sifting_300_100" for a `sifting_network`.
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

        images = choose("images", self.images, IMAGES)
        restore = None
        if images == "permuted":
            original, data = data, permute_pixels(data, 0)
            restore = partial(restore_pixels, data=original, seed=0)
        elif images.startswith("gaussian"):
            data = gaussian_clone(data, covariance=images.removeprefix("gaussian_"))

        def some_seeds(seeds: Sequence[int]) -> tuple[pd.DataFrame, dict]:
            kept = {}

            def keep(index: int, masks: dict) -> None:
                for seed, mask in masks.items():
                    kept[self.label or self.arm, seed, index] = {
                        name: each.cpu() for name, each in mask.items()
                    }

            rows = locality_experiment(
                self._builder(data), data, self.train, self.imp, arm=self.arm, seeds=seeds,
                restore=restore, on_masks=keep,
                workdir=within(workdir, "runs", "_".join(map(str, seeds))),
            )  # fmt: skip
            return rows, kept

        if data.device.type == "cpu":  # too large to be one stack there
            results = map_seeds(
                lambda seed, on_step: some_seeds([seed]), seeds, workers=available_workers()
            )
        else:
            results = [some_seeds(seeds)]
        tables, kept = zip(*results, strict=True)
        self._ship({cell: mask for each in kept for cell, mask in each.items()}, seeds[0], workdir)
        return pd.concat(tables, ignore_index=True)

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
        _ship(workdir, f"{_file_name(self.label or self.arm)}.npz", pack_masks(some))

    def _builder(self, data: Dataset) -> Callable:
        if self.model.startswith("sifting_"):
            widths = [int(width) for width in self.model.split("_")[1:]]
            return lambda seed: sifting_network(widths, data, seed)
        return lambda seed: build_model(self.model, seed=seed, data=data)


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

        models = [small_convolution(data, seed).to(data.device) for seed in seeds]
        train_replicates(models, data, self.train, data_seeds=seeds, workdir=workdir)
        weights = sum(kept.numel() for kept in dense_mask(models[0]).values())
        return pd.DataFrame(
            {"arm": "conv", "seed": seed, "round": 0, "density": 1.0, "weights": weights,
             "accuracy": evaluate(model, data).accuracy}
            for seed, model in zip(seeds, models, strict=True)
        )  # fmt: skip


@dataclass(frozen=True)
class DescentPart:
    """The search that removes one weight after the other, by `descend`; one per seed."""

    widths: tuple[int, int, int]
    train: TrainConfig
    again: TrainConfig
    restarts: int = 64
    pool: int = 12
    children: int = 72
    label: str = ""

    def measure(
        self, data: Dataset, seeds: Sequence[int], workdir: str | Path | None
    ) -> pd.DataFrame:
        """Return one row per seed and number of weights; ship the sparsest networks found."""
        import pandas as pd

        def one_seed(seed: int, on_step: Callable) -> list[Found]:
            return descend(
                self.widths, data, self.train, self.again, seed=seed, restarts=self.restarts,
                pool=self.pool, children=self.children,
            )  # fmt: skip

        every = map_seeds(one_seed, seeds, workers=available_workers())
        best = {}
        for target in TARGETS:
            good = [one for found in every for one in found if one.accuracy >= target]
            if good:
                best[f"{target:g}"] = min(good, key=lambda one: (one.weights, -one.accuracy))
        name = f"{SOLUTIONS}-{_file_name(self.label or 'search')}.json"
        _ship(workdir, name, pack_solutions(best))
        return pd.DataFrame(
            {"arm": "search", "seed": seed, "round": i, "density": one.weights / found[0].weights,
             "weights": one.weights, "accuracy": one.accuracy, "trainings": one.trainings}
            for seed, found in zip(seeds, every, strict=True) for i, one in enumerate(found)
        )  # fmt: skip


@dataclass(frozen=True)
class MasksPart:
    """Every mask of a small network, or random ones, each trained from new weights.

    `draw` is the number of random masks for each seed and number of weights; 0 tries every mask,
    `restarts` times for each seed.
    """

    widths: tuple[int, int, int]
    weights: tuple[int, ...]
    train: TrainConfig
    draw: int = 0
    restarts: int = 1
    label: str = ""

    def measure(
        self, data: Dataset, seeds: Sequence[int], workdir: str | Path | None
    ) -> pd.DataFrame:
        """Return one row per seed and number of weights: the best accuracy, and shares."""
        import pandas as pd

        a, b, c = self.widths
        total = 2 * a + a * b + b * c + c
        every = {} if self.draw else {n: enumerate_masks(self.widths, n) for n in self.weights}

        def one_seed(seed: int, on_step: Callable) -> list[dict]:
            rows = []
            for i, n in enumerate(self.weights):
                masks = (
                    random_masks(self.widths, n, self.draw, seed)
                    if self.draw
                    else every[n] * self.restarts
                )
                results = train_masks(self.widths, masks, data, self.train, seed=100 * seed + n)
                reached = [accuracy for *_, accuracy in results]
                row = {"arm": "random_search" if self.draw else "exhaustive", "seed": seed}
                row |= {"round": i, "density": n / total, "weights": n, "accuracy": max(reached)}
                row |= {"trainings": len(masks), "masks": len(masks) // self.restarts}
                for target in TARGETS:
                    share = sum(accuracy >= target for accuracy in reached) / len(reached)
                    row[f"share_{round(1000 * target)}"] = share
                rows.append(row)
            return rows

        results = map_seeds(one_seed, seeds, workers=available_workers())
        return pd.DataFrame([row for rows in results for row in rows])


@dataclass(frozen=True)
class SpiralPrunersPart:
    """Pruning methods on the spiral from networks of one width, by `compare_on_spiral`."""

    width: int
    train: TrainConfig
    counts: tuple[int, ...]
    fraction: float = 0.2
    arms: tuple[str, ...] = PRUNERS
    label: str = ""

    def measure(
        self, data: Dataset, seeds: Sequence[int], workdir: str | Path | None
    ) -> pd.DataFrame:
        """Return one row per arm, seed and number of weights."""
        import pandas as pd

        def one_arm(index: int, on_step: Callable) -> pd.DataFrame:
            return compare_on_spiral(
                data, self.train, width=self.width, counts=self.counts, arms=[self.arms[index]],
                fraction=self.fraction, seeds=seeds,
            )  # fmt: skip

        tables = map_seeds(one_arm, range(len(self.arms)), workers=available_workers())
        return pd.concat(tables, ignore_index=True)


def _ship(workdir: str | Path | None, name: str, content: bytes) -> None:
    """Leave a file for the command line to put beside the record."""
    if workdir is not None:
        write_atomically(Path(workdir) / SHIPPED / name, content)


def _file_name(label: str) -> str:
    return re.sub("[^a-z0-9]+", "-", label)


# 55,000 training images in batches of 60: five and a half epochs a round.
MNIST = TrainConfig(steps=5_000, batch_size=60, optimizer="adam", lr=1.2e-3)
SIFTING = TrainConfig(steps=5_000, batch_size=60, optimizer="sgd", lr=0.1, momentum=0.0)
THIRD = {"fc1.weight": 0.3, "fc2.weight": 0.3, "output.weight": 0.15}
TWELVE = IMPConfig(rounds=12, fraction=THIRD, scope="layer")
# The densities of rounds 3, 6, 9 and 12, each by one pruning.
FOUR = IMPConfig(
    rounds=4, fraction={name: 1 - (1 - share) ** 3 for name, share in THIRD.items()}, scope="layer"
)
LAST_DENSE = {"fc1.weight": 0.3, "fc2.weight": 0.3, "output.weight": 0.0}
SIFTED = IMPConfig(rounds=12, fraction=LAST_DENSE, scope="layer", rewind_step=50)

# The paper trains for 100,000 steps a round on images of ImageNet; 45 batches are an epoch here.
CIFAR_SIFTING = replace(SIFTING, steps=10_000, batch_size=1_000)
CIFAR_SIFTED = IMPConfig(
    rounds=12, scope="layer", rewind_step=100,
    fraction={"fc1.weight": 0.3, "fc2.weight": 0.3, "fc3.weight": 0.3, "output.weight": 0.0},
)  # fmt: skip

SPIRAL = TrainConfig(steps=2_000, batch_size=50, optimizer="adam", lr=1e-2, schedule="cosine")
AGAIN = replace(SPIRAL, steps=400, lr=5e-3)
COUNTS = (150, 110, 80, 60, 45, 36, 30, 25, 20, 15)

EXPERIMENTS = (
    Experiment(
        name="mnist-locality",
        chapter=14,
        question="Do the pixels that a unit keeps lie together, and what must the images be like?",
        dataset="mnist",
        seeds=tuple(range(8)),
        parts=(
            LocalityPart("lenet_300_100", MNIST, TWELVE, label="original"),
            LocalityPart("lenet_300_100", MNIST, FOUR, "one_shot", label="once"),
            LocalityPart("sifting_300_100", SIFTING, SIFTED, "sifted", label="sifting"),
            LocalityPart("lenet_300_100", MNIST, TWELVE, images="permuted", label="permuted"),
            LocalityPart(
                "lenet_300_100", MNIST, TWELVE, images="gaussian_class", label="class clone"
            ),
            LocalityPart(
                "lenet_300_100", MNIST, TWELVE, images="gaussian_shared", label="shared clone"
            ),
            ConvolutionPart(MNIST, label="convolution"),
        ),
    ),
    Experiment(
        name="spiral-search",
        chapter=14,
        question="How few weights are enough on the Cubist Spiral?",
        dataset="cubist_spiral",
        seeds=tuple(range(8)),
        parts=(
            DescentPart((4, 3, 3), SPIRAL, AGAIN, label="from 4, 3, 3"),
            DescentPart((6, 5, 4), SPIRAL, AGAIN, label="from 6, 5, 4"),
            MasksPart((4, 3, 3), (24, 20, 17, 15), SPIRAL, draw=256, label="random"),
            MasksPart((2, 2, 2), (14, 13, 12, 11, 10, 9), SPIRAL, restarts=4, label="every mask"),
        ),
    ),
    Experiment(
        name="spiral-pruners",
        chapter=14,
        question="How many weights does each pruning method need on the Cubist Spiral?",
        dataset="cubist_spiral",
        seeds=tuple(range(8)),
        parts=tuple(
            SpiralPrunersPart(
                width, SPIRAL, tuple(c for c in COUNTS if c < width * (2 * width + 3)),
                label=f"width {width}",
            )
            for width in (4, 8, 16, 32)
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
