"""Figures show the numbers of the rows, in words, and claim no more than the rows allow."""

import math
import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.text import Text
from samples import PLANE, dense_rows, sparse_rows

from lth_tutorial import plotting
from lth_tutorial.plotting import METHODS

matplotlib.use("Agg")
ARMS = ("ticket", "reinit", "random", "one_shot")


def make_rows(loss=0.0, seeds=5, rounds=4, arms=ARMS):
    """Return rows in which every pruned network is `loss` below its dense one, within 0.1%."""
    noise = np.random.default_rng(0)
    rows = []
    for arm in arms:
        for seed in range(seeds):
            dense = 0.95 + 0.01 * math.sin(seed)
            for k in range(rounds):
                below = loss + noise.uniform(-0.001, 0.001) if k else 0.0
                slow = arm == "random" and k == 3 and seed == 0
                rows.append(
                    {
                        "arm": arm,
                        "seed": seed,
                        "round": k,
                        "density": 0.8**k,
                        "accuracy": dense - below,
                        "steps_to_95": 1000 if slow else 400 + 10 * seed + 20 * k,
                        "steps_to_95_censored": slow,
                    }
                )
    return pd.DataFrame(rows)


def pruned_layer():
    """Return a state of 40 weights and the mask of the larger half."""
    weight = torch.linspace(-1, 1, 40).view(5, 8)
    return {"fc1.weight": weight}, {"fc1.weight": weight.abs() > 0.5}


def removal_rows():
    return make_rows(arms=("one_shot", "no_retraining"))


def all_figures():
    rows, kept = make_rows(), torch.ones(10, 64, dtype=torch.bool)
    return {
        "accuracy": plotting.accuracy_vs_density(rows, margin=0.01),
        "error": plotting.accuracy_vs_density(rows, margin=0.01, as_error=True),
        "steps": plotting.steps_vs_density(rows),
        "differences": plotting.differences(rows, "ticket", ["dense", "random"], margin=0.01),
        "mask": plotting.mask_image(kept, (8, 8)),
        "mask and arms": plotting.mask_and_arms(kept, (8, 8), rows, round=2),
        "grids": plotting.weight_grids({"initial": torch.randn(3, 9), "kept": torch.eye(3, 9)}),
        "weights": plotting.weights_and_accuracy(*pruned_layer(), (2, 4), removal_rows(), round=1),
        "placeholder": plotting.not_yet_run("mnist-lenet"),
        "barriers": plotting.barrier_vs_step(dense_rows(), by="network"),
        "path": plotting.error_along_path({"a": [[0.1, 0.3, 0.1], [0.2, 0.5, 0.1]]}, mark=0.5),
        "stability": plotting.stability_and_error(sparse_rows()),
        "surface": plotting.surface(PLANE, ["start", "ticket", "dense"]),
    }


def words(figure):
    figure.draw_without_rendering()
    return "\n".join(text.get_text() for text in figure.findobj(Text) if text.get_visible())


def line(figure, label):
    return next(one for one in figure.axes[0].get_lines() if one.get_label() == label)


def test_the_package_imports_without_matplotlib_and_ipywidgets():
    code = (
        "import sys, lth_tutorial; "
        "heavy = {'matplotlib', 'ipywidgets', 'pandas'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_methods_differ_in_colour_and_the_pruned_ones_in_marker():
    assert len({style["color"] for style in METHODS.values()}) == len(METHODS)
    pruned = [style["marker"] for arm, style in METHODS.items() if arm != "dense"]
    assert len(set(pruned)) == len(pruned)
    assert METHODS["dense"]["color"] == "#000000"


@pytest.mark.parametrize("arm", METHODS)
def test_method_colours_stand_out_from_the_white_card(arm):
    channels = matplotlib.colors.to_rgb(METHODS[arm]["color"])
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    assert 1.05 / (luminance + 0.05) >= 3


@pytest.mark.parametrize("name", all_figures())
def test_a_figure_is_an_opaque_white_card_whatever_the_settings(name):
    with matplotlib.rc_context({"figure.facecolor": "black", "axes.facecolor": "black"}):
        figure = all_figures()[name]
    assert figure.get_facecolor() == (1, 1, 1, 1)
    assert figure.axes[0].get_facecolor() == (1, 1, 1, 1)


@pytest.mark.parametrize("name", all_figures())
def test_text_is_large_enough_for_a_narrow_screen(name):
    figure = all_figures()[name]
    figure.draw_without_rendering()
    sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip()]
    assert min(sizes) >= 9
    assert figure.get_size_inches()[0] <= 6.5


@pytest.mark.parametrize("name", all_figures())
def test_nothing_is_cut_off_at_the_edges(name):
    figure = all_figures()[name]
    figure.draw_without_rendering()
    inside, whole = figure.get_tightbbox(), figure.bbox_inches
    assert inside.x0 >= -0.01 and inside.y0 >= -0.01
    assert inside.x1 <= whole.x1 + 0.01 and inside.y1 <= whole.y1 + 0.01


def test_pyplot_keeps_no_figure():
    import matplotlib.pyplot as plt

    plt.close("all")
    all_figures()
    assert plt.get_fignums() == []


def test_an_arm_is_drawn_at_its_means_in_percent():
    rows = make_rows(loss=0.02)
    drawn = line(plotting.accuracy_vs_density(rows), METHODS["reinit"]["label"])
    means = rows[rows["arm"] == "reinit"].groupby("round")["accuracy"].mean()
    assert drawn.get_ydata() == pytest.approx(100 * means.to_numpy())
    assert drawn.get_xdata() == pytest.approx([1, 0.8, 0.64, 0.512])


def test_the_density_axis_is_logarithmic_in_percent_and_falls_to_the_right():
    figure = plotting.accuracy_vs_density(make_rows())
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert axes.get_xlim()[0] > 1 > 0.512 > axes.get_xlim()[1]
    assert "100%" in words(figure) and "60%" in words(figure)


def test_dense_is_a_dashed_line_with_a_band():
    rows = make_rows()
    axes = plotting.accuracy_vs_density(rows).axes[0]
    dense = next(one for one in axes.get_lines() if one.get_label() == "dense network")
    assert dense.get_linestyle() == "--" and dense.get_color() == "#000000"
    assert dense.get_ydata()[0] == pytest.approx(100 * rows.query("round == 0")["accuracy"].mean())
    assert any(patch.get_facecolor()[:3] == (0, 0, 0) for patch in axes.patches)


def test_winning_ticket_appears_only_at_rounds_that_match():
    rows = make_rows(loss=0.0)
    lost = (rows["arm"] == "ticket") & (rows["round"] == 3)
    rows.loc[lost, "accuracy"] -= 0.05
    figure = plotting.accuracy_vs_density(rows, margin=0.005)
    stars = line(figure, "winning ticket: within 0.5 points")
    assert stars.get_marker() == "*"
    assert stars.get_xdata() == pytest.approx([0.8, 0.64])


@pytest.mark.parametrize(
    ("rows", "margin"),
    [
        (make_rows(loss=0.02), 0.005),
        (make_rows(loss=0.0), None),
        (make_rows(loss=0.0, seeds=2), 0.005),
        (make_rows(loss=0.0, rounds=1), 0.005),
        (make_rows(loss=0.0, arms=("reinit", "random")), 0.005),
    ],
    ids=["too far below", "no margin", "too few replicates", "dense only", "controls only"],
)
def test_winning_ticket_never_appears_without_a_match(rows, margin):
    assert "winning" not in words(plotting.accuracy_vs_density(rows, margin=margin))


@pytest.mark.parametrize(
    ("seeds", "note"), [(5, "95% interval, n = 5"), (1, "single run, no interval")]
)
def test_the_legend_says_how_many_replicates(seeds, note):
    assert note in words(plotting.accuracy_vs_density(make_rows(seeds=seeds)))


def test_a_diverged_run_lowers_n_and_leaves_the_mean_of_the_others():
    rows = make_rows()
    rows.loc[(rows["arm"] == "ticket") & (rows["seed"] == 0) & (rows["round"] == 2), "accuracy"] = (
        math.nan
    )
    figure = plotting.accuracy_vs_density(rows)
    assert "n = 4 to 5" in words(figure)
    assert not np.isnan(line(figure, METHODS["ticket"]["label"]).get_ydata()).any()


def test_single_replicates_are_drawn_on_request():
    count = len(plotting.accuracy_vs_density(make_rows()).axes[0].get_lines())
    dots = plotting.accuracy_vs_density(make_rows(), seeds=True).axes[0].get_lines()
    assert len(dots) == count + len(ARMS)
    assert sum(len(one.get_xdata()) for one in dots if one.get_marker() == ".") == 80


def test_a_censored_mean_has_a_hollow_marker_and_the_legend_says_so():
    figure = plotting.steps_vs_density(make_rows())
    hollow = [
        one
        for one in figure.axes[0].get_lines()
        if one.get_markerfacecolor() == "white" and len(one.get_xdata())
    ]
    assert len(hollow) == 1
    assert hollow[0].get_marker() == METHODS["random"]["marker"]
    assert hollow[0].get_xdata() == pytest.approx([0.512])
    assert "hollow: a lower bound" in words(figure)


def test_few_steps_stay_apart_beside_many():
    axes = plotting.steps_vs_density(make_rows()).axes[0]
    assert axes.get_yscale() == "log"
    low, high = axes.get_ylim()
    assert low < make_rows()["steps_to_95"].min() and high > make_rows()["steps_to_95"].max()
    assert plotting.steps_vs_density(make_rows().assign(steps_to_95=0)).axes[0].get_ylim()[0] == 0


def test_without_censoring_nothing_is_said_about_it():
    rows = make_rows()[lambda r: r["arm"] != "random"]
    assert "hollow" not in words(plotting.steps_vs_density(rows))
    assert "hollow" not in words(
        plotting.steps_vs_density(rows.drop(columns="steps_to_95_censored"))
    )


def test_a_censored_dense_network_is_called_a_lower_bound():
    rows = make_rows()
    rows.loc[(rows["round"] == 0) & (rows["seed"] == 1), "steps_to_95_censored"] = True
    assert "dense network (a lower bound)" in words(plotting.steps_vs_density(rows))


def test_differences_are_paired_by_seed():
    rows = make_rows(loss=0.02)
    rows.loc[rows["arm"] == "ticket", "accuracy"] += 0.03 * (rows["round"] > 0)
    figure = plotting.differences(rows, "ticket", ["dense", "random"], seeds=True)
    axes = figure.axes[0]
    wide = rows.pivot(index="seed", columns=["arm", "round"], values="accuracy")
    expected = [100 * (wide["ticket", k] - wide["random", k]).mean() for k in (1, 2, 3)]
    bars = next(c for c in axes.containers if METHODS["random"]["label"] in c.get_label())
    assert bars.lines[0].get_ydata() == pytest.approx(expected)
    # The seeds differ by a percentage point; their differences do not.
    ends = bars.lines[2][0].get_segments()
    assert max(end[1][1] - end[0][1] for end in ends) < 0.5
    assert "percentage points" in words(figure) and "minus dense network" in words(figure)
    assert axes.get_lines()[0].get_ydata() == [0, 0]


def test_the_histogram_is_cut_at_the_smallest_magnitude_kept():
    state, mask = pruned_layer()
    figure = plotting.weights_and_accuracy(state, mask, (2, 4), removal_rows(), round=1)
    cut = state["fc1.weight"][mask["fc1.weight"]].abs().min().item()
    cuts = [one.get_xdata()[0] for one in figure.axes[0].get_lines()]
    assert cuts == pytest.approx([-cut, cut])
    shown = words(figure)
    assert "kept" in shown and "before fine-tuning" in shown and "after fine-tuning" in shown
    dense = {"fc1.weight": torch.ones(5, 8, dtype=torch.bool)}
    whole = plotting.weights_and_accuracy(state, dense, (2, 4), removal_rows(), round=0)
    assert not whole.axes[0].get_lines()


def test_the_weights_figure_needs_both_arms_and_a_measured_round():
    state, mask = pruned_layer()
    with pytest.raises(ValueError, match="round 9 was not measured"):
        plotting.weights_and_accuracy(state, mask, (2, 4), removal_rows(), round=9)
    with pytest.raises(ValueError, match="no_retraining"):
        rows = make_rows(arms=("one_shot",))
        plotting.weights_and_accuracy(state, mask, (2, 4), rows, round=1)


def test_a_mask_image_shows_kept_weights_relative_to_the_average_pixel():
    kept = torch.zeros(5, 6, dtype=torch.bool)
    kept[:4, 1] = True
    kept[0, 5] = True
    figure = plotting.mask_image(kept, (2, 3), title="a ticket")
    shown = figure.axes[0].get_images()[0].get_array()
    assert shown.flatten().tolist() == pytest.approx([0, 4.8, 0, 0, 0, 1.2])
    assert "weights kept per pixel (average = 1)" in words(figure)


def test_a_placeholder_names_its_record():
    assert "not yet run" in words(plotting.not_yet_run("mnist-lenet"))
    assert "mnist-lenet" in words(plotting.not_yet_run("mnist-lenet"))


ROWS = make_rows()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plotting.accuracy_vs_density(ROWS, value="acuracy"), "'acuracy'.*'accuracy'"),
        (lambda: plotting.steps_vs_density(ROWS.drop(columns="density")), "column 'density'"),
        (lambda: plotting.accuracy_vs_density(ROWS, arms=["tikcet"]), "'tikcet'.*'ticket'"),
        (
            lambda: plotting.accuracy_vs_density(ROWS.replace("reinit", "re-init")),
            "'re-init'.*'reinit'",
        ),
        (lambda: plotting.accuracy_vs_density(ROWS, margin=-0.1), "at least 0.*-0.1"),
        (
            lambda: plotting.differences(ROWS, "ticket", ["dense"], margin=math.nan),
            "at least 0.*nan",
        ),
        (lambda: plotting.differences(ROWS, "ticket", ["dnse"]), "'dnse'.*'dense'"),
        (
            lambda: plotting.mask_and_arms(torch.ones(3, 8).bool(), (2, 4), ROWS, round=99),
            "round 99 was not measured",
        ),
        (
            lambda: plotting.weight_grids({"a": torch.ones(2, 2), "b": torch.ones(2, 3)}),
            r"one shape.*\(2, 2\), \(2, 3\)",
        ),
        (
            lambda: plotting.mask_image(torch.ones(3, 10, dtype=torch.bool), (2, 4)),
            r"\(3, 10\).*\(outputs, 8\)",
        ),
    ],
)
def test_bad_input_is_named_with_what_would_work(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_missing_whole_number_leaves_the_mean_of_the_others():
    rows = make_rows().astype({"steps_to_95": "Int64"})
    rows.loc[(rows["arm"] == "ticket") & (rows["seed"] == 0), "steps_to_95"] = pd.NA
    figure = plotting.steps_vs_density(rows, seeds=True)
    drawn = line(figure, METHODS["ticket"]["label"])
    assert drawn.get_ydata() == pytest.approx([425, 445, 465, 485])


def test_errors_are_one_minus_accuracy_and_the_star_follows_the_same_test():
    figure = plotting.accuracy_vs_density(ROWS, margin=0.01, as_error=True)
    drawn = line(figure, METHODS["ticket"]["label"]).get_ydata()
    plain = line(plotting.accuracy_vs_density(ROWS), METHODS["ticket"]["label"]).get_ydata()
    assert list(drawn) == pytest.approx([100 - y for y in plain])
    assert figure.axes[0].get_yscale() == "log"
    stars = [
        "winning ticket" in words(plotting.accuracy_vs_density(ROWS, margin=m, as_error=e))
        for m in (0.01, 0.0)
        for e in (False, True)
    ]
    assert stars[0] == stars[1] and stars[2] == stars[3]
    with pytest.raises(ValueError, match="as_error draws 1 - accuracy"):
        plotting.accuracy_vs_density(ROWS, value="steps_to_95", as_error=True)
