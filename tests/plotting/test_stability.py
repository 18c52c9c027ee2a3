"""Figures of stability show the numbers of the rows, and say what is missing."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
import pytest
from samples import PLANE, dense_rows, sparse_rows

from lth_tutorial import plotting

matplotlib.use("Agg")


def lines_of(axes):
    return {line.get_label(): line for line in axes.lines}


def test_every_seed_is_a_dot_and_the_mean_a_line():
    figure = plotting.barrier_vs_step(dense_rows(), by="network")
    (axes,) = figure.axes
    dots = [line for line in axes.lines if line.get_marker() == "."]
    assert [len(line.get_xdata()) for line in dots] == [12, 12]
    means = lines_of(axes)["with"].get_ydata()
    np.testing.assert_allclose(means, [20.15, 3.15, 0.65])
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0", "50", "100"]
    assert "n = 4" in figure.legends[0].get_title().get_text()


def test_a_diverged_run_has_no_dot():
    rows = dense_rows()
    rows.loc[0, "height"] = np.nan
    (axes,) = plotting.barrier_vs_step(rows, by="network").axes
    dots = [line for line in axes.lines if line.get_marker() == "."]
    assert [len(line.get_xdata()) for line in dots] == [11, 12]


def test_paths_show_each_seed_and_the_mean_and_the_marked_point():
    figure = plotting.error_along_path({"a": [[0.1, 0.3, 0.1], [0.1, 0.5, 0.1]]}, mark=0.25)
    (axes,) = figure.axes
    np.testing.assert_allclose(lines_of(axes)["a"].get_ydata(), [10, 40, 10])
    (dot,) = [line for line in axes.lines if line.get_marker() == "o"]
    np.testing.assert_allclose([*np.ravel(dot.get_xdata()), *np.ravel(dot.get_ydata())], [0.25, 25])
    assert axes.texts[0].get_text() == "25.0"


def test_stability_and_error_stand_side_by_side():
    figure = plotting.stability_and_error(sparse_rows())
    left, right = figure.axes
    assert "barrier" in left.get_ylabel() and "error" in right.get_ylabel()
    bars = {c.get_label(): c for c in right.containers}
    assert set(bars) == {"dense network", "ticket", "re-initialised"}
    np.testing.assert_allclose(bars["ticket"].lines[0].get_ydata(), [9.9, 4.9])
    np.testing.assert_allclose(left.containers[0].lines[0].get_ydata(), [10.1, 10 / 51 + 0.1])


def test_a_surface_names_its_three_networks_at_their_places():
    figure = plotting.surface(PLANE, ["start", "ticket", "dense"])
    axes = figure.axes[0]
    assert {t.get_text(): t.xy for t in axes.texts} == dict(
        zip(("start", "ticket", "dense"), PLANE.anchors, strict=True)
    )
    assert figure.axes[1].get_ylabel() == "test error (%)"


def test_bad_input_to_figures_of_stability_is_named():
    for call, message in (
        (lambda: plotting.barrier_vs_step(dense_rows(), step="k"), "unknown column 'k'"),
        (lambda: plotting.error_along_path({}), "by name, one or more"),
        (lambda: plotting.error_along_path({"a": [[1], [1, 2]]}), "of the same length"),
        (lambda: plotting.error_along_path({"a": [[0, 1]]}, mark=2), r"in \[0, 1\]; got 2"),
        (lambda: plotting.stability_and_error(sparse_rows(), arms=["one_shot"]), "unknown arm"),
        (lambda: plotting.stability_and_error(
            pd.concat([sparse_rows(), sparse_rows().assign(round=5)])), "stands several times"),
        (lambda: plotting.surface(PLANE, ["a"]), "three names"),
        (lambda: plotting.surface(PLANE, ["a", "b", "c"], value="heights"), "errors or losses"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            call()
