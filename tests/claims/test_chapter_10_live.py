"""The live claims of chapter 10 give the verdicts that made-up rows deserve."""

import pandas as pd
import pytest

import lth_tutorial as lt

CLAIMS = {claim.key: claim for claim in lt.CLAIMS if claim.chapter == 10 and claim.live_only}


def widths(gap_narrow, gap_wide):
    gaps = {16: gap_narrow, 64: gap_wide, 128: gap_wide}
    return pd.DataFrame(
        [
            {"arm": "edge_popup", "seed": s, "round": r, "width": w, "density": 1.0,
             "accuracy": 0.95 + 0.001 * s - r * gap}
            for w, gap in gaps.items() for s in range(5) for r in (0, 1)
        ]
    )  # fmt: skip


@pytest.mark.parametrize(("gap", "verdict"), [(0.0, "holds"), (0.02, "fails here")])
def test_a_strong_ticket_is_within_a_point_of_its_dense_network(gap, verdict):
    assert CLAIMS["strong-ticket-digits"].verdict(widths(0.06, gap)) == verdict


@pytest.mark.parametrize(("wide", "verdict"), [(0.01, "holds"), (0.06, "fails here")])
def test_the_gap_of_narrow_networks_is_compared_with_that_of_wide_ones(wide, verdict):
    assert CLAIMS["width-closes-the-gap-digits"].verdict(widths(0.06, wide)) == verdict


@pytest.mark.parametrize(("ends", "verdict"), [((0.4, 0.6), "holds"), ((0.4, 0.96), "fails here")])
def test_the_middle_has_to_beat_both_ends(ends, verdict):
    by_round = {1: ends[0], 4: 0.96, 6: ends[1]}
    rows = pd.DataFrame(
        [
            {"arm": "edge_popup", "seed": s, "round": r, "accuracy": accuracy + 0.001 * s * r}
            for r, accuracy in by_round.items() for s in range(5)
        ]
    )  # fmt: skip
    assert CLAIMS["interior-density-digits"].verdict(rows) == verdict


def test_masks_are_compared_seed_by_seed():
    arms = {"same_sign": 0.66, "random": 0.1, "sampled": 0.9}
    rows = pd.DataFrame(
        [
            {"arm": arm, "seed": s, "round": 1, "accuracy": accuracy + 0.001 * s}
            for arm, accuracy in arms.items() for s in range(5)
        ]
    )  # fmt: skip
    assert CLAIMS["heuristic-supermask-digits"].verdict(rows) == "holds"
    assert CLAIMS["learned-supermask-digits"].verdict(rows) == "holds"
    rows.loc[rows["arm"] == "sampled", "accuracy"] = 0.7
    assert CLAIMS["learned-supermask-digits"].verdict(rows) == "fails here"
