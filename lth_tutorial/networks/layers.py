"""Layers of our own, and two changes that supermask networks need.

The changes are sign activations, and batch norm before activations. Both return a new model and
leave the one they are given alone. `LogitPair` and `AppendOne` are of the networks of chapter 14.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from lth_tutorial.networks.calls import copied
from lth_tutorial.safety.arguments import checked


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(ctx, upstream: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return upstream * (2 - 2 * x.abs()).clamp(min=0)


def _sign(x: Tensor) -> Tensor:
    if has_torch_function_unary(x):  # as PyTorch's own activations let themselves be replaced
        return handle_torch_function(_sign, (x,), x)
    return _Sign.apply(x)


class SignActivation(nn.Module):
    """The activation +1 or −1 of a binary network, with a gradient that lets it train.

    The sign's own derivative is zero almost everywhere. Backward, 2 (1 − |x|) on |x| ≤ 1 and 0
    elsewhere takes its place, the slope of a smooth step (Diffenderfer & Kailkhura 2021).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the sign of every element, +1 for zero."""
        return _sign(x)


@checked
def with_sign_activations(model: nn.Module) -> nn.Module:
    """Return a copy of the model with a `SignActivation` in place of every ReLU module.

    Put batch norm before the activations first (`with_batch_norm`): a sign is as large for a tiny
    input as for a huge one, and its gradient is zero beyond ±1.

    Raises:
        ValueError: if there is no ReLU module to replace; one that is called as a function
            (`x.relu()`) cannot be found.
    """
    changed, count = copied(model), 0
    for module in list(changed.modules()):
        for name, child in list(module._modules.items()):
            if type(child) in (nn.ReLU, SignActivation):
                setattr(module, name, SignActivation())
                count += 1
    if not count:
        raise ValueError(
            f"{type(model).__name__} has no nn.ReLU module that a sign activation could replace; "
            f"an activation called as a function (x.relu(), F.relu) must become a module first"
        )
    return changed


@checked
def with_batch_norm(model: nn.Sequential) -> nn.Sequential:
    """Return a copy of a plain sequence with batch norm before every activation.

    A norm is put behind each linear or convolutional layer that an activation follows; it is
    called `norm_` and the layer's name, and starts as the identity (γ = 1, β = 0).

    Raises:
        ValueError: if the model is not an `nn.Sequential`, or no layer is followed by an
            activation.
    """
    if type(model) is not nn.Sequential:
        raise ValueError(
            f"with_batch_norm takes an nn.Sequential of layers; got {type(model).__name__}, whose "
            f"forward says itself where its layers stand"
        )
    layers = list(copied(model)._modules.items())
    changed: OrderedDict[str, nn.Module] = OrderedDict()
    following = [layer for _, layer in layers[1:]] + [None]
    for (name, layer), after in zip(layers, following, strict=True):
        changed[name] = layer
        if isinstance(after, (nn.ReLU, SignActivation)):
            if isinstance(layer, nn.Linear):
                changed[f"norm_{name}"] = nn.BatchNorm1d(layer.out_features).to(layer.weight.device)
            elif isinstance(layer, nn.Conv2d):
                norm = nn.BatchNorm2d(layer.out_channels)
                changed[f"norm_{name}"] = norm.to(layer.weight.device)
    if len(changed) == len(layers):
        raise ValueError(
            "no linear or convolutional layer is directly followed by an activation: there is no "
            "place for batch norm, or it is there already"
        )
    sequence = nn.Sequential(changed).train(model.training)
    if hasattr(model, "initialization"):
        sequence.initialization = model.initialization
    return sequence


class LogitPair(nn.Module):
    """Turn one logit z of two classes into the pair (0, z).

    Cross-entropy is then binary cross-entropy of z, so that a network with a single output, such
    as that of the Cubist Spiral, trains like any other and every weight of it counts.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., 1] to [..., 2]."""
        return torch.cat([torch.zeros_like(x), x], dim=-1)


class AppendOne(nn.Module):
    """Append a constant input 1, so that the biases of the next layer are weights of it."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., inputs] to [..., inputs + 1]."""
        return torch.cat([x, torch.ones_like(x[..., :1])], dim=-1)
