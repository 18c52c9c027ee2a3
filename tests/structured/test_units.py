from __future__ import annotations

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

import lth_tutorial as lt

SHAPES = {
    "mlp_100_50": (1, 8, 8), "conv_2": (3, 32, 32), "vgg_small": (3, 32, 32),
    "vgg_11": (3, 32, 32), "resnet_20": (3, 32, 32), "vit_32_4_2": (1, 8, 8),
}  # fmt: skip


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def trained_like(model):
    """Give biases and batch norms values as after training: at initialisation they hide errors."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and tensor.ndim == 1:
            drawn = torch.rand(tensor.shape, generator=generator) - 0.3
            tensor.copy_(drawn + 0.5 if name.endswith("var") else drawn)
    return model.eval()


def network(name):
    shape = SHAPES[name]
    like = lt.make_dataset("noise", *[(noise(20, *shape), torch.arange(20) % 10)] * 3)
    return trained_like(lt.build_model(name, seed=0, data=like)), noise(8, *shape)


def half(model, groups, by="random"):
    scores = lt.unit_scores(model, groups, by)
    return lt.prune(scores, lt.all_units(groups), 0.5, scope="layer", min_per_layer=1)


class Residual(nn.Module):
    """Two convolutions whose outputs are added, and a third beside them, concatenated."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(2, 4, 1) for _ in range(3))
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8 * 4, 3)

    def forward(self, x):
        joined = torch.cat([self.a(x) + self.b(x), self.c(x)], dim=1)
        return self.head(F.max_pool2d(self.norm(joined).relu(), 2).view(x.size(0), -1))


@pytest.mark.parametrize("name", SHAPES)
def test_the_smaller_network_computes_what_the_masked_one_computes(name):
    model, x = network(name)
    groups = lt.unit_groups(model, x)
    units = half(model, groups)
    masked = copy.deepcopy(model)
    lt.apply_mask_(masked, lt.unit_mask(model, units, groups))
    small = lt.remove_units(model, units, x)
    with torch.no_grad():
        expected, got = masked(x), small(x)
        assert not torch.allclose(expected, model(x), atol=1e-3)  # the units did matter
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in small.parameters()) < 0.7 * sum(
        p.numel() for p in model.parameters()
    )


@pytest.mark.parametrize("name", ["conv_2", "resnet_20", "vit_32_4_2"])
def test_the_smaller_network_still_learns(name):
    model, x = network(name)
    small = lt.remove_units(model, half(model, lt.unit_groups(model, x)), x)
    F.cross_entropy(small.train()(x), torch.arange(8)).backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in small.parameters())


def test_removal_leaves_the_network_itself_alone():
    model, x = network("vgg_11")
    before = lt.state_hash(lt.snapshot(model))
    small = lt.remove_units(model, half(model, lt.unit_groups(model, x)), x)
    assert lt.state_hash(lt.snapshot(model)) == before
    shared = {p.data_ptr() for p in small.parameters()} & {p.data_ptr() for p in model.parameters()}
    assert not shared


def test_removal_keeps_training_and_evaluation_modes():
    model, x = network("resnet_20")
    model.train()
    model.norm1.eval()
    small = lt.remove_units(model, half(model, lt.unit_groups(model, x)), x)
    modes = [module.training for module in small.modules()]
    assert modes == [module.training for module in model.modules()]


def test_the_classifier_behind_flatten_loses_all_pixels_of_a_filter():
    model, x = network("conv_2")
    groups = lt.unit_groups(model, x)
    assert torch.equal(groups["conv2"].columns["fc1"], torch.arange(64).repeat_interleave(16 * 16))
    kept = torch.arange(64) != 5
    small = lt.remove_units(model, {"conv2": kept}, x)
    assert torch.equal(small.fc1.weight, model.fc1.weight[:, kept.repeat_interleave(16 * 16)])


def test_a_filter_set_to_zero_still_speaks_through_its_batch_norm():
    model, x = network("vgg_11")
    groups = lt.unit_groups(model, x)
    units = half(model, groups)
    zeroed, silenced = copy.deepcopy(model), copy.deepcopy(model)
    with torch.no_grad():
        for name, kept in units.items():
            zeroed.get_submodule(name).weight[~kept] = 0
        lt.silence_(silenced, units, groups)
        expected = lt.remove_units(model, units, x)(x)
        assert not torch.allclose(zeroed(x), expected, atol=1e-2)
        assert torch.allclose(silenced(x), expected, rtol=1e-4, atol=1e-5)


def test_residual_layers_form_one_group():
    model, x = network("resnet_20")
    groups = lt.unit_groups(model, x)
    stage = ["blocks.3.conv2", "blocks.3.shortcut.0", "blocks.4.conv2", "blocks.5.conv2"]
    assert list(groups["blocks.3.conv2"].rows) == stage
    assert list(groups["blocks.3.conv1"].rows) == ["blocks.3.conv1"]
    # one group per stage, one per block, and the classifier
    assert len(groups) == 3 + 9 + 1


def test_additions_couple_and_concatenations_put_side_by_side():
    model = Residual().eval()
    groups = lt.unit_groups(model, noise(2, 2, 4, 4))
    assert list(groups) == ["a", "c", "head"]
    assert list(groups["a"].rows) == ["a", "b"]
    assert groups["a"].norms["norm"].tolist() == [0, 1, 2, 3, -1, -1, -1, -1]
    assert groups["c"].norms["norm"].tolist() == [-1, -1, -1, -1, 0, 1, 2, 3]


def test_concatenated_and_added_filters_are_removed_together():
    model, x = trained_like(Residual()), noise(5, 2, 4, 4)
    units = {"a": torch.tensor([1, 0, 1, 0]).bool(), "c": torch.tensor([0, 1, 1, 1]).bool()}
    small = lt.remove_units(model, units, x)
    joined = torch.cat([units["a"], units["c"]])
    with torch.no_grad():  # the same by hand
        model.norm.weight[~joined] = model.norm.bias[~joined] = 0
        assert torch.allclose(small(x), model(x), atol=1e-6)
    assert (small.a.out_channels, small.c.out_channels, small.norm.num_features) == (2, 3, 5)


def test_a_depthwise_convolution_follows_its_input():
    model = nn.Sequential(
        nn.Conv2d(2, 4, 1), nn.Conv2d(4, 8, 3, groups=4), nn.ReLU(), nn.Conv2d(8, 3, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    x = noise(3, 2, 6, 6)
    small = lt.remove_units(model, {"0": torch.tensor([True, False, True, False])}, x)
    assert (small[1].groups, small[1].in_channels, small[1].out_channels) == (2, 2, 4)


def test_gates_of_a_squeeze_and_excite_block_are_coupled_with_what_they_scale():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.gate = nn.Conv2d(2, 4, 1), nn.Linear(4, 4)
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            x = self.conv(x)
            scale = torch.sigmoid(self.gate(x.mean((2, 3))))
            return self.head((x * scale[:, :, None, None]).mean((2, 3)))

    groups = lt.unit_groups(Gate(), noise(2, 2, 4, 4))
    assert list(groups["conv"].rows) == ["conv", "gate"]


def test_a_layer_used_twice_couples_its_inputs_with_its_outputs():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.start, self.again, self.head = nn.Linear(3, 5), nn.Linear(5, 5), nn.Linear(5, 2)

        def forward(self, x):
            x = self.start(x).relu()
            return self.head(self.again(self.again(x).relu()))

    model, x = Twice(), noise(4, 3)
    assert list(lt.unit_groups(model, x)["start"].rows) == ["start", "again"]
    lt.remove_units(model, {"start": torch.tensor([1, 1, 0, 1, 0]).bool()}, x)


def test_heads_and_hidden_neurons_of_a_transformer_can_go_but_its_width_cannot():
    model, x = network("vit_32_4_2")
    groups = lt.unit_groups(model, x)
    free = {name: (g.kind, g.size) for name, g in groups.items() if not g.pinned}
    block = [("head", 4), ("neuron", 64)]
    assert list(free.values()) == block * 2
    assert "LayerNorm) mixes it" in groups["patches"].pinned  # positions would go with it
    small = lt.remove_units(model, {"blocks.0.attention": torch.tensor([1, 0, 0, 0]).bool()}, x)
    attention = small.blocks[0].attention
    assert (attention.heads, attention.head_width, attention.query.out_features) == (1, 8, 8)


def test_l1_scores_add_up_the_rows_of_all_coupled_layers():
    model = Residual()
    scores = lt.unit_scores(model, lt.unit_groups(model, noise(2, 2, 4, 4)), "l1")
    both = model.a.weight.detach().abs() + model.b.weight.detach().abs()
    assert scores["a"].tolist() == pytest.approx([float(both[i].sum()) for i in range(4)])


def test_bn_scores_are_the_mean_scales_of_a_unit():
    model, x = network("resnet_20")
    scores = lt.unit_scores(model, lt.unit_groups(model, x), "bn_scale")
    norms = [model.norm1, *(model.blocks[i].norm2 for i in range(3))]
    expected = torch.stack([norm.weight.detach().abs() for norm in norms]).mean(dim=0)
    assert torch.allclose(scores["conv1"], expected)


def test_random_scores_depend_on_the_seed_alone():
    model, x = network("mlp_100_50")
    groups = lt.unit_groups(model, x)
    a, b, c = (lt.unit_scores(model, groups, "random", seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["fc1"], c["fc1"])


def test_a_mask_gives_back_the_units_it_was_made_of():
    for name in SHAPES:
        model, x = network(name)
        groups = lt.unit_groups(model, x)
        units = half(model, groups)
        again = lt.kept_units(lt.unit_mask(model, units, groups), groups)
        assert again.keys() == units.keys()
        assert all(torch.equal(again[name], units[name]) for name in units)


def test_removal_takes_a_structured_mask_too():
    model, x = network("conv_2")
    groups = lt.unit_groups(model, x)
    units = half(model, groups)
    a = lt.remove_units(model, lt.unit_mask(model, units, groups), x)
    b = lt.remove_units(model, units, x)
    assert lt.state_hash(lt.snapshot(a)) == lt.state_hash(lt.snapshot(b))


def test_training_under_a_unit_mask_revives_no_unit(digits):
    model = lt.build_model("vit_32_4_2", seed=0, data=digits)
    x = digits.normalize(digits.x_train[:4])
    groups = lt.unit_groups(model, x)
    units = half(model, groups)
    config = lt.TrainConfig(steps=5, batch_size=20, optimizer="adam", lr=0.01, weight_decay=0.1)
    lt.train(model, digits, config, mask=lt.unit_mask(model, units, groups))
    small = lt.remove_units(model, units, x)
    assert torch.allclose(small.eval()(x), model.eval()(x), rtol=1e-3, atol=1e-4)


# Bad input


def test_a_removal_that_empties_a_layer_names_it_and_offers_a_minimum():
    model, x = network("conv_2")
    with pytest.raises(ValueError, match=r"all 64 filters of conv2, .* min_per_layer=1"):
        lt.remove_units(model, {"conv2": torch.zeros(64, dtype=torch.bool)}, x)


def test_min_per_layer_keeps_a_layer_alive():
    model, x = network("conv_2")
    groups = lt.unit_groups(model, x)
    scores = {name: s + (name == "fc1") for name, s in lt.unit_scores(model, groups, "l1").items()}
    scores["conv1"] *= 0
    with pytest.warns(lt.LayerCollapseWarning):
        units = lt.prune(scores, lt.all_units(groups), 0.5, min_per_layer=1)
    assert int(units["conv1"].sum()) == 1
    lt.remove_units(model, units, x)


def test_an_operation_that_cannot_be_traced_is_named():
    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 4)

        def forward(self, x):
            return self.a(x) @ x.transpose(0, 1)

    with pytest.raises(lt.UntraceableError, match="through matmul"):
        lt.unit_groups(Product(), noise(2, 4))


@pytest.mark.parametrize(
    ("module", "named"),
    [
        (nn.MultiheadAttention(4, 2), "MultiheadAttention"),
        (nn.Conv2d(4, 4, 1, groups=2), "2 groups"),
        (nn.LSTM(4, 4), "LSTM"),
    ],
)
def test_a_module_that_cannot_be_traced_is_named(module, named):
    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.odd = nn.Conv2d(4, 4, 1), module

        def forward(self, x):
            x = self.first(x)
            return self.odd(x, x, x) if named.startswith("Multi") else self.odd(x)

    with pytest.raises(lt.UntraceableError, match=named):
        lt.unit_groups(Around(), noise(2, 4, 4, 4))


def test_a_branch_on_values_is_refused():
    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 4)

        def forward(self, x):
            return self.a(x) if x.sum() > 0 else x

    with pytest.raises(lt.UntraceableError, match="Branch cannot be recorded"):
        lt.unit_groups(Branch(), noise(2, 4))


def test_a_size_written_into_the_forward_pass_is_noticed():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 4, 1), nn.Linear(4 * 9, 2)

        def forward(self, x):
            return self.b(self.a(x).view(-1, 4 * 9))

    with pytest.raises(ValueError, match="a size is written into its forward pass"):
        lt.remove_units(Fixed(), {"a": torch.tensor([1, 1, 1, 0]).bool()}, noise(2, 1, 3, 3))


def test_layers_that_share_a_weight_are_named():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    with pytest.raises(lt.UntraceableError, match="0, 2 share one weight"):
        lt.unit_groups(model, noise(2, 4))


def test_a_mask_that_is_not_structured_names_the_filter_that_is_partly_kept():
    model, x = network("conv_2")
    mask = lt.dense_mask(model)
    mask["conv2.weight"][7, 3] = False
    message = r"filter 7 of conv2.weight is partly kept, 567 of its 576 weights"
    with pytest.raises(ValueError, match=message):
        lt.remove_units(model, mask, x)


def test_a_filter_removed_from_one_of_two_coupled_layers_is_named():
    model = Residual()
    mask = lt.dense_mask(model)
    mask["b.weight"][2] = False
    with pytest.raises(ValueError, match=r"filter 2 is removed from b and kept in a.*coupled"):
        lt.remove_units(model, mask, noise(2, 2, 4, 4))


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ({"conv3": torch.ones(64).bool()}, "unknown group of units 'conv3'. Did you mean 'conv"),
        ({"conv1": torch.ones(32).bool()}, r"boolean tensor of 64, .* shape \(32,\)"),
        ({"conv1": torch.ones(64)}, "got torch.float32"),
        ({"output": torch.arange(10) > 0}, "no neuron of output can be removed: .*output"),
    ],
)
def test_units_that_do_not_fit_are_refused(units, message):
    model, x = network("conv_2")
    with pytest.raises(ValueError, match=message):
        lt.remove_units(model, units, x)


def test_scales_are_asked_for_where_there_is_batch_norm_only():
    model, x = network("conv_2")
    groups = lt.unit_groups(model, x)
    with pytest.raises(ValueError, match="conv1 has none; take by='l1'"):
        lt.unit_scores(model, groups, "bn_scale")
    with pytest.raises(ValueError, match="unknown criterion 'L1'"):
        lt.unit_scores(model, groups, "L1")


def test_heads_that_do_not_divide_the_width_are_refused(digits):
    with pytest.raises(ValueError, match="5 heads do not divide a width of 32; 1, 2, 4, 8, 16, 32"):
        lt.build_model("vit_32_5_1", seed=0, data=digits)


def test_a_network_without_removable_units_says_why():
    with pytest.raises(ValueError, match=r"no unit .*: it is the network's output"):
        lt.all_units(lt.unit_groups(nn.Sequential(nn.Linear(4, 2)), noise(2, 4)))


# Blocks of other people's networks


class PaddedShortcut(nn.Module):
    """Halves the image and doubles the channels by zeros, as in the first residual networks."""

    def __init__(self, joined=False):
        super().__init__()
        self.start, self.inner = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.outer, self.head = nn.Conv2d(8, 16, 3, 2, padding=1), nn.Linear(16, 3)
        self.joined = joined

    def forward(self, x):
        x = self.start(x).relu()
        inner, x = self.outer(self.inner(x).relu()), x[:, :, ::2, ::2]
        x = torch.cat([x, x * 0], 1) if self.joined else F.pad(x, (0, 0, 0, 0, 4, 4))
        return self.head((inner + x).relu().mean((2, 3)))


class OwnScales(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1)
        self.scale, self.shift = nn.Parameter(noise(8)), nn.Parameter(noise(1, 8, 1, 1))
        self.common = nn.Parameter(noise(1))

    def forward(self, x):
        x = self.first(x) * self.scale[None, :, None, None] + self.shift
        return self.last(x.relu() * self.common).mean((2, 3))


class LearnedToken(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.inner, self.outer = nn.Linear(8, 8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.token, self.place = nn.Parameter(noise(1, 1, 8)), nn.Parameter(noise(1, 4, 8))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), self.embed(x[:, :, 0])], 1)
        x = x + self.place
        return self.head((x + self.outer(self.inner(x).relu())).mean(1))


class Aside(nn.Module):
    """Has layers that the forward pass never calls, and that share a weight."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 6), nn.Linear(6, 3)
        self.unused, self.twin = nn.Linear(4, 4), nn.Linear(4, 4)
        self.twin.weight = self.unused.weight

    def forward(self, x):
        return self.last(self.first(x[:, 0, 0]).relu())


BLOCKS = {
    "padded": (PaddedShortcut(), ["inner"]),
    "joined": (PaddedShortcut(True), ["start", "inner"]),
    "scales": (OwnScales(), ["first"]),
    "token": (LearnedToken(), ["embed", "inner"]),
    "aside": (Aside(), ["first"]),
    "transposed": (
        nn.Sequential(
            nn.Conv2d(3, 8, 3, 2), nn.ConvTranspose2d(8, 6, 2, 2), nn.PReLU(6),
            nn.InstanceNorm2d(6, affine=True, track_running_stats=True), nn.Conv2d(6, 3, 1),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        ), ["0", "1"],
    ),
    "per channel": (
        nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8), nn.PReLU(),
            torchvision.ops.FrozenBatchNorm2d(8), torchvision.ops.StochasticDepth(0.5, "row"),
            nn.ZeroPad2d(1), nn.Conv2d(8, 8, 3), nn.GroupNorm(8, 8), nn.Upsample(scale_factor=2),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
        ), ["0", "6"],
    ),
    "gated": (nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.GLU(), nn.Linear(4, 3)), ["1"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BLOCKS)
def test_units_of_common_blocks_are_removed(name):
    model, free = BLOCKS[name]
    model = trained_like(copy.deepcopy(model))
    x, before = noise(4, 3, 8, 8), set(vars(model))
    groups = lt.unit_groups(model, x)
    assert [group.name for group in groups.values() if not group.pinned] == free
    units = half(model, groups)
    small, mask = lt.remove_units(model, units, x), lt.unit_mask(model, units, groups)
    masked = copy.deepcopy(model)
    lt.apply_mask_(masked, mask)
    with torch.no_grad():
        assert torch.allclose(small(x), masked(x), rtol=1e-3, atol=1e-6)
        assert not torch.allclose(small(x), model(x), rtol=1e-2)
    again = lt.kept_units(mask, groups)
    assert all(torch.equal(again[n], kept) for n, kept in units.items())
    assert set(vars(model)) == before


def test_timm_s_norms_with_activations_are_followed():
    model = trained_like(timm.create_model("efficientnet_b0", num_classes=3))
    x = noise(2, 3, 64, 64)
    groups = lt.unit_groups(model, x)
    assert sum(group.pinned is None for group in groups.values()) > 10
    small = lt.remove_units(model, half(model, groups), x)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())


def test_reasons_are_true():
    layers = nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Flatten(), nn.Linear(288, 3)
    groups = lt.unit_groups(nn.Sequential(*layers), noise(2, 3, 8, 8))
    assert groups["0"].pinned == "1 (GroupNorm) mixes it with others"
    groups = lt.unit_groups(PaddedShortcut(), noise(2, 3, 8, 8))
    assert "zeros that the forward pass puts beside" in groups["start"].pinned


def test_attention_of_pytorch_with_arguments_by_name_is_named():
    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.start, self.at = nn.Linear(8, 8), nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            x = self.start(x[:, 0])
            return self.at(query=x, key=x, value=x, need_weights=False)[0].mean(1)

    with pytest.raises(lt.UntraceableError, match=r"at \(MultiheadAttention\)"):
        lt.unit_groups(Attends(), noise(2, 3, 8, 8))


def test_what_counts_as_rounding_is_relative():
    """The outputs are tiny, and so is an error of their size."""

    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 4), nn.Linear(4, 2)

        def forward(self, x):
            x = self.a(x)
            return self.b(x) * 1e-6 * x.size(1)

    with pytest.raises(ValueError, match="depends on a number of units"):
        lt.remove_units(Counts(), {"a": torch.tensor([1, 1, 1, 0]).bool()}, noise(3, 8))


class Auxiliary(nn.Module):
    """Has a second head in training."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out, self.second = nn.Linear(8, 16), nn.Linear(16, 3), nn.Linear(16, 3)

    def forward(self, x):
        x = F.relu(self.hidden(x))
        return self.out(x) + self.second(x) if self.training else self.out(x)


def test_a_layer_that_only_training_uses_is_cut_where_the_model_is_in_training_mode():
    units = {"hidden": torch.arange(16) > 3}
    with pytest.raises(ValueError, match=r"not run in training mode: .*pass model.train\(\)"):
        lt.remove_units(Auxiliary().eval(), units, noise(3, 8))
    small = lt.remove_units(Auxiliary().train(), units, noise(3, 8))
    assert small.training and small.second.in_features == 12
    assert small(noise(3, 8)).shape == small.eval()(noise(3, 8)).shape


@pytest.mark.parametrize("kept", [False, True], ids=["constant", "buffer"])
def test_units_in_another_order_are_followed_and_a_fixed_order_is_no_size(kept):
    class Orders(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.out = nn.Linear(8, 16), nn.Linear(16, 3)
            if kept:
                self.register_buffer("order", torch.arange(15, -1, -1))

        def forward(self, x):
            order = self.order if kept else torch.arange(15, -1, -1)
            return self.out(F.relu(self.hidden(x))[:, order])

    groups = lt.unit_groups(Orders(), noise(2, 8))
    assert groups["hidden"].columns["out"].tolist() == list(range(15, -1, -1))
    with pytest.raises(ValueError, match="a size is written into its forward pass: index 15"):
        lt.remove_units(Orders(), {"hidden": torch.arange(16) > 3}, noise(2, 8))


def test_whole_numbers_that_scale_units_are_no_labels():
    class Weighs(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.hidden = nn.Linear(8, 16), nn.Linear(16, 16)
            self.out = nn.Linear(16, 3)

        def forward(self, x):
            x = F.relu(self.hidden(F.relu(self.first(x))))
            return self.out(x * torch.arange(16))

    groups = lt.unit_groups(Weighs(), noise(2, 8))
    assert groups["first"].size == 16 and not groups["first"].pinned
    assert "fixed input" in groups["hidden"].pinned


def test_a_length_in_the_forward_pass_is_explained():
    class Measures(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(8, 3)

        def forward(self, x):
            return self.out(x.view(len(x), -1))

    with pytest.raises(lt.UntraceableError, match=r"recorded: write x.shape\[0\] for len\(x\)"):
        lt.unit_groups(Measures(), noise(2, 8))
