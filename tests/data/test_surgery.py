"""Data surgery: pixels permuted, and Gaussian clones with the statistics of the original."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch

import lth_tutorial as lt
from lth_tutorial.data.surgery import (
    CloneWarning,
    gaussian_clone,
    permute_pixels,
    pixel_order,
    restore_pixels,
)


def images(n=4_000, side=3, channels=1, classes=2, constant=True, seed=0):
    """Return correlated images whose classes differ in mean and covariance; a pixel is constant."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    pixels = channels * side * side
    mix = torch.randn(classes, pixels, pixels, generator=generator)
    x = torch.einsum("nij,nj->ni", mix[y], torch.rand(n, pixels, generator=generator)) + y[:, None]
    if constant:
        x[:, 0] = 7.0
    x = x.view(n, channels, side, side)
    half = n // 2
    return lt.make_dataset(
        "made",
        (x[:half], y[:half]),
        (x[half : half + 20], y[half : half + 20]),
        (x[half:], y[half:]),
    )


def test_a_permutation_moves_pixels_together_and_back():
    data = images(channels=3)
    moved = permute_pixels(data, seed=4)
    order = pixel_order(data, 4)
    assert sorted(order.tolist()) == list(range(9))
    assert torch.equal(moved.x_test.flatten(2), data.x_test.flatten(2)[:, :, order])
    assert torch.equal(moved.y_train, data.y_train) and moved.name == "made[permuted]"
    assert torch.equal(restore_pixels(moved.x_train.flatten(1), data, 4), data.x_train.flatten(1))
    assert not torch.equal(permute_pixels(data, seed=5).x_test, moved.x_test)


def test_a_fully_connected_network_does_not_know_the_order_of_pixels(digits):
    """With its first weights permuted likewise it trains to the same masks, once restored."""
    data, seed = digits, 3
    moved = permute_pixels(data, seed)
    config = lt.TrainConfig(steps=60, batch_size=50, lr=0.05)
    imp = lt.IMPConfig(rounds=2, fraction=0.5, scope="layer")
    plain = lt.build_model("mlp_20", seed=0, data=data)
    other = copy.deepcopy(plain)
    other.fc1.weight.data = other.fc1.weight.data[:, pixel_order(data, seed)]
    here = lt.iterative_magnitude_pruning(plain, data, config, imp)[-1].mask["fc1.weight"]
    there = lt.iterative_magnitude_pruning(other, moved, config, imp)[-1].mask["fc1.weight"]
    assert lt.overlap({"w": restore_pixels(there, data, seed)}, {"w": here}) > 0.98
    assert lt.overlap({"w": there}, {"w": here}) < 0.5  # in the permuted order nothing fits


@pytest.mark.parametrize("covariance", ["class", "shared"])
def test_a_clone_has_the_means_and_covariances_that_it_promises(covariance):
    data = images(n=40_000)
    clone = gaussian_clone(data, covariance=covariance)
    assert clone.shape == data.shape and len(clone.x_test) == len(data.x_test)
    assert torch.equal(clone.y_train, data.y_train)
    within = torch.zeros(9, 9)
    for c in range(2):
        x, z = (d.x_train[d.y_train == c].flatten(1) for d in (data, clone))
        assert torch.allclose(x.mean(0), z.mean(0), atol=0.06)
        within += torch.cov(x.T) / 2
        if covariance == "class":
            assert torch.allclose(torch.cov(x.T), torch.cov(z.T), atol=0.12)
    if covariance == "shared":
        for c in range(2):
            z = clone.x_train[clone.y_train == c].flatten(1)
            assert torch.allclose(torch.cov(z.T), within, atol=0.12)


def test_a_clone_is_gaussian_where_the_original_is_not():
    data = images(n=40_000, constant=False)
    x = data.x_train.flatten(1)[data.y_train == 0]
    z = gaussian_clone(data).x_train.flatten(1)[data.y_train == 0]

    def excess_kurtosis(a):
        a = (a - a.mean(0)) / a.std(0)
        return (a**4).mean(0) - 3

    assert float(excess_kurtosis(x).mean()) < -0.1  # sums of uniform numbers
    assert abs(float(excess_kurtosis(z).mean())) < 0.05


def test_a_constant_pixel_stays_constant_and_nothing_is_nan():
    clone = gaussian_clone(images())
    for x in (clone.x_train, clone.x_val, clone.x_test):
        assert torch.isfinite(x).all()
        assert torch.allclose(x.flatten(1)[:, 0], torch.tensor(7.0), atol=1e-4)


def test_a_clone_of_few_examples_is_shrunk_and_says_so():
    data = images(n=24)
    with pytest.warns(CloneWarning, match="6 examples for a covariance of 9 values"):
        clone = gaussian_clone(data)
    own = clone.x_train.flatten(1)[clone.y_train == 0]
    assert torch.isfinite(own).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gaussian_clone(images())  # enough of them: no warning


def test_clones_belong_to_their_seed_and_splits_are_drawn_apart():
    data = images()
    a, b, c = gaussian_clone(data, seed=1), gaussian_clone(data, seed=1), gaussian_clone(data)
    assert a.fingerprint == b.fingerprint != c.fingerprint
    assert not torch.equal(a.x_train[:20], a.x_val)


def test_what_cannot_be_cloned_or_permuted_is_refused():
    data = images()
    with pytest.raises(ValueError, match="'class' or 'shared'|class, shared"):
        gaussian_clone(data, covariance="full")
    x, y = torch.rand(9, 1, 2, 2), torch.tensor([0] * 8 + [1])
    with pytest.raises(ValueError, match="class 1 of few has 1 training examples"):
        gaussian_clone(lt.make_dataset("few", (x, y), None, (x, y)))
    table = lt.make_dataset("table", (torch.rand(9, 4), y), None, (torch.rand(9, 4), y))
    with pytest.raises(ValueError, match="channels, height, width.; table has examples"):
        permute_pixels(table, 0)
    with pytest.raises(ValueError, match="have 9 values; got rows of 8"):
        restore_pixels(torch.ones(2, 8), data, 0)
