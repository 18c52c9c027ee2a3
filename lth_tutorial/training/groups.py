"""What the training loop trains: one model, or many small ones as one stack.

Both kinds have the same few methods, with the replicate dimension first, so that there is one
training loop. A stack keeps the weights of R networks in tensors [R, outputs, inputs]: each layer
is one batched product for all of them, which for small networks is several times faster.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lth_tutorial.networks.architectures import Residual
from lth_tutorial.networks.calls import logits_of
from lth_tutorial.networks.in_basis import InBasis, combine
from lth_tutorial.networks.layers import AppendOne, LogitPair, SignActivation
from lth_tutorial.networks.parametrized import allow_empty_rows_
from lth_tutorial.states import State, check_initialized, tensors_of

_LARGEST_STACKED = 100_000
"""Weights per network up to which stacking pays: of all on a CPU, of those with convolutions on a
GPU. Above, memory bandwidth or arithmetic is the limit."""
_LARGEST_MERGED = {"cpu": 250_000, "cuda": 10_000_000}
"""Weights of one arm's stack up to which stacking four arms pays.

Measured on a core with 2 MB of cache, digits, batches of 50, Adam: 2.6 times faster with 3,000
weights (2 networks 64-20-10), 1.6 with 60,000, 1.3 with 170,000, 1.1 with 240,000, and slower from
400,000 on. The bound on a GPU is reasoned, not measured: its memory is busy with more.
"""


class SingleModel:
    """One model, seen as a stack of one."""

    def __init__(self, model: nn.Module) -> None:
        check_initialized(model)
        allow_empty_rows_(model)
        self.models = [model]
        self.parameters = dict(model.named_parameters())
        self.size = 1
        self.is_random = may_be_random(model)
        self.is_recordable = not self.is_random
        # A module in evaluation mode inside a model in training mode is frozen on purpose.
        self.arrived = [(module, module.training) for module in model.modules()]
        self.frozen = {id(m) for m, training in self.arrived if model.training and not training}
        self.training: bool | None = None

    def set_training(self, training: bool) -> None:
        """Switch between training and evaluation behaviour (dropout, batch norm)."""
        if self.training is not training:
            self.training = training
            for module, _ in self.arrived:
                module.training = training and id(module) not in self.frozen

    def restore_modes(self) -> None:
        """Put every module back into the mode in which it arrived."""
        self.training = None
        for module, training in self.arrived:
            module.training = training

    def logits(self, x: Tensor) -> Tensor:
        """Map [1, batch, …] to [1, batch, classes]; x stays, whatever the model writes into it."""
        return logits_of(self.models[0](x[0].clone()), x.shape[1], self.models[0])[None]

    def leaves(self, name: str) -> list[Tensor]:
        """Return the trained tensors of a parameter's name; none if there is no such."""
        return [self.parameters[name]] if name in self.parameters else []

    def state(self) -> dict[str, Tensor]:
        """Return live views of the state with the replicate dimension first."""
        return {name: t.detach()[None] for name, t in tensors_of(self.models[0]).items()}

    def write_back(self) -> None:
        """Nothing to do: the model itself was trained."""


class Stack:
    """Sequential networks of plain layers with the same shapes, trained as one.

    Linear layers become one batched product; convolutions become one grouped convolution, and
    batch norm one batch norm, over the channels of all replicates.
    """

    is_random, is_recordable = False, True
    momentum: float | None = None  # of batch norm's statistics, in place of the layers' own

    def __init__(self, models: Sequence[nn.Module], states: Sequence[State] = ()) -> None:
        """Stack models; with `states`, their structure with those weights."""
        self.models, self.size, self.training = list(models), len(models), True
        self.tensors = _stacked(states or [model.state_dict() for model in models])
        trained = {name for name, _ in models[0].named_parameters()}
        self.parameters = {n: t.requires_grad_() for n, t in self.tensors.items() if n in trained}
        self.buffers = {n: t for n, t in self.tensors.items() if n not in trained}
        # Not named_children(), which names a module once that stands in two places.
        self.layers = list(models[0]._modules.items())
        self.writes = any(getattr(module, "inplace", False) for module in models[0].modules())

    def set_training(self, training: bool) -> None:
        """Switch between training and evaluation behaviour of batch norm."""
        self.training = training

    def restore_modes(self) -> None:
        """Nothing was changed."""

    def logits(self, x: Tensor) -> Tensor:
        """Map [replicates, batch, …] to [replicates, batch, classes]."""
        return self._through("", self.layers, x.clone() if self.writes else x)

    def _through(self, prefix: str, layers: Sequence[tuple[str, nn.Module]], x: Tensor) -> Tensor:
        for key, layer in layers:
            name = prefix + key
            if isinstance(layer, Residual):
                x = x + self._through(f"{name}.", list(layer._modules.items()), x)
            elif isinstance(layer, nn.Flatten):
                x = x.flatten(2)
            elif isinstance(layer, (nn.ReLU, SignActivation, LogitPair, AppendOne)):
                x = layer(x)
            elif isinstance(layer, nn.Linear):
                x = self._linear(name, x)
            elif isinstance(layer, (nn.MaxPool2d, nn.AdaptiveAvgPool2d)):
                x = layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])
            else:
                # [replicates, batch, channels, …] to [batch, replicates * channels, …] and back
                joined = x.transpose(0, 1).flatten(1, 2)
                apply = self._convolution if isinstance(layer, nn.Conv2d) else self._batch_norm
                x = apply(name, layer, joined).unflatten(1, (self.size, -1)).transpose(0, 1)
        return x

    def _weight(self, name: str) -> Tensor:
        """Return the weight of a layer [replicates, outputs, …], computed if it is in a basis."""
        known = self.parameters.get(f"{name}.weight")
        if known is not None:
            return known
        prefix = f"{name}.parametrizations.weight"
        sides = (self.buffers.get(f"{prefix}.0.{side}") for side in ("left", "right"))
        return combine(self.parameters[f"{prefix}.original"], *sides)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self._weight(name), self.parameters.get(f"{name}.bias")
        inner, x = x.shape[1:-1], x.flatten(1, -2)
        if x.is_cuda and not torch.is_autocast_enabled("cuda"):
            return _StackedLinear.apply(x, weight, bias).unflatten(1, inner)
        weight = weight.transpose(1, 2)
        out = torch.bmm(x, weight) if bias is None else torch.baddbmm(bias[:, None], x, weight)
        return out.unflatten(1, inner)

    def _convolution(self, name: str, layer: nn.Conv2d, x: Tensor) -> Tensor:
        weight, bias = self._weight(name), self.parameters.get(f"{name}.bias")
        return F.conv2d(
            x, weight.flatten(0, 1), None if bias is None else bias.flatten(), layer.stride,
            layer.padding, layer.dilation, self.size * layer.groups,
        )  # fmt: skip

    def _batch_norm(self, name: str, layer: nn.modules.batchnorm._BatchNorm, x: Tensor) -> Tensor:
        weight, bias = (self.parameters.get(f"{name}.{part}") for part in ("weight", "bias"))
        mean, var = (self.buffers[f"{name}.running_{part}"] for part in ("mean", "var"))
        if self.training:
            self.buffers[f"{name}.num_batches_tracked"].add_(1)
        return F.batch_norm(
            x, mean.view(-1), var.view(-1), None if weight is None else weight.flatten(),
            None if bias is None else bias.flatten(), self.training,
            layer.momentum if self.momentum is None else self.momentum, layer.eps,
        )  # fmt: skip

    def leaves(self, name: str) -> list[Tensor]:
        """Return the one tensor that holds a parameter of all replicates, if there is such."""
        return [self.parameters[name]] if name in self.parameters else []

    def state(self) -> dict[str, Tensor]:
        """Return live views of the state with the replicate dimension first."""
        return {name: tensor.detach() for name, tensor in self.tensors.items()}

    def write_back(self) -> None:
        """Copy the trained weights into the models that were stacked."""
        copy_into(self.models, self.tensors)


@torch.no_grad()
def copy_into(models: Sequence[nn.Module], tensors: dict[str, Tensor]) -> None:
    """Copy states with the replicate dimension first into the models."""
    for i, model in enumerate(models):
        for name, tensor in tensors_of(model).items():
            tensor.copy_(tensors[name][i])


def _stacked(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([one[name].detach() for one in states]) for name in states[0]}


def can_stack(models: Sequence[nn.Module], *, at_any_size: bool = False) -> bool:
    """Return whether the models can be, and (but `at_any_size`) are worth being, trained as one."""
    return (
        all(_is_plain_sequence(model) for model in models)
        and len({str(model) for model in models}) == 1
        and (at_any_size or _is_small_or_on_gpu(models[0]))
    )


def is_worth_merging(models: Sequence[nn.Module]) -> bool:
    """Return whether several arms with these models, one per seed, are worth training as one.

    On a CPU not for one seed: alone it has the very bits of `train`. And not with convolutions:
    for large batches of channels they are slower (0.7 to 1.2 times as fast with 10 seeds).
    """
    if not can_stack(models):
        return False
    device = next(models[0].parameters()).device.type
    if device == "cpu" and (len(models) == 1 or _has_convolutions(models[0])):
        return False
    weights = len(models) * sum(p.numel() for p in models[0].parameters())
    return weights <= _LARGEST_MERGED.get(device, 0)


class _StackedLinear(torch.autograd.Function):
    """The linear layers of a stack on a GPU, [replicates, batch, inputs] to […, outputs].

    The same products as by autograd; but the gradient of the weight comes in the weight's order in
    memory, which saves a copy of it at every step, and the bias is added, not copied first.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        out = torch.bmm(x, weight.transpose(1, 2))
        return out if bias is None else out.add_(bias[:, None])

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        inputs = torch.bmm(upstream, weight) if ctx.needs_input_grad[0] else None
        bias = upstream.sum(dim=1) if ctx.has_bias else None
        return inputs, torch.bmm(upstream.transpose(1, 2), x), bias


def _has_convolutions(model: nn.Module) -> bool:
    return any(isinstance(layer, nn.Conv2d) for layer in model.modules())


def _is_plain_sequence(model: nn.Module) -> bool:
    """Return whether a model is nothing but plain layers, one after the other."""
    if type(model) not in (nn.Sequential, Residual):  # a subclass may have its own forward
        return False
    layers = list(model._modules.values())
    parameters = [p for layer in layers for p in layer.parameters()]
    hooked = any(p._backward_hooks or p._post_accumulate_grad_hooks for p in parameters)
    for module in (model, *layers):  # with hooks, or a forward pass of its own
        hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks
        hooked |= any(map(bool, hooks)) or "forward" in vars(module)
    shared = len({id(p) for p in parameters}) < len(parameters)
    usual = all(p.requires_grad and p.dtype == torch.float32 for p in parameters)
    frozen = any(layer.training != model.training for layer in layers)
    plain = all(map(_is_plain, layers))
    return plain and usual and not (hooked or shared or frozen) and bool(parameters)


def _is_plain(layer: nn.Module) -> bool:
    if parametrize.is_parametrized(layer):
        return _is_in_basis(layer)
    if type(layer) is Residual:
        return _is_plain_sequence(layer)
    if type(layer) is nn.Flatten:
        return (layer.start_dim, layer.end_dim) == (1, -1)
    if type(layer) is nn.Conv2d:
        return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    if type(layer) in (nn.BatchNorm1d, nn.BatchNorm2d):
        return layer.track_running_stats and layer.momentum is not None
    plain = (
        nn.ReLU,
        SignActivation,
        LogitPair,
        AppendOne,
        nn.Linear,
        nn.MaxPool2d,
        nn.AdaptiveAvgPool2d,
    )
    return type(layer) in plain


def _is_in_basis(layer: nn.Module) -> bool:
    """Return whether a layer is plain but for its weight, which is computed from coefficients."""
    maps = [one for each in layer.parametrizations.values() for one in each]
    only = list(layer.parametrizations) == ["weight"] and [type(m) for m in maps] == [InBasis]
    return only and type(layer).__mro__[1] is nn.Linear


def _is_small_or_on_gpu(model: nn.Module) -> bool:
    parameters = list(model.parameters())
    small = sum(p.numel() for p in parameters) <= _LARGEST_STACKED
    # A GPU multiplies a batch of matrices as fast as they come. Convolutions in groups are not
    # its strength, and large ones keep it busy alone.
    return small or (parameters[0].is_cuda and not _has_convolutions(model))


def may_be_random(model: nn.Module) -> bool:
    """Return whether a forward pass may draw random numbers, as far as the modules tell.

    PyTorch's own layers are known, ours, and torchvision's ResNet and VGG; any other forward may
    call anything.
    """
    known = ("torch.nn.", "lth_tutorial.", "torchvision.models.resnet", "torchvision.models.vgg")
    drawing = (nn.MultiheadAttention, nn.RNNBase, nn.Transformer, nn.RReLU)
    return any(
        not type(module).__module__.startswith(known)
        or "Dropout" in type(module).__name__
        or isinstance(module, drawing)
        for module in model.modules()
    )


def split_states(stacked: dict[str, Tensor]) -> list[State]:
    """Return one copied state per replicate from a state with the replicate dimension first."""
    n, usual = len(next(iter(stacked.values()))), torch.contiguous_format
    return [{k: t[i].clone(memory_format=usual) for k, t in stacked.items()} for i in range(n)]
