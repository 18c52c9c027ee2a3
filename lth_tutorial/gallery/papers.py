"""Numbers of the papers, and the measure of ours that belongs beside each.

Only numbers that were seen in a text that anyone can read are listed, each with where it was seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd

Measure = Callable[["pd.DataFrame", float], Sequence[float]]
"""From wide rows and their scale to one number per seed; none where rows are missing."""


@dataclass(frozen=True)
class PaperNumber:
    """A number of a paper, and how to measure ours.

    Attributes:
        record: name of the experiment.
        quantity: what the number is of, in which setting.
        paper: the number as the paper has it, with its unit.
        source: authors and year.
        url: of the paper.
        seen: where the number was seen, in words.
        measure: ours.
        unit: "percent" and "points" print hundredths, "times" the number itself.
    """

    record: str
    quantity: str
    paper: str
    source: str
    url: str
    seen: str
    measure: Measure
    unit: Literal["percent", "points", "times"] = "percent"


def cell(
    rows: pd.DataFrame, arm: str, density: float, metric: str = "accuracy", step: int | None = None
) -> pd.Series:
    """Return a metric of an arm by seed, in the round of the nearest density; 1 is the dense one.

    Args:
        step: only rows of the nearest step.
    """
    own = rows[rows["arm"] == arm]
    if metric not in own or own.empty:
        return rows.iloc[:0].set_index("seed")["density"]
    if step is not None:
        own = own[own["step"] == min(own["step"].unique(), key=lambda k: abs(k - step))]
    means = own.groupby("round")["density"].mean()
    chosen = own[own["round"] == (means - density).abs().idxmin()]
    return chosen.set_index("seed")[metric].astype(float).dropna()


def best(rows: pd.DataFrame, arm: str, metric: str = "accuracy") -> pd.Series:
    """Return a metric of an arm by seed, in the pruned round in which its mean is highest."""
    own = rows[(rows["arm"] == arm) & (rows["round"] > 0)]
    if metric not in own or own[metric].dropna().empty:
        return rows.iloc[:0].set_index("seed")["density"]
    means = own.assign(**{metric: own[metric].astype(float)}).groupby("round")[metric].mean()
    return own[own["round"] == means.idxmax()].set_index("seed")[metric].astype(float)


def _sooner(slow: str, ticket: str, density: float) -> Measure:
    def measure(rows: pd.DataFrame, scale: float) -> Sequence[float]:
        arm, share = (ticket, 1.0) if slow == "dense" else (slow, density)
        late = cell(rows, arm, share, "early_stop_step")
        soon = cell(rows, ticket, density, "early_stop_step")
        return (late / soon[soon > 0]).dropna()

    return measure


def _gain(other: str, ticket: str, density: float) -> Measure:
    def measure(rows: pd.DataFrame, scale: float) -> Sequence[float]:
        arm, share = (ticket, 1.0) if other == "dense" else (other, density)
        metric = "early_stop_accuracy"
        return (cell(rows, ticket, density, metric) - cell(rows, arm, share, metric)).dropna()

    return measure


_LTH = ("Frankle & Carbin (2019)", "https://arxiv.org/abs/1803.03635")
_EARLIER, _NOTES = "text of an earlier version", "quoted in public notes on the paper"
_ZHOU = ("Zhou et al. (2019)", "https://arxiv.org/abs/1905.01067")
_LMC = ("Frankle et al. (2020)", "https://arxiv.org/abs/1912.05671")
_POPUP = ("Ramanujan et al. (2020)", "https://arxiv.org/abs/1911.13299")
_PRIZE = ("Diffenderfer & Kailkhura (2021)", "https://arxiv.org/abs/2103.09377")
_PENSIA = ("Pensia et al. (2020)", "https://arxiv.org/abs/2006.07990")


def _convolutional(
    record: str, prefix: str, name: str, fast: float, best_at: float, gain: str
) -> tuple[PaperNumber, ...]:
    ticket = f"{prefix}ticket"
    return (
        PaperNumber(
            record, f"{name}: early-stop step, dense / ticket with {100 * fast:g} % of weights",
            "3.5 times", *_LTH, _NOTES, _sooner("dense", ticket, fast), "times",
        ),
        PaperNumber(
            record,
            f"{name}: accuracy at early stopping, ticket − dense, {100 * best_at:g} % of weights",
            gain, *_LTH, _NOTES, _gain("dense", ticket, best_at), "points",
        ),
    )  # fmt: skip


def _popup(name: str, label: str, peak: str, dense: str) -> tuple[PaperNumber, ...]:
    records = ("cifar10-edge-popup", "cifar10-edge-popup-short")
    return tuple(n for record in records for n in _popup_in(record, name, label, peak, dense))


def _popup_in(record: str, name: str, label: str, peak: str, dense: str) -> tuple[PaperNumber, ...]:
    seen, arm = "read from a figure", f"{label}: edge_popup"
    return (
        PaperNumber(
            record, f"{name}: supermask at its best measured density", peak, *_POPUP, seen,
            lambda rows, scale: best(rows, arm),
        ),
        PaperNumber(
            record, f"{name}: dense network, trained", dense, *_POPUP, seen,
            lambda rows, scale: cell(rows, arm, 1.0),
        ),
    )  # fmt: skip


NUMBERS: tuple[PaperNumber, ...] = (
    PaperNumber(
        "mnist-lenet-imp", "early-stop step, re-initialised / ticket, 21 % of weights",
        "2.44 times", *_LTH, _EARLIER, _sooner("reinit", "ticket", 0.211), "times",
    ),
    PaperNumber(
        "mnist-lenet-imp",
        "accuracy at early stopping, ticket − re-initialised, 21 % of weights",
        "+0.5 points", *_LTH, _EARLIER, _gain("reinit", "ticket", 0.211), "points",
    ),
    *_convolutional("cifar10-conv2-imp", "", "Conv-2", 0.088, 0.046, "+3.4 points"),
    *_convolutional("cifar10-conv-imp", "conv_2: ", "Conv-2", 0.088, 0.046, "+3.4 points"),
    *_convolutional("cifar10-conv-imp", "conv_4: ", "Conv-4", 0.092, 0.111, "+3.5 points"),
    PaperNumber(
        "mnist-lenet-instability", "barrier of copies that part at step 0", "below 2 points",
        *_LMC, _NOTES, lambda rows, scale: cell(rows, "dense", 1.0, "height", 0), "points",
    ),
    PaperNumber(
        "cifar10-resnet20-instability", "barrier of copies that part at step 2,000",
        "below 2 points", *_LMC, _NOTES,
        lambda rows, scale: cell(rows, "dense", 1.0, "height", round(2_000 * scale)), "points",
    ),
    PaperNumber(
        "cifar10-resnet20-rewinding", "barrier of the ticket that rewinds to step 500",
        "below 2 points", *_LMC, _NOTES,
        lambda rows, scale: cell(rows, "rate 0.1: ticket", 0.0, "height", round(500 * scale)),
        "points",
    ),
    PaperNumber(
        "mnist-signs-and-masks",
        "large trained weights that kept their sign, not trained: best density",
        "86 %", *_ZHOU, "abstract", lambda rows, scale: best(rows, "same_sign", "start_accuracy"),
    ),
    PaperNumber(
        "mnist-signs-and-masks", "learned mask, weights drawn from a normal distribution",
        "about 95 %", *_ZHOU, _NOTES,
        lambda rows, scale: best(rows, "learned, normal: sampled"),
    ),
    PaperNumber(
        "mnist-pruned-random-network",
        "accuracy, pruned random network − target (paper: 20 products per weight; "
        "here: the most measured)",
        "0 points (97.19 % both)", *_PENSIA, "the authors' code repository",
        lambda rows, scale: (
            cell(rows[rows["products"] == rows["products"].max()], "subset", 0.0)
            - cell(rows[rows["round"] == 0], "subset", 1.0)
        ).dropna(),
        "points",
    ),
    *_popup("Conv-2", "conv_2", "about 77.5 %", "79.5 %"),
    *_popup("Conv-4", "conv_4", "about 86 %", "86.5 %"),
    *_popup("Conv-6", "conv_6", "about 88 %", "88.5 %"),
    *_popup("Conv-8", "conv_8", "about 88.5 %", "88 %"),
    *(
        number
        for record in ("cifar10-multi-prize", "cifar10-multi-prize-short")
        for number in (
            PaperNumber(
                record, "ResNet-18, 1/32, keep 0.2, batch norm not learned", "94.66 %",
                *_PRIZE, "the authors' code repository",
                lambda rows, scale: cell(rows, "resnet_18: biprop", 0.2),
            ),
            PaperNumber(
                record, "ResNet-18, 1/32, keep 0.2, batch norm learned", "94.8 %",
                *_PRIZE, "the authors' code repository",
                lambda rows, scale: cell(rows, "resnet_18: biprop_norm", 0.2),
            ),
        )
    ),
)  # fmt: skip
