"""The lean second derivatives of GraSP, against PyTorch's own and finite differences."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lth_tutorial as lt
from lth_tutorial.criteria import gradients
from lth_tutorial.criteria.second_derivatives import LeanSecondDerivatives, differentiable_twice
from lth_tutorial.networks.weights import prunable_weights


def normal(*shape, seed=0):
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=draws, dtype=torch.float64).requires_grad_()


def is_plain(y) -> bool:
    return "NativeBatchNorm" in y.grad_fn.name()


@pytest.mark.parametrize("eps", [1e-5, 0.5])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 2), (3, 2, 2, 3)], ids=str)
def test_derivatives_of_batch_norm_are_those_of_finite_differences(shape, affine, eps):
    scale, shift = (normal(shape[1], seed=s) if affine else None for s in (1, 2))

    def norm(x):
        with LeanSecondDerivatives():
            return F.batch_norm(x, None, None, scale, shift, True, 0.1, eps)

    x = normal(*shape)
    assert not is_plain(norm(x))
    assert torch.equal(norm(x), F.batch_norm(x, None, None, scale, shift, True, 0.1, eps))
    assert torch.autograd.gradcheck(norm, x) and torch.autograd.gradgradcheck(norm, x)


def network(eps: float) -> nn.Sequential:
    """Return a network with every kind of batch norm that the context redirects or leaves."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4, eps=eps), nn.Tanh(),
        nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False), nn.BatchNorm2d(4, affine=False),
        nn.Conv2d(4, 4, 3, padding="same", dilation=2), nn.BatchNorm2d(4, affine=False).eval(),
        nn.InstanceNorm2d(4), nn.GroupNorm(2, 4), nn.Flatten(),
        nn.Linear(16, 5, bias=False), nn.BatchNorm1d(5, eps=eps), nn.Tanh(), nn.Linear(5, 3),
    ).double()  # fmt: skip
    lt.reinitialize(model, 0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * normal(*p.shape, seed=3))
    return model


@pytest.mark.parametrize("eps", [1e-5, 0.5])
def test_a_network_has_the_second_derivatives_of_plain_autograd(eps):
    model = network(eps)
    weights = list(prunable_weights(model).values())
    x, y = normal(6, 1, 4, 4).detach(), torch.arange(6) % 3
    found = []
    for context in (nullcontext(), LeanSecondDerivatives()):
        with context:
            output = model(x)
        first = torch.autograd.grad(F.cross_entropy(output, y), weights, create_graph=True)
        dot = sum((a * a.detach()).sum() for a in first)
        found.append([*first, *torch.autograd.grad(dot, weights)])
    for plain, lean in zip(*found, strict=True):
        assert torch.allclose(plain, lean, rtol=1e-10, atol=plain.abs().max().item() * 1e-12)


def test_grasp_is_that_of_plain_autograd_and_leaves_the_model_as_it_was(digits, monkeypatch):
    model = lt.build_model("resnet_20", seed=0, data=digits)
    data, mask = digits.subset(50), lt.dense_mask(model)
    before = lt.state_hash(lt.snapshot(model))
    lean = lt.grasp_scores(model, data, mask)
    assert lt.state_hash(lt.snapshot(model)) == before
    assert is_plain(model.norm1(torch.ones(2, 16, 2, 2)))
    entered = []
    monkeypatch.setattr(
        gradients, "LeanSecondDerivatives", lambda: nullcontext(entered.append("plain"))
    )
    plain = lt.grasp_scores(model, data, mask)
    assert entered
    for name in plain:
        assert (plain[name] - lean[name]).abs().max() <= 1e-4 * plain[name].abs().max()


def test_an_exception_ends_the_context():
    x = normal(4, 3)
    with pytest.raises(ValueError, match="more than 1 value"), LeanSecondDerivatives():
        assert not is_plain(F.batch_norm(x, None, None, training=True))
        F.batch_norm(x[:1], None, None, training=True)  # as without the context
    assert is_plain(F.batch_norm(x, None, None, training=True))


def test_where_scale_or_shift_are_computed_pytorchs_derivative_stays():
    x, raw = normal(5, 3), normal(3, seed=1)
    for scale, shift in ((raw.exp(), None), (None, raw.exp())):
        with LeanSecondDerivatives():
            y = F.batch_norm(x, None, None, scale, shift, training=True)
        assert is_plain(y)
        assert torch.autograd.grad((y * x).sum(), raw)[0].abs().max() > 0


class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.output = nn.Linear(8, 24), nn.Linear(8, 3)

    def forward(self, x):
        q, k, v = self.qkv(x).view(len(x), 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.output(x.mean(1))


class Recurs(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.output = nn.LSTM(8, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.output(self.body(x)[0][:, -1])


class Encodes(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.TransformerEncoderLayer(8, 2, 4, 0.0, batch_first=True)
        self.output = nn.Linear(8, 3)

    def forward(self, x):
        return self.output(self.body(x).mean(1))


def sequences(n=12):
    x = torch.randn(n, 5, 8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(n) % 3
    return lt.make_dataset("toy", (x, y), None, (x, y))


@pytest.mark.parametrize("kind", [Attends, Recurs, Encodes])
def test_fused_kernels_are_differentiated_twice(kind):
    torch.manual_seed(0)
    model, data = kind().double(), sequences()
    mask = lt.dense_mask(model)
    scores = lt.grasp_scores(model.float(), data, mask, temperature=1)
    # What removing a little of one weight does to the squared norm of the gradient.
    name = next(iter(mask))
    weight, x, y = dict(model.named_parameters())[name], data.normalize(data.x_train), data.y_train

    def norm():
        loss = F.cross_entropy(model.double().eval()(x.double()), y)
        parts = torch.autograd.grad(loss, [p for n, p in model.named_parameters() if n in mask])
        return sum(part.square().sum().item() for part in parts)

    place = scores[name].abs().flatten().argmax().item()
    step, norms = 1e-5, []
    for sign in (1, -1):
        with torch.no_grad():
            weight.data.view(-1)[place] *= 1 + sign * step
        norms.append(norm())
        with torch.no_grad():
            weight.data.view(-1)[place] /= 1 + sign * step
    by_hand = (norms[0] - norms[1]) / (4 * step)
    assert scores[name].flatten()[place].item() == pytest.approx(by_hand, rel=1e-2)
    lt.obd_scores(model.float(), data, mask, curvature="hessian", examples=2)


def test_what_can_be_differentiated_only_once_is_named():
    message = r"grasp_scores differentiates twice.*Encodes.*derivative for aten::odd"
    with pytest.raises(ValueError, match=message), differentiable_twice(Encodes(), "grasp_scores"):
        raise RuntimeError("derivative for aten::odd is not implemented")
