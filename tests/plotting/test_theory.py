"""The figures of chapter 11 show what their rows say."""

import matplotlib
import pytest
import torch

import lth_tutorial as lt
from lth_tutorial import plotting
from lth_tutorial.plotting import METHODS

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def sums():
    return lt.subset_sum_experiment((2, 5, 7, 9), seeds=range(3), targets=10)


@pytest.fixture(scope="module")
def imitated(tiny_data):
    return lt.imitation_experiment(
        lambda seed: lt.relu_network((8, 4, 3), seed=seed), tiny_data,
        lt.TrainConfig(steps=10, batch_size=20), numbers=(1, 3), seeds=range(3),
    )  # fmt: skip


def line(axes, label):
    return next(one for one in axes.get_lines() if one.get_label() == label)


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_errors_are_drawn_as_they_stand_in_the_rows_on_both_axes(sums):
    figure = plotting.error_vs_products(sums)
    for axes in figure.axes:
        for arm in ("subset", "single"):
            drawn = line(axes, METHODS[arm]["label"])
            means = sums[sums["arm"] == arm].groupby("products")["median_error"].mean()
            assert drawn.get_ydata() == pytest.approx(means.to_numpy())
            assert list(drawn.get_xdata()) == [2, 5, 7, 9]
        assert axes.get_yscale() == "log"
    assert [axes.get_xscale() for axes in figure.axes] == ["linear", "log"]
    assert any(text.startswith("fit: ×") for text in legend(figure))


def test_an_error_figure_needs_rows_of_the_experiment(sums):
    with pytest.raises(ValueError, match="unknown column 'median_error'"):
        plotting.error_vs_products(sums.drop(columns="median_error"))


def test_an_imitation_shows_accuracy_in_percent_above_and_the_output_error_below(imitated):
    figure = plotting.imitation(imitated)
    top, bottom = figure.axes
    own = imitated[(imitated["arm"] == "subset") & (imitated["round"] > 0)].groupby("products")
    label = METHODS["subset"]["label"]
    assert line(top, label).get_ydata() == pytest.approx(100 * own["accuracy"].mean().to_numpy())
    assert line(bottom, label).get_ydata() == pytest.approx(own["output_error"].mean().to_numpy())
    target = 100 * imitated.loc[imitated["round"] == 0, "accuracy"].mean()
    assert line(top, "target network").get_ydata()[0] == pytest.approx(target)
    assert "n = 3 seeds" in figure.legends[0].get_title().get_text()


def test_kept_products_lead_from_zero_to_their_sum():
    values = torch.tensor([0.5, -0.2, 0.4, 0.1], dtype=torch.float64)
    found = lt.best_subset(values, 0.3)
    sums = torch.tensor([0.0, 0.5, 0.3])
    figure = plotting.subset_sums(values, 0.3, found, sums)
    bars = figure.axes[0].patches
    filled = [bar for bar, kept in zip(bars, found.kept, strict=True) if kept]
    ends = [bar.get_x() + bar.get_width() for bar in filled]
    assert filled[0].get_x() == 0 and ends[-1] == pytest.approx(found.total.item())
    assert "2 of 4" in figure.axes[0].get_title()


def test_imitated_lines_are_drawn_beside_their_target():
    x = torch.linspace(-1, 1, 5)
    figure = plotting.imitated_lines(x, 2 * x, {"n = 1": x, "n = 2": 1.5 * x})
    axes = figure.axes[0]
    assert line(axes, "target").get_ydata() == pytest.approx((2 * x).numpy())
    assert line(axes, "n = 2").get_ydata() == pytest.approx((1.5 * x).numpy())


@pytest.mark.parametrize("background", ["black", "white"])
def test_figures_are_opaque_white_cards(sums, imitated, background):
    with matplotlib.rc_context({"figure.facecolor": background, "axes.facecolor": background}):
        figures = [plotting.error_vs_products(sums), plotting.imitation(imitated)]
    for figure in figures:
        assert figure.get_facecolor() == (1, 1, 1, 1)
        assert all(axes.get_facecolor() == (1, 1, 1, 1) for axes in figure.axes)
