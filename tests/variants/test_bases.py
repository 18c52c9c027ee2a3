"""Weights as coefficients: the same function, the same trajectory with SGD, another with Adam."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import scipy.fft
import torch
import torchvision
from torch import nn

import lth_tutorial as lt
from lth_tutorial.networks.architectures import ResNet
from lth_tutorial.training.groups import can_stack
from lth_tutorial.variants.bases import KINDS, random_rotation, svd_basis

SHAPE = (1, 8, 8)


def rotated(model, seed=0, kind="rotation", **options):
    return lt.in_basis(model, lt.bases_of(model, kind, seed=seed, **options))


class Attention(nn.Module):
    """A network with attention, every kind of norm and a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.attend = nn.MultiheadAttention(16, 2, batch_first=True)
        self.norms = nn.Sequential(nn.LayerNorm(16), nn.GroupNorm(1, 8), nn.InstanceNorm1d(8))
        self.scale = nn.Parameter(torch.ones(16))
        self.output = nn.Linear(16, 10)

    def forward(self, x):
        x = self.embed(x.flatten(1).unflatten(1, (8, 8)))
        x = self.norms(self.attend(x, x, x)[0]) * self.scale
        return self.output(x.mean(1))


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: lt.build_model("mlp_20_10", seed=1), (1, 28, 28)),
        (lambda: ResNet(((4, 1), (8, 2)), (3, 16, 16), 10), (3, 16, 16)),
        (lambda: lt.build_model("vgg_tiny", seed=1), (3, 32, 32)),
        (lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=10), (3, 32, 32)),
        (Attention, SHAPE),
    ],
)
def test_a_network_in_a_basis_computes_the_same(make, shape):
    torch.manual_seed(0)
    model = make().double().eval()
    x = torch.randn(3, *shape, dtype=torch.float64)
    for kind in ("rotation", "dct"):
        bases = lt.bases_of(model, kind, shape=shape if hasattr(model, "fc1") else None)
        other = lt.in_basis(model, bases)
        assert torch.allclose(other(x), model(x), atol=1e-9)
        assert torch.allclose(lt.from_basis(other)(x), model(x), atol=1e-9)
        assert list(lt.dense_mask(other)) != list(lt.dense_mask(model))


def test_the_model_itself_is_left_alone():
    model = lt.build_model("mlp_12_6", seed=0)
    before = lt.state_hash(lt.snapshot(model))
    other = rotated(model)
    lt.from_basis(other)
    nn.init.zeros_(other.fc1.parametrizations.weight.original)
    assert not other.fc1.weight.any()
    assert lt.state_hash(lt.snapshot(model)) == before
    assert set(lt.from_basis(other).state_dict()) == set(model.state_dict())


def steps(model, optimizer, n=40):
    """Train in double precision, by PyTorch alone."""
    generator = torch.Generator().manual_seed(0)
    optimizer = optimizer(model.parameters())
    for _ in range(n):
        x = torch.randn(16, 64, generator=generator, dtype=torch.float64)
        y = torch.randint(10, (16,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    weights = dict(lt.from_basis(model).named_parameters())
    return torch.cat([weights[name].detach().flatten() for name in sorted(weights)])


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.01)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.01)


@pytest.mark.parametrize("kind", ["rotation", "dct", "rotation_inputs", "svd"])
def test_plain_sgd_takes_the_same_way_in_every_basis_to_rounding(kind, digits):
    model = lt.build_model("mlp_30_20", seed=3, data=digits).double()
    trained = lt.build_model("mlp_30_20", seed=4, data=digits).double().state_dict()
    other = rotated(model, kind=kind, trained=trained, shape=SHAPE)
    assert (steps(model, sgd) - steps(other, sgd)).abs().max() < 1e-12


def test_adam_does_not(digits):
    model = lt.build_model("mlp_30_20", seed=3, data=digits).double()
    other = rotated(model)
    assert (steps(model, adam) - steps(other, adam)).abs().max() > 0.01


def test_the_package_trains_coefficients_alone_and_as_a_stack(digits):
    config = lt.TrainConfig(steps=25, batch_size=50, lr=0.05, weight_decay=1e-3)
    models = [lt.build_model("mlp_30_20", seed=s, data=digits) for s in range(3)]
    own = [rotated(model, seed=s, shape=SHAPE) for s, model in enumerate(models)]
    assert can_stack(own)
    alone = copy.deepcopy(own[2])
    lt.train(alone, digits, config, data_seed=2)
    lt.train_replicates(own, digits, config, data_seeds=range(3))
    lt.train(models[2], digits, config, data_seed=2)
    for name, weight in models[2].state_dict().items():
        assert torch.allclose(lt.from_basis(own[2]).state_dict()[name], weight, atol=1e-4)
        assert torch.allclose(lt.from_basis(alone).state_dict()[name], weight, atol=1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_pruned_coefficients_stay_zero_and_weights_do_not(optimizer, digits):
    config = lt.TrainConfig(
        steps=15, batch_size=50, optimizer=optimizer, lr=0.01, weight_decay=1e-3
    )
    models = [
        rotated(lt.build_model("mlp_30_20", seed=s, data=digits), shape=SHAPE) for s in (0, 1)
    ]
    masks = [lt.prune(lt.random_scores(lt.dense_mask(m), 0), lt.dense_mask(m), 0.8) for m in models]
    lt.train_replicates(models, digits, config, masks=masks, data_seeds=[0, 1])
    for model, mask in zip(models, masks, strict=True):
        for name, kept in mask.items():
            assert not model.state_dict()[name][~kept].any()
        assert lt.from_basis(model).fc1.weight.count_nonzero() == 30 * 64


def test_the_cosines_are_those_of_scipy():
    values = torch.randn(7, dtype=torch.float64)
    expected = scipy.fft.dct(values.numpy(), norm="ortho")
    assert torch.allclose(lt.dct_matrix(7).T @ values, torch.from_numpy(expected))
    image = torch.randn(4, 6, dtype=torch.float64)
    expected = scipy.fft.dctn(image.numpy(), norm="ortho")
    assert torch.allclose(lt.dct_2d(4, 6).T @ image.flatten(), torch.from_numpy(expected).flatten())
    assert torch.equal(lt.dct_2d(4, 6, channels=2)[24:, :24], torch.zeros(24, 24).double())


def test_a_random_rotation_favours_no_direction():
    draw = torch.Generator().manual_seed(0)
    many = torch.stack([random_rotation(5, draw) for _ in range(2_000)])
    assert torch.allclose(many.mT @ many, torch.eye(5).double(), atol=1e-12)
    # Entries of a Haar matrix have mean 0 and variance 1/5; QR alone would fix the signs.
    assert many.mean(0).abs().max() < 5 * (0.2 / 2_000) ** 0.5
    assert (many.square().mean(0) - 0.2).abs().max() < 0.03


def test_in_its_singular_vectors_a_weight_is_diagonal():
    weight = torch.randn(6, 9)
    layer = nn.Sequential(nn.Linear(9, 6))
    with torch.no_grad():
        layer[0].weight.copy_(weight)
    other = lt.in_basis(layer, {"0.weight": svd_basis(weight)})
    coefficients = other[0].parametrizations.weight.original.detach()
    assert torch.allclose(coefficients[:, :6].diagonal(), torch.linalg.svdvals(weight), atol=1e-5)
    assert (coefficients.count_nonzero() - (coefficients.abs() > 1e-5).sum()) >= 0
    assert int((coefficients.abs() > 1e-4).sum()) == 6


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_a_basis_to_every_weight(kind, digits):
    model = lt.build_model("mlp_12_6", seed=0, data=digits)
    bases = lt.bases_of(model, kind, shape=SHAPE, trained=model.state_dict())
    assert list(bases) == list(lt.dense_mask(model))
    sides = {"identity": 0, "dct_inputs": 1, "rotation_inputs": 1}.get(kind, 6)
    assert sum(s is not None for b in bases.values() for s in (b.left, b.right)) == sides
    lt.in_basis(model, bases)


def test_a_kernel_gets_cosines_over_its_window():
    model = lt.build_model("vgg_tiny", seed=0)
    bases = lt.bases_of(model, "dct_inputs")
    assert bases["conv2.weight"].right.shape == (16 * 9, 16 * 9)
    assert torch.equal(bases["conv2.weight"].right[:9, :9], lt.dct_2d(3, 3).float())
    assert bases["output.weight"].right is None


SQUARE = torch.eye(64)


@pytest.mark.parametrize(
    ("basis", "message"),
    [
        (lt.Basis(right=2 * SQUARE), "not orthogonal: QᵀQ differs from 1 by 3"),
        (lt.Basis(right=torch.ones(64, 64)), "torch.linalg.qr"),
        (lt.Basis(right=SQUARE.where(SQUARE == 0, torch.nan)), "not orthogonal"),
        (lt.Basis(left=SQUARE), r"shape \(64, 64\).*needs \(12, 12\)"),
        (lt.Basis(right=SQUARE[:, :12]), r"needs \(64, 64\)"),
        (lt.Basis(right=SQUARE.double()), "float64.*float32"),
        (lt.Basis(right=SQUARE.to("meta")), "on meta, the weight .* on cpu"),
    ],
)
def test_a_basis_that_does_not_fit_is_refused(basis, message, digits):
    model = lt.build_model("mlp_12_6", seed=0, data=digits)
    with pytest.raises(ValueError, match=message):
        lt.in_basis(model, {"fc1.weight": basis})


def test_other_bad_input_is_refused(digits):
    model = lt.build_model("mlp_12_6", seed=0, data=digits)
    with pytest.raises(ValueError, match=r"fc1\.wieght"):
        lt.in_basis(model, {"fc1.wieght": lt.Basis()})
    with pytest.raises(ValueError, match="pass trained="):
        lt.bases_of(model, "svd")
    with pytest.raises(ValueError, match="neighbours"):
        lt.bases_of(model, "dct_inputs", shape=(1, 7, 9))
    with pytest.raises(ValueError, match="rotation"):
        lt.bases_of(model, "rotatoin")
    with pytest.raises(ValueError, match="old weights"):
        rotated(nn.ModuleDict({"read": nn.LSTM(4, 4)}))
    with pytest.raises(ValueError, match="computed from other tensors already"):
        rotated(rotated(model))
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    with pytest.raises(ValueError, match="several places"):
        rotated(tied)


def test_a_ticket_in_a_rotated_basis_is_rewound_to_its_own_coefficients(digits):
    model = rotated(lt.build_model("mlp_12_6", seed=0, data=digits), shape=SHAPE)
    start = lt.snapshot(model)
    config = lt.TrainConfig(steps=20, batch_size=50, lr=0.05)
    rounds = lt.iterative_magnitude_pruning(
        model, digits, config, lt.IMPConfig(rounds=2, fraction=0.5)
    )
    name = "fc1.parametrizations.weight.original"
    kept = rounds[-1].mask[name]
    assert torch.equal(rounds[-1].start[name], start[name] * kept)
    assert rounds[-1].density == 0.25
    assert replace(config, steps=20) == config
