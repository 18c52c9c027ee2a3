"""The claims of chapter 14 follow from rows: planted effects give the verdicts that they must."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import lth_tutorial as lt
from lth_tutorial.claims import chapter_14

SEEDS = range(8)


def verdict(key, rows, record):
    table = lt.claims({record: rows}, chapter=14).set_index("key")
    return table.loc[key, "verdict"]


def locality(arm, excess, *, rounds=(0, 5), accuracy=0.9, here=None, second=0.1):
    """Return rows of one arm whose last round has this excess, a little different in each seed."""
    noise = np.random.default_rng(len(arm)).normal(0, 0.003, len(SEEDS))
    rows = []
    for seed in SEEDS:
        for r in rounds:
            gain = (excess + noise[seed]) * (r == rounds[-1])
            row = {"arm": arm, "seed": seed, "round": r, "density": 0.5**r, "accuracy": accuracy}
            row |= {"neighbours": 0.1 + gain, "neighbours_matched": 0.1}
            row |= {"second_neighbours": 0.2 + second, "second_neighbours_matched": 0.2}
            if here is not None:
                row |= {"neighbours_here": 0.1 + here, "neighbours_here_matched": 0.1}
            rows.append(row)
    return pd.DataFrame(rows)


def bars(ticket=0.06, one_shot=0.01, gaussian=0.0, accuracy=0.95):
    return pd.concat(
        [
            locality("ticket", ticket),
            locality("one_shot", one_shot),
            locality("gaussian", gaussian, accuracy=accuracy),
        ]
    )


@pytest.mark.parametrize(
    ("key", "planted", "expected"),
    [
        ("locality-bars", {}, "holds"),
        ("locality-bars", {"ticket": 0.0}, "fails here"),
        ("locality-iterating-bars", {}, "holds"),
        ("locality-iterating-bars", {"one_shot": 0.06}, "fails here"),
        ("locality-non-gaussian-bars", {}, "holds"),
        ("locality-non-gaussian-bars", {"gaussian": 0.06}, "fails here"),
        # A clone on which nothing is learned says nothing for the claim.
        ("locality-non-gaussian-bars", {"accuracy": 0.5}, "fails here"),
    ],
)
def test_live_claims_follow_the_rows(key, planted, expected):
    assert verdict(key, bars(**planted), "bars-locality") == expected


def mnist(original=0.1, once=0.05, sifted=0.1, permuted=0.1, here=0.0, clones=0.0, accuracy=0.9):
    return pd.concat(
        [
            locality("original: ticket", original),
            locality("once: one_shot", once),
            locality("sifting: sifted", sifted, rounds=(0, 3)),
            locality("permuted: ticket", permuted, here=here),
            locality("class clone: ticket", clones, accuracy=accuracy),
            locality("shared clone: ticket", clones, accuracy=accuracy),
        ]
    )


@pytest.mark.parametrize(
    ("key", "planted", "expected"),
    [
        ("locality-mnist", {}, "holds"),
        (
            "locality-mnist", {"sifted": 0.0},
            "holds only if our IMP, first layer or our IMP, paths to the second layer",
        ),
        ("locality-iterating-mnist", {}, "holds"),
        ("locality-iterating-mnist", {"once": 0.12}, "fails here"),
        ("locality-non-gaussian-mnist", {}, "holds"),
        ("locality-non-gaussian-mnist", {"clones": 0.09}, "fails here"),
        ("locality-permuted-mnist", {}, "holds"),
        ("locality-permuted-mnist", {"permuted": 0.0}, "fails here"),
        ("locality-permuted-mnist", {"here": 0.1}, "fails here"),
    ],
)  # fmt: skip
def test_recorded_claims_follow_the_rows(key, planted, expected):
    assert verdict(key, mnist(**planted), "mnist-locality") == expected


@pytest.mark.parametrize(("gain", "expected"), [(0.05, "holds"), (0.0, "fails here")])
def test_the_overlap_counts_only_beyond_matched_shuffled_masks(gain, expected):
    noise = np.array([0.001, -0.001, 0.0, 0.0005])
    rows = pd.DataFrame({"pair": range(4), "matched": 0.3 + gain + noise, "matched_null": 0.3})
    assert verdict("mask-overlap", rows, "mask-overlap") == expected


def pruners(needs):
    """Return rows in which every run reaches both targets with so many weights, and not below."""
    rows = []
    for (arm, width), weights in needs.items():
        for seed in SEEDS:
            total = width * (2 * width + 3)
            for r, (n, accuracy) in enumerate(
                [(total, 1.0), (weights + seed % 3, 0.999), (10, 0.6)]
            ):
                rows.append(
                    {"arm": f"width {width}: {arm}", "seed": seed, "round": r, "weights": n,
                     "density": n / total, "accuracy": accuracy}
                )  # fmt: skip
    return pd.DataFrame(rows)


def needs(**changes):
    base = {arm: {8: 40, 16: 40, 32: 60, 64: 90} for arm in chapter_14.PRUNERS}
    base["four_rounds"] = {8: 40, 16: 40, 32: 100, 64: 250}
    for arm, by_width in changes.items():
        base[arm] = by_width
    return {(arm, width): n for arm, widths in base.items() for width, n in widths.items()}


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr(chapter_14, "fewest_known", lambda target: {0.95: 15, 0.995: 35}[target])


@pytest.mark.parametrize(
    ("key", "planted", "expected"),
    [
        ("sparsest-spiral-950", {}, "holds"),
        ("sparsest-spiral-995", {}, "holds"),
        ("wider-needs-more-spiral", {}, "holds"),
        ("wider-small-rounds-spiral", {}, "holds"),
        ("wider-small-rounds-spiral", {"ticket": {8: 40, 16: 40, 32: 100, 64: 500}}, "fails here"),
    ],
)
def test_claims_about_the_spiral_follow_the_rows(key, planted, expected):
    assert verdict(key, pruners(needs(**planted)), "spiral-pruners") == expected


def test_one_pruner_that_gets_down_to_the_minimum_refutes_the_claim_where_it_does():
    rows = pruners(needs(snip={8: 40, 16: 12, 32: 60, 64: 90}))
    found = verdict("sparsest-spiral-950", rows, "spiral-pruners")
    assert found.startswith("holds only if ticket, 20 % per round, width 16")
    assert "SNIP, width 16" not in found
    assert "best of all" not in found


def test_runs_that_never_reach_the_target_count_as_lower_bounds():
    rows = pruners(needs())
    rows.loc[rows["arm"].eq("width 16: snip"), "accuracy"] = 0.5
    measured = chapter_14._one_pruner_minus_fewest(0.95, "snip")(rows)
    assert measured.at_least and list(measured.values) == [560 - 15] * 8


@pytest.mark.parametrize(
    ("dense_only", "expected"),
    [
        (("four_rounds", 64), "inconclusive"),  # needs less than all weights, so the gap is smaller
        (("ticket", 16), "inconclusive"),  # taken away: as above
        (("four_rounds", 16), "holds"),  # the gap is larger than it seems
        (("ticket", 64), "inconclusive"),  # as well, though it seems to be below zero
        (("four_rounds", 64, "steep"), "fails here"),  # the gap is smaller still
    ],
)
def test_a_bound_supports_a_verdict_only_where_the_true_value_would_support_it_more(
    dense_only, expected
):
    base = {"four_rounds": {8: 40, 16: 140, 32: 100, 64: 8000 if expected == "holds" else 2000}}
    arm, width, *steep = dense_only
    rows = pruners(needs(**base, **({"ticket": {16: 20, 64: 8300}} if steep else {})))
    own = rows["arm"].eq(f"width {width}: {arm}")
    rows.loc[own & rows["round"].gt(0), "accuracy"] = 0.5
    assert verdict("wider-small-rounds-spiral", rows, "spiral-pruners") == expected
    # Seeds in which not even the dense network gets there say nothing about the ratio.
    rows.loc[own, "accuracy"] = 0.5
    assert verdict("wider-small-rounds-spiral", rows, "spiral-pruners") == "not yet run"


def test_without_a_search_nothing_is_decided(monkeypatch):
    monkeypatch.setattr(chapter_14, "fewest_known", lambda target: None)
    assert verdict("sparsest-spiral-950", pruners(needs()), "spiral-pruners") == "not yet run"
