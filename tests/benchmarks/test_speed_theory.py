"""Speed of the subset search, against listing all sums and against a loop over targets."""

from __future__ import annotations

import pytest
import torch
from test_speed import ratio, report

import lth_tutorial as lt
from lth_tutorial.theory import subsets

pytestmark = pytest.mark.bench


def test_meeting_in_the_middle_against_listing_all_sums(capsys):
    """Twenty products, ten targets: the same exact answer."""
    values, target = lt.random_products(10, 20, seed=0), torch.linspace(-1, 1, 10).double()

    def ours() -> None:
        subsets._in_the_middle(values, target)

    def listed() -> None:
        subsets._listed(values, target)

    report(capsys, "subset search, 20 products, over listing all sums", ratio(ours, listed), 10)


def test_many_targets_at_once_against_one_by_one(capsys):
    """Sixteen products, 200 targets."""
    values, target = lt.random_products(200, 16, seed=0), torch.linspace(-1, 1, 200).double()

    def ours() -> None:
        lt.best_subset(values, target)

    def each() -> None:
        for row, wanted in zip(values, target, strict=True):
            lt.best_subset(row, wanted)

    report(capsys, "subset search, 200 targets at once over one by one", ratio(ours, each), 2)
