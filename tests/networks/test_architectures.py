from __future__ import annotations

import pytest
import torch
from torch import nn

import lth_tutorial as lt
from lth_tutorial.networks.architectures import glorot_normal_
from lth_tutorial.networks.build import MODELS
from lth_tutorial.networks.transformer import Attention, VisionTransformer

# Weights without biases and norms, as the papers count them; derived layer by layer.
WEIGHTS = {
    "lenet_300_100": 784 * 300 + 300 * 100 + 100 * 10,
    "conv_2": 9 * (3 * 64 + 64 * 64) + 16 * 16 * 64 * 256 + 256 * 256 + 2560,
    "conv_4": 9 * (3 * 64 + 64 * 64 + 64 * 128 + 128 * 128) + 8 * 8 * 128 * 256 + 256 * 256 + 2560,
    "conv_6": 9 * (3 * 64 + 64 * 64 + 64 * 128 + 128 * 128 + 128 * 256 + 256 * 256)
    + 4 * 4 * 256 * 256 + 256 * 256 + 2560,
    "resnet_20": 270_896,
    "vgg_small": 9 * (3 * 128 + 128 * 128 + 128 * 256 + 256 * 256 + 256 * 512 + 512 * 512)
    + 4 * 4 * 512 * 10,
}  # fmt: skip
# The papers' own figures, in millions: LTH and its successors, the binary literature.
PAPERS = {
    "lenet_300_100": 0.266, "conv_2": 4.3, "conv_4": 2.4, "conv_6": 2.3, "resnet_20": 0.27,
    "resnet_18": 11.2, "vgg_16": 14.7, "vgg_11": 9.2, "vgg_small": 4.7,
}  # fmt: skip
NAMES = [name for name in MODELS if "WIDTH" not in name]


def shape_of(name):
    return (1, 28, 28) if name.startswith("lenet") else (3, 32, 32)


def count(name):
    return sum(kept.numel() for kept in lt.dense_mask(lt.build_model(name, seed=0)).values())


@pytest.mark.parametrize(("name", "weights"), WEIGHTS.items())
def test_weights_are_counted_layer_by_layer(name, weights):
    assert count(name) == weights


@pytest.mark.parametrize(("name", "millions"), PAPERS.items())
def test_counts_agree_with_the_papers(name, millions):
    assert abs(count(name) / 1e6 - millions) <= 0.05


@pytest.mark.parametrize("name", NAMES)
def test_every_network_maps_images_to_ten_logits_and_learns_from_each_weight(name):
    model = lt.build_model(name, seed=0)
    x = torch.randn(4, *shape_of(name), generator=torch.Generator().manual_seed(0))
    logits = model(x)
    assert logits.shape == (4, 10)
    nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    assert all(bool(p.grad.abs().sum() > 0) for p in model.parameters() if p.ndim >= 2)


@pytest.mark.parametrize("name", NAMES)
def test_a_signal_neither_dies_nor_explodes_at_initialisation(name):
    model = lt.build_model(name, seed=1)
    x = torch.randn(64, *shape_of(name), generator=torch.Generator().manual_seed(0))
    # Kaiming keeps the variance from layer to layer; Glorot halves it at every ReLU.
    layers = len(lt.dense_mask(model)) if model.initialization is glorot_normal_ else 0
    assert 0.3 * 0.5 ** (layers / 2) < model(x).std().item() < 20


def test_residual_networks_are_drawn_kaiming_normal_and_norms_are_the_identity():
    model = lt.build_model("resnet_20", seed=0)
    for name, weight in model.named_parameters():
        if weight.ndim == 4 and weight.numel() > 5_000:
            expected = (2 / (weight.shape[1] * weight[0, 0].numel())) ** 0.5
            assert abs(weight.std().item() / expected - 1) < 0.05, name
        elif weight.ndim == 1:
            assert weight.unique().tolist() in ([0.0], [1.0]), name


def test_convolutional_networks_of_the_first_paper_are_drawn_glorot_normal():
    weight = lt.build_model("conv_4", seed=0).conv4.weight
    assert abs(weight.std().item() / (2 / (9 * 128 + 9 * 128)) ** 0.5 - 1) < 0.01


def test_a_residual_network_redrawn_forgets_its_batch_norm_statistics():
    model = lt.build_model("resnet_20", seed=0)
    model(torch.randn(8, 3, 32, 32))
    lt.reinitialize(model, 0)
    fresh = lt.build_model("resnet_20", seed=0)
    assert lt.state_hash(lt.snapshot(model)) == lt.state_hash(lt.snapshot(fresh))


def test_shape_and_classes_come_from_the_data():
    x, y = torch.randn(20, 1, 16, 16), torch.arange(20) % 4
    data = lt.make_dataset("small", (x, y), None, (x, y))
    for name in ("conv_6", "resnet_20", "vgg_11", "vgg_small", "mlp_5"):
        assert lt.build_model(name, seed=0, data=data)(x).shape == (20, 4)


def test_images_too_small_and_examples_that_are_no_images_are_refused(tiny_data):
    x, y = torch.randn(20, 1, 8, 8), torch.arange(20) % 2
    data = lt.make_dataset("tiny", (x, y), None, (x, y))
    with pytest.raises(ValueError, match="8 by 8 pixels are too small"):
        lt.build_model("vgg_16", seed=0, data=data)
    with pytest.raises(ValueError, match=r"conv_2 takes images .* got examples of \(8,\)"):
        lt.build_model("conv_2", seed=0, data=tiny_data)


def test_a_vision_transformer_learns_from_every_parameter(digits):
    model = lt.build_model("vit_16_2_2", seed=0, data=digits)
    x = digits.normalize(digits.x_train[:40])
    nn.functional.cross_entropy(model(x), digits.y_train[:40]).backward()
    assert all(
        bool(p.grad.abs().sum() > 0) for n, p in model.named_parameters() if "key.b" not in n
    )


def test_attention_is_that_of_pytorch():
    ours, theirs = Attention(12, 3), nn.MultiheadAttention(12, 3, batch_first=True)
    parts = (ours.query, ours.key, ours.value)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        theirs.out_proj.weight.copy_(ours.output.weight)
        theirs.out_proj.bias.copy_(ours.output.bias)
    x = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(ours(x), theirs(x, x, x)[0], atol=1e-6)


@pytest.mark.parametrize(("shape", "tokens"), [((1, 8, 8), 16), ((3, 32, 32), 64), ((1, 6, 4), 6)])
def test_a_vision_transformer_cuts_images_into_patches(shape, tokens):
    assert VisionTransformer(8, 2, 1, shape, 10).position.shape == (1, tokens, 8)


def test_patches_that_do_not_divide_the_image_are_refused():
    with pytest.raises(ValueError, match="patches of 2 by 2 do not divide 7 by 8 pixels"):
        VisionTransformer(8, 2, 1, (1, 7, 8), 10)


def test_a_residual_block_adds_what_its_layers_compute(tiny_data):
    model = lt.build_model("resmlp_7_2", seed=0, data=tiny_data)
    x = torch.randn(5, 7)
    layer = model.block2.fc
    assert torch.allclose(model.block2(x), x + (x @ layer.weight.T + layer.bias).relu(), atol=1e-6)
    names = ["fc1.weight", "block1.fc.weight", "block2.fc.weight", "output.weight"]
    assert list(lt.dense_mask(model)) == names


def test_residual_networks_of_every_depth_have_three_stages_of_equal_length():
    for depth in (8, 14, 32, 44, 56):
        model = lt.build_model(f"resnet_{depth}", seed=0)
        assert len(model.blocks) == (depth - 2) // 2
        widths = [block.conv2.weight.shape[0] for block in model.blocks]
        assert [widths.count(width) for width in (16, 32, 64)] == [(depth - 2) // 6] * 3
