"""The quarrel in one small network: tickets found, contradicted, rescued (chapters 4 to 7).

A deep narrow network with batch norm and small batches shows all three acts within seconds. What
decides is the noise of training: at a low rate a ticket's initial weights are worth points, at a
high one nothing, until the network is rewound to an early step instead of to step 0.

The rates belong to the size of the initial weights. With batch norm, a step turns small weights
further than large ones, so the same rate is a lower one for a network that is drawn Glorot normal
(`digits-quarrel`, the first try) than for one with PyTorch's own weights (`digits-three-acts`).
"""

from __future__ import annotations

from dataclasses import replace

from lth_tutorial.experiments.design import Experiment, InstabilityPart, LotteryPart
from lth_tutorial.experiments.stability import DEEP, DEEP_NORMED
from lth_tutorial.training.config import IMPConfig, TrainConfig

LOW, HIGH, EARLY = 0.003, 0.1, 50
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2)
TO_6_PERCENT = IMPConfig(rounds=4, fraction=0.5)
ARMS = ("ticket", "reinit")

SMALL_BATCHES = TrainConfig(
    steps=600, batch_size=10, lr=LOW, weight_decay=2e-3, schedule="cosine"
)  # fmt: skip
SWEEP = replace(SMALL_BATCHES, batch_size=20)
MNIST = replace(SMALL_BATCHES, steps=800, weight_decay=1e-3)
UNIFORM = "mlp_bn_uniform_64_64_64_64_64"
MNIST_NETWORK = "mlp_bn_uniform_64_64_64_64"


def acts(model: str, train: TrainConfig, *, high: float) -> tuple[LotteryPart, ...]:
    """Return the lotteries of the three acts: two rates, rewound to step 0 and to an early one."""
    return tuple(
        LotteryPart(
            model, replace(train, lr=rate), replace(TO_6_PERCENT, rewind_step=step), ARMS,
            label=f"{name} rate, step {step}",
        )
        for name, rate in (("low", train.lr), ("high", high))
        for step in (0, EARLY)
    )  # fmt: skip


def barriers(model: str, train: TrainConfig, *, high: float) -> tuple[InstabilityPart, ...]:
    """Return the barriers of the dense network whose copies part at step 0 and at the early one."""
    return tuple(
        InstabilityPart(model, replace(train, lr=rate), (0, EARLY), label=f"{name} rate")
        for name, rate in (("low", train.lr), ("high", high))
    )


def _story(model: str) -> tuple[LotteryPart | InstabilityPart, ...]:
    """Return what a network is asked on the digits: acts, barriers, and acts with less noise."""
    less_noise = replace(SMALL_BATCHES, lr=HIGH, batch_size=50)
    return (
        *acts(model, SMALL_BATCHES, high=HIGH),
        *barriers(model, SMALL_BATCHES, high=HIGH),
        LotteryPart(model, less_noise, TO_6_PERCENT, ARMS, label="high rate, batches of 50"),
    )


def _rate(rate: float, times: int = 1) -> tuple[LotteryPart, InstabilityPart]:
    train = replace(SWEEP, lr=rate, steps=times * SWEEP.steps)
    label = f"rate {rate:g}" + (f", {times} times the steps" if times > 1 else "")
    return (
        LotteryPart(UNIFORM, train, TO_6_PERCENT, ARMS, label=label),
        InstabilityPart(UNIFORM, train, (0,), label=f"{label}, copies"),
    )


EXPERIMENTS = (
    Experiment(
        name="digits-quarrel",
        chapter=5,
        question="Are tickets found, contradicted and rescued in one small network?",
        dataset="digits",
        seeds=tuple(range(300, 324)),
        parts=(
            *_story(DEEP_NORMED),
            LotteryPart(
                DEEP, replace(SMALL_BATCHES, lr=0.05, batch_size=20, steps=800), TO_6_PERCENT, ARMS,
                label="no batch norm",
            ),
        ),
    ),
    Experiment(
        name="digits-three-acts",
        chapter=5,
        question="Are tickets found, contradicted and rescued, with PyTorch's initial weights?",
        dataset="digits",
        seeds=tuple(range(500, 524)),
        parts=_story(UNIFORM),
    ),
    Experiment(
        name="digits-quarrel-rates",
        chapter=6,
        question="As training gets noisier, do barrier and worth of the initial weights trade off?",
        dataset="digits",
        seeds=tuple(range(500, 532)),
        parts=(
            *(part for rate in RATES for part in _rate(rate)),
            *(part for rate in RATES[:2] for part in _rate(rate, times=4)),
        ),
    ),
    Experiment(
        name="mnist-quarrel",
        chapter=5,
        question="Are tickets found, contradicted and rescued on 2,000 images of MNIST?",
        dataset="mnist",
        seeds=tuple(range(500, 524)),
        parts=tuple(
            replace(part, images=2_000)
            for part in (
                *acts(MNIST_NETWORK, MNIST, high=HIGH),
                *barriers(MNIST_NETWORK, MNIST, high=HIGH),
            )
        ),
    ),
)  # fmt: skip
