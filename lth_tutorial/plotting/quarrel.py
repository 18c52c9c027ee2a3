"""The quarrel in one figure of three panels, and the sweep of rates that explains it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lth_tutorial.plotting.card import FONT, METHODS, check_rows
from lth_tutorial.results.intervals import format_interval, format_number, t_interval
from lth_tutorial.runtime import choose, is_whole
from lth_tutorial.safety.arguments import checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame, Series

EARLY = 50
# Of each act: its name, the rate, and its columns as (rewind step, arm).
ACTS = (
    ("1. Found", "low", ((0, "ticket"), (0, "reinit"))),
    ("2. Contradicted", "high", ((0, "ticket"), (0, "reinit"))),
    ("3. Rescued", "high", ((0, "ticket"), (EARLY, "ticket"), (EARLY, "reinit"))),
)
_COLUMN = {"ticket": "ticket", "reinit": "re-initial-\nised"}


@checked
def quarrel(rows: DataFrame, *, acts: int = 3, round: int = 4) -> Figure:
    """Plot the acts of the quarrel side by side: test error of every seed, and what separates arms.

    Args:
        rows: wide rows with the arms "low rate, step 0: ticket" and so on, as in the record
            `digits-quarrel`.
        acts: how many panels are filled, 1 to 3; the others are left open.
        round: the round of pruning that is shown.

    Raises:
        ValueError: for another number of acts, a missing column, arm or round.
    """
    if not is_whole(acts) or not 1 <= acts <= len(ACTS):
        raise ValueError(f"acts is 1, 2 or 3; got {acts!r}")
    check_rows(rows.assign(arm="dense"), ("seed", "round", "accuracy"), None)
    choose("round", str(round), [str(each) for each in rows["round"].unique()])
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(
        1, 3, figsize=(7.6, 4.6), layout="constrained", sharey=True,
        width_ratios=[len(columns) for _, _, columns in ACTS],
    )  # fmt: skip
    plt.close(figure)
    figure.set_facecolor("white")
    shown = rows[rows["round"] == round]
    for i, (axes, act) in enumerate(zip(panels, ACTS, strict=True)):
        _panel(axes, act, shown, filled=i < acts)
    panels[0].set_ylabel("test error (%)", fontsize=FONT, color="black")
    return figure


def _panel(axes: Axes, act, rows: DataFrame, *, filled: bool) -> None:
    name, rate, columns = act
    axes.set_facecolor("white" if filled else "#F4F4F4")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.grid(axis="y", color="#E3E3E3", linewidth=0.8)
    axes.tick_params(labelsize=FONT - 1, colors="black")
    if not filled:
        axes.set_xticks([])
        axes.set_title(f"{name[:2]} …", fontsize=FONT)
        return
    values = []
    for place, (step, arm) in enumerate(columns):
        own = rows[rows["arm"] == f"{rate} rate, step {step}: {arm}"].sort_values("seed")
        if own.empty:
            raise ValueError(f"the rows have no arm '{rate} rate, step {step}: {arm}'")
        errors = 100 * (1 - own.set_index("seed")["accuracy"])
        style, interval = METHODS[arm], t_interval(errors)
        look = {"color": style["color"], "marker": style["marker"], "linestyle": ""}
        axes.plot([place - 0.14] * len(errors), errors, alpha=0.35, markersize=4.5, **look)
        axes.errorbar(
            place + 0.12, interval.mean,
            yerr=[[interval.mean - interval.low], [interval.high - interval.mean]],
            color=style["color"], marker="_", markersize=15, markeredgewidth=2.5, capsize=3,
        )  # fmt: skip
        values.append(errors)
    axes.set_xticks(
        range(len(columns)), [f"{_COLUMN[arm]}\nfrom step {step}" for step, arm in columns],
        fontsize=FONT - 2,
    )  # fmt: skip
    lines = [name, f"{rate} learning rate", "ticket − re-initialised:", _points(values[-2:])]
    if len(columns) == 3:
        lines += [f"step {EARLY} − step 0: {_points(values[1::-1])}"]
    axes.set_title("\n".join(lines), fontsize=FONT - 2, linespacing=1.25)


def _points(errors: list[Series]) -> str:
    """Return by how many points the first of two arms errs less than the second."""
    first, second = errors
    return format_interval(t_interval(((second - first) / 100).dropna()), "points")


@checked
def rate_and_worth(rows: DataFrame, rate: float | None = None, *, round: int = 4) -> Figure:
    """Plot, against the learning rate, both arms' accuracy and the dense network's barrier.

    Rates that were also given several times the steps have hollow markers for that.

    Args:
        rows: wide rows of the record `digits-quarrel-rates`.
        rate: the rate that is marked; none by default.
        round: the round of pruning that is shown.

    Raises:
        ValueError: for a rate that the rows do not have.
    """
    import matplotlib.pyplot as plt

    rates = sweep_rates(rows)
    if rate is not None:
        choose("rate", f"{rate:g}", [f"{each:g}" for each in rates])
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.8, 3.2), layout="constrained")
    plt.close(figure)
    figure.set_facecolor("white")
    for axes in (left, right):
        axes.set_facecolor("white")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#E3E3E3", linewidth=0.8)
        axes.tick_params(labelsize=FONT - 1, colors="black")
        axes.set_xticks(range(len(rates)), [f"{each:g}" for each in rates])
        axes.set_xlabel("learning rate", fontsize=FONT)
        if rate is not None:
            axes.axvspan(
                rates.index(rate) - 0.3, rates.index(rate) + 0.3, color="#FFE08A", zorder=0
            )
    shown = rows[rows["round"] == round]
    for arm in ("ticket", "reinit"):
        _line(left, shown, rates, arm, "accuracy", METHODS[arm])
    _line(right, rows, rates, "dense", "height", METHODS["dense"], end=", copies")
    density = f"{100 * shown['density'].dropna().mean():.1f}"
    left.set_ylabel(f"test accuracy at {density} % (%)", fontsize=FONT)
    left.legend(fontsize=FONT - 2, frameon=False, loc="lower center")
    right.set_ylabel("barrier (points)", fontsize=FONT)
    right.set_ylim(bottom=0)
    return figure


@checked
def worth_in_words(rows: DataFrame, rate: float, *, round: int = 4) -> str:
    """Return what a sweep found at one rate: the ticket's lead, and the dense network's barrier.

    Both with their 95 % intervals; the lead is paired by seed, and n counts its pairs.

    Args:
        rows: wide rows of the record `digits-quarrel-rates`.
        rate: one of its rates.
        round: the round of pruning.

    Raises:
        ValueError: for a rate that the rows do not have.
    """
    choose("rate", f"{rate:g}", [f"{each:g}" for each in sweep_rates(rows)])
    accuracy = rows[rows["round"] == round].pivot(index="seed", columns="arm", values="accuracy")
    lead = t_interval(accuracy[f"rate {rate:g}: ticket"] - accuracy[f"rate {rate:g}: reinit"])
    barrier = t_interval(rows[rows["arm"] == f"rate {rate:g}, copies: dense"]["height"])
    mean, low, high = (format_number(value, "points") for value in barrier[:3])
    return (
        f"{rate:g}: the ticket leads by {format_interval(lead, 'points')} points, "
        f"the barrier is {mean} [{low}, {high}] points; n = {lead.n}"
    )


@checked
def sweep_rates(rows: DataFrame) -> list[float]:
    """Return the learning rates of a sweep, smallest first (those at the usual budget)."""
    names = {arm.split(": ")[0] for arm in rows["arm"] if arm.startswith("rate ")}
    return sorted(float(n.removeprefix("rate ")) for n in names if "," not in n)


def _line(axes: Axes, rows, rates, arm: str, value: str, style: dict, end: str = "") -> None:
    """Draw one arm against the rate, and hollow where it had several times the steps."""
    look = {"color": style["color"], "marker": style["marker"], "markersize": 5.5, "capsize": 3}
    longer = sorted({
        name.split(": ")[0].split(", ")[1] for name in rows["arm"] if " times the steps" in name
    })  # fmt: skip
    for length in ("", *longer):
        places, intervals = [], []
        for place, rate in enumerate(rates):
            name = f"rate {rate:g}" + (f", {length}" if length else "") + f"{end}: {arm}"
            values = rows[rows["arm"] == name][value].dropna()
            if not values.empty:
                places.append(place + (0.12 if length else 0))
                intervals.append(t_interval(100 * values))
        if not places:
            continue
        means = [i.mean for i in intervals]
        spread = [[i.mean - i.low for i in intervals], [i.high - i.mean for i in intervals]]
        hollow = {"markerfacecolor": "white", "linestyle": ":"} if length else {}
        label = None if length else style["label"]  # hollow is for the caption to explain
        axes.errorbar(places, means, yerr=spread, label=label, **look, **hollow)
