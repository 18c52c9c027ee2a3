"""How units pass through a network: labels that travel with the activations.

Every row of a layer makes one unit, and every element of an activation carries the label of the
unit that it comes from. Operations that only move elements (flatten, transpose, concatenate) are
applied to the labels themselves; an addition makes two labels one, since a unit can only be
removed together with whatever is added to it. What mixes units for good, such as a layer norm,
pins them: they cannot be removed. Any other operation is refused by name.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from lth_tutorial.networks.transformer import Attention

NO_UNIT = -1
"""The label of elements that belong to no unit: the network's input, or a parameter."""

MOVING = set(
    "flatten reshape view permute transpose contiguous cat concat concatenate chunk split "
    "unflatten squeeze unsqueeze expand movedim size dim getattr getitem to float clone detach "
    "Flatten Unflatten".split()
)
ELEMENTWISE = set(
    "relu relu6 leaky_relu elu selu celu gelu silu mish tanh sigmoid hardtanh hardswish "
    "hardsigmoid softplus dropout clamp abs neg sqrt square pow Identity ReLU ReLU6 LeakyReLU "
    "ELU SELU CELU GELU SiLU Mish Tanh Sigmoid Hardtanh Hardswish Hardsigmoid Softplus Dropout "
    "Dropout1d Dropout2d add iadd sub isub mul imul div truediv itruediv multiply maximum "
    "minimum".split()
)
POOLING = set(
    "max_pool1d max_pool2d avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d "
    "adaptive_max_pool2d MaxPool1d MaxPool2d AvgPool1d AvgPool2d AdaptiveAvgPool1d "
    "AdaptiveAvgPool2d AdaptiveMaxPool2d".split()
)
REDUCING = {"mean", "sum", "amax", "amin"}
MIXING = set(
    "softmax log_softmax layer_norm group_norm normalize LayerNorm GroupNorm InstanceNorm1d "
    "InstanceNorm2d LocalResponseNorm Softmax LogSoftmax".split()
)


class UntraceableError(ValueError):
    """An operation through which units cannot be followed; the message names it."""


@dataclass
class Trace:
    """What is known of a network's units: labels by layer, in the order of the forward pass.

    Attributes:
        rows: labels of the outputs of each layer that makes units, shape [outputs].
        columns: labels of the inputs of each layer that reads units, shape [inputs].
        norms: labels of the channels of each batch norm.
        parents: label to an equal one; itself for the one that stands for all.
        pinned: such a label to the reason why it cannot be removed.
    """

    rows: dict[str, Tensor] = field(default_factory=dict)
    columns: dict[str, Tensor] = field(default_factory=dict)
    norms: dict[str, Tensor] = field(default_factory=dict)
    parents: list[int] = field(default_factory=list)
    pinned: dict[int, str] = field(default_factory=dict)

    def new(self, n: int) -> Tensor:
        """Return `n` new labels."""
        first = len(self.parents)
        self.parents += range(first, first + n)
        return torch.arange(first, first + n)

    def find(self, label: int) -> int:
        """Return the label that stands for all that are equal to this one."""
        while self.parents[label] != label:
            label = self.parents[label]
        return label

    def unite(self, a: Tensor, b: Tensor, why: str) -> Tensor:
        """Make two tensors of labels equal, element by element, and return them as one."""
        a, b = torch.broadcast_tensors(a, b)
        pairs = torch.stack([a.flatten(), b.flatten()]).unique(dim=1).T.tolist()
        for one, other in pairs:
            if NO_UNIT in (one, other):
                self.pin(torch.tensor(max(one, other)), why)
                continue
            one, other = sorted((self.find(one), self.find(other)))
            self.parents[other] = one
            if other in self.pinned:
                self.pinned.setdefault(one, self.pinned[other])
        return torch.maximum(a, b)

    def pin(self, labels: Tensor, why: str) -> None:
        """Say why units cannot be removed; the first reason stays."""
        for label in labels.unique().tolist():
            if label != NO_UNIT:
                self.pinned.setdefault(self.find(label), why)

    def record(self, table: dict[str, Tensor], layer: str, labels: Tensor) -> Tensor:
        """Note the labels of a layer; those of a layer used twice become equal."""
        if layer in table:
            labels = self.unite(table[layer], labels, f"{layer} is used twice")
        table[layer] = labels
        return labels


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, Attention) or super().is_leaf_module(module, name)


@torch.no_grad()
def trace_units(model: nn.Module, x: Tensor) -> Trace:
    """Follow the units of a network from its input to its output.

    Args:
        x: an example input [batch, …]; only its shape matters.

    Raises:
        UntraceableError: if the forward pass depends on values, or has an operation through which
            units cannot be followed; names it.
    """
    try:
        graph = _Tracer().trace(model)
    except Exception as error:  # torch.fx raises whatever the forward pass raises on its proxies
        raise UntraceableError(
            f"the forward pass of {type(model).__name__} cannot be recorded: {error}. torch.fx "
            f"records one fixed sequence of operations, without branches that depend on values"
        ) from error
    trace, values = Trace(), {}
    for node in graph.nodes:
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
        if node.op == "placeholder":
            value: Any = torch.full((1, *x.shape[1:]), NO_UNIT)
        elif node.op == "get_attr":
            value = torch.full(operator.attrgetter(node.target)(model).shape, NO_UNIT)
        elif node.op == "output":
            fx.node.map_aggregate(args, lambda v: _pin_output(trace, v))
            value = None
        elif node.op == "call_module":
            module = model.get_submodule(node.target)
            value = _through_module(trace, node.target, module, *args, **kwargs)
        else:
            name = getattr(node.target, "__name__", str(node.target))
            where = _place(node)
            apply = _method(name) if node.op == "call_method" else node.target
            value = _through_function(trace, name, apply, f"{name}{where}", *args, **kwargs)
        values[node] = value
    return trace


def _pin_output(trace: Trace, value: Any) -> Any:
    if isinstance(value, Tensor):
        trace.pin(value, "it is the network's output")
    return value


def _place(node: fx.Node) -> str:
    """Return where in the model an operation stands, as far as torch.fx knows."""
    stack = node.meta.get("nn_module_stack") or {}
    names = [str(entry[0] if isinstance(entry, tuple) else entry) for entry in stack.values()]
    return f" in {names[-1]}" if names and names[-1] else ""


def _method(name: str) -> Callable:
    name = "reshape" if name == "view" else name  # labels are not laid out as values are
    return lambda tensor, *args, **kwargs: getattr(tensor, name)(*args, **kwargs)


def _through_module(trace: Trace, name: str, module: nn.Module, x: Tensor, *rest) -> Tensor:
    kind = type(module).__name__
    if isinstance(module, Attention):
        return _through_attention(trace, name, module, x)
    if isinstance(module, nn.Linear):
        trace.record(trace.columns, name, _per_channel(trace, x, -1, name))
        rows = _rows(trace, name, module.out_features)
        return rows.expand(*x.shape[:-1], -1)
    if isinstance(module, _ConvNd) and not isinstance(module, _ConvTransposeNd):
        return _through_convolution(trace, name, module, x)
    if isinstance(module, _BatchNorm):
        trace.record(trace.norms, name, _per_channel(trace, x, 1, name))
        return x
    return _through_function(trace, kind, module, f"{name} ({kind})", x, *rest)


def _through_convolution(trace: Trace, name: str, module: _ConvNd, x: Tensor) -> Tensor:
    inputs = _per_channel(trace, x, 1, name)
    if module.groups == 1:
        trace.record(trace.columns, name, inputs)
        rows = _rows(trace, name, module.out_channels)
    elif module.groups == module.in_channels:  # depthwise: an output is its input, filtered
        repeated = inputs.repeat_interleave(module.out_channels // module.in_channels)
        rows = trace.record(trace.rows, name, repeated)
    else:
        raise UntraceableError(
            f"{name} is a convolution in {module.groups} groups: removing a filter would leave "
            f"groups of different sizes"
        )
    shape = module(torch.zeros(x.shape).to(module.weight)).shape
    return rows.view(1, -1, *[1] * (len(shape) - 2)).expand(shape)


def _through_attention(trace: Trace, name: str, module: Attention, x: Tensor) -> Tensor:
    inputs = _per_channel(trace, x, -1, name)
    known = trace.rows.get(f"{name}.query")
    heads = trace.new(module.heads).repeat_interleave(module.head_width) if known is None else known
    for part in ("query", "key", "value"):
        trace.record(trace.columns, f"{name}.{part}", inputs)
        trace.record(trace.rows, f"{name}.{part}", heads)
    trace.record(trace.columns, f"{name}.output", heads)
    return _rows(trace, f"{name}.output", module.output.out_features).expand(x.shape)


def _rows(trace: Trace, name: str, n: int) -> Tensor:
    return trace.rows[name] if name in trace.rows else trace.record(trace.rows, name, trace.new(n))


def _through_function(trace: Trace, name: str, apply: Callable, what: str, *args, **kwargs) -> Any:
    leaves: list[Any] = []
    fx.node.map_aggregate((args, kwargs), leaves.append)
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    key = name.rstrip("_")
    if not tensors or key in MOVING:
        return apply(*args, **kwargs)
    if key in ELEMENTWISE:
        labels = tensors[0]
        for other in tensors[1:]:
            labels = trace.unite(labels, other, f"{what} joins it to a fixed input or parameter")
        return labels
    if key in POOLING:
        channels = _per_channel(trace, tensors[0], 1, what)
        shape = apply(tensors[0].float(), *args[1:], **kwargs).shape
        return channels.view(1, -1, *[1] * (len(shape) - 2)).expand(shape)
    if key in REDUCING:
        return _reduced(trace, what, *args, **kwargs)
    if key in MIXING:
        trace.pin(tensors[0], f"{what} mixes it with others")
        return tensors[0]
    raise UntraceableError(
        f"cannot follow units through {what}: whether a unit can be removed before it is not "
        f"known. Attention can be traced as lth_tutorial.networks.transformer.Attention"
    )


def _reduced(trace: Trace, what: str, labels: Tensor, dim=None, keepdim=False, **_) -> Tensor:
    dim = tuple(range(labels.ndim)) if dim is None else dim
    low, high = labels.amin(dim, keepdim), labels.amax(dim, keepdim)
    if not torch.equal(low, high):
        trace.pin(labels, f"{what} mixes it with others")
        return torch.full_like(high, NO_UNIT)
    return high


def _per_channel(trace: Trace, labels: Tensor, dim: int, what: str) -> Tensor:
    """Return one label per channel; raise if a channel holds elements of several units."""
    flat = labels.movedim(dim, 0).flatten(1)
    if not bool((flat == flat[:, :1]).all()):
        raise UntraceableError(f"{what} reads several units as one channel: they were mixed before")
    return flat[:, 0].contiguous()
