"""Paths through layers that saturate, centre or normalise, in models nobody here wrote."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

import lth_tutorial as lt


def toy(*shape, n=4):
    x = torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))
    y = torch.arange(n) % 3
    return lt.make_dataset("toy", (x, y), None, (x, y))


class Around(nn.Module):
    """A body, called somehow, before a linear layer."""

    def __init__(self, body, call, width):
        super().__init__()
        self.body, self.call, self.output = body, call, nn.Linear(width, 3)

    def forward(self, x):
        return self.output(self.call(self.body, x))


def mlp(between, width=16):
    return nn.Sequential(nn.Linear(8, 16), between, nn.Linear(width, 3))


ACTIVATIONS = [
    nn.ReLU6(), nn.ReLU6(inplace=True), nn.Hardtanh(), nn.Hardsigmoid(), nn.Hardswish(), nn.Tanh(),
    nn.Sigmoid(), nn.LogSigmoid(), nn.GELU(), nn.SiLU(), nn.Mish(), nn.ELU(), nn.CELU(), nn.SELU(),
    nn.Softplus(), nn.Softsign(), nn.Tanhshrink(), nn.Hardshrink(), nn.Softshrink(), nn.PReLU(16),
    nn.Threshold(2, 0), nn.Softmax(1), nn.LogSoftmax(1), nn.Softmin(1), nn.LeakyReLU(), nn.RReLU(),
    lt.SignActivation(),
]  # fmt: skip
NORMS = [
    nn.LayerNorm(16), nn.RMSNorm(16), nn.GroupNorm(4, 16), nn.BatchNorm1d(16),
    nn.BatchNorm1d(16, track_running_stats=False), nn.LayerNorm(16, elementwise_affine=False),
]  # fmt: skip


@pytest.mark.parametrize("between", ACTIVATIONS + NORMS, ids=str)
def test_activations_and_norms_are_wires(between):
    model, data = mlp(between), toy(8)
    mask = lt.dense_mask(model)
    assert lt.count_paths(model, data, mask) == 8 * 16 * 3
    assert lt.density(lt.connected_weights(model, data, mask)) == 1
    assert all((s > 0).all() for s in lt.synflow_scores(model, data, mask).values())


class HandWrittenNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(16)), nn.Parameter(torch.zeros(16))

    def forward(self, x):
        centred = x - x.mean(-1, keepdim=True)
        x = centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-5)
        return F.relu(x * self.scale + self.shift)


class Attention(nn.Module):
    """Two heads by hand, or by PyTorch's function."""

    def __init__(self, fused, causal):
        super().__init__()
        self.fused, self.causal = fused, causal
        self.qkv, self.out, self.head = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        q, k, v = self.qkv(x).view(len(x), 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
        if self.fused:
            x = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        else:
            scores = q @ k.transpose(-2, -1) / math.sqrt(4)
            if self.causal:
                scores = scores.masked_fill(torch.ones(5, 5).tril() == 0, float("-inf"))
            x = scores.softmax(-1) @ v
        return self.head(self.out(x.transpose(1, 2).flatten(2)).mean(1))


class Filled(nn.Module):
    """Writes into tensors that it makes in single precision, and calls a cell step by step."""

    def __init__(self):
        super().__init__()
        self.cell, self.output = nn.LSTMCell(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        h, c, out = x.new_zeros(len(x), 6), torch.zeros(len(x), 6), torch.zeros(len(x), 5, 6)
        for t in range(5):
            h, c = self.cell(x[:, t], (h, c))
            out[:, t] = h
        return self.output(out.mean(1))


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.value, self.gate, self.output = (nn.Linear(8, n) for n in (8, 8, 3))

    def forward(self, x):
        return self.output(self.value(x) * self.gate(x).sigmoid())


class Standardised(nn.Linear):
    def forward(self, x):
        centred = self.weight - self.weight.mean(1, keepdim=True)
        return F.linear(x, centred / (centred.std(1, keepdim=True) + 1e-5), self.bias)


def last(layer, x):
    return layer(x)[0][:, -1]


def attend(layer, x):
    return layer(x, x, x)[0].mean(1)


SEQUENCES = {
    "rnn": Around(nn.RNN(8, 6, batch_first=True), last, 6),
    "gru": Around(nn.GRU(8, 6, 2, batch_first=True), last, 6),
    "lstm": Around(nn.LSTM(8, 6, batch_first=True, proj_size=3), last, 3),
    "both ways": Around(
        nn.LSTM(8, 6, bidirectional=True, batch_first=True), lambda m, x: m(x)[0].mean(1), 12
    ),
    "multi-head": Around(nn.MultiheadAttention(8, 2, batch_first=True), attend, 8),
    "encoder": Around(
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), lambda m, x: m(x).mean(1), 8
    ),
    "decoder": Around(
        nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), lambda m, x: m(x, x).mean(1), 8
    ),
    "by hand": Attention(False, False),
    "filled": Filled(),
    "bilinear": Around(nn.Bilinear(8, 8, 6), lambda m, x: m(x[:, 0], x[:, 1]), 6),
    "gated": Gated(),
    "norm by hand": nn.Sequential(nn.Linear(8, 16), HandWrittenNorm(), nn.Linear(16, 3)),
    "standardised": nn.Sequential(Standardised(8, 16), nn.ReLU(), nn.Linear(16, 3)),
}


@pytest.mark.filterwarnings("ignore::lth_tutorial.LostZerosWarning")
@pytest.mark.parametrize("name", SEQUENCES)
def test_every_weight_that_moves_the_output_is_connected_and_scored(name):
    model = SEQUENCES[name]
    data = toy(5, 8) if name not in ("gated", "norm by hand", "standardised") else toy(8)
    mask = lt.dense_mask(model)
    connected = lt.connected_weights(model, data, mask)
    assert lt.density(connected) == 1
    assert math.isfinite(lt.count_paths(model, data, mask))
    scores = lt.synflow_scores(model, data, mask)
    assert all((s > 0).all() for s in scores.values())
    pruned = lt.keep_best(
        lt.random_scores(mask, 0), mask, int(0.3 * sum(map(torch.numel, mask.values())))
    )
    for n, kept in lt.connected_weights(model, data, pruned).items():
        assert not (kept & ~pruned[n]).any()


@pytest.mark.parametrize("causal", [False, True])
def test_attention_by_hand_has_the_paths_of_pytorch_s(causal):
    data, paths = toy(5, 8), []
    for fused in (False, True):
        torch.manual_seed(0)
        model = Attention(fused, causal)
        mask = lt.dense_mask(model)
        paths.append((lt.count_paths(model, data, mask), lt.synflow_scores(model, data, mask)))
    (a, of_a), (b, of_b) = paths
    # Each of the 2 · 4 numbers that leave a head is reached by Σ over tokens that it sees of
    # 4 queries, 4 keys and a value, each of 8 inputs; then 8 outputs, 3 classes, a mean of 5.
    pairs = 15 if causal else 25
    assert a == b == pairs * (4 + 4 + 1) * 8 * 8 * 8 * 3 / 5
    assert all(torch.allclose(of_a[n], of_b[n]) for n in of_a)


def test_paths_through_a_recurrent_layer_are_counted_step_by_step():
    model, data = SEQUENCES["rnn"], toy(5, 8)
    # From step t to the last there are 6 ways in, then 6 ways on for each further step.
    assert (
        lt.count_paths(model, data, lt.dense_mask(model)) == sum(8 * 6**k for k in range(1, 6)) * 3
    )


def test_a_layer_behind_which_nothing_is_left_is_not_connected():
    model, data = SEQUENCES["gated"], toy(8)
    mask = lt.dense_mask(model)
    mask["value.weight"][:] = False
    connected = lt.connected_weights(model, data, mask)
    assert connected["gate.weight"].all() and connected["output.weight"].all()
    mask["gate.weight"][:] = False
    assert lt.count_paths(model, data, mask) == 0


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small"])
def test_torchvision_s_networks_are_followed(name):
    torch.manual_seed(0)
    model, data = torchvision.models.get_model(name, weights=None, num_classes=3), toy(3, 64, 64)
    mask = lt.dense_mask(model)
    connected = lt.connected_weights(model, data, mask)
    assert lt.density(connected) > 0.98  # kernels reach beyond the last images of 2 × 2 pixels
    scores = lt.synflow_scores(model, data, mask)
    assert all(bool((s >= 0).all()) and bool(s.any()) for s in scores.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["conv_2", "resnet_20", "vgg_tiny", "mlp_bn_30"])
def test_networks_of_relu_and_batch_norm_have_the_scores_of_an_ordinary_pass(digits, name, dtype):
    """To the last bit: this is what the authors' code computes."""
    model = lt.build_model(name, seed=0, data=digits).to(dtype).eval()
    mask = lt.dense_mask(model)
    mask = lt.keep_best(lt.random_scores(mask, 0), mask, sum(map(torch.numel, mask.values())) // 2)
    for running in ("as initialised", "as trained"):
        if running == "as trained":
            for module in model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.running_var.uniform_(0.5, 2.0)
        scores = lt.synflow_scores(model, digits, mask)
        precision = next(iter(scores.values())).dtype
        state = {n: t.abs().to(precision) for n, t in lt.snapshot(model).items() if t.ndim}
        weights = {n: state[n].masked_fill(~mask[n], 0).requires_grad_() for n in mask}
        x = torch.ones(1, *digits.shape, dtype=precision)
        total = functional_call(model, state | weights, (x,)).sum()
        gradients = torch.autograd.grad(total, list(weights.values()))
        for (n, w), gradient in zip(weights.items(), gradients, strict=True):
            assert torch.equal(scores[n], gradient * w)


class Sorted(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 3)

    def forward(self, x):
        return self.layer(x.sort(dim=1).values)


class Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clamp(max=0.1)

    @staticmethod
    def backward(ctx, upstream):
        return 0 * upstream


class OwnFunction(Sorted):
    def forward(self, x):
        return self.layer(Step.apply(x))


class Reads(Sorted):
    def forward(self, x):
        return self.layer(x * (x < 0.5))


class TwoOutputs(Sorted):
    def forward(self, x):
        return {"logits": self.layer(x)}


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        (Sorted, "through sort in Sorted"),
        (OwnFunction, "clamp without gradients"),
        (Reads, "a comparison with 0.5 in Reads"),
        (TwoOutputs, "TwoOutputs returns a dict"),
    ],
)
def test_an_operation_that_cannot_be_followed_is_named(kind, named):
    model = kind()
    for function in (lt.connected_weights, lt.count_paths, lt.synflow_scores):
        with pytest.raises(ValueError, match=named):
            function(model, toy(8), lt.dense_mask(model))


class Checkpointed(nn.Linear):
    def forward(self, x):
        return checkpoint(super().forward, x, use_reentrant=False)


def test_a_mask_of_attention_may_be_a_buffer_of_truth_values():
    class Causal(nn.Module):
        def __init__(self, hiding):
            super().__init__()
            self.keys, self.values, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
            self.register_buffer("hiding", hiding)

        def forward(self, x):
            scores = self.keys(x) @ x.mT
            hidden = self.hiding.bool()
            weights = scores.masked_fill(hidden, -math.inf).softmax(dim=-1)
            return self.out(weights @ self.values(x))[:, 0]  # sees itself alone

    upper = torch.triu(torch.ones(5, 5), 1)
    data, scores = toy(5, 4), []
    for hiding in (upper.bool(), upper):
        torch.manual_seed(0)
        model = Causal(hiding)
        mask = lt.dense_mask(model)
        scores.append(lt.synflow_scores(model, data, mask))
        assert lt.density(lt.connected_weights(model, data, mask)) == 1
    assert lt.state_hash(scores[0]) == lt.state_hash(scores[1])


def test_a_backward_hook_is_named():
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    model[0].register_full_backward_hook(lambda module, before, after: None)
    with pytest.raises(ValueError, match="backward hook of Linear; remove it first"):
        lt.synflow_scores(model, toy(8), lt.dense_mask(model))


def test_a_network_that_computes_a_part_twice_is_named():
    model = nn.Sequential(Checkpointed(8, 16), nn.ReLU(), nn.Linear(16, 3))
    for count in (lt.synflow_scores, lt.connected_weights, lt.count_paths):
        with pytest.raises(ValueError, match="cannot follow paths through torch.utils.checkpoint"):
            count(model, toy(8), lt.dense_mask(model))
