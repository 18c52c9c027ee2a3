"""What all figures share: one colour and marker per method, words for quantities, a white card."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from lth_tutorial.runtime import choose
from lth_tutorial.safety.arguments import checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame, Series

METHODS: dict[str, dict[str, Any]] = {
    "dense": {"label": "dense network", "color": "#000000", "marker": "o"},
    "ticket": {"label": "ticket", "color": "#0072B2", "marker": "o"},
    "reinit": {"label": "re-initialised", "color": "#DD7711", "marker": "s"},
    "random": {"label": "random mask", "color": "#808080", "marker": "^"},
    "one_shot": {"label": "one-shot", "color": "#7A4419", "marker": "D"},
    "rewind": {"label": "weight rewinding", "color": "#2B4DA0", "marker": "8"},
    "lr_rewind": {"label": "learning-rate rewinding", "color": "#00857A", "marker": "2"},
    "fine_tune": {"label": "fine-tuning", "color": "#C0398B", "marker": "+"},
    "fine_tuned": {"label": "in rounds, fine-tuned", "color": "#A6428A", "marker": "v"},
    "no_retraining": {"label": "pruned, not retrained", "color": "#B2182B", "marker": "x"},
    "units_l1": {"label": "smallest ℓ1, fine-tuned", "color": "#6A3D9A", "marker": "<"},
    "units_random": {"label": "random units, fine-tuned", "color": "#6B6B6B", "marker": ">"},
    "units_bn_scale": {"label": "smallest scales, fine-tuned", "color": "#8C510A", "marker": "*"},
    "scratch_e": {"label": "Scratch-E", "color": "#9A7D0A", "marker": "h"},
    "scratch_b": {"label": "Scratch-B", "color": "#5D6D1E", "marker": "p"},
    "slimmed": {"label": "trained with ℓ1 on scales", "color": "#AD1457", "marker": "d"},
    "unslimmed": {"label": "trained without", "color": "#455A64", "marker": "H"},
    "magnitude": {"label": "magnitude", "color": "#2F6DB5", "marker": (4, 1, 0)},
    "obd": {"label": "w²h/2 (OBD)", "color": "#C2410C", "marker": "3"},
    "gradient": {"label": "|w · gradient|", "color": "#8A7A00", "marker": (6, 1, 0)},
    "fisher": {"label": "w² · Fisher", "color": "#B5477E", "marker": (5, 0, 180)},
    "inverted": {"label": "inverted OBD", "color": "#5B5B5B", "marker": (6, 2, 0)},
    "smart": {"label": "random, smart ratios", "color": "#6E5A44", "marker": "4"},
    "snip": {"label": "SNIP", "color": "#D1495B", "marker": (3, 1, 0)},
    "grasp": {"label": "GraSP", "color": "#6A4C93", "marker": (8, 1, 0)},
    "synflow": {"label": "SynFlow", "color": "#00838F", "marker": (7, 0, 0)},
    "after_training": {"label": "magnitude after training", "color": "#1B4F9C", "marker": "1"},
    "edge_popup": {"label": "supermask (edge-popup)", "color": "#009E73", "marker": "P"},
    "biprop": {"label": "supermask (biprop)", "color": "#00624A", "marker": "X"},
    "biprop_norm": {
        "label": "biprop, norm learned",
        "color": "#5B8A00",
        "marker": (4, 1, 45),
    },
    "biprop_1_1": {"label": "binary activations too", "color": "#3A7D9C", "marker": (5, 1, 180)},
    "biprop_1_1_norm": {
        "label": "the same, norm learned",
        "color": "#6A7B00",
        "marker": (3, 1, 180),
    },
    "subset": {"label": "best subset of products", "color": "#3F7F1F", "marker": (10, 1, 0)},
    "single": {"label": "best single product", "color": "#B07D00", "marker": (5, 2, 0)},
    "batch_gradient": {
        "label": "|w| · minibatch gradients",
        "color": "#A65E00",
        "marker": (6, 1, 30),
    },
    "random_gradient": {"label": "random · gradient", "color": "#7D7D5A", "marker": (9, 1, 0)},
    "constant": {"label": "constants, ticket's signs", "color": "#008B8B", "marker": (3, 0, 30)},
    "redrawn": {"label": "redrawn, ticket's signs", "color": "#8E3B8E", "marker": (4, 0, 20)},
    "ticket_signs_random": {
        "label": "ticket, random signs",
        "color": "#5C86C4",
        "marker": (5, 0, 36),
    },
    "constant_signs_random": {
        "label": "constants, random signs",
        "color": "#4F9A8F",
        "marker": (3, 0, 90),
    },
    "redrawn_signs_random": {
        "label": "redrawn, random signs",
        "color": "#B07AB0",
        "marker": (4, 0, 60),
    },
    "large_final": {"label": "large trained weights", "color": "#B85C00", "marker": (7, 1, 20)},
    "same_sign": {"label": "the same, sign kept", "color": "#2E7D32", "marker": (5, 1, 0)},
    "sampled": {"label": "learned mask", "color": "#3C8D40", "marker": (8, 0, 20)},
    "sampled_rescaled": {
        "label": "learned mask, rescaled",
        "color": "#1B6B50",
        "marker": (6, 0, 30),
    },
    "four_rounds": {"label": "IMP in four rounds", "color": "#3B6FA0", "marker": (9, 2, 0)},
    "gradual": {"label": "gradual, one training", "color": "#B5651D", "marker": (10, 2, 0)},
    "snip_iterative": {"label": "SNIP in 30 steps", "color": "#A02C5A", "marker": (4, 2, 20)},
    "sifted": {"label": "IMP as in the paper", "color": "#4A5FB5", "marker": (8, 2, 0)},
    "conv": {"label": "small convolutional network", "color": "#1D6F42", "marker": (7, 2, 0)},
    "search": {"label": "search, weight by weight", "color": "#222255", "marker": (9, 0, 10)},
    "random_search": {"label": "best of random masks", "color": "#707040", "marker": (10, 0, 0)},
    "exhaustive": {"label": "every mask", "color": "#553311", "marker": (12, 1, 0)},
    "identity": {"label": "weights themselves", "color": "#1F5FA8", "marker": (7, 0, 20)},
    "identity_shuffled": {"label": "the same, shuffled", "color": "#777A80", "marker": (5, 2, 20)},
    "dct_inputs": {"label": "cosines, first inputs", "color": "#B8420B", "marker": (4, 1, 20)},
    "rotation_inputs": {
        "label": "rotation, first inputs",
        "color": "#6E6E50",
        "marker": (3, 2, 0),
    },
    "dct": {"label": "cosines, both sides", "color": "#D0491B", "marker": (6, 0, 0)},
    "rotation": {"label": "random rotation", "color": "#5F6B6B", "marker": (4, 2, 0)},
    "rotation_shuffled": {
        "label": "rotation, shuffled",
        "color": "#8A8172",
        "marker": (6, 2, 15),
    },
    "svd": {"label": "singular vectors", "color": "#7B3FA0", "marker": (8, 0, 0)},
    "stretched": {"label": "moved ticket", "color": "#00749C", "marker": (5, 1, 36)},
    "stretched_reinit": {
        "label": "moved mask, own weights",
        "color": "#C96A12",
        "marker": (4, 0, 0),
    },
    "stretched_random": {
        "label": "moved mask, shuffled",
        "color": "#7F7F7F",
        "marker": (3, 0, 60),
    },
    "magnitude_at_rewind": {
        "label": "largest at rewinding",
        "color": "#4E6FB5",
        "marker": (7, 1, 0),
    },
    "regularised": {"label": "random mask, penalised", "color": "#B03060", "marker": (5, 0, 0)},
    "scratch": {"label": "random mask from the start", "color": "#6C757D", "marker": (3, 0, 0)},
    "early_bird": {
        "label": "early-bird, fresh optimiser",
        "color": "#1F78B4",
        "marker": (4, 0, 13),
    },
    "early_bird_momentum": {
        "label": "early-bird, momentum kept",
        "color": "#0B4F6C",
        "marker": (4, 0, 3),
    },
    "final_mask": {"label": "mask of the end", "color": "#A50F15", "marker": (6, 0, 3)},
    "same_counts": {"label": "random units, same counts", "color": "#707070", "marker": (3, 0, 3)},
    "early_bird_reinit": {
        "label": "early-bird, new weights",
        "color": "#D9740B",
        "marker": (6, 0, 13),
    },
    "early_bird_rewound": {"label": "early-bird, rewound", "color": "#4D6A00", "marker": (5, 0, 3)},
    "low_mask": {"label": "low-rate mask", "color": "#0B6FB0", "marker": (9, 0, 3)},
    "low_mask_reinit": {
        "label": "low-rate mask, new weights",
        "color": "#DB7013",
        "marker": (4, 0, 43),
    },
    "high_mask": {"label": "high-rate mask", "color": "#6B3F9E", "marker": (5, 0, 13)},
    "high_mask_reinit": {
        "label": "high-rate mask, new weights",
        "color": "#BD3C8C",
        "marker": (8, 0, 3),
    },
    "low_mask_random": {
        "label": "random mask, same counts",
        "color": "#7A7A7A",
        "marker": (3, 0, 273),
    },
    "strong_mask": {"label": "mask of PGD training", "color": "#AF1A2E", "marker": (7, 1, 3)},
    "natural_mask": {"label": "mask of natural training", "color": "#06936C", "marker": (3, 0, 48)},
    "narrow": {"label": "narrow dense network", "color": "#7C471B", "marker": (5, 1, 93)},
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
    axes.set_yticks(*zip(*[(t, f"{t:g}") for t in (1, 2, 5, 10, 20, 50, 100)], strict=True))
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
