"""The claims of chapter 10 that its live cells decide: networks that are never trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lth_tutorial.claims.rules import Claim, Effect, Measured, Setting, difference

if TYPE_CHECKING:
    import pandas as pd

# The criteria were fixed after a pilot with seeds 100 to 104, before the seeds that decide were
# run. They differ from those at full scale: a margin of one point where CIFAR-10 has five, 30
# points over a random mask where LeNet on MNIST has an accuracy of 70 %.

_WIDTHS, _DENSITIES, _MASKS = "digits-widths", "digits-densities", "digits-supermasks"
_NETWORK = "64-w-w-10 network without biases on digits, 400 steps"
_RAMANUJAN = "Ramanujan et al. 2020, section 4"
_ZHOU = "Zhou et al. 2019, section 5"


def _at_width(
    measure: Callable[[pd.DataFrame], Measured], width: int
) -> Callable[[pd.DataFrame], Measured]:
    return lambda rows: measure(rows[rows["width"] == width])


def _narrowing(narrow: int, wide: int) -> Callable[[pd.DataFrame], Measured]:
    """Return the measure: by how much the gap to the dense network is smaller in wide networks."""
    gap = difference("accuracy", "dense", "edge_popup", round=1)

    def measure(rows: pd.DataFrame) -> Measured:
        pairs = [list(_at_width(gap, width)(rows).values) for width in (narrow, wide)]
        return Measured([a - b for a, b in zip(*pairs, strict=False)])

    return measure


def _between(rounds: tuple[int, int]) -> Callable[[pd.DataFrame], Measured]:
    """Return the measure: accuracy of one round minus that of another, seed by seed."""

    def measure(rows: pd.DataFrame) -> Measured:
        own = rows[rows["arm"] == "edge_popup"]
        a, b = (own[own["round"] == r].set_index("seed")["accuracy"] for r in rounds)
        return Measured(list((a - b).dropna()))

    return measure


def _live(key: str, statement: str, source: str, record: str, setting: Setting) -> Claim:
    return Claim(key, 10, statement, source, record, _NETWORK, (setting,), live_only=True)


CLAIMS: tuple[Claim, ...] = (
    _live(
        "heuristic-supermask-digits",
        "A mask of the weights that training made large lifts the untrained network above chance.",
        _ZHOU, _MASKS,
        Setting("w = 64, 30 % kept", (
            Effect(
                "accuracy before training: same sign − random mask",
                difference("accuracy", "same_sign", "random", round=1), 0.30,
            ),
        )),
    ),
    _live(
        "learned-supermask-digits",
        "A mask that is learned for the untrained weights does better than the heuristic one.",
        _ZHOU, _MASKS,
        Setting("w = 64", (
            Effect(
                "accuracy: learned − same sign, 30 %",
                difference("accuracy", "sampled", "same_sign", round=1), 0.10,
            ),
        )),
    ),
    _live(
        "strong-ticket-digits",
        "A random network contains a subnetwork that matches the trained network, untrained.",
        _RAMANUJAN, _WIDTHS,
        Setting("w = 128, 50 % kept", (
            Effect(
                "accuracy: edge-popup − dense",
                _at_width(difference("accuracy", "edge_popup", "dense", round=1), 128), -0.01,
            ),
        )),
    ),
    _live(
        "width-closes-the-gap-digits",
        "The wider the network, the smaller the gap to the trained network.",
        _RAMANUJAN, _WIDTHS,
        Setting("50 % kept", (
            Effect("gap to dense: w = 16 − w = 64", _narrowing(16, 64), 0.01),
        )),
    ),
    _live(
        "interior-density-digits",
        "Keeping about half is better than keeping little, and better than keeping nearly all.",
        _RAMANUJAN, _DENSITIES,
        Setting("w = 32", (
            Effect("accuracy: 50 % − 10 % kept", _between((4, 1)), 0.02),
            Effect("accuracy: 50 % − 90 % kept", _between((4, 6)), 0.02),
        )),
    ),
)  # fmt: skip
