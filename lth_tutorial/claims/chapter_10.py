"""The full-scale claims of chapter 10: supermasks, edge-popup and signs."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from lth_tutorial.claims.rules import Claim, Effect, Setting
from lth_tutorial.claims.supermasks import Cell, between, gap_closes, value

# Declared before any run on MNIST or CIFAR-10. The 5 points of a strong ticket are those by which
# the paper would be falsified; MNIST, on which everything is accurate, gets 2.

_MNIST = "two equal hidden layers on MNIST, scores by SGD, 3,000 steps"
_CIFAR = "Conv-N on CIFAR-10, scores by SGD, 100 epochs"
_SHORT = "Conv-N on CIFAR-10, scores by SGD, 6,000 steps (short protocol)"
_LENET = "LeNet-300-100 on MNIST, Adam, 4,000 steps"
_RAMANUJAN, _ZHOU = "Ramanujan et al. 2020", "Zhou et al. 2019"
_WIDE, _CONV = "width 128: edge_popup", "conv_4: edge_popup"
_WIDTHS = {
    f"width {w}": (f"width {w}: edge_popup", round)
    for w, round in ((32, 1), (64, 1), (128, 3), (256, 1))
}
_DEPTHS = {f"Conv-{depth}": (f"conv_{depth}: edge_popup", 1) for depth in (2, 4, 6)}


def _near_dense(arm: str, round: int, margin: float) -> Effect:
    measure = between((arm, round), (arm, 0))
    return Effect("accuracy: supermask − dense", measure, -margin)


def _peak(arm: str, middle: int, ends: tuple[int, int]) -> tuple[Effect, ...]:
    return tuple(
        Effect(f"accuracy: keep 0.5 − keep {keep}", between((arm, middle), (arm, end)), 0.0)
        for keep, end in zip((0.1, 0.9), ends, strict=True)
    )


def _scale(cells: Mapping[str, Cell]) -> tuple[Effect, ...]:
    """Return the condition from each network to the next larger one, by their names."""
    return tuple(
        Effect(f"gap to dense: {a} − {b}", gap_closes(small, large), 0.0)
        for (a, small), (b, large) in pairwise(cells.items())
    )


_STRONG = "An untrained network holds a subnetwork about as accurate as the trained network."
_INTERIOR = "The best density of such a subnetwork lies between the extremes."
_CLOSES = "The larger the network, the nearer its best subnetwork comes to the trained network."
_MNIST_RECORD, _CIFAR_RECORD = "mnist-edge-popup", "cifar10-edge-popup"
_SIGNS_RECORD = "mnist-signs-and-masks"


def _convolutional(suffix: str, record: str, network: str) -> tuple[Claim, ...]:
    """Return the claims about Conv-N on CIFAR-10, for one protocol."""
    source = f"{_RAMANUJAN}, section 4"
    return (
        Claim(
            f"strong-ticket-{suffix}",
            10,
            _STRONG,
            source,
            record,
            network,
            tuple(
                Setting(
                    f"Conv-{depth}, keep 0.5", (_near_dense(f"conv_{depth}: edge_popup", 1, 0.05),)
                )
                for depth in (4, 6)
            ),
        ),
        Claim(
            f"interior-density-{suffix}",
            10,
            _INTERIOR,
            source,
            record,
            network,
            (Setting("Conv-4", _peak(_CONV, 1, (2, 5))),),
        ),
        Claim(
            f"scale-closes-the-gap-{suffix}",
            10,
            _CLOSES,
            source,
            record,
            network,
            (Setting("Conv-2 to Conv-6", _scale(_DEPTHS)),),
        ),
    )


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "strong-ticket-mnist", 10, _STRONG, f"{_RAMANUJAN}, section 4", _MNIST_RECORD, _MNIST,
        (Setting("width 256, keep 0.5", (_near_dense("width 256: edge_popup", 1, 0.02),)),),
        minimum_n=5,
    ),
    Claim(
        "interior-density-mnist", 10, _INTERIOR, f"{_RAMANUJAN}, section 4", _MNIST_RECORD, _MNIST,
        (Setting("width 128", _peak(_WIDE, 3, (1, 5))),), minimum_n=5,
    ),
    Claim(
        "scale-closes-the-gap-mnist", 10, _CLOSES, f"{_RAMANUJAN}, section 4", _MNIST_RECORD,
        _MNIST, (Setting("width 32 to 256", _scale(_WIDTHS)),), minimum_n=5,
    ),
    *_convolutional("cifar10", _CIFAR_RECORD, _CIFAR),
    *_convolutional("cifar10-short", f"{_CIFAR_RECORD}-short", _SHORT),
    Claim(
        "signs-matter", 10,
        "Of a ticket's kept initial weights the signs matter, even where all magnitudes are equal.",
        f"{_ZHOU}, section 3", _SIGNS_RECORD, _LENET,
        (Setting("6.3 % of weights", (
            Effect(
                "accuracy: constants of the same sign − of random sign",
                between(("constant", 4), ("constant_signs_random", 4)), 0.005,
            ),
        )),), minimum_n=5,
    ),
    Claim(
        "heuristic-supermask", 10,
        "Keeping the weights that training made large, if their sign stayed, makes the untrained "
        "network classify.",
        f"{_ZHOU}, section 5", _SIGNS_RECORD, _LENET,
        (Setting("25 % of weights", (
            Effect(
                "accuracy before training, large final, same sign",
                value("same_sign", 2, "start_accuracy"), 0.70,
            ),
            Effect(
                "accuracy before training, random mask",
                value("random", 2, "start_accuracy"), 0.20, "below",
            ),
        )),), minimum_n=5,
    ),
    # Its settings come from a pilot with seed 100 (95 % with either kind of weights).
    Claim(
        "learned-supermask", 10,
        "A mask that is learned makes the untrained network classify better than that heuristic.",
        f"{_ZHOU}, section 5", _SIGNS_RECORD, _LENET,
        tuple(
            Setting(words, (
                Effect("accuracy before training", value(f"learned, {arm}", 1), 0.90),
                Effect(
                    "accuracy: learned − large final, same sign (25 %)",
                    between((f"learned, {arm}", 1), ("same_sign", 2), other="start_accuracy"),
                    0.05,
                ),
            ))
            for words, arm in (
                ("normal weights", "normal: sampled"),
                ("constants, rescaled", "constant: sampled_rescaled"),
            )
        ), minimum_n=5,
    ),
)  # fmt: skip
