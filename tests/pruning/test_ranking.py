"""Ranking by a guessed band, against sorting everything."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lth_tutorial.pruning import ranking
from lth_tutorial.pruning.ranking import best


def by_sorting(values, allowed, keep):
    """Return the same by a stable sort of all allowed values, as booleans in one vector."""
    flat, free = torch.cat(values).double(), torch.cat(allowed)
    places = free.nonzero().squeeze(1)
    order = flat[places].sort(descending=True, stable=True).indices
    chosen = torch.zeros_like(free)
    chosen[places[order[:keep]]] = True
    return chosen


def check(values, allowed, keep):
    chosen = best(values, allowed, keep)
    assert [len(c) for c in chosen] == [len(v) for v in values]
    assert torch.equal(torch.cat(chosen), by_sorting(values, allowed, keep))


@pytest.fixture
def banded(monkeypatch):
    """Guess a band for small vectors too; return how many bands were tried."""
    monkeypatch.setattr(ranking, "_FEW", 0)
    tried = []
    best_of = ranking._best_of
    monkeypatch.setattr(
        ranking, "_best_of", lambda band, keep: tried.append(len(band)) or best_of(band, keep)
    )
    return tried


numbers = st.sampled_from([-math.inf, -2.0, -1.0, 0.0, 0.5, 1.0, 3.0, math.inf])


@given(
    st.lists(st.tuples(numbers, st.booleans()), min_size=1, max_size=400),
    st.floats(0, 1),
    st.integers(1, 7),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
@settings(max_examples=200, deadline=None)
def test_ties_infinities_and_forbidden_places_are_ranked_as_by_sorting(pairs, share, cut, dtype):
    values = torch.tensor([v for v, _ in pairs], dtype=dtype)
    allowed = torch.tensor([a for _, a in pairs])
    keep = round(share * int(allowed.sum()))
    few, stride = ranking._FEW, ranking._STRIDE
    ranking._FEW, ranking._STRIDE = 0, 3
    try:
        pieces = max(1, len(values) // cut)
        check(values.split(pieces), allowed.split(pieces), keep)
    finally:
        ranking._FEW, ranking._STRIDE = few, stride


@pytest.mark.parametrize("share", [0.001, 0.3, 0.999])
def test_of_many_values_few_are_ranked_exactly(banded, share):
    values = torch.randn(300_000, generator=torch.Generator().manual_seed(0)).split(70_000)
    allowed = [v > -1 for v in values]
    n = sum(int(a.sum()) for a in allowed)
    check(values, allowed, round(share * n))
    assert len(banded) == 1 and banded[0] < 0.12 * n


def test_a_sample_that_misleads_changes_nothing(banded):
    values = torch.zeros(9_700)
    values[:: ranking._STRIDE] = torch.arange(100.0)  # the sample sees these alone
    values[1:50] = -1.0
    allowed = torch.ones_like(values, dtype=torch.bool)
    for keep in (1, 60, 4_000, 9_690):
        check([values], [allowed], keep)
    assert max(banded) == 9_700, "then everything is ranked"


def test_pieces_of_two_precisions_are_ranked_together(banded):
    values = [torch.tensor([0.1, 0.2]), torch.tensor([0.1, 0.3], dtype=torch.float64)]
    check(values, [torch.ones(2, dtype=torch.bool)] * 2, 2)
    # 0.1 in single precision is a little more than 0.1 in double.
    assert best(values, [torch.ones(2, dtype=torch.bool)] * 2, 3)[0].all()


def test_scores_that_are_nan_do_not_matter_where_nothing_remains():
    values = [torch.tensor([math.nan, 1.0, 2.0])]
    chosen = best(values, [torch.tensor([False, True, True])], 1)
    assert chosen[0].tolist() == [False, False, True]
