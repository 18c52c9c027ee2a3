"""The quarrel in one figure of three panels, and the sweep of rates that explains it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lth_tutorial.plotting.card import FONT, METHODS, check_rows
from lth_tutorial.results.intervals import format_interval, t_interval
from lth_tutorial.runtime import choose, is_whole
from lth_tutorial.safety.arguments import checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

# Of each act: its name, the rate, and its columns as (rewind step, arm).
ACTS = (
    ("1. Found", "low", ((0, "ticket"), (0, "reinit"))),
    ("2. Contradicted", "high", ((0, "ticket"), (0, "reinit"))),
    ("3. Rescued", "high", ((0, "ticket"), (50, "ticket"), (50, "reinit"))),
)
_WORDS = {"ticket": "own\nweights", "reinit": "other\nweights"}


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
        1, 3, figsize=(7.6, 4.2), layout="constrained", sharey=True,
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
        range(len(columns)), [f"{_WORDS[arm]}\nstep {step}" for step, arm in columns],
        fontsize=FONT - 2,
    )  # fmt: skip
    lead = t_interval(((values[-1] - values[-2]) / 100).dropna())
    text = f"lead {format_interval(lead, 'points')}\npoints"
    axes.set_title(f"{name}\n{rate} rate, {text}", fontsize=FONT - 1)


@checked
def rate_and_worth(rows: DataFrame, rate: float | None = None, *, round: int = 4) -> Figure:
    """Plot, against the learning rate, both arms' accuracy and the dense network's barrier.

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
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.9), layout="constrained")
    plt.close(figure)
    figure.set_facecolor("white")
    places = range(len(rates))
    for axes in (left, right):
        axes.set_facecolor("white")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(True, color="#E3E3E3", linewidth=0.8)
        axes.tick_params(labelsize=FONT - 1, colors="black")
        axes.set_xticks(places, [f"{each:g}" for each in rates])
        axes.set_xlabel("learning rate", fontsize=FONT)
        if rate is not None:
            axes.axvline(rates.index(rate), color="#888888", linestyle=":", linewidth=1.5)
    shown = rows[rows["round"] == round]
    for arm in ("ticket", "reinit"):
        style = METHODS[arm]
        intervals = [
            t_interval(100 * shown[shown["arm"] == f"rate {each:g}: {arm}"]["accuracy"])
            for each in rates
        ]
        _line(left, places, intervals, style["color"], style["marker"], style["label"])
    left.set_ylabel("test accuracy at 6.2 % (%)", fontsize=FONT)
    left.legend(fontsize=FONT - 2, frameon=False, loc="lower center")
    barriers = [
        t_interval(100 * rows[rows["arm"] == f"rate {each:g}, copies: dense"]["height"].dropna())
        for each in rates
    ]
    _line(right, places, barriers, "#000000", "o", "dense network")
    right.set_ylabel("barrier, copies parting at step 0 (points)", fontsize=FONT)
    return figure


@checked
def sweep_rates(rows: DataFrame) -> list[float]:
    """Return the learning rates of a sweep, smallest first (those at the usual budget)."""
    names = {arm.split(": ")[0] for arm in rows["arm"] if arm.startswith("rate ")}
    return sorted(float(n.removeprefix("rate ")) for n in names if "," not in n)


def _line(axes: Axes, places, intervals, color: str, marker: str, label: str) -> None:
    means = [i.mean for i in intervals]
    spread = [[i.mean - i.low for i in intervals], [i.high - i.mean for i in intervals]]
    axes.errorbar(
        list(places), means, yerr=spread, color=color, marker=marker, markersize=5.5, capsize=3,
        label=label,
    )  # fmt: skip
