"""The claims of chapter 8: pruning before training, and gradients inside iterative pruning."""

from __future__ import annotations

from collections.abc import Mapping

from lth_tutorial.claims.rules import Claim, Effect, Setting, difference
from lth_tutorial.results.names import arm_name

# All criteria were fixed before the seeds that decide were run. The margin of half a point is the
# one by which chapter 4 judges matching on the digits; on MNIST and CIFAR-10, whose test sets are
# twenty times as large, it is 0.3 points.

_LIVE = "100-50 network on digits, Adam, 300 steps"
_MNIST = "784-100-50-10 network on MNIST, Adam, 4,000 steps"
_CIFAR = "ResNet-20 on CIFAR-10, SGD, 30,000 steps"
_SU, _MARK = "Su et al. 2020", "Frankle et al. 2021"
_ROUNDS = {"10 %": ("", 1), "5 %": ("", 2), "2 %": ("", 3)}
_CIFAR_ROUNDS = {"10 %": ("", 2), "5 %": ("", 3), "2 %": ("", 4)}
_SHORT = "ResNet-20 on CIFAR-10, SGD, 5,000 steps (short protocol)"
_SHORT_ROUNDS = {"10 %": ("checks: ", 1), "5 %": ("checks: ", 2), "2 %": ("sparse: ", 1)}


def _setting(
    a: str, b: str, name: str, round: int, at_least: float, metric="accuracy", unit="points",
    part: str = "",
):  # fmt: skip
    effect = Effect(
        f"{metric}: {arm_name(a)} − {arm_name(b)}",
        difference(metric, f"{part}{a}", f"{part}{b}", round=round), at_least, unit=unit,
    )  # fmt: skip
    return Setting(name, (effect,))


Place = Mapping[str, tuple[str, int]]
"""Where a density is in a record: the label of the part before its arms' names, and the round."""


def _survives(
    check: str, methods: Mapping[str, str], margin: float, places: Place
) -> tuple[Setting, ...]:
    """Return the condition that a check costs no more than the margin, by method and density."""
    return tuple(
        _at(places, share, f"{method}/{check}", method, -margin, f"{words} at {share}")
        for share in ("10 %", "5 %")
        for method, words in methods.items()
    )


def _at(places: Place, share: str, a: str, b: str, least: float, name: str = "") -> Setting:
    part, round = places[share]
    return _setting(a, b, name or share, round, least, part=part)


def _initial(
    prefix: str, record: str, network: str, margin: float, places: Place, live: bool
) -> tuple[Claim, ...]:
    """Return the claims about pruning before training, for one record."""

    def claim(key: str, statement: str, source: str, settings: tuple[Setting, ...]) -> Claim:
        return Claim(
            f"{prefix}{key}", 8, statement, source, record, network, settings, live_only=live
        )

    both = {"snip": "SNIP", "synflow": "SynFlow"}
    return (
        claim(
            "snip-beats-random",
            "A mask that SNIP draws before training beats a random mask of the same density.",
            "Lee et al. 2019, section 5",
            (_at(places, "5 %", "snip", "random", 0.005),),
        ),
        claim(
            "grasp-beats-snip",
            "Where few weights are left, preserving gradient flow beats connection sensitivity.",
            "Wang et al. 2020, section 5",
            (_at(places, "2 %", "grasp", "snip", 0.005),),
        ),
        claim(
            "shuffling-does-not-hurt",
            "Masks drawn before training lose nothing when they are shuffled within layers.",
            f"{_SU}, section 3; {_MARK}, section 5",
            _survives("shuffled", both, margin, places),
        ),
        claim(
            "redrawing-does-not-hurt",
            "They lose nothing when the weights are drawn anew.",
            f"{_MARK}, section 5",
            _survives("reinit", both, margin, places),
        ),
        claim(
            "data-do-not-matter",
            "SNIP's masks are as good when its data have random labels, or shuffled pixels.",
            f"{_SU}, section 3",
            _survives("random_labels", {"snip": "labels"}, margin, places)
            + _survives("shuffled_pixels", {"snip": "pixels"}, margin, places),
        ),
        claim(
            "shuffling-hurts-after-training",
            "A mask of the largest trained weights loses at least a point when it is shuffled.",
            f"{_MARK}, section 5",
            tuple(
                _at(places, share, "after_training", "after_training/shuffled", 0.01)
                for share in ("10 %", "5 %")
            ),
        ),
        claim(
            "random-tickets-compete",
            "Random masks with smart ratios come within half a point of SNIP, or beat it.",
            f"{_SU}, section 4",
            tuple(_at(places, share, "smart", "snip", -0.005) for share in ("10 %", "5 %", "2 %")),
        ),
    )


_FACTORS = {"gradient": "mean gradient", "fisher": "Fisher", "batch_gradient": "minibatches"}


def _data_dependent(
    key: str, record: str, network: str, round: int, share: str, arms: tuple[str, ...], live: bool
) -> Claim:
    """Return the claim that a factor from the gradient helps magnitude inside pruning."""
    return Claim(
        key,
        8,
        f"Magnitude times a factor from the loss gradient beats magnitude in rounds, at {share}.",
        "Lévai & Zombori 2020, abstract",
        record,
        network,
        tuple(_setting(arm, "magnitude", _FACTORS[arm], round, 0.0) for arm in arms),
        minimum_n=5,
        live_only=live,
    )


_ALIVE = {"metric": "alive", "unit": ""}

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "synflow-keeps-a-path",
        8,
        "SynFlow keeps a path from input to output at densities where one-shot methods keep none.",
        "Tanaka et al. 2020, sections 3 and 6",
        "digits-collapse",
        "64-60×10-10 network, untrained",
        (
            _setting("synflow", "magnitude", "magnitude at 1 %", 2, 0.5, **_ALIVE),
            _setting("synflow", "snip", "SNIP at 0.2 %", 4, 0.5, **_ALIVE),
            _setting("synflow", "grasp", "GraSP at 0.2 %", 4, 0.5, **_ALIVE),
        ),
        live_only=True,
    ),
    *_initial("", "digits-before-training", _LIVE, 0.005, _ROUNDS, live=True),
    _data_dependent(
        "gradient-factor-helps", "digits-criteria", _LIVE, 5, "3.1 %", ("gradient", "fisher"), True
    ),
    *_initial("mnist-", "mnist-pruning-at-init", _MNIST, 0.003, _ROUNDS, live=False),
    _data_dependent(
        "mnist-gradient-factor-helps",
        "mnist-data-dependent",
        _MNIST,
        6,
        "1.6 %",
        tuple(_FACTORS),
        False,
    ),
    *_initial("cifar10-", "cifar10-pruning-at-init", _CIFAR, 0.003, _CIFAR_ROUNDS, live=False),
    *_initial(
        "cifar10-short-", "cifar10-pruning-at-init-short", _SHORT, 0.003, _SHORT_ROUNDS, live=False
    ),
)
