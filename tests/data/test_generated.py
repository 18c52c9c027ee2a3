"""Generated data: the spiral by name, and bars whose class no single pixel tells."""

from __future__ import annotations

import math

import pytest
import torch

import lth_tutorial as lt


def test_the_spiral_is_loaded_by_name_and_has_nothing_to_hold_out():
    data = lt.load_dataset("cubist_spiral")
    assert data.fingerprint == lt.cubist_spiral(2_000).fingerprint
    assert data.num_classes == 2 and data.shape == (2,)
    assert lt.load_dataset("cubist_spiral", val=0).name == data.name
    assert lt.load_dataset("cubist_spiral[100]").name == lt.cubist_spiral(100).name
    assert lt.load_dataset(data.name).fingerprint == data.fingerprint  # as records name it
    with pytest.raises(ValueError, match="even number of points"):
        lt.load_dataset("cubist_spiral[7]")
    with pytest.raises(ValueError, match="no points to hold out; got val=10"):
        lt.load_dataset("cubist_spiral", val=10)


def test_no_pixel_of_the_bars_tells_the_class_and_every_place_is_alike():
    data = lt.bar_images(8_000, 10)
    by_class = torch.stack([data.x_train[data.y_train == c].mean(0) for c in range(2)])
    spread = data.x_train.std() / math.sqrt(4_000)
    assert (by_class[0] - by_class[1]).abs().max() < 5 * spread
    mean = data.x_train.mean(0)
    assert (mean - mean.mean()).abs().max() < 5 * data.x_train.std() / math.sqrt(8_000)


def test_neighbours_go_together_along_the_bar_of_each_class():
    data = lt.bar_images(4_000, 10, noise=0.05)

    def correlation(c, dy, dx):
        x = data.x_train[data.y_train == c][:, 0]
        x = x - x.mean()
        return float((x * x.roll((dy, dx), (1, 2))).mean() / (x * x).mean())

    # Class 0 lies, class 1 stands.
    assert correlation(0, 0, 2) > correlation(0, 2, 0) + 0.3
    assert correlation(1, 2, 0) > correlation(1, 0, 2) + 0.3
    assert correlation(0, 0, 2) == pytest.approx(correlation(1, 2, 0), abs=0.05)


def test_bars_belong_to_their_seed_and_splits_are_drawn_apart():
    a, b, other = lt.bar_images(64), lt.bar_images(64), lt.bar_images(64, seed=1)
    assert a.fingerprint == b.fingerprint != other.fingerprint
    assert (len(a.x_val), len(a.x_test)) == (4, 8)
    assert not torch.equal(a.x_train[:4], a.x_val)


@pytest.mark.parametrize(
    "wrong", [{"n": 3}, {"side": 2}, {"classes": 1}, {"noise": -1.0}, {"n": 64.5}]
)
def test_sizes_that_make_no_images_are_refused(wrong):
    with pytest.raises(ValueError, match="need at least 16 examples|n is a whole number; got"):
        lt.bar_images(**wrong)
