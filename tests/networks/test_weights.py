from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

import lth_tutorial as lt
from lth_tutorial.networks.weights import computed_tensors, prunable_weights


def names(model: nn.Module) -> set[str]:
    return set(prunable_weights(model))


class Kernel(nn.Module):
    """A matrix by another name, and a table that is added."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(6, 4))
        self.table = nn.Parameter(torch.randn(5, 6))
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        return self.out(F.relu(x @ self.kernel.T + self.table[: x.shape[1]]).mean(1))


class Recurrent(nn.Module):
    """Its loop over the sequence cannot be recorded."""

    def __init__(self):
        super().__init__()
        self.inputs, self.hidden = nn.Parameter(torch.randn(4, 5)), nn.Parameter(torch.randn(5, 5))
        self.start, self.out = nn.Parameter(torch.zeros(1, 5)), nn.Linear(5, 3)

    def forward(self, x):
        h = self.start
        for i in range(x.shape[1]):
            h = torch.tanh(x[:, i] @ self.inputs + h @ self.hidden)
        return self.out(h)


class Standardized(nn.Conv2d):
    def forward(self, x):
        weight = (self.weight - self.weight.mean()) / self.weight.std()
        return F.conv2d(x, weight, self.bias)


class LowRank(nn.Linear):
    """The frozen matrix of a layer, and two small ones that are trained."""

    def __init__(self):
        super().__init__(4, 3)
        self.a, self.b = nn.Parameter(torch.randn(2, 4)), nn.Parameter(torch.zeros(3, 2))
        self.weight.requires_grad_(False)

    def forward(self, x):
        return F.linear(x, self.weight + self.b @ self.a, self.bias)


class OwnMask(nn.Linear):
    def __init__(self):
        super().__init__(4, 3)
        self.weight_mask = nn.Parameter(torch.ones(3, 4), requires_grad=False)

    def forward(self, x):
        return F.linear(x, self.weight * self.weight_mask, self.bias)


class Listed(nn.Module):
    def __init__(self):
        super().__init__()
        self.steps = nn.ParameterList([torch.randn(4, 5), torch.randn(5, 4)])
        self.named = nn.ParameterDict({"weight": torch.randn(7, 4), "last": torch.randn(4, 3)})

    def forward(self, x):
        for weight in self.steps:
            x = x @ weight
        return (x + self.named["weight"]).mean(1) @ self.named["last"]


class Table(nn.Module):
    """One table is looked up, the other one too but read out as well."""

    def __init__(self):
        super().__init__()
        self.words, self.index = nn.Parameter(torch.randn(9, 4)), torch.tensor([[0, 1], [1, 0]])
        self.bias, self.out = nn.Parameter(torch.randn(3, 2)), nn.Linear(4, 2)

    def forward(self, x):
        words = self.words[x].mean(1)
        return self.out(words) + self.bias[self.index].sum()


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Kernel(), {"kernel", "out.weight"}),
        (Recurrent(), {"inputs", "hidden", "out.weight"}),
        (Standardized(1, 2, 3), {"weight"}),
        (LowRank(), {"weight", "a", "b"}),
        (OwnMask(), {"weight"}),
        (Listed(), {"steps.0", "steps.1", "named.last"}),
        (Table(), {"out.weight"}),
        (nn.Bilinear(3, 4, 5), {"weight"}),
        (nn.ConvTranspose1d(3, 4, 2), {"weight"}),
        (nn.LSTM(3, 4, proj_size=2), {"weight_ih_l0", "weight_hh_l0", "weight_hr_l0"}),
        (nn.GRUCell(3, 4), {"weight_ih", "weight_hh"}),
        (
            nn.MultiheadAttention(4, 2, kdim=3, vdim=5, add_bias_kv=True),
            {"q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"},
        ),
        (nn.Sequential(nn.EmbeddingBag(9, 2), nn.RMSNorm([2, 2]), nn.Linear(2, 9)), {"2.weight"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_parameter_does_decides_whether_it_can_be_pruned(model, expected):
    assert names(model) == expected


def test_the_name_of_a_module_decides_nothing():
    plain, other = nn.ModuleDict({"encoder": Kernel()}), nn.ModuleDict({"lightweight": Kernel()})
    assert names(plain) == {n.replace("lightweight", "encoder") for n in names(other)}


def test_frozen_weights_are_weights_still():
    model = Kernel()
    before = names(model)
    assert names(model.requires_grad_(False)) == before


def test_a_table_that_is_also_the_output_layer_is_a_table():
    table, output = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)
    output.weight = table.weight
    assert names(nn.Sequential(table, nn.Linear(4, 4), output)) == {"1.weight"}


def test_recording_a_forward_pass_leaves_nothing_behind():
    class Keeps(nn.Module):
        def __init__(self):
            super().__init__()
            self.matrix, self.seen = nn.Parameter(torch.randn(3, 4)), None

        def forward(self, x):
            self.seen = x @ self.matrix + torch.rand(())
            return self.seen

    model, before = Keeps(), torch.get_rng_state()
    assert names(model) == {"matrix"}
    assert model.seen is None
    assert torch.equal(before, torch.get_rng_state())


def test_a_large_table_that_is_left_out_is_named():
    with pytest.warns(lt.LeftOutWarning, match="0.weight are tables.* 98% of the matrices"):
        lt.dense_mask(nn.Sequential(nn.Embedding(100, 4), nn.Linear(4, 2)))


def test_a_layer_that_is_not_initialised_is_named():
    with pytest.raises(ValueError, match="layer 1 is not initialised yet: run one batch"):
        lt.dense_mask(nn.Sequential(nn.Conv2d(1, 2, 3), nn.LazyLinear(3)))


class Halved(nn.Module):
    def forward(self, weight):
        return weight / 2


def halved(layer: nn.Module) -> nn.Module:
    parametrize.register_parametrization(layer, "weight", Halved())
    return layer


@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("computed", "remedy"),
    [
        (parametrizations.orthogonal, "remove_parametrizations"),
        (halved, "parametrized by Halved"),
        (lambda layer: prune.random_unstructured(layer, "weight", 0.5), "prune.remove"),
        (weight_norm, "remove_weight_norm"),
        (spectral_norm, "remove_spectral_norm"),
    ],
)
def test_a_weight_that_a_mask_would_not_reach_is_refused_by_name(computed, remedy):
    model = nn.Sequential(nn.Flatten(), computed(nn.Linear(4, 3)))
    with pytest.raises(ValueError, match=f"1.weight: it is computed.*{remedy}"):
        lt.dense_mask(model)
    with pytest.raises(ValueError, match=f"unit_groups cannot take 1.weight.*{remedy}"):
        lt.unit_groups(model, torch.zeros(2, 4))


def test_a_bias_may_be_computed_from_what_it_likes():
    layer = prune.l1_unstructured(nn.Linear(4, 3), "bias", 1)
    assert names(layer) == {"weight"}
    assert list(computed_tensors(layer)) == ["bias"]


def test_foreign_vision_networks_keep_their_layers_and_nothing_else():
    """Position tables, relative position biases, class tokens and layer scales are no weights."""
    models = pytest.importorskip("torchvision.models")
    for name in ("vit_b_16", "swin_t", "convnext_tiny"):
        with torch.device("meta"):
            model = getattr(models, name)(weights=None)
        layers = (nn.Linear, nn.Conv2d, nn.MultiheadAttention)
        expected = {
            f"{path}.{own}"
            for path, module in model.named_modules()
            if isinstance(module, layers)
            for own, p in module.named_parameters(recurse=False)
            if p.ndim >= 2
        }
        assert names(model) == expected


class Standardised(nn.Linear):
    """Weight standardisation: a weight of 0 is not 0 once the mean is taken off."""

    def forward(self, x):
        w = self.weight - self.weight.mean(1, keepdim=True)
        return F.linear(x, w / (w.std(1, keepdim=True) + 1e-5), self.bias)


class Corrected(nn.Linear):
    """A frozen weight and a product of two thin ones that is added to it."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.a, self.b = nn.Parameter(torch.zeros(4, 2)), nn.Parameter(torch.ones(2, 6))

    def forward(self, x):
        return F.linear(x, self.weight + self.a @ self.b)


class Binary(nn.Linear):
    def forward(self, x):
        return F.linear(x, torch.where(self.weight >= 0, 1.0, -1.0))


@pytest.mark.parametrize("kind", [Standardised, Corrected, Binary])
def test_a_layer_that_makes_numbers_of_its_zeros_is_named(kind):
    model = nn.Sequential(nn.Flatten(), kind(6, 4))
    with pytest.warns(lt.LostZerosWarning, match=rf"^1.weight \({kind.__name__}\): the forward"):
        assert "1.weight" in lt.dense_mask(model)


class Scaled(nn.Linear):
    """Factors, masks, norms and signs leave a zero a zero, wherever it is moved to."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.scale = nn.Parameter(torch.ones(4, 1))
        self.register_buffer("part", torch.rand(4, 6) < 0.7)

    def forward(self, x):
        w = F.normalize(self.weight * self.part * self.scale).t().contiguous()
        return x @ torch.tanh(w) / 2


def test_factors_keep_zeros_and_nothing_is_said():
    model = Scaled(6, 4)
    assert set(lt.dense_mask(model)) == {"weight"}


class Exponential(nn.Module):
    def __init__(self):
        super().__init__()
        self.log, self.plain = nn.Parameter(torch.randn(8, 6)), nn.Parameter(torch.randn(8, 3))

    def forward(self, x):
        return F.linear(x, self.log.exp()) @ self.plain


def test_a_parameter_whose_zeros_are_numbers_is_named():
    with pytest.warns(lt.LostZerosWarning, match="^log: the forward"):
        lt.dense_mask(Exponential())


@pytest.mark.parametrize("transposed", [False, True])
def test_weights_in_one_memory_are_named(transposed):
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8), nn.Linear(8, 3))
    if transposed:
        model[2].weight.data = model[0].weight.data.T
    else:
        model[2] = nn.Linear(8, 16)
        model[2].weight.data = model[0].weight.data
    with pytest.raises(ValueError, match="0.weight, 2.weight are several parameters in one memory"):
        lt.dense_mask(model)


def test_a_layer_without_weights_is_no_part_of_a_mask():
    with pytest.warns(UserWarning, match="zero-element"):
        model = nn.ModuleDict({"empty": nn.Linear(0, 3), "out": nn.Linear(8, 3)})
    assert list(lt.dense_mask(model)) == ["out.weight"]


class Hiding(nn.Module):
    """Holds more than it registers."""

    def __init__(self, **hidden):
        super().__init__()
        self.out = nn.Linear(8, 3)
        vars(self).update(hidden)


@pytest.mark.parametrize(
    "hidden",
    [
        {"heads": [nn.Linear(8, 3)]},
        {"heads": {"a": (nn.Linear(8, 3),)}},
        {"heads": [nn.Parameter(torch.ones(3, 8))]},
        {"heads": torch.ones(3, 8, requires_grad=True)},
    ],
)
def test_layers_that_a_model_knows_nothing_of_are_named(hidden):
    with pytest.warns(lt.LeftOutWarning, match="heads hold weights of which Hiding knows nothing"):
        lt.dense_mask(Hiding(**hidden))


def test_a_frozen_teacher_in_a_list_and_references_to_known_layers_are_no_fault():
    model = Hiding(teacher=[nn.Linear(8, 3).requires_grad_(False)], kept=[torch.ones(3)])
    model.order = [model.out]
    lt.dense_mask(model)


@pytest.mark.parametrize("kind", ["meta", "sparse_coo", "inference"])
def test_a_parameter_without_numbers_of_its_own_is_named(kind):
    model = nn.Sequential(nn.Linear(8, 3))
    if kind == "meta":
        model = model.to("meta")
    elif kind == "sparse_coo":
        model[0].weight = nn.Parameter(model[0].weight.detach().to_sparse())
    else:
        with torch.inference_mode():
            model = nn.Sequential(nn.Linear(8, 3))
    says = "'meta' tensors have no numbers" if kind == "meta" else f"{kind}.*: parameters are dense"
    for call in (lt.snapshot, lambda net: lt.reinitialize(net, 0)):
        with pytest.raises(ValueError, match=f"0.weight.*{says}"):
            call(model)


def test_a_sparse_constant_is_no_part_of_a_state(tiny_data, config):
    class Mixes(nn.Module):
        def __init__(self, persistent):
            super().__init__()
            self.out = nn.Linear(8, 3)
            self.register_buffer("graph", torch.eye(8).to_sparse(), persistent=persistent)

        def forward(self, x):
            return self.out(torch.sparse.mm(self.graph, x.T).T)

    with pytest.raises(ValueError, match="graph: a state holds dense tensors.*persistent=False"):
        lt.train(Mixes(True), tiny_data, config)
    assert lt.train(Mixes(False), tiny_data, config).steps == config.steps
