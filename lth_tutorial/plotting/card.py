"""What all figures share: one colour and marker per method, words for quantities, a white card."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from lth_tutorial.results.names import ARM_NAMES
from lth_tutorial.runtime import choose
from lth_tutorial.safety.arguments import checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame, Series

METHODS: dict[str, dict[str, Any]] = {
    key: {"label": ARM_NAMES[key], "color": colour, "marker": marker}
    for key, colour, marker in (
        ("dense", "#000000", "o"),
        ("ticket", "#0072B2", "o"),
        ("reinit", "#DD7711", "s"),
        ("random", "#808080", "^"),
        ("one_shot", "#7A4419", "D"),
        ("rewind", "#2B4DA0", "8"),
        ("lr_rewind", "#00857A", "2"),
        ("fine_tune", "#C0398B", "+"),
        ("fine_tuned", "#A6428A", "v"),
        ("no_retraining", "#B2182B", "x"),
        ("units_l1", "#6A3D9A", "<"),
        ("units_random", "#6B6B6B", ">"),
        ("units_bn_scale", "#8C510A", "*"),
        ("scratch_e", "#9A7D0A", "h"),
        ("scratch_b", "#5D6D1E", "p"),
        ("slimmed", "#AD1457", "d"),
        ("unslimmed", "#455A64", "H"),
        ("magnitude", "#2F6DB5", (4, 1, 0)),
        ("obd", "#C2410C", "3"),
        ("gradient", "#8A7A00", (6, 1, 0)),
        ("fisher", "#B5477E", (5, 0, 180)),
        ("inverted", "#5B5B5B", (6, 2, 0)),
        ("smart", "#6E5A44", "4"),
        ("snip", "#D1495B", (3, 1, 0)),
        ("grasp", "#6A4C93", (8, 1, 0)),
        ("synflow", "#00838F", (7, 0, 0)),
        ("after_training", "#1B4F9C", "1"),
        ("edge_popup", "#009E73", "P"),
        ("biprop", "#00624A", "X"),
        ("biprop_norm", "#5B8A00", (4, 1, 45)),
        ("biprop_1_1", "#3A7D9C", (5, 1, 180)),
        ("biprop_1_1_norm", "#6A7B00", (3, 1, 180)),
        ("subset", "#3F7F1F", (10, 1, 0)),
        ("single", "#B07D00", (5, 2, 0)),
        ("batch_gradient", "#A65E00", (6, 1, 30)),
        ("random_gradient", "#7D7D5A", (9, 1, 0)),
        ("constant", "#008B8B", (3, 0, 30)),
        ("redrawn", "#8E3B8E", (4, 0, 20)),
        ("ticket_signs_random", "#5C86C4", (5, 0, 36)),
        ("constant_signs_random", "#4F9A8F", (3, 0, 90)),
        ("redrawn_signs_random", "#B07AB0", (4, 0, 60)),
        ("large_final", "#B85C00", (7, 1, 20)),
        ("same_sign", "#2E7D32", (5, 1, 0)),
        ("sampled", "#3C8D40", (8, 0, 20)),
        ("sampled_rescaled", "#1B6B50", (6, 0, 30)),
        ("four_rounds", "#3B6FA0", (9, 2, 0)),
        ("gradual", "#B5651D", (10, 2, 0)),
        ("snip_iterative", "#A02C5A", (4, 2, 20)),
        ("sifted", "#4A5FB5", (8, 2, 0)),
        ("conv", "#1D6F42", (7, 2, 0)),
        ("search", "#222255", (9, 0, 10)),
        ("random_search", "#707040", (10, 0, 0)),
        ("exhaustive", "#553311", (12, 1, 0)),
        ("identity", "#1F5FA8", (7, 0, 20)),
        ("identity_shuffled", "#777A80", (5, 2, 20)),
        ("dct_inputs", "#B8420B", (4, 1, 20)),
        ("rotation_inputs", "#6E6E50", (3, 2, 0)),
        ("dct", "#D0491B", (6, 0, 0)),
        ("rotation", "#5F6B6B", (4, 2, 0)),
        ("rotation_shuffled", "#8A8172", (6, 2, 15)),
        ("svd", "#7B3FA0", (8, 0, 0)),
        ("stretched", "#00749C", (5, 1, 36)),
        ("stretched_reinit", "#C96A12", (4, 0, 0)),
        ("stretched_random", "#7F7F7F", (3, 0, 60)),
        ("magnitude_at_rewind", "#4E6FB5", (7, 1, 0)),
        ("regularised", "#B03060", (5, 0, 0)),
        ("scratch", "#6C757D", (3, 0, 0)),
        ("early_bird", "#1F78B4", (4, 0, 13)),
        ("early_bird_momentum", "#0B4F6C", (4, 0, 3)),
        ("final_mask", "#A50F15", (6, 0, 3)),
        ("same_counts", "#707070", (3, 0, 3)),
        ("early_bird_reinit", "#D9740B", (6, 0, 13)),
        ("early_bird_rewound", "#4D6A00", (5, 0, 3)),
        ("low_mask", "#0B6FB0", (9, 0, 3)),
        ("low_mask_reinit", "#DB7013", (4, 0, 43)),
        ("high_mask", "#6B3F9E", (5, 0, 13)),
        ("high_mask_reinit", "#BD3C8C", (8, 0, 3)),
        ("low_mask_random", "#7A7A7A", (3, 0, 273)),
        ("strong_mask", "#AF1A2E", (7, 1, 3)),
        ("natural_mask", "#06936C", (3, 0, 48)),
        ("narrow", "#7C471B", (5, 1, 93)),
    )
}
"""Label, colour and marker of every method: the same in every chapter, also told apart in grey."""

VALUES: dict[str, str] = {
    "accuracy": "test accuracy (%)",
    "robust_accuracy": "test accuracy under attack (%)",
    "error": "test error (%, log scale)",
    "start_accuracy": "test accuracy before training (%)",
    "early_stop_accuracy": "test accuracy at the early-stop step (%)",
    "mean_val_accuracy": "validation accuracy, mean over training (%)",
    "early_stop_step": "steps to the lowest validation loss",
    "steps_to_90": "steps to 90% validation accuracy",
    "steps_to_95": "steps to 95% validation accuracy",
    "train_loss": "training loss (nats)",
    "fine_tuned_accuracy": "test accuracy after retraining (%)",
}
"""Axis label of every measured quantity. Those in percent are stored as shares in [0, 1]."""

FONT = 11  # points on a figure 6.4 inches wide, so that a phone still shows readable text
LEGEND_FONT = 10


def new_figure(width: float = 6.4, height: float = 4.6) -> tuple[Figure, Axes]:
    """Return an empty white figure that pyplot has let go of, and its axes.

    A notebook shows a figure that pyplot still holds as well as the value of the cell: the same
    figure twice.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    plt.close(figure)
    # Opaque, whatever the reader's settings: black text must not end up on a dark page.
    figure.set_facecolor("white")
    axes.set_facecolor("white")
    axes.tick_params(which="both", labelsize=FONT, colors="black")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#E3E3E3", linewidth=0.8)
    axes.set_axisbelow(True)
    for text in (axes.xaxis.label, axes.yaxis.label, axes.title):
        text.set(fontsize=FONT, color="black")
    return figure, axes


@checked
def not_yet_run(name: str) -> Figure:
    """Return a placeholder for the figure of a record that does not exist yet."""
    figure, axes = new_figure(height=2.4)
    axes.axis("off")
    axes.text(0.5, 0.62, "not yet run", ha="center", va="center", fontsize=18)
    axes.text(0.5, 0.32, f"record: {name}", ha="center", va="center", fontsize=FONT)
    return figure


def check_rows(rows: DataFrame, columns: Iterable[str], arms: Sequence[str] | None) -> list[str]:
    """Return the arms to draw, in the order of `METHODS` unless `arms` says otherwise.

    Raises:
        ValueError: for a missing column, or an arm that is unknown or has no rows.
    """
    for column in columns:
        choose("column", column, rows.columns)
    present = list(dict.fromkeys(rows["arm"]))
    for arm in present:
        choose("arm in the rows:", arm, METHODS)
    if arms is None:
        return [arm for arm in METHODS if arm in present and arm != "dense"]
    arms = [arms] if isinstance(arms, str) else arms
    return [choose("arm", arm, [*present, "dense"]) for arm in arms]


def scale_of(value: str) -> int:
    """Return 100 for a share that is shown in percent, else 1."""
    return 100 if "(%" in VALUES.get(value, "") else 1


def value_label(value: str) -> str:
    """Return a quantity in words with its unit, broken into lines that fit the axis."""
    return textwrap.fill(VALUES.get(value, value), 34)


def draw_band(axes: Axes, x: Series, summary: DataFrame, arm: str, value: str) -> None:
    """Draw a mean line with its 95% band in the style of a method."""
    style, scale = METHODS[arm], scale_of(value)
    low, high = scale * summary["low"], scale * summary["high"]
    axes.fill_between(x, low, high, color=style["color"], alpha=0.18, linewidth=0)
    look = {key: style[key] for key in ("label", "color", "marker")}
    axes.plot(x, scale * summary["mean"], markersize=5.5, zorder=3, **look)


def density_axis(axes: Axes, densities: Series) -> None:
    """Make the horizontal axis logarithmic, falling to the right, labelled in percent."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = densities.min(), densities.max()
    percents = [step * 10.0**power for power in range(2, -5, -1) for step in (5, 2, 1)]
    if high / low < 12:
        percents = [100, 80, 60, 40, 30, 20, 10]
    ticks = [p / 100 for p in percents if low / 1.05 <= p / 100 <= high * 1.05]
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.3g}%"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(high * 1.08, low / 1.08)
    axes.set_xlabel("weights remaining (log scale)")


def error_axis(axes: Axes, least: float) -> None:
    """Make the vertical axis logarithmic, in percent of errors: 1 and 2% stay apart beside 60."""
    axes.set_yscale("log")
    axes.set_ylim(max(least, 0.05) / 1.3, 100)
    axes.set_yticks(*zip(*[(t, f"{t:g}") for t in (1, 2, 3, 5, 10, 20, 30, 50, 100)], strict=True))
    axes.minorticks_off()


def replicates_note(rows: DataFrame, value: str) -> str:
    """Return in words what lines and bands are, and over how many replicates."""
    counts = rows.dropna(subset=[value]).groupby(["arm", "round"])["seed"].nunique()
    if counts.empty:
        return "no finished run"
    low, high = int(counts.min()), int(counts.max())
    if high == 1:
        return "single run, no interval"
    return f"mean and 95% interval, n = {high if low == high else f'{low} to {high}'}"


def draw_legend(axes: Axes, title: str) -> None:
    """Put the legend below the axes, where it covers no data."""
    axes.figure.legend(
        loc="outside lower center",
        ncols=2,
        title=title,
        fontsize=LEGEND_FONT,
        title_fontsize=LEGEND_FONT,
        frameon=False,
        columnspacing=1.2,
        handlelength=1.8,
    )


def png_uri(figure: Figure) -> str:
    """Return a figure as the address of an image that holds its own data."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, facecolor="white", metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
