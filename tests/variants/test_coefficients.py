"""Rows of coefficients: units in the identity basis, ranks in that of singular vectors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import lth_tutorial as lt
from lth_tutorial.variants.bases import svd_basis
from lth_tutorial.variants.coefficients import group_norms, weight_name


def layer_and_mask(rows=6, columns=9):
    layer = nn.Sequential(nn.Linear(columns, rows, bias=False))
    with torch.no_grad():
        layer[0].weight.copy_(torch.randn(rows, columns, generator=torch.manual_seed(0)))
    return layer, lt.dense_mask(layer)


def test_in_the_identity_basis_a_row_is_a_unit():
    layer, mask = layer_and_mask()
    pruned = lt.prune_groups(layer.state_dict(), mask, 0.5)["0.weight"]
    norms = layer[0].weight.norm(dim=1)
    assert pruned.any(1).sum() == pruned.all(1).sum() == 3
    assert norms[pruned.any(1)].min() > norms[~pruned.any(1)].max()


@pytest.mark.parametrize("side", ["outputs", "inputs"])
def test_in_the_svd_basis_pruning_rows_is_the_best_approximation_of_low_rank(side):
    """Eckart and Young: no matrix of rank 2 is nearer than the truncated decomposition."""
    layer, _ = layer_and_mask()
    weight = layer[0].weight.detach().clone()
    other = lt.in_basis(layer, {"0.weight": svd_basis(weight)})
    mask, state = lt.dense_mask(other), other.state_dict()
    share = 4 / 6 if side == "outputs" else 7 / 9
    lt.apply_mask_(other, lt.prune_groups(state, mask, share, side=side))
    u, s, vt = torch.linalg.svd(weight)
    best = u[:, :2] @ torch.diag(s[:2]) @ vt[:2]
    assert torch.allclose(other[0].weight, best, atol=1e-5)
    assert torch.linalg.matrix_rank(other[0].weight, atol=1e-4) == 2


def test_kernels_are_pruned_by_filters_or_by_what_they_read():
    weight = torch.ones(4, 3, 2, 2)
    weight[1], weight[:, :, 0, 0] = 0.5, 0.1
    mask = {"conv": torch.ones_like(weight, dtype=torch.bool)}
    rows = lt.prune_groups({"conv": weight}, mask, 0.25)["conv"]
    assert not rows[1].any() and rows[[0, 2, 3]].all()
    columns = lt.prune_groups({"conv": weight}, mask, 0.25, side="inputs")["conv"]
    assert not columns[:, :, 0, 0].any() and columns[:, :, 1].all()


def test_pruned_coefficients_do_not_count_and_rows_do_not_come_back():
    values = torch.tensor([[9.0, 0.1], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    mask = {"w": torch.tensor([[False, True], [True, True], [True, True], [False, False]])}
    pruned = lt.prune_groups({"w": values}, mask, 1 / 3)["w"]
    assert pruned.any(1).tolist() == [False, True, True, False]
    assert group_norms(values).tolist() == pytest.approx([9.0005, 2**0.5, 8**0.5, 18**0.5], 1e-4)


def test_layers_that_a_mapping_does_not_name_are_left_alone(digits):
    model = lt.build_model("mlp_12_6", seed=0, data=digits)
    mask = lt.dense_mask(model)
    pruned = lt.prune_groups(model.state_dict(), mask, {"fc1.weight": 0.5})
    assert lt.layer_densities(pruned) == {"fc1.weight": 0.5, "fc2.weight": 1.0, "output.weight": 1}


@pytest.mark.parametrize(
    ("fraction", "message"),
    [
        (1.0, r"in \[0, 1\); got 1.0"),
        (-0.1, r"got -0.1 for 0.weight"),
        (0.95, "would prune all 6 remaining groups of 0.weight"),
        ({"1.weight": 0.5}, r"layer in fraction: '1.weight'"),
        ("half", "got 'half'"),
    ],
)
def test_a_fraction_that_makes_no_sense_is_refused(fraction, message):
    layer, mask = layer_and_mask()
    with pytest.raises(ValueError, match=message):
        lt.prune_groups(layer.state_dict(), mask, fraction)


def test_an_unknown_side_is_refused():
    layer, mask = layer_and_mask()
    with pytest.raises(ValueError, match="outputs"):
        lt.prune_groups(layer.state_dict(), mask, 0.5, side="output")


def test_a_basis_computed_from_trained_weights_is_counted():
    mask = {"fc.parametrizations.weight.original": torch.zeros(4, 6, dtype=torch.bool)}
    mask["fc.parametrizations.weight.original"][:2, 0] = True
    rotation = lt.Basis(torch.eye(4), torch.eye(6))
    for basis, numbers in ((lt.Basis(), 0), (rotation, 0)):
        assert lt.stored_numbers(mask, {"fc.weight": basis}) == lt.Stored(2, numbers, 24)
    # Two vectors of four outputs and one of six inputs.
    trained = lt.Basis(torch.eye(4), torch.eye(6), trained=True)
    found = lt.stored_numbers(mask, {"fc.weight": trained})
    assert found == lt.Stored(2, 2 * 4 + 6, 24)
    assert found.share == 16 / 24


def test_a_dense_svd_takes_more_than_the_weights():
    mask = {"w.weight": torch.ones(10, 10, dtype=torch.bool)}
    basis = svd_basis(torch.randn(10, 10))
    assert lt.stored_numbers(mask, {"w.weight": basis}).share == 3


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("fc1.weight", "fc1.weight"),
        ("fc1.parametrizations.weight.original", "fc1.weight"),
        ("parametrizations.in_proj_weight.original", "in_proj_weight"),
        ("a.b.parametrizations.weight.original", "a.b.weight"),
    ],
)
def test_coefficients_know_their_weight(name, weight):
    assert weight_name(name) == weight
