"""The experiments of chapter 9: early-bird tickets and boosting tickets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.experiments.design import Experiment
from lth_tutorial.training.attacks import Attack, fgsm, pgd
from lth_tutorial.training.config import TrainConfig
from lth_tutorial.variants.boosting import boosting_experiment
from lth_tutorial.variants.drawing import ARMS, early_bird_experiment, settling_experiment

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SettlingPart:
    """When masks of channels settle, beside random ones, by `settling_experiment`."""

    model: str
    train: TrainConfig
    fractions: tuple[float, ...]
    label: str = ""

    def measure(
        self, data: Dataset, seeds: Sequence[int], workdir: str | Path | None
    ) -> pd.DataFrame:
        """Return one row per arm, seed and epoch (as round).

        Of what `settling_experiment` measures, a record keeps the distances to the last mask, and
        in the last epoch whether a ticket was drawn: a fifth of the size, and all that is shown.
        """
        rows = settling_experiment(
            self.model, data, self.train, fractions=self.fractions, seeds=seeds, workdir=workdir
        )
        last = rows["round"] == rows.groupby(["arm", "seed"])["round"].transform("max")
        kept = rows[["arm", "seed", "round", "density", "to_final", "drawn"]]
        return kept.assign(drawn=rows["drawn"].where(last))


@dataclass(frozen=True)
class EarlyBirdPart:
    """Masks of several epochs beside their controls, by `early_bird_experiment`."""

    model: str
    train: TrainConfig
    fraction: float
    draw_steps: tuple[int, ...]
    arms: tuple[str, ...] = ARMS
    label: str = ""

    def measure(
        self, data: Dataset, seeds: Sequence[int], workdir: str | Path | None
    ) -> pd.DataFrame:
        """Return one row per arm, seed and epoch of drawing, its step in the column `step`."""
        length = len(data.x_train) // self.train.batch_size
        epochs = tuple(dict.fromkeys(max(1, round(step / length)) for step in self.draw_steps))
        return early_bird_experiment(
            self.model, data, self.train, fraction=self.fraction, draw_epochs=epochs,
            arms=self.arms, seeds=seeds, workdir=workdir,
        )  # fmt: skip


@dataclass(frozen=True)
class BoostingPart:
    """Boosting tickets beside their controls, by `boosting_experiment`."""

    model: str
    train: TrainConfig
    low: TrainConfig
    high: TrainConfig
    measure_steps: tuple[int, ...]
    arms: tuple[str, ...]
    fraction: float = 0.8
    attack: Attack | None = None
    strong: Attack | None = None
    narrow: str | None = None
    label: str = ""

    def measure(
        self, data: Dataset, seeds: Sequence[int], workdir: str | Path | None
    ) -> pd.DataFrame:
        """Return one row per arm, seed and measured step."""
        return boosting_experiment(
            self.model, data, self.train, self.low, fraction=self.fraction,
            measure_steps=self.measure_steps, arms=self.arms, measure=self.attack,
            strong=self.strong, narrow=self.narrow, high=self.high, seeds=seeds, workdir=workdir,
        )  # fmt: skip


# The digits: 1,000 training images, 20 steps an epoch.
SLIMMING = TrainConfig(
    steps=600, batch_size=50, lr=0.1, weight_decay=1e-4, bn_l1=1e-4, schedule="cosine"
)
_CONSTANT = replace(SLIMMING, lr=0.03, schedule="steps")
_DRAWS = tuple(20 * epoch for epoch in (1, 2, 3, 5, 8, 12, 20))
FAST = TrainConfig(
    steps=600, batch_size=50, optimizer="adam", lr=5e-3, schedule="cosine", warmup_steps=20
)
SLOW = replace(FAST, lr=5e-4, schedule="steps", warmup_steps=0)
_EPS = 3.0  # of 16 grey levels
_WEAK, _STRONG, _MEASURE = fgsm(_EPS), pgd(_EPS, steps=5), pgd(_EPS, steps=10)
_BASIC = (
    "low_mask", "low_mask_reinit", "high_mask", "high_mask_reinit", "low_mask_random", "dense",
)  # fmt: skip
_POINTS = (0, 20, 40, 100, 200, 400, 600)


def _attacked(config: TrainConfig, attack: Attack) -> TrainConfig:
    return replace(config, attack=attack)


# CIFAR-10: 45,000 training images, 351 steps of 128 an epoch. Shortened from 160 and 100 epochs;
# about 140,000 steps of VGG-16, and 180,000 passes of ResNet-18 counting those of the attacks.
_CIFAR = TrainConfig(
    steps=7_020, batch_size=128, lr=0.1, weight_decay=1e-4, bn_l1=1e-4, schedule="cosine",
    augment=True, precision="bf16",
)  # fmt: skip
_CIFAR_BOOST = TrainConfig(
    steps=3_510, batch_size=128, lr=0.1, weight_decay=1e-4, schedule="cosine", warmup_steps=351,
    augment=True, precision="bf16",
)  # fmt: skip
_CIFAR_LOW = replace(_CIFAR_BOOST, lr=0.01, schedule="steps", warmup_steps=0)
_CIFAR_FGSM = fgsm(8, random_start=True, bounds=(0, 255))
_CIFAR_PGD = pgd(8, steps=4, step_size=4, bounds=(0, 255))

EXPERIMENTS = (
    Experiment(
        name="digits-early-bird",
        chapter=9,
        question="When do masks of channels settle, and what is a mask worth when drawn early?",
        dataset="digits",
        seeds=tuple(range(8)),
        parts=(
            SettlingPart("mlp_bn_64_64", SLIMMING, (0.04, 0.3, 0.5, 0.7), label="falling rate"),
            SettlingPart("mlp_bn_64_64", _CONSTANT, (0.5,), label="constant rate"),
            SettlingPart("vgg_tiny", SLIMMING, (0.5,), label="convolutions"),
            EarlyBirdPart("mlp_bn_64_64", SLIMMING, 0.5, _DRAWS, label="half"),
            EarlyBirdPart("mlp_bn_64_64", SLIMMING, 0.7, _DRAWS, label="most"),
        ),
    ),
    Experiment(
        name="digits-boosting",
        chapter=9,
        question="Do masks found at a low rate lead at the start, and at the end, and why?",
        dataset="digits",
        seeds=tuple(range(8)),
        parts=(
            BoostingPart("mlp_100_50", FAST, SLOW, FAST, _POINTS, _BASIC, label="natural"),
            BoostingPart(
                "mlp_100_50", _attacked(FAST, _WEAK), _attacked(SLOW, _WEAK),
                _attacked(FAST, _WEAK), _POINTS, _BASIC, attack=_MEASURE, label="FGSM",
            ),
            BoostingPart(
                "mlp_100_50", _attacked(replace(FAST, steps=200), _WEAK), _attacked(SLOW, _WEAK),
                _attacked(FAST, _WEAK), (20, 40, 100, 200), ("low_mask", "dense"),
                attack=_MEASURE, label="FGSM, short",
            ),
            BoostingPart(
                "mlp_100_50", _attacked(FAST, _STRONG), _attacked(SLOW, _WEAK),
                _attacked(FAST, _WEAK), _POINTS,
                (
                    "low_mask", "low_mask_reinit", "low_mask_random", "strong_mask",
                    "natural_mask", "narrow", "dense",
                ),
                attack=_MEASURE, strong=_STRONG, narrow="mlp_29_14", label="PGD",
            ),
        ),
    ),
    Experiment(
        name="cifar10-early-bird-short",
        chapter=9,
        question="Early-bird tickets of VGG-16 by slimming, 20 epochs instead of 160.",
        dataset="cifar10",
        seeds=tuple(range(3)),
        parts=(
            SettlingPart("vgg_16", _CIFAR, (0.3, 0.5, 0.7), label="falling rate"),
            EarlyBirdPart(
                "vgg_16", _CIFAR, 0.5, (1_053, 2_106), ("early_bird", "final_mask", "same_counts"),
                label="half",
            ),
        ),
    ),
    Experiment(
        name="cifar10-boosting-short",
        chapter=9,
        question="Boosting tickets of ResNet-18 under PGD training, 10 epochs instead of 100.",
        dataset="cifar10",
        seeds=tuple(range(3)),
        parts=(
            BoostingPart(
                "resnet_18", _attacked(_CIFAR_BOOST, _CIFAR_PGD),
                _attacked(_CIFAR_LOW, _CIFAR_FGSM),
                _attacked(_CIFAR_BOOST, _CIFAR_FGSM), (0, 351, 702, 1_755, 3_510),
                ("low_mask", "low_mask_reinit", "dense"), attack=_CIFAR_PGD, label="PGD",
            ),
        ),
    ),
)  # fmt: skip
