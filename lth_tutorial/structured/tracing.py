"""How units pass through a network: labels that travel with the activations.

Every row of a layer makes one unit, and every element of an activation carries the label of the
unit that it comes from. Operations that only move elements (flatten, transpose, concatenate) are
applied to the labels themselves; an addition makes two labels one, since a unit can only be
removed together with whatever is added to it. What mixes units for good, such as a layer norm,
pins them: they cannot be removed. Any other operation is refused by name.
"""

from __future__ import annotations

import operator
from collections import ChainMap
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from lth_tutorial.networks.calls import inner_model
from lth_tutorial.networks.transformer import Attention
from lth_tutorial.structured.labels import NO_UNIT, PADDING, Trace

# Operations by name, as functions, methods and layers: what they do to labels.
MOVING = set(
    "flatten reshape view permute transpose cat concat concatenate chunk split unflatten squeeze "
    "unsqueeze expand movedim size dim getattr getitem view_as reshape_as unbind stack flip roll "
    "Flatten Unflatten ChannelShuffle channel_shuffle".split()
)
SAME = set("to float double half bfloat16 type contiguous clone detach".split())
ELEMENTWISE = set(
    "relu relu6 leaky_relu elu selu celu gelu silu mish tanh sigmoid hardtanh hardswish "
    "hardsigmoid softplus dropout clamp abs neg sqrt square pow rsqrt exp log softsign "
    "feature_dropout stochastic_depth StochasticDepth drop_path DropPath AlphaDropout PReLU "
    "LogSigmoid Softsign Threshold RReLU Dropout3d Identity ReLU ReLU6 LeakyReLU ELU SELU CELU "
    "GELU SiLU Mish Tanh Sigmoid Hardtanh Hardswish Hardsigmoid Softplus Dropout Dropout1d "
    "Dropout2d dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout logsigmoid "
    "threshold hardshrink softshrink tanhshrink log1p expm1 sin cos add iadd sub isub mul imul "
    "div truediv itruediv multiply maximum minimum".split()
)
POOLING = set(
    "max_pool1d max_pool2d avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d "
    "adaptive_max_pool2d MaxPool1d MaxPool2d AvgPool1d AvgPool2d AdaptiveAvgPool1d "
    "AdaptiveAvgPool2d AdaptiveMaxPool2d max_pool3d avg_pool3d adaptive_avg_pool3d MaxPool3d "
    "AvgPool3d AdaptiveAvgPool3d AdaptiveMaxPool1d adaptive_max_pool1d interpolate Upsample "
    "UpsamplingNearest2d UpsamplingBilinear2d ZeroPad1d ZeroPad2d ConstantPad1d ConstantPad2d "
    "ReflectionPad1d ReflectionPad2d ReplicationPad1d ReplicationPad2d CircularPad2d".split()
)
REDUCING = {"mean", "sum", "amax", "amin"}
MIXING = set(
    "softmax log_softmax layer_norm group_norm rms_norm normalize local_response_norm LayerNorm "
    "GroupNorm RMSNorm LocalResponseNorm Softmax LogSoftmax".split()
)


class UntraceableError(ValueError):
    """An operation through which units cannot be followed; the message names it."""


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        dropped = type(module).__name__ in ("DropPath", "StochasticDepth")
        known = dropped or isinstance(module, (Attention, _NormBase))  # with an activation, too
        return known or super().is_leaf_module(module, name)


@torch.no_grad()
def trace_units(model: nn.Module, x: Tensor) -> Trace:
    """Follow the units of a network from its input to its output.

    Args:
        x: an example input [batch, …]; only its shape matters.

    Raises:
        UntraceableError: if the forward pass depends on values, or has an operation through which
            units cannot be followed; names it.
    """
    before, constants = set(vars(model)), {}
    if (inner := inner_model(model)) is not model:
        raise UntraceableError(
            f"{type(model).__name__} wraps a {type(inner).__name__}: pass the model inside it "
            f"(.module, or ._orig_mod of torch.compile)"
        )
    try:
        graph = _Tracer().trace(model)
    except Exception as error:  # torch.fx raises whatever the forward pass raises on its proxies
        length = "'len' is not supported" in str(error)
        raise UntraceableError(
            f"the forward pass of {type(model).__name__} cannot be recorded: "
            f"{'write x.shape[0] for len(x)' if length else error}. torch.fx records one fixed "
            f"sequence of operations, without branches that depend on values"
        ) from error
    for name in set(vars(model)) - before:  # torch.fx keeps constants there
        constants[name] = vars(model).pop(name)
    trace, values = Trace(), {}
    for node in graph.nodes:
        known = ChainMap(_indices(model, node, constants), values)
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), known.__getitem__)
        try:
            values[node] = (
                torch.full(constants[node.target].shape, NO_UNIT)
                if node.op == "get_attr" and node.target in constants
                else _through_node(trace, model, node, x, args, kwargs)
            )
        except UntraceableError:
            raise
        except Exception as error:  # labels are not laid out as values, nor of their type
            kind = f" ({type(model.get_submodule(node.target)).__name__})" if (
                node.op == "call_module"
            ) else _place(node)  # fmt: skip
            name = getattr(node.target, "__name__", str(node.target))
            raise UntraceableError(f"cannot follow units through {name}{kind}: {error}") from error
    return trace


def _indices(model: nn.Module, node: fx.Node, constants: dict[str, Tensor]) -> dict:
    """Return the fixed tensors of whole numbers by which a node picks elements, as they are."""
    found: dict[fx.Node, Tensor] = {}
    if node.target is operator.getitem:
        for each in node.all_input_nodes:
            if each.op == "get_attr":
                tensor = constants.get(each.target)
                if tensor is None:
                    tensor = operator.attrgetter(each.target)(model)
                if not tensor.is_floating_point():
                    found[each] = tensor.cpu()
    return found


def _through_node(trace: Trace, model: nn.Module, node: fx.Node, x: Tensor, args, kwargs) -> Any:
    if node.op == "placeholder":
        return torch.full((1, *x.shape[1:]), NO_UNIT)
    if node.op == "get_attr":
        return trace.of_model(operator.attrgetter(node.target)(model), node.target)
    if node.op == "output":
        fx.node.map_aggregate(args, lambda v: _pin_output(trace, v))
        return None
    if node.op == "call_module":
        module = model.get_submodule(node.target)
        return _through_module(trace, node.target, module, *args, **kwargs)
    name = getattr(node.target, "__name__", str(node.target))
    apply = _method(name) if node.op == "call_method" else node.target
    return _through_function(trace, name, apply, f"{name}{_place(node)}", *args, **kwargs)


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


def _through_module(trace: Trace, name: str, module: nn.Module, *args, **kwargs) -> Tensor:
    kind = type(module).__name__
    if isinstance(module, nn.Embedding):
        return torch.full((*args[0].shape, module.embedding_dim), NO_UNIT)
    if not args and "input" in kwargs:
        args = (kwargs.pop("input"),)
    if len(args) != 1 or kwargs or not isinstance(args[0], Tensor):
        return _through_function(trace, kind, module, f"{name} ({kind})", *args, **kwargs)
    x = args[0]
    if isinstance(module, Attention):
        return _through_attention(trace, name, module, x)
    if isinstance(module, nn.Linear):
        trace.record(trace.columns, name, _per_channel(trace, x, -1, name))
        rows = _rows(trace, name, module.out_features)
        return rows.expand(*x.shape[:-1], -1)
    if isinstance(module, _ConvNd):
        return _through_convolution(trace, name, module, x)
    alone = isinstance(module, nn.GroupNorm) and module.num_groups == module.num_channels
    several = isinstance(module, nn.PReLU) and module.num_parameters > 1
    if isinstance(module, _NormBase) or alone or several:  # every channel by itself
        trace.record(trace.norms, name, _per_channel(trace, x, 1, name))
        return x
    return _through_function(trace, kind, module, f"{name} ({kind})", x)


def _through_convolution(trace: Trace, name: str, module: _ConvNd, x: Tensor) -> Tensor:
    inputs = _per_channel(trace, x, 1, name)
    if module.groups == 1:
        trace.record(trace.columns, name, inputs)
        rows = _rows(trace, name, module.out_channels)
    elif module.groups == module.in_channels and not isinstance(
        module, _ConvTransposeNd
    ):  # depthwise: an output is its input, filtered
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
    if not tensors:
        made = apply(*args, **kwargs)
        fixed = PADDING if key == "zeros" else NO_UNIT
        return torch.full(made.shape, fixed) if isinstance(made, Tensor) else made
    if key in MOVING:
        return apply(*args, **kwargs)
    if key in SAME:
        return tensors[0]
    if key in ("zeros_like", "new_zeros", "ones_like", "new_ones"):
        fixed = PADDING if "zeros" in key else NO_UNIT
        return torch.full(apply(*args, **kwargs).shape, fixed)
    if key in ELEMENTWISE:
        labels = tensors[0]
        for other in tensors[1:]:
            labels = trace.unite(labels, other, what)
        return labels
    if key == "pad":
        return _padded(what, *args, **kwargs)
    if key in ("glu", "GLU"):
        dim = getattr(apply, "dim", kwargs.get("dim", args[1] if len(args) > 1 else -1))
        return trace.unite(*tensors[0].chunk(2, dim), what)
    if key in ("batch_norm", "instance_norm"):
        for other in tensors[1:]:
            trace.unite(_per_channel(trace, tensors[0], 1, what), other, what)
        return tensors[0]
    if key in POOLING:
        channels = _per_channel(trace, tensors[0], 1, what)
        shape = apply(tensors[0].float(), *args[1:], **kwargs).shape
        return channels.view(1, -1, *[1] * (len(shape) - 2)).expand(shape)
    if key in REDUCING:
        return _reduced(trace, what, *args, **kwargs)
    if key in MIXING:
        dim = kwargs.get("dim", args[-1] if len(args) > 1 else getattr(apply, "dim", None))
        over = dim if isinstance(dim, int) and "softmax" in key.lower() else None
        if over is None or not _is_same(tensors[0], over):
            trace.pin(tensors[0], f"{what} mixes it with others")
        return tensors[0]
    raise UntraceableError(
        f"cannot follow units through {what}: whether a unit can be removed before it is not "
        f"known. Attention can be traced as lth_tutorial.networks.transformer.Attention"
    )


def _padded(what: str, labels: Tensor, pads, mode="constant", value=0) -> Tensor:
    """Along a dimension that holds one unit, a border belongs to it; else it is no unit at all."""
    pads = [(pads[i], pads[i + 1]) for i in range(0, len(pads), 2)]
    for dim, (before, after) in zip(range(labels.ndim - 1, -1, -1), pads, strict=False):
        if before == after == 0:
            continue
        size = labels.shape[dim]
        if _is_same(labels, dim):
            labels = labels.index_select(
                dim, torch.arange(-before, size + after).clamp(0, size - 1)
            )
        elif mode == "constant" and min(before, after) >= 0:
            fixed = PADDING if not value else NO_UNIT
            edges = [list(labels.shape), list(labels.shape)]
            edges[0][dim], edges[1][dim] = before, after
            low, high = (torch.full(shape, fixed) for shape in edges)
            labels = torch.cat([low, labels, high], dim=dim)
        else:
            raise UntraceableError(f"cannot follow units through {what}, which pads across units")
    return labels


def _is_same(labels: Tensor, dim: int) -> bool:
    """Return whether all elements along a dimension belong to one unit."""
    return bool((labels == labels.narrow(dim, 0, 1)).all())


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
        own = trace.is_own(flat)
        flat = flat.clone()
        for row, mine in zip(flat, own, strict=True):  # tokens of the model's own beside others
            units = {trace.find(v) if v >= 0 else v for v in row[~mine].unique().tolist()}
            if len(units) > 1:
                raise UntraceableError(f"{what} reads several units as one channel")
            for label in row[mine].unique().tolist() if units else ():
                unit = next(iter(units))
                if unit >= 0:
                    trace.join(unit, label)
            row[:] = next(iter(units)) if units else row[0]
    return flat[:, 0].contiguous()
