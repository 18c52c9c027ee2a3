"""Weight norm and spectral norm: the mask, the magnitudes and the network mean the same weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

import lth_tutorial as lt
from lth_tutorial.networks.parametrized import allow_empty_rows_, follow_weights, weight_in


def network(kind, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(kind(nn.Linear(8, 16)), nn.ReLU(), kind(nn.Linear(16, 3)))


@pytest.mark.parametrize("kind", [weight_norm, spectral_norm])
def test_density_is_that_of_the_weights_that_the_network_computes_with(kind, tiny_data):
    model = network(kind)
    config, imp = lt.TrainConfig(steps=10, batch_size=20, lr=0.05), lt.IMPConfig(4, 0.5)
    last = lt.iterative_magnitude_pruning(model, tiny_data, config, imp)[-1]
    assert sum(kept.numel() for kept in last.mask.values()) == 8 * 16 + 16 * 3
    weights = [layer.weight for layer in (model[0], model[2])]
    kept = sum(int(mask.sum()) for mask in last.mask.values())
    assert sum(int((w != 0).sum()) for w in weights) == kept
    assert all(bool(w.isfinite().all()) for w in weights)


def test_an_output_without_weights_gives_zero_and_no_gradient_is_nan():
    layer = weight_norm(nn.Linear(5, 4))
    untouched = layer.weight.detach().clone()
    allow_empty_rows_(layer)
    assert torch.equal(layer.weight, untouched)
    with torch.no_grad():
        layer.parametrizations.weight.original1[2] = 0
    assert layer.weight[2].abs().max() == 0
    assert torch.equal(layer.weight[:2], untouched[:2])
    layer.weight.sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in layer.parametrizations.parameters())
    copied = copy.deepcopy(layer)
    assert torch.equal(copied.weight, layer.weight)


@pytest.mark.parametrize(
    "layer", [nn.Linear(5, 1), nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 4, 3)], ids=str
)
@pytest.mark.parametrize("kind", [weight_norm, spectral_norm])
def test_magnitudes_are_those_of_the_weight_that_comes_out(kind, layer):
    layer = kind(copy.deepcopy(layer)).eval()
    with torch.no_grad():
        next(layer.parametrizations.parameters()).mul_(3)
    (name,) = lt.dense_mask(layer)
    state = lt.snapshot(layer)
    assert torch.allclose(weight_in(state, name), layer.weight, atol=1e-6)
    scores = lt.magnitude_scores(state, lt.dense_mask(layer))
    assert torch.allclose(scores[name], layer.weight.abs(), atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")
@pytest.mark.parametrize("kind", [spectral_norm, nn.utils.spectral_norm])
def test_spectral_norms_vectors_follow_the_weights(kind):
    layer = kind(nn.ConvTranspose2d(3, 4, 3)).eval()
    with torch.no_grad():
        next(p for p in layer.parameters() if p.ndim == 4).normal_()
    layer.load_state_dict(follow_weights(lt.snapshot(layer)))
    layer(torch.randn(1, 3, 5, 5))  # the older kind computes the weight here
    matrix = layer.weight.transpose(0, 1).flatten(1)
    assert abs(torch.linalg.matrix_norm(matrix, 2).item() - 1) < 1e-5


def test_a_supermask_of_normalised_weights_changes_nothing_of_the_model(tiny_data):
    model = network(spectral_norm)
    before = lt.state_hash(lt.snapshot(model))
    config = lt.TrainConfig(steps=3, batch_size=20)
    found = lt.edge_popup(model, tiny_data, 0.5, config)
    assert lt.state_hash(lt.snapshot(model)) == before
    assert set(found.mask) == set(lt.dense_mask(model))
    model.load_state_dict(lt.effective_state(model, found))
    assert abs(lt.evaluate(model, tiny_data).accuracy - found.accuracy) < 1e-6
    with pytest.raises(ValueError, match="biprop cannot take 0.weight"):
        lt.biprop(model, tiny_data, 0.5, config)
