from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm

import lth_tutorial as lt


def equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_reinitialize_draws_what_build_model_draws():
    model = lt.build_model("mlp_7", seed=5)
    lt.reinitialize(model, 6)
    assert equal(model, lt.build_model("mlp_7", seed=6))


@pytest.mark.parametrize("wrap", [nn.DataParallel, nn.Sequential])
def test_a_network_of_the_package_is_drawn_as_such_inside_another_module(wrap):
    model = wrap(lt.build_model("mlp_7", seed=5))
    lt.reinitialize(model, 6)
    assert equal(model, lt.build_model("mlp_7", seed=6))


def test_two_networks_of_the_package_in_one_module_are_drawn_differently():
    model = nn.ModuleList([lt.build_model("mlp_7", seed=s) for s in (1, 2)])
    lt.reinitialize(model, 6)
    assert equal(model[0], lt.build_model("mlp_7", seed=6))
    assert not equal(model[0], model[1])


def test_batch_norm_does_not_change_how_a_network_is_drawn():
    model = lt.with_batch_norm(lt.build_model("mlp_70", seed=0))
    lt.reinitialize(model, 6)
    assert torch.equal(model.fc1.weight, lt.build_model("mlp_70", seed=6).fc1.weight)


def test_a_foreign_model_is_reinitialised_by_its_own_rules_and_repeatably():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2))
    state = torch.get_rng_state()
    hashes = []
    for seed in (1, 2, 1):
        lt.reinitialize(model, seed)
        hashes.append(lt.state_hash(lt.snapshot(model)))
    assert hashes[0] == hashes[2] != hashes[1]
    assert torch.equal(state, torch.get_rng_state())


class InConstructor(nn.Module):
    """As torchvision's networks do it."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Linear(8, 400), nn.BatchNorm1d(400)
        self.draw()

    def draw(self):
        nn.init.kaiming_normal_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)


class OwnRule(InConstructor):
    def __init__(self, size):
        super().__init__()

    def reset_parameters(self):
        self.draw()


class NoRule(InConstructor):
    def __init__(self, size):
        super().__init__()


@pytest.mark.parametrize("build", [InConstructor, lambda: OwnRule(3)])
def test_a_models_own_distribution_is_drawn_from(build):
    model = build()
    before = model.layer.weight.detach().clone()
    model.norm.running_mean.fill_(3)
    lt.reinitialize(model, 1)
    assert abs(model.layer.weight.std() / before.std() - 1) < 0.05
    assert model.layer.bias.abs().max() == 0
    assert model.norm.running_mean.abs().max() == 0
    assert not torch.equal(model.layer.weight, before)


def test_another_distribution_is_said_to_be_one():
    with pytest.warns(
        lt.InitializationWarning, match="layer.weight had a size .* reset_parameters"
    ):
        lt.reinitialize(NoRule(3), 1)


@pytest.mark.parametrize(
    ("init", "named"),
    [
        (lambda net: nn.init.zeros_(net.out.weight), "out.weight"),
        (lambda net: nn.init.constant_(net.out.bias, -4.6), "out.bias"),
        (lambda net: nn.init.zeros_(net.norm.weight), "norm.weight"),
    ],
    ids=["head", "prior", "residual"],
)
def test_a_constant_that_a_constructor_writes_is_missed(init, named):
    class Net(nn.Module):  # whose constructor needs an argument: PyTorch's rules are taken
        def __init__(self, width):
            super().__init__()
            self.first, self.norm = nn.Linear(8, width), nn.BatchNorm1d(width)
            self.out = nn.Linear(width, 3)
            init(self)

    with pytest.warns(lt.InitializationWarning, match=f"{named} had a size"):
        lt.reinitialize(Net(16), 0)


def test_weights_that_a_seed_drew_before_are_not_called_anew():
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    with pytest.raises(ValueError, match="the weights of seed 4 already .*: take another seed"):
        lt.reinitialize(model, 4)
    lt.reinitialize(model, 5)


def test_a_module_that_cannot_be_reinitialised_is_named_and_nothing_changes():
    class Odd(nn.Module):
        def __init__(self, size):
            super().__init__()
            self.w = nn.Parameter(torch.ones(size, size))

    model = nn.Sequential(nn.Linear(2, 2), Odd(2), lt.build_model("mlp_7", seed=0))
    before = lt.state_hash(lt.snapshot(model))
    with pytest.raises(ValueError, match="'1' .Odd.: it has parameters but no reset_parameters"):
        lt.reinitialize(model, 0)
    assert lt.state_hash(lt.snapshot(model)) == before


def test_a_rule_that_draws_nothing_is_an_error():
    class Same(nn.Linear):
        def reset_parameters(self):
            pass

    with pytest.raises(ValueError, match="weight: the model's own rule does not draw this anew"):
        with torch.no_grad():
            model = Same(3, 4)
            model.weight.copy_(torch.arange(12.0).view(4, 3))
        lt.reinitialize(model, 0)


@pytest.mark.parametrize("kind", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_a_normalised_weight_is_drawn_as_one_without_a_norm(kind):
    plain = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    model = nn.Sequential(kind(nn.Linear(8, 16)), nn.ReLU(), kind(nn.Linear(16, 3)))
    for each in (plain, model):
        lt.reinitialize(each, 3)
    expected = plain[0].weight
    if kind is parametrizations.spectral_norm:
        expected = expected / torch.linalg.matrix_norm(expected, 2)
    assert torch.allclose(model.eval()[0].weight, expected, atol=1e-5)


@pytest.mark.parametrize("norm", [parametrizations.spectral_norm, spectral_norm])
def test_a_class_with_spectral_norm_is_drawn_with_the_vectors_of_its_weights(norm):
    class Net(nn.Module):  # a new one of its class gives the weights
        def __init__(self):
            super().__init__()
            self.first, self.out = norm(nn.Linear(8, 16)), nn.Linear(16, 3)

        def forward(self, x):
            return self.out(self.first(x))

    model = Net()
    lt.reinitialize(model, 3)
    model.eval()(torch.randn(2, 8))
    weight = model.first.weight.detach()
    assert float(torch.linalg.matrix_norm(weight, 2)) == pytest.approx(1, abs=1e-4)


def test_a_model_that_pytorch_pruned_is_drawn_anew_and_stays_pruned():
    layer = prune.l1_unstructured(nn.Linear(8, 16), "weight", 0.5)
    before, mask = layer.weight_orig.detach().clone(), layer.weight_mask.clone()
    lt.reinitialize(layer, 3)
    assert not torch.equal(layer.weight_orig, before)
    assert torch.equal(layer.weight != 0, mask.bool())


def test_an_orthogonal_weight_is_refused_by_name():
    model = nn.Sequential(nn.Flatten(), parametrizations.orthogonal(nn.Linear(4, 4)))
    with pytest.raises(ValueError, match="reinitialize cannot take 1.weight"):
        lt.reinitialize(model, 0)


def test_attention_and_recurrent_layers_are_drawn_anew():
    for model in (nn.MultiheadAttention(8, 2), nn.LSTM(4, 5), nn.TransformerEncoderLayer(8, 2, 16)):
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        lt.reinitialize(model, 1)
        drawn = [n for n, p in model.named_parameters() if not torch.equal(p, before[n])]
        assert set(lt.dense_mask(model)) <= set(drawn)
