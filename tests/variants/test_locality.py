"""Locality of masks, by brute force on masks small enough to count by hand."""

from __future__ import annotations

import math

import pytest
import torch

from lth_tutorial.variants.locality import (
    connected_units,
    displacements,
    first_layer,
    kept_at_distance,
    neighbour_share,
    paths_to,
    shuffle_units,
)


def random_mask(units, pixels, density=0.3, seed=0):
    return torch.rand(units, pixels, generator=torch.Generator().manual_seed(seed)) < density


def count_by_hand(kept, shape):
    """Return the pairs of every displacement, within and between channels, pair by pair."""
    _channels, height, width = shape
    same = torch.zeros(2 * height - 1, 2 * width - 1)
    different = same.clone()
    for unit in kept.view(-1, *shape):
        at = unit.nonzero().tolist()
        for c, y, x in at:
            for c2, y2, x2 in at:
                if (c, y, x) != (c2, y2, x2):
                    target = same if c == c2 else different
                    target[height - 1 + y2 - y, width - 1 + x2 - x] += 1
    return same, different


@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 4, 3), (2, 1, 6)])
def test_displacements_are_those_counted_pair_by_pair(shape):
    kept = random_mask(3, math.prod(shape))
    for fast, slow in zip(displacements(kept, shape), count_by_hand(kept, shape), strict=True):
        assert torch.equal(fast, slow.double())


def test_a_bar_has_neighbours_and_a_chessboard_has_none():
    bar = torch.zeros(1, 5, 5, dtype=torch.bool)
    bar[0, 2, 1:4] = True
    board = (torch.arange(5)[:, None] + torch.arange(5)) % 2 == 0
    # Three pixels have twelve neighbours; the middle one keeps two of them, the ends one each.
    assert neighbour_share(bar.view(1, -1), (5, 5)) == pytest.approx(4 / 12)
    assert neighbour_share(board.view(1, -1), (5, 5)) == 0
    assert neighbour_share(torch.ones(2, 25, dtype=torch.bool), (5, 5)) == 1
    assert math.isnan(neighbour_share(torch.zeros(2, 25, dtype=torch.bool), (5, 5)))


def test_pixels_on_the_border_have_fewer_neighbours():
    corner = torch.zeros(1, 9, dtype=torch.bool)
    corner[0, [0, 1]] = True  # the corner has two neighbours, the pixel beside it three
    assert neighbour_share(corner, (3, 3)) == pytest.approx(2 / 5)


def test_a_uniform_mask_keeps_neighbours_by_its_density():
    kept = random_mask(200, 400, density=0.1)
    assert neighbour_share(kept, (20, 20)) == pytest.approx(0.1, abs=0.01)
    table = kept_at_distance(kept, (20, 20), longest=5)
    assert table["distance"].tolist() == [1, 2, 3, 4, 5]
    assert table["same"].tolist() == pytest.approx([0.1] * 5, abs=0.01)
    assert table["different"].isna().all()


def test_channels_at_one_place_are_seen_as_pairs_of_different_channels():
    kept = random_mask(50, 100, density=0.2).view(50, 1, 100).expand(50, 3, 100).reshape(50, -1)
    table = kept_at_distance(kept, (3, 10, 10), longest=3)
    _, different = displacements(kept, (3, 10, 10))
    assert different[9, 9] == 6 * (kept.sum() / 3)  # six ordered pairs of channels at every pixel
    assert table["different"].tolist() == pytest.approx(table["same"].tolist())


@pytest.mark.parametrize("density", [0.05, 0.5, 0.9])
def test_shuffled_units_keep_the_counts_of_every_row_and_column(density):
    kept = random_mask(30, 60, density)
    shuffled = shuffle_units(kept, seed=1)
    assert torch.equal(shuffled.sum(0), kept.sum(0)) and torch.equal(shuffled.sum(1), kept.sum(1))
    assert not torch.equal(shuffled, kept)
    assert torch.equal(shuffled, shuffle_units(kept, seed=1))
    assert not torch.equal(shuffled, shuffle_units(kept, seed=2))


def test_shuffling_forgets_where_the_weights_lay():
    """Blocks of neighbours: the null keeps the marginals and has no more neighbours than chance."""
    kept = torch.zeros(64, 8, 8, dtype=torch.bool)
    for unit in range(64):
        y, x = divmod(unit, 8)
        for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
            kept[unit, (y + dy) % 8, (x + dx) % 8] = True
    kept = kept.view(64, 64)
    assert neighbour_share(kept, (8, 8)) > 0.4
    nulls = [neighbour_share(shuffle_units(kept, seed), (8, 8)) for seed in range(10)]
    assert max(nulls) < 0.12  # 3 of the other 63 pixels are kept: 0.048


def test_an_empty_border_alone_looks_local_until_it_is_compared_with_the_matched_null():
    """The trap of MNIST: nothing is kept at the border, and the rest is random."""
    inner = torch.zeros(12, 12, dtype=torch.bool)
    inner[4:8, 4:8] = True
    kept = random_mask(300, 144, 0.4) & inner.flatten()
    measured = neighbour_share(kept, (12, 12))
    matched = neighbour_share(shuffle_units(kept, 0), (12, 12))
    assert measured > 3 * float(kept.float().mean())  # far above a uniform mask
    assert measured == pytest.approx(matched, abs=0.02)


def test_paths_are_counted_through_the_layers():
    mask = {
        "fc1.weight": torch.tensor([[1, 1, 0], [0, 1, 0]], dtype=torch.bool),
        "output.weight": torch.tensor([[1, 1], [0, 0]], dtype=torch.bool),
    }
    assert paths_to(mask, 1).tolist() == [[1, 1, 0], [0, 1, 0]]
    assert paths_to(mask, 2).tolist() == [[1, 2, 0], [0, 0, 0]]
    shares = connected_units(mask)
    assert shares == {"fc1.weight": 1.0, "output.weight": 0.5}


def test_a_unit_needs_an_input_and_an_output_to_be_connected():
    mask = {
        "fc1.weight": torch.tensor([[1, 1], [0, 0], [1, 0], [0, 1]], dtype=torch.bool),
        "output.weight": torch.tensor([[1, 1, 0, 0]], dtype=torch.bool),
    }
    assert connected_units(mask)["fc1.weight"] == 0.25


def test_a_column_for_the_bias_is_no_pixel():
    kept = random_mask(4, 10)
    with_bias = torch.cat([kept, torch.ones(4, 1, dtype=torch.bool)], dim=1)
    assert torch.equal(first_layer({"fc1.weight": with_bias}, (2, 5)), kept.view(4, 1, 2, 5))
    assert neighbour_share(with_bias, (2, 5)) == neighbour_share(kept, (2, 5))


@pytest.mark.parametrize(
    ("kept", "shape", "message"),
    [
        (torch.ones(8, 3, 3, 3, dtype=torch.bool), (3, 9, 9), "fully connected first layer"),
        (torch.ones(8, 30, dtype=torch.bool), (5, 5), "have 25 pixels"),
        (torch.ones(8, 25, dtype=torch.bool), (25,), "height, width"),
        (torch.ones(8, 25, dtype=torch.bool), (5, 5, 1, 1), "height, width"),
        (torch.ones(8, 25, dtype=torch.bool), (5, 0), "height, width"),
    ],
)
def test_a_mask_that_fits_no_image_is_refused_with_what_would_do(kept, shape, message):
    with pytest.raises(ValueError, match=message):
        first_layer({"conv1.weight": kept}, shape)


def test_other_arguments_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="matrix .units, inputs.; got shape"):
        shuffle_units(torch.ones(2, 2, 2, dtype=torch.bool), 0)
    mask = {"a.weight": random_mask(3, 4), "b.weight": random_mask(2, 5)}
    with pytest.raises(ValueError, match="behind 3 units"):
        paths_to(mask, 2)
    with pytest.raises(ValueError, match="1 … 2; got 3"):
        paths_to(mask, 3)
