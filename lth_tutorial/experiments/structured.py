"""The experiments of chapters 3 and 5: whole filters, slimming, and inherited weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lth_tutorial.criteria import magnitude_scores
from lth_tutorial.data.dataset import Dataset
from lth_tutorial.experiments.design import Experiment, LotteryPart
from lth_tutorial.pruning.masks import dense_mask, density
from lth_tutorial.pruning.prune import Scope, prune
from lth_tutorial.runtime import progress_bar
from lth_tutorial.states import snapshot
from lth_tutorial.structured.experiment import structured_experiment
from lth_tutorial.structured.scratch import stretched
from lth_tutorial.tickets.arms import OTHER_INITIALIZATION, model_builder
from lth_tutorial.tickets.lottery import converged, rewind_
from lth_tutorial.training.config import IMPConfig, TrainConfig
from lth_tutorial.training.evaluation import evaluate
from lth_tutorial.training.identity import within
from lth_tutorial.training.replicates import train_replicates

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class StructuredPart:
    """Whole units removed, by `structured_experiment`."""

    model: str
    train: TrainConfig
    finetune: TrainConfig
    fractions: tuple[float, ...]
    arms: tuple[str, ...]
    scope: Scope = "layer"
    label: str = ""

    def measure(
        self, data: Dataset, seeds: Sequence[int], workdir: str | Path | None
    ) -> pd.DataFrame:
        """Return one row per arm, seed and fraction."""
        return structured_experiment(
            self.model, data, self.train, self.finetune, fractions=self.fractions,
            arms=self.arms, scope=self.scope, seeds=seeds, workdir=workdir,
        )  # fmt: skip


@dataclass(frozen=True)
class UnstructuredPart:
    """Single weights pruned once, then fine-tuned, or trained from new weights under the mask.

    The arms are those of Liu et al. (2019, Rethinking): "fine_tuned", "scratch_e" (as many steps
    as the dense network) and "scratch_b" (more of them, by the ratio of weights, at most twice).
    """

    model: str
    train: TrainConfig
    finetune: TrainConfig
    fractions: tuple[float, ...]
    label: str = ""

    def measure(
        self, data: Dataset, seeds: Sequence[int], workdir: str | Path | None
    ) -> pd.DataFrame:
        """Return one row per arm, seed and fraction; round 0 is the dense network, in every arm."""
        import pandas as pd

        longest = [stretched(self.train, self._longer(share)).steps for share in self.fractions]
        once = self.finetune.steps + self.train.steps
        total = self.train.steps + sum(once + steps for steps in longest)
        with progress_bar(total * len(seeds), "unstructured pruning") as bar:
            rows = self._measure(data, list(seeds), bar.update, workdir)
        return pd.DataFrame(rows)

    @staticmethod
    def _longer(share: float) -> float:
        """Return how many times as long the longer training from scratch is."""
        return min(2.0, 1 / (1 - share))

    def _measure(self, data: Dataset, seeds: list[int], on_step, workdir) -> list[dict]:
        build = model_builder(self.model, data)
        models = [build(seed) for seed in seeds]
        full = [dense_mask(model) for model in models]
        common = (data, seeds, on_step, workdir)
        dense = self._trained("dense", 0, models, full, self.train, *common)
        rows = [row | {"arm": arm} for arm in _RETRAINED for row in dense]
        trained = [snapshot(model) for model in models]
        for index, fraction in enumerate(self.fractions, start=1):
            masks = [
                prune(magnitude_scores(state, mask), mask, fraction)
                for state, mask in zip(trained, full, strict=True)
            ]
            longer = stretched(self.train, self._longer(fraction))
            for arm, config in zip(_RETRAINED, (self.finetune, self.train, longer), strict=True):
                own = copy.deepcopy(models)
                for i, seed in enumerate(seeds):
                    fresh = snapshot(build(seed + OTHER_INITIALIZATION))
                    rewind_(own[i], trained[i] if arm == "fine_tuned" else fresh, masks[i])
                rows += self._trained(arm, index, own, masks, config, *common)
        return rows

    def _trained(
        self, arm, index, models, masks, config, data, seeds, on_step, workdir
    ) -> list[dict]:
        """Train an arm and return its rows."""
        before = [evaluate(model, data).accuracy for model in models]
        results = train_replicates(
            models, data, config, data_seeds=seeds, masks=masks, on_step=on_step,
            workdir=within(workdir, f"round_{index}", arm),
        )  # fmt: skip
        return [
            {
                "arm": arm, "seed": seed, "round": index, "density": density(mask),
                "accuracy": evaluate(model, data).accuracy if converged(result) else math.nan,
                "start_accuracy": start, "steps": config.steps,
            }
            for seed, model, mask, result, start in zip(
                seeds, models, masks, results, before, strict=True
            )
        ]  # fmt: skip


_RETRAINED = ("fine_tuned", "scratch_e", "scratch_b")

# Rethinking's CIFAR protocol: 160 epochs, batch 64, rate 0.1 divided by 10 at half and at three
# quarters, weight decay 1e-4; fine-tuning for 40 epochs at the lowest of these rates.
_EPOCH = 45_000 // 64
_CIFAR = TrainConfig(
    steps=160 * _EPOCH, batch_size=64, lr=0.1, weight_decay=1e-4, augment=True,
    lr_drops=(80 * _EPOCH, 120 * _EPOCH), precision="bf16",
)  # fmt: skip
_FINETUNE = replace(_CIFAR, steps=40 * _EPOCH, lr=1e-3, lr_drops=())
_SCRATCH = ("units_l1", "units_random", "scratch_e", "scratch_b")
_SLIM = ("units_bn_scale", "units_random", "scratch_e", "scratch_b")

EXPERIMENTS = (
    Experiment(
        name="cifar10-vgg16-filters",
        chapter=5,
        question="Does a small VGG-16 need the weights of the large one, or only its shape?",
        dataset="cifar10",
        seeds=tuple(range(3)),
        parts=(
            StructuredPart("vgg_16", _CIFAR, _FINETUNE, (0.3, 0.5), _SCRATCH, label="filters"),
            UnstructuredPart(
                "vgg_16", _CIFAR, _FINETUNE, (0.6, 0.95), label="weights, high rate"
            ),
            UnstructuredPart(
                "vgg_16", replace(_CIFAR, lr=0.01), _FINETUNE, (0.6, 0.95),
                label="weights, low rate",
            ),
        ),
    ),
    Experiment(
        name="cifar10-slimming",
        chapter=3,
        question="Does an ℓ1 penalty on batch norm's scales make channels that can go?",
        dataset="cifar10",
        seeds=tuple(range(3)),
        parts=(
            StructuredPart(
                "vgg_16", replace(_CIFAR, bn_l1=1e-4), replace(_FINETUNE, bn_l1=0.0),
                (0.4, 0.5, 0.7), _SLIM, scope="global", label="slimming",
            ),
            StructuredPart(
                "vgg_16", _CIFAR, _FINETUNE, (0.4, 0.5, 0.7), ("units_bn_scale", "units_random"),
                scope="global", label="no penalty",
            ),
        ),
    ),
    Experiment(
        name="cifar10-conv-imp",
        chapter=4,
        question="Do convolutional tickets generalise better, for Conv-2 and for Conv-4?",
        dataset="cifar10",
        seeds=tuple(range(3)),
        parts=tuple(
            LotteryPart(
                model=model,
                train=TrainConfig(
                    steps=steps, batch_size=60, optimizer="adam", lr=lr, eval_every=100
                ),
                imp=IMPConfig(
                    rounds=16,
                    fraction={f"conv{i}.weight": 0.1 for i in range(1, depth + 1)}
                    | {"fc1.weight": 0.2, "fc2.weight": 0.2, "output.weight": 0.1},
                    scope="layer",
                ),
                arms=("ticket", "reinit"),
                label=model,
            )
            for model, depth, lr, steps in (
                ("conv_2", 2, 2e-4, 20_000), ("conv_4", 4, 3e-4, 25_000),
            )
        ),
    ),
)  # fmt: skip
