"""Chapter 5: its figure, and that its claims read the rows they name."""

from __future__ import annotations

import pandas as pd
import pytest

import lth_tutorial as lt
from lth_tutorial import plotting
from lth_tutorial.claims import CLAIMS
from lth_tutorial.experiments import experiment
from lth_tutorial.plotting import METHODS


def rows(arms, seeds=4, rounds=1):
    """Return rows of arms with the accuracies given, a hundredth of a point more per seed."""
    return pd.DataFrame(
        {
            "arm": arm,
            "seed": seed,
            "round": i,
            "density": 0.25**i,
            "accuracy": value + seed / 10_000,
        }
        for arm, value in arms.items()
        for seed in range(seeds)
        for i in range(rounds)
    )


def test_every_seed_of_every_arm_is_a_dot_and_the_mean_a_bar():
    table = rows({"fine_tune": 0.9, "reinit": 0.8})
    figure = plotting.arm_dots(table, arms=["fine_tune", "reinit"], title="A")
    axes = figure.axes[0]
    dots = [line for line in axes.get_lines() if len(line.get_xdata()) == 4]
    assert sorted(dots[0].get_ydata()) == pytest.approx([9.97, 9.98, 9.99, 10.0])
    means = [bar.lines[0].get_ydata()[0] for bar in axes.containers]
    assert sorted(means) == pytest.approx([9.985, 19.985])
    assert axes.get_title() == "A" and axes.get_yscale() == "log"
    words = " ".join(label.get_text() for label in axes.get_xticklabels())
    assert METHODS["fine_tune"]["label"] in words
    assert axes.get_ylim()[0] > 5, "the axis begins just below the best seed"


def test_frames_with_the_same_errors_have_the_same_axis_and_size():
    limits = {"errors": (0.01, 0.5)}
    figures = [plotting.arm_dots(rows({"fine_tune": a}), **limits) for a in (0.9, 0.6)]
    assert figures[0].axes[0].get_ylim() == figures[1].axes[0].get_ylim()
    assert tuple(figures[0].get_size_inches()) == tuple(figures[1].get_size_inches())


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (rows({"fine_tune": 0.9}, rounds=2), {}, "stand twice"),
        (rows({"fine_tuning": 0.9}), {}, "arm in the rows"),
        (rows({"fine_tune": 0.9}), {"arms": ["fine_tun"]}, "Did you mean 'fine_tune'"),
        (rows({"fine_tune": 0.9}).drop(columns="accuracy"), {}, "unknown column 'accuracy'"),
    ],
)
def test_what_cannot_be_drawn_is_said(table, options, message):
    with pytest.raises(ValueError, match=message):
        plotting.arm_dots(table, **options)


def verdicts(filters, unfair, high, low):
    high = high.assign(arm="high rate: " + high["arm"])
    low = low.assign(arm="low rate: " + low["arm"])
    measured = {
        "digits-filters": filters,
        "digits-filters-short-tuning": unfair,
        "digits-single-weights": pd.concat([high, low]),
    }
    return lt.claims(measured, chapter=5, level="live").set_index("key")["verdict"]


def test_the_claims_read_the_rows_they_name():
    equal = rows({"units_l1": 0.9, "scratch_e": 0.9, "scratch_b": 0.9}, rounds=3)
    worse = rows({"units_l1": 0.9, "scratch_e": 0.8, "scratch_b": 0.8}, rounds=3)
    weights = rows({"rewind": 0.9, "fine_tune": 0.7, "reinit": 0.8}, rounds=3)
    tied = rows({"rewind": 0.9, "fine_tune": 0.9, "reinit": 0.9}, rounds=3)
    found = verdicts(equal, equal, tied, weights)
    assert found["architecture-suffices"] == found["as-many-epochs-suffice"] == "holds"
    assert found["short-tuning-flatters-scratch"] == "fails here"
    assert found["no-ticket-at-high-rates"] == "holds"
    assert found["low-rate-favours-inheritance"] == "holds", "one kind of inheritance is enough"
    found = verdicts(worse, worse, weights, tied)
    assert found["architecture-suffices"] == found["no-ticket-at-high-rates"] == "fails here"
    assert found["low-rate-favours-inheritance"] == "fails here"


def test_full_scale_claims_name_arms_that_their_record_has():
    design = experiment("cifar10-vgg16-filters")
    labels = {part.label for part in design.parts}
    assert {"filters", "weights, low rate"} <= labels
    arms = {
        "filters: units_l1": 0.93,
        "filters: scratch_b": 0.93,
        "weights, low rate: fine_tuned": 0.93,
        "weights, low rate: scratch_e": 0.92,
    }
    full = [c for c in CLAIMS if c.record == "cifar10-vgg16-filters"]
    assert {c.verdict(rows(arms, rounds=3)) for c in full} == {"holds"}
