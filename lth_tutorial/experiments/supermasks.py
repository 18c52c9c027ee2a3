"""The experiments of chapters 10 and 12: networks that are never trained, and signs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.experiments.design import Experiment
from lth_tutorial.supermask.comparison import supermask_experiment
from lth_tutorial.supermask.signs import signs_experiment
from lth_tutorial.training.config import IMPConfig, TrainConfig

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SupermaskPart:
    """Supermasks beside the dense network, by `supermask_experiment`.

    `packed` names the arms whose best supermask, at the first density, becomes a packed ticket.
    """

    model: str
    search: TrainConfig
    dense: TrainConfig | None
    arms: tuple[str, ...] = ("edge_popup",)
    keeps: tuple[float, ...] = (0.5,)
    weights: Literal["signed_constant", "kaiming_normal"] = "signed_constant"
    scaled: bool = True
    batch_norm: bool = False
    packed: tuple[str, ...] = ()
    label: str = ""

    def measure(
        self, data: Dataset, seeds: Sequence[int], workdir: str | Path | None
    ) -> pd.DataFrame:
        """Return one row per arm, seed and density."""
        return supermask_experiment(
            self.model, data, self.search, arms=self.arms, keeps=self.keeps, weights=self.weights,
            scaled=self.scaled, batch_norm=self.batch_norm, dense_config=self.dense, seeds=seeds,
            workdir=workdir,
        )  # fmt: skip


@dataclass(frozen=True)
class SignsPart:
    """Tickets whose kept weights get other values or signs, by `signs_experiment`."""

    model: str
    train: TrainConfig
    imp: IMPConfig
    label: str = ""

    def measure(
        self, data: Dataset, seeds: Sequence[int], workdir: str | Path | None
    ) -> pd.DataFrame:
        """Return one row per arm, seed and round."""
        return signs_experiment(
            self.model, data, self.train, self.imp, seeds=seeds, workdir=workdir
        )


MNIST_SCORES = TrainConfig(
    steps=3_000, batch_size=100, lr=1.0, weight_decay=1e-4, schedule="cosine"
)
MNIST_DENSE = TrainConfig(steps=3_000, batch_size=100, optimizer="adam", lr=2e-3, schedule="cosine")
SAMPLED = TrainConfig(steps=4_000, batch_size=100, lr=100.0, schedule="cosine")
PRIZES = ("edge_popup", "biprop", "biprop_norm", "biprop_1_1", "biprop_1_1_norm")
MULTI = replace(MNIST_SCORES, steps=2_500, optimizer="adam", lr=0.01, weight_decay=0.0)
MULTI_DENSE = replace(MNIST_DENSE, steps=2_500)

# 45,000 training images: 351 batches of 128 an epoch, 175 of 256; 100 epochs each.
CIFAR_SCORES = TrainConfig(
    steps=35_100, batch_size=128, lr=0.1, weight_decay=1e-4, schedule="cosine", augment=True
)
CIFAR_DENSE = replace(CIFAR_SCORES, optimizer="adam", lr=3e-4, weight_decay=0.0)
CIFAR_BINARY = replace(CIFAR_SCORES, optimizer="adam", lr=0.1)
RESNET = replace(CIFAR_SCORES, steps=17_500, batch_size=256, weight_decay=5e-4, precision="bf16")
CONV = ("conv_2", "conv_4", "conv_6", "conv_8")

EXPERIMENTS = (
    Experiment(
        name="mnist-edge-popup",
        chapter=10,
        question="How good are networks that are never trained, by width and by density?",
        dataset="mnist",
        seeds=tuple(range(5)),
        parts=(
            *(
                SupermaskPart(
                    f"mlp_{w}_{w}", MNIST_SCORES, MNIST_DENSE, label=f"width {w}",
                    packed=("edge_popup",) if w == 256 else (),
                )
                for w in (32, 64, 256)
            ),
            SupermaskPart(
                "mlp_128_128", MNIST_SCORES, MNIST_DENSE, keeps=(0.1, 0.3, 0.5, 0.7, 0.9),
                label="width 128",
            ),
        ),
    ),
    Experiment(
        name="mnist-signs-and-masks",
        chapter=10,
        question="What matters about a ticket's weights: their values, their signs, or the mask?",
        dataset="mnist",
        seeds=tuple(range(5)),
        parts=(
            SignsPart(
                "lenet_300_100",
                TrainConfig(steps=4_000, batch_size=60, optimizer="adam", lr=1.2e-3),
                IMPConfig(
                    rounds=4,
                    fraction={"fc1.weight": 0.5, "fc2.weight": 0.5, "output.weight": 0.25},
                    scope="layer",
                ),
            ),
            *(
                SupermaskPart(
                    "lenet_300_100", SAMPLED, None, ("sampled", "sampled_rescaled"),
                    weights=weights, scaled=False, label=f"learned, {words}",
                )
                for words, weights in (
                    ("normal", "kaiming_normal"), ("constant", "signed_constant")
                )
            ),
        ),
    ),
    Experiment(
        name="digits-wide-multi-prize",
        chapter=12,
        question="How good is a multi-prize ticket of a wide network on the digits?",
        dataset="digits",
        seeds=tuple(range(8)),
        parts=(
            SupermaskPart(
                "mlp_400_400", replace(MULTI, steps=300), replace(MULTI_DENSE, steps=300),
                ("biprop", "biprop_norm"), (0.5,), "kaiming_normal", False, True,
                packed=("biprop_norm",), label="width 400",
            ),
        ),
    ),
    Experiment(
        name="mnist-multi-prize",
        chapter=12,
        question="What do one-bit weights and one-bit activations cost an untrained network?",
        dataset="mnist",
        seeds=tuple(range(5)),
        parts=tuple(
            SupermaskPart(
                f"mlp_{w}_{w}", MULTI, MULTI_DENSE, PRIZES, keeps, "kaiming_normal", False, True,
                packed=("biprop_norm", "biprop_1_1_norm") if w == 256 else (), label=f"width {w}",
            )
            for w, keeps in ((64, (0.5,)), (128, (0.5, 0.2)), (256, (0.5,)))
        ),
    ),
    Experiment(
        name="cifar10-edge-popup",
        chapter=10,
        question="Edge-popup by the settings of Ramanujan et al. (2020): Conv-2 to Conv-8.",
        dataset="cifar10",
        seeds=tuple(range(3)),
        parts=tuple(
            SupermaskPart(
                name, CIFAR_SCORES,
                replace(CIFAR_DENSE, lr=2e-4) if name == "conv_2" else CIFAR_DENSE,
                keeps=(0.5, 0.1, 0.3, 0.7, 0.9) if name == "conv_4" else (0.5,), label=name,
                packed=("edge_popup",) if name == "conv_6" else (),
            )
            for name in CONV
        ),
    ),
    Experiment(
        name="cifar10-multi-prize",
        chapter=12,
        question="Multi-prize tickets by the settings of Diffenderfer & Kailkhura (2021).",
        dataset="cifar10",
        seeds=tuple(range(3)),
        parts=(
            *(
                SupermaskPart(
                    name, CIFAR_SCORES, CIFAR_DENSE, ("edge_popup", "biprop"), (0.5,),
                    "kaiming_normal", False, label=name,
                )
                for name in CONV
            ),
            *(
                SupermaskPart(
                    name, CIFAR_BINARY, CIFAR_DENSE, ("biprop_1_1", "biprop_1_1_norm"), (0.5,),
                    "kaiming_normal", False, True, label=f"{name}, batch norm",
                )
                for name in CONV
            ),
            SupermaskPart(
                "resnet_18", RESNET, RESNET, ("biprop", "biprop_norm"), (0.2,), "kaiming_normal",
                False, packed=("biprop_norm",), label="resnet_18",
            ),
            SupermaskPart(
                "vgg_small", CIFAR_BINARY, CIFAR_DENSE, ("biprop_1_1", "biprop_1_1_norm"), (0.25,),
                "kaiming_normal", False, packed=("biprop_1_1_norm",), label="vgg_small",
            ),
        ),
    ),
)  # fmt: skip
