"""The experiments of chapter 14 on the Cubist Spiral: searches, and pruners beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.experiments.design import Experiment
from lth_tutorial.experiments.shipping import file_name, ship
from lth_tutorial.training.config import TrainConfig
from lth_tutorial.training.workers import available_workers, map_seeds
from lth_tutorial.variants.shipped import SOLUTIONS, pack_solutions
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

TARGETS = (0.95, 0.995)


@dataclass(frozen=True)
class DescentPart:
    """The search that removes one weight after the other, by `descend`; one per seed."""

    widths: tuple[int, int, int]
    train: TrainConfig
    again: TrainConfig
    restarts: int = 48
    pool: int = 8
    children: int = 40
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
        # The seeds are in the name: groups of them are measured one after the other.
        own = f"{file_name(self.label or 'search')}-{'-'.join(map(str, seeds))}"
        if best:
            ship(workdir, f"{SOLUTIONS}-{own}.json", pack_solutions(best))
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
        draw = self.draw > 0
        every = {} if draw else {n: enumerate_masks(self.widths, n) for n in self.weights}

        def one_seed(seed: int, on_step: Callable) -> list[dict]:
            rows = []
            # All drawn before the first is trained: a refusal must not come late.
            drawn = {n: random_masks(self.widths, n, self.draw, seed) for n in self.weights if draw}
            for i, n in enumerate(self.weights):
                masks = drawn[n] if draw else every[n] * self.restarts
                results = train_masks(self.widths, masks, data, self.train, seed=100 * seed + n)
                reached = [accuracy for *_, accuracy in results]
                row = {"arm": "random_search" if draw else "exhaustive", "seed": seed}
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


SPIRAL = TrainConfig(steps=2_000, batch_size=50, optimizer="adam", lr=1e-2, schedule="cosine")
AGAIN = replace(SPIRAL, steps=400, lr=5e-3)
COUNTS = (
    5_000, 3_000, 1_800, 1_080, 650, 390, 240,  # where wide networks fall short of the accuracy
    150, 110, 80, 60, 45, 36, 30, 25, 20, 15,
)  # fmt: skip

EXPERIMENTS = (
    Experiment(
        name="spiral-search",
        chapter=14,
        question="How few weights are enough on the Cubist Spiral?",
        dataset="cubist_spiral",
        seeds=tuple(range(8)),
        together=(1,) * 8,
        parts=(DescentPart((4, 3, 3), SPIRAL, AGAIN, label="from 4, 3, 3"),),
    ),
    Experiment(
        name="spiral-masks",
        chapter=14,
        question="What do wider starts, random masks and all masks of small networks reach there?",
        dataset="cubist_spiral",
        seeds=tuple(range(8)),
        together=(1,) * 8,
        parts=(
            DescentPart((8, 8, 6), SPIRAL, AGAIN, label="from 8, 8, 6"),
            MasksPart((3, 3, 3), (24, 20, 17, 15), SPIRAL, draw=256, label="random"),
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
            for width in (8, 16, 32, 64)
        ),
    ),
)  # fmt: skip
