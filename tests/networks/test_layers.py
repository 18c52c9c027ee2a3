from __future__ import annotations

import pytest
import torch
from torch import nn

import lth_tutorial as lt


def test_a_sign_activation_has_two_values_and_zero_counts_as_positive():
    x = torch.tensor([-2.0, -0.1, 0.0, -0.0, 0.3, 5.0])
    assert lt.SignActivation()(x).tolist() == [-1, -1, 1, 1, 1, 1]


def test_its_gradient_is_two_minus_twice_the_magnitude_within_one():
    x = torch.tensor([-3.0, -1.0, -0.25, 0.0, 0.5, 1.0, 1.5], requires_grad=True)
    upstream = torch.arange(1.0, 8.0)
    lt.SignActivation()(x).backward(upstream)
    slope = torch.tensor([0.0, 0.0, 1.5, 2.0, 1.0, 0.0, 0.0])
    assert torch.equal(x.grad, upstream * slope)


def test_that_gradient_is_the_slope_of_a_smooth_step_from_minus_one_to_one():
    """The integral over [−1, 1] is the height of the step, 2."""
    x = torch.linspace(-1, 1, 20_001, dtype=torch.float64, requires_grad=True)
    lt.SignActivation()(x).sum().backward()
    assert torch.trapezoid(x.grad, x.detach()).item() == pytest.approx(2.0, abs=1e-6)


def test_every_relu_is_replaced_in_a_copy():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    changed = lt.with_sign_activations(model)
    assert [type(m).__name__ for m in changed.modules()].count("SignActivation") == 2
    assert not any(isinstance(m, nn.ReLU) for m in changed.modules())
    assert isinstance(model[1], nn.ReLU)
    assert changed[0].weight is not model[0].weight


def test_a_network_that_is_binary_already_stays_so():
    once = lt.with_sign_activations(nn.Sequential(nn.Linear(3, 4), nn.ReLU()))
    assert str(lt.with_sign_activations(once)) == str(once)


def test_a_network_without_an_activation_module_is_refused():
    with pytest.raises(ValueError, match="ResNet has no nn.ReLU module"):
        lt.with_sign_activations(lt.build_model("resnet_20", seed=0))


@pytest.mark.parametrize(
    ("name", "norms"),
    [
        ("lenet_300_100", ["norm_fc1", "norm_fc2"]),
        ("conv_2", ["norm_conv1", "norm_conv2", "norm_fc1", "norm_fc2"]),
    ],
)
def test_batch_norm_stands_before_every_activation_and_not_after_the_output(name, norms):
    model = lt.build_model(name, seed=0)
    changed = lt.with_batch_norm(model)
    layers = dict(changed.named_children())
    assert [n for n, m in layers.items() if "BatchNorm" in type(m).__name__] == norms
    order = list(layers)
    for norm in norms:
        assert order[order.index(norm) - 1] == norm.removeprefix("norm_")
        assert isinstance(layers[order[order.index(norm) + 1]], nn.ReLU)
    assert "norm_fc1" not in dict(model.named_children())
    assert torch.equal(changed.fc1.weight, model.fc1.weight)


def test_a_sequence_that_has_batch_norm_or_no_activation_is_refused():
    with pytest.raises(ValueError, match="there is no place"):
        lt.with_batch_norm(lt.build_model("vgg_small", seed=0))
    with pytest.raises(ValueError, match="takes an nn.Sequential"):
        lt.with_batch_norm(lt.build_model("resnet_20", seed=0))


def test_a_stack_of_sign_networks_computes_what_each_computes(tiny_data):
    from lth_tutorial.training.groups import Stack, can_stack

    models = []
    for seed in range(3):
        model = lt.with_batch_norm(lt.build_model("mlp_12_6", seed=seed, data=tiny_data))
        models.append(lt.with_sign_activations(model).eval())
    assert can_stack(models)
    stack = Stack(models)
    stack.set_training(False)
    x = tiny_data.normalize(tiny_data.x_test)
    together = stack.logits(x.expand(3, *x.shape))
    for model, logits in zip(models, together, strict=True):
        assert torch.allclose(model(x), logits, atol=1e-5)
