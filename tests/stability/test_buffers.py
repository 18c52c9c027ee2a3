"""What is no weight between two networks: statistics, frozen norms, vectors of spectral norm."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune

import lth_tutorial as lt

CONFIG = lt.TrainConfig(steps=30, batch_size=20, lr=0.05)


def trained(build, data) -> list[lt.State]:
    return [lt.train(build(seed), data, CONFIG, data_seed=seed).final for seed in (0, 1)]


def spectral(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    norm = parametrizations.spectral_norm
    return nn.Sequential(norm(nn.Linear(8, 16)), nn.ReLU(), norm(nn.Linear(16, 3)))


def expected_loss(a, b, data, alpha: float) -> float:
    """Return the loss in between with the norm of each weight computed from that weight."""
    h = data.normalize(data.x_test)
    for layer in "02":
        name = f"{layer}.parametrizations.weight.original"
        weight = torch.lerp(a[name], b[name], alpha)
        bias = torch.lerp(a[f"{layer}.bias"], b[f"{layer}.bias"], alpha)
        weight = weight / torch.linalg.matrix_norm(weight, 2)
        h = F.linear(F.relu(h) if layer == "2" else h, weight, bias)
    return F.cross_entropy(h, data.y_test).item()


def test_spectral_norm_in_between_is_that_of_the_weights_in_between(tiny_data):
    a, b = trained(spectral, tiny_data)
    found = lt.barrier(spectral(0), a, b, tiny_data, points=5)
    inside = [expected_loss(a, b, tiny_data, i / 4) for i in (1, 2, 3)]
    assert found.losses[1:-1] == pytest.approx(inside, abs=1e-4)
    model = spectral(0)
    for end, state in zip((0, -1), (a, b), strict=True):
        model.load_state_dict(state)
        assert found.losses[end] == pytest.approx(lt.evaluate(model, tiny_data).loss, abs=1e-6)
    model.load_state_dict(lt.interpolate(a, b, 0.5))
    assert lt.evaluate(model, tiny_data).loss == pytest.approx(inside[1], abs=1e-4)


def test_spectral_norm_follows_in_a_plane_too(tiny_data):
    a, b = trained(spectral, tiny_data)
    c = lt.train(spectral(5), tiny_data, CONFIG).final
    found = lt.plane(spectral(0), a, b, c, tiny_data, points=3, margin=0.0)
    assert found.losses[0][1] == pytest.approx(expected_loss(a, b, tiny_data, 0.5), abs=1e-3)


def with_norm(norm: nn.Module, frozen: bool = False):
    def build(seed: int) -> nn.Module:
        torch.manual_seed(0)
        layer = type(norm)(norm.num_features, track_running_stats=True)
        model = nn.Sequential(nn.Unflatten(1, (2, 4)), nn.Conv1d(2, 6, 3), layer, nn.ReLU(),
                              nn.Flatten(), nn.Linear(12, 3))  # fmt: skip
        if frozen:
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.1, 9)
            layer.num_batches_tracked.fill_(100)
            layer.eval()
        return model

    return build


@pytest.mark.parametrize("mode", [True, False])
def test_a_frozen_norm_stays_as_it_is(mode, tiny_data):
    """Told by its mode in a model in training mode, else by statistics that no training moved."""
    build = with_norm(nn.BatchNorm1d(6), frozen=True)
    models = [build(seed) for seed in (0, 1)]
    a, b = (
        lt.train(model, tiny_data, CONFIG, data_seed=seed).final
        for seed, model in enumerate(models)
    )
    model = build(0) if mode else build(0).eval()
    found = lt.barrier(model, a, b, tiny_data, points=3)
    ends = [lt.evaluate(each, tiny_data).loss for each in models]
    assert [found.losses[0], found.losses[-1]] == pytest.approx(ends, abs=1e-6)


def test_a_frozen_norm_is_scored_with_its_own_statistics(tiny_data):
    model = with_norm(nn.BatchNorm1d(6), frozen=True)(0)
    mask = lt.dense_mask(model)
    frozen = lt.snip_scores(model, tiny_data, mask)
    model[2].train()
    assert not torch.equal(lt.snip_scores(model, tiny_data, mask)["1.weight"], frozen["1.weight"])


def test_instance_norm_that_keeps_statistics_is_measured_anew(tiny_data):
    build = with_norm(nn.InstanceNorm1d(6))
    a, b = trained(build, tiny_data)
    found = lt.barrier(build(0), a, b, tiny_data, points=3)
    model = build(0)
    model.load_state_dict(lt.interpolate(a, b, 0.5))
    model[2].reset_running_stats()
    model.eval()[2].train()
    model[2].momentum = 1.0
    with torch.no_grad():
        model(tiny_data.normalize(tiny_data.x_train))
    assert found.losses[1] == pytest.approx(lt.evaluate(model.eval(), tiny_data).loss, abs=1e-5)


def test_a_buffer_that_nobody_knows_is_named(tiny_data):
    class Counts(nn.Linear):
        def __init__(self):
            super().__init__(8, 3)
            self.register_buffer("largest", torch.zeros(3))

        def forward(self, x):
            out = super().forward(x)
            if self.training:
                self.largest += out.detach().mean(0)
            return out

    a, b = trained(lambda seed: Counts(), tiny_data)
    with pytest.warns(lt.BufferWarning, match="largest: buffers that differ"):
        lt.barrier(Counts(), a, b, tiny_data, points=3)


def test_networks_that_pytorch_pruned_differently_have_nothing_in_between():
    def build(seed):
        torch.manual_seed(seed)
        return prune.random_unstructured(nn.Linear(8, 3), "weight", 0.5)

    a, b = (lt.snapshot(build(seed)) for seed in (0, 1))
    with pytest.raises(ValueError, match="weight_mask differs .* make weight an ordinary weight"):
        lt.interpolate(a, b, 0.5)
    lt.interpolate(a, {n: (t if "mask" in n else b[n]) for n, t in a.items()}, 0.5)
