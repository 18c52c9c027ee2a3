"""The claims of chapter 9: early-bird tickets and boosting tickets."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lth_tutorial.claims.rules import Claim, Effect, Measured, Setting
from lth_tutorial.claims.supermasks import between, value

if TYPE_CHECKING:
    import pandas as pd

# The criteria were fixed after pilots on the digits with seeds 100 to 107, before seeds 0 to 7 were
# run. Half the distance of unrelated masks is what "settled" means here; half a point is what a
# mask may lose to be as good; two points are a lead that a single seed shows.

_EARLY, _BOOST = "digits-early-bird", "digits-boosting"
_CIFAR_EARLY, _CIFAR_BOOST = "cifar10-early-bird-short", "cifar10-boosting-short"
_YOU, _LI = "You et al. 2020, section 3", "Li et al. 2020, section 4"
_NETWORKS = {
    _EARLY: "64-64-64-10 network with batch norm on digits, 30 epochs",
    _BOOST: "64-100-50-10 network on digits, 30 epochs, 20 % of the weights",
    _CIFAR_EARLY: "VGG-16 on CIFAR-10, 20 epochs, bf16",
    _CIFAR_BOOST: "ResNet-18 on CIFAR-10, 10 epochs, bf16, 20 % of the weights",
}
_END, _FIRST = 7, 2  # places of the steps 600 and 20 in the part's measured steps
_ROBUST = "robust_accuracy"


def stopped_early(arm: str) -> Callable[[pd.DataFrame], pd.Series]:
    """Return a column by seed: robust test accuracy where robust validation accuracy is best."""

    def column(rows: pd.DataFrame) -> pd.Series:
        own = rows[(rows["arm"] == arm) & (rows["round"] > 1)]
        if "val_robust_accuracy" not in own or own["val_robust_accuracy"].dropna().empty:
            return rows.iloc[:0].set_index("seed")["density"]
        own = own.dropna(subset=["val_robust_accuracy"]).reset_index(drop=True)
        best = own.loc[own.groupby("seed")["val_robust_accuracy"].idxmax()]
        return best.set_index("seed")[_ROBUST].astype(float)

    return column


def _beside_stopped(arm: str, other: str) -> Callable[[pd.DataFrame], Measured]:
    def measure(rows: pd.DataFrame) -> Measured:
        last = rows[(rows["arm"] == arm) & (rows["round"] == _END)].set_index("seed")
        if _ROBUST not in last:
            return Measured([])
        return Measured((last[_ROBUST].astype(float) - stopped_early(other)(rows)).dropna())

    return measure


def _claim(key: str, statement: str, source: str, record: str, *settings: Setting) -> Claim:
    least = 3 if record.startswith("cifar10") else 8
    return Claim(key, 9, statement, source, record, _NETWORKS[record], settings, least)


def _settled(label: str, round: int, name: str) -> Setting:
    effect = Effect(
        "distance to the final mask / that of unrelated masks",
        value(f"{label}: p 0.5", round, "to_final"), 0.5, "below", "",
    )  # fmt: skip
    return Setting(name, (effect,))


def _drawn(label: str, other: str, least: float, name: str, place: int = 5) -> Setting:
    measure = between((f"{label}: early_bird", place), (f"{label}: {other}", place))
    text = {
        "final_mask": "early mask − mask of the end",
        "same_counts": "early mask − random units, same counts",
        "early_bird_reinit": "inherited − new weights",
    }[other]
    return Setting(name, (Effect(f"accuracy: {text}", measure, least),))


def _passes(p: str, name: str) -> Setting:
    measure = value(f"falling rate: p {p}, random", 30, "drawn")
    return Setting(
        name, (Effect("random masks that pass within 30 epochs", measure, 0.05, "below", ""),)
    )


def _lead(
    part: str, a: str, b: str, place: int, least: float, metric: str, name: str, text: str
) -> Setting:
    measure = between((f"{part}: {a}", place), (f"{part}: {b}", place), metric)
    return Setting(name, (Effect(text, measure, least),))


_SETTLE = "The mask of channels settles in the first sixth of training."
_AS_GOOD = "A mask that is drawn early is as good as the mask of the end of training."

CLAIMS: tuple[Claim, ...] = (
    _claim(
        "early-bird-settles", _SETTLE, _YOU, _EARLY,
        _settled("falling rate", 5, "falling rate"),
        _settled("constant rate", 5, "constant rate"),
        _settled("convolutions", 5, "convolutions, falling rate"),
    ),
    _claim(
        "early-bird-as-good", _AS_GOOD, _YOU, _EARLY,
        _drawn("half", "final_mask", -0.005, "half of the units removed"),
        _drawn("most", "final_mask", -0.005, "70 % removed"),
    ),
    _claim(
        "early-bird-channels-matter",
        "It matters which channels an early-bird ticket keeps, not only how many in each layer.",
        "Liu et al. 2019, section 4, asked of early-bird tickets", _EARLY,
        _drawn("half", "same_counts", 0.0, "half of the units removed"),
        _drawn("most", "same_counts", 0.0, "70 % removed"),
    ),
    _claim(
        "early-bird-weights-matter",
        "It matters that an early-bird ticket keeps its weights when it trains on.",
        _YOU, _EARLY,
        _drawn("half", "early_bird_reinit", 0.0, "half of the units removed"),
        _drawn("most", "early_bird_reinit", 0.0, "70 % removed"),
    ),
    _claim(
        "early-bird-threshold",
        "A distance of at most 0.1 tells masks that have settled from random ones.",
        _YOU, _EARLY,
        _passes("0.04", "4 % of the units removed"), _passes("0.5", "half removed"),
    ),
    _claim(
        "boost-over-reinit",
        "After one epoch a boosting ticket leads its mask on new weights.",
        _LI, _BOOST,
        _lead("natural", "low_mask", "low_mask_reinit", _FIRST, 0.02, "accuracy",
              "natural training", "accuracy: ticket − re-initialised"),
        _lead("FGSM", "low_mask", "low_mask_reinit", _FIRST, 0.02, _ROBUST,
              "FGSM training", "robust accuracy: ticket − re-initialised"),
    ),
    _claim(
        "boost-over-dense",
        "After one epoch a boosting ticket leads the dense network.",
        _LI, _BOOST,
        _lead("natural", "low_mask", "dense", _FIRST, 0.02, "accuracy",
              "natural training", "accuracy: ticket − dense"),
        _lead("FGSM", "low_mask", "dense", _FIRST, 0.02, _ROBUST,
              "FGSM training", "robust accuracy: ticket − dense"),
    ),
    _claim(
        "boost-lasts",
        "The lead over new weights lasts to the end of training.",
        _LI, _BOOST,
        _lead("natural", "low_mask", "low_mask_reinit", _END, 0.005, "accuracy",
              "natural training", "accuracy: ticket − re-initialised"),
        _lead("FGSM", "low_mask", "low_mask_reinit", _END, 0.005, _ROBUST,
              "FGSM training", "robust accuracy: ticket − re-initialised"),
    ),
    _claim(
        "boost-low-rate",
        "A mask that was found at a low rate boosts more than one found at a high rate.",
        "Li et al. 2020, section 3", _BOOST,
        _lead("natural", "low_mask", "high_mask", _FIRST, 0.0, "accuracy",
              "natural training", "accuracy: low − high"),
        _lead("FGSM", "low_mask", "high_mask", _FIRST, 0.0, _ROBUST,
              "FGSM training", "robust accuracy: low − high"),
    ),
    _claim(
        "boost-saves-epochs",
        "Trained for a third of the steps, a boosting ticket is as robust as the dense network "
        "trained for all, and the dense network trained for a third is not.",
        _LI, _BOOST,
        Setting("FGSM training", (
            Effect(
                "robust accuracy: short ticket − dense",
                between(("FGSM, short: low_mask", 4), ("FGSM: dense", _END), _ROBUST), -0.01,
            ),
            Effect(
                "robust accuracy: dense − short dense",
                between(("FGSM: dense", _END), ("FGSM, short: dense", 4), _ROBUST), 0.01,
            ),
        )),
    ),
    _claim(
        "fgsm-mask-serves-pgd",
        "For PGD training, a mask found by cheap FGSM training is as good as one found by PGD.",
        _LI, _BOOST,
        _lead("PGD", "low_mask", "strong_mask", _END, -0.01, _ROBUST, "at the end",
              "robust accuracy: FGSM mask − PGD mask"),
        _lead("PGD", "low_mask", "strong_mask", _FIRST, -0.01, _ROBUST, "after one epoch",
              "robust accuracy: FGSM mask − PGD mask"),
    ),
    _claim(
        "robustness-of-tickets",
        "At the end of PGD training a boosting ticket is more robust than its controls.",
        _LI, _BOOST,
        *(
            _lead("PGD", "low_mask", other, _END, 0.0, _ROBUST, f"against {name}",
                  "robust accuracy: ticket − control")
            for other, name in (
                ("dense", "the dense network"), ("low_mask_reinit", "new weights"),
                ("low_mask_random", "a random mask, same counts"),
                ("natural_mask", "a mask of natural training"),
                ("narrow", "a narrow dense network, same count"),
            )
        ),
        Setting("against the dense network stopped early", (
            Effect(
                "robust accuracy: ticket − control",
                _beside_stopped("PGD: low_mask", "PGD: dense"), 0.0,
            ),
        )),
    ),
    _claim(
        "early-bird-settles-cifar10", _SETTLE, _YOU, _CIFAR_EARLY,
        _settled("falling rate", 4, "after 4 of 20 epochs"),
    ),
    _claim(
        "early-bird-as-good-cifar10", _AS_GOOD, _YOU, _CIFAR_EARLY,
        _drawn("half", "final_mask", -0.005, "half of the channels, drawn after 6 epochs", 2),
    ),
    _claim(
        "boost-over-reinit-cifar10",
        "After one epoch a boosting ticket leads its mask on new weights.", _LI, _CIFAR_BOOST,
        _lead("PGD", "low_mask", "low_mask_reinit", 2, 0.02, _ROBUST, "PGD training",
              "robust accuracy: ticket − re-initialised"),
    ),
    _claim(
        "boost-lasts-cifar10",
        "The lead over new weights lasts to the end of training.", _LI, _CIFAR_BOOST,
        _lead("PGD", "low_mask", "low_mask_reinit", 5, 0.005, _ROBUST, "PGD training",
              "robust accuracy: ticket − re-initialised"),
    ),
)  # fmt: skip
