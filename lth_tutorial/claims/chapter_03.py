"""The claims of chapter 3: whole filters, slimming, heads, and time by the clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lth_tutorial.claims.rules import Claim, Effect, Measured, Setting

if TYPE_CHECKING:
    import pandas as pd

# The criteria were fixed after pilots with seeds 100 and up, before the seeds that decide.

_RECORD = "digits-structured"
_CNN = "three convolutions with batch norm on digits, SGD, 300 steps"
_VGG, _SHORT = (
    "VGG-16 on CIFAR-10, SGD, 5,000 steps (short protocol)", "cifar10-slimming-short",
)  # fmt: skip
_VIT = "transformer of 2 blocks of 4 heads on digits, Adam, 200 steps"


def _gap(a: tuple[str, str, int], b: tuple[str, str, int]) -> Callable[[pd.DataFrame], Measured]:
    """Return the measure a − b, seed by seed, each given as arm, column and round."""

    def measure(rows: pd.DataFrame) -> Measured:
        if not {a[1], b[1]} <= set(rows):
            return Measured([])
        sides = [
            rows[(rows["arm"] == arm) & (rows["round"] == round)].set_index("seed")[column]
            for arm, column, round in (a, b)
        ]
        return Measured((sides[0] - sides[1]).dropna().astype(float))

    return measure


def _value(arm: str, column: str) -> Callable[[pd.DataFrame], Measured]:
    """Return the measure of one column of one arm after pruning."""

    def measure(rows: pd.DataFrame) -> Measured:
        chosen = (rows["arm"] == arm) & (rows["round"] == 1)
        return Measured(rows.loc[chosen, column].dropna().astype(float))

    return measure


def _fine_tuned(arm: str, dense: str, round: int, name: str) -> Setting:
    """Return the setting in which what is left is within a point of the dense network."""
    measure = _gap((arm, "accuracy", round), (dense, "accuracy", 0))
    return Setting(name, (Effect("accuracy: fine-tuned − dense", measure, -0.01),))


def _slimming(arm: str, share: str, round: int) -> Setting:
    """Return the setting in which slimming makes room for a share of VGG-16's channels."""
    slim, plain = f"slimming: {arm}", f"no penalty: {arm}"
    return Setting(share, (
        Effect(
            "right after removal: with penalty − without",
            _gap((slim, "start_accuracy", round), (plain, "start_accuracy", round)), 0.30,
        ),
        Effect(
            "fine-tuned, with penalty − dense without",
            _gap((slim, "accuracy", round), (plain, "accuracy", 0)), -0.01,
        ),
    ))  # fmt: skip


def _claim(key: str, statement: str, source: str, network: str, *settings: Setting) -> Claim:
    return Claim(key, 3, statement, source, _RECORD, network, settings, live_only=True)


CLAIMS: tuple[Claim, ...] = (
    _claim(
        "filters-can-go",
        "Whole filters can be removed within a point of accuracy, if the rest is fine-tuned.",
        "Li et al. 2017, abstract", _CNN,
        _fine_tuned("units_l1", "units_l1", 1, "25 % of filters"),
        _fine_tuned("units_l1", "units_l1", 2, "50 % of filters"),
    ),
    _claim(
        "small-filters-first",
        "Filters with a small ℓ1 norm are the ones to remove: a random choice is worse.",
        "Li et al. 2017, section 3.1", _CNN,
        Setting("25 %, before fine-tuning", (Effect(
            "accuracy: smallest ℓ1 − random",
            _gap(("units_l1", "start_accuracy", 1), ("units_random", "start_accuracy", 1)), 0.05,
        ),)),
        Setting("50 %, fine-tuned", (Effect(
            "accuracy: smallest ℓ1 − random",
            _gap(("units_l1", "accuracy", 2), ("units_random", "accuracy", 2)), 0.003,
        ),)),
    ),
    _claim(
        "slimming-makes-room",
        "Trained with an ℓ1 penalty on batch norm's scales, a network can lose 40 % of its "
        "channels.",
        "Liu et al. 2017, section 3", _CNN,
        Setting("right after removal and fine-tuned", (
            Effect(
                "right after removal: with penalty − without",
                _gap(("slimmed", "start_accuracy", 1), ("unslimmed", "start_accuracy", 1)), 0.30,
            ),
            Effect(
                "fine-tuned, with penalty − dense without",
                _gap(("slimmed", "accuracy", 1), ("unslimmed", "accuracy", 0)), -0.01,
            ),
        )),
    ),
    _claim(
        "heads-can-go",
        "Half of a transformer's heads can be removed within a point, if the rest is fine-tuned.",
        "after Michel et al. 2019", _VIT,
        _fine_tuned("heads_l1", "heads_l1", 1, "50 % of heads"),
    ),
    _claim(
        "removal-is-faster",
        "Half the filters removed make a network faster; the same filters masked do not.",
        "Li et al. 2017, section 4; a control of this book", _CNN,
        Setting("50 % of filters, batch of 256", (
            Effect(
                "times as fast, removed", _value("removed", "speedup"), 1.5, unit="", timed=True,
            ),
            Effect(
                "times as fast, masked", _value("masked", "speedup"), 1.1, "below", unit="",
                timed=True,
            ),
        )),
    ),
    # Declared without a pilot; the thresholds are those of the digits.
    Claim(
        "slimming-makes-room-vgg16-short", 3,
        "Trained with an ℓ1 penalty on batch norm's scales, a network can lose many of its "
        "channels.",
        "Liu et al. 2017, section 3", _SHORT, _VGG,
        (
            _slimming("units_bn_scale", "40 % of channels", 1),
            _slimming("units_bn_scale", "70 % of channels", 2),
        ),
    ),
    Claim(
        "slimmed-shape-suffices-vgg16-short", 3,
        "The slimmed shape, trained from scratch, matches the slimmed network that is fine-tuned.",
        "Liu et al. 2019, section 4", _SHORT, _VGG,
        tuple(
            Setting(share, (Effect(
                "accuracy: Scratch-B − fine-tuned",
                _gap(("slimming: scratch_b", "accuracy", round),
                     ("slimming: units_bn_scale", "accuracy", round)), -0.003,
            ),))
            for share, round in (("40 % of channels", 1), ("70 % of channels", 2))
        ),
    ),
)  # fmt: skip
