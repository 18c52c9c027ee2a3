"""What a module's forward pass does with a parameter of its own: a product, or something else.

A class that nobody here knows may hold a kernel, a table of positions, a scale or a token, all of
them parameters with several dimensions. `torch.fx` records the forward pass without running it, the
layers inside left closed, and the recording says which parameters enter a product, and whether
they do so as they are: a zero of one that is centred or exponentiated first is no zero there.
"""

from __future__ import annotations

import copy
import operator
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx, nn

PRODUCTS = set(
    "linear matmul __matmul__ __rmatmul__ mm bmm addmm addbmm baddbmm einsum tensordot bilinear "
    "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d deform_conv2d".split()
)
SURVIVES = 0.25
"""Share of zeros that is left of one half where zeros survive, give or take chance."""


@dataclass
class _Uses:
    """Own parameters that enter products (None: not known), and those whose zeros do not."""

    found: set[str] | None = None
    changed: set[str] = field(default_factory=set)


_recorded: WeakKeyDictionary[nn.Module, tuple[frozenset, _Uses]] = WeakKeyDictionary()


def multiplied(module: nn.Module) -> set[str] | None:
    """Return the names of the module's own parameters that enter a matrix product or convolution.

    Those that are looked up by an index somewhere are tables, and left out. None if the forward
    pass cannot be recorded, or uses none of its parameters.
    """
    return _uses(module).found


def zeros_are_lost(module: nn.Module, name: str) -> bool:
    """Return whether a forward pass is known to make numbers of a parameter's zeros first."""
    return name in _uses(module).changed


def _uses(module: nn.Module) -> _Uses:
    own = frozenset(name for name, _ in module.named_parameters())
    known = _recorded.get(module)
    if known is None or known[0] != own:
        known = _recorded[module] = (own, _from_recording(module))
    return known[1]


class _Closed(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return True


def _from_recording(module: nn.Module) -> _Uses:
    # A copy of the outermost layer: what a forward pass keeps for itself must not stay a recording.
    shell = copy.copy(module)
    shell.__dict__ = {k: dict(v) if isinstance(v, dict) else v for k, v in vars(module).items()}
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            graph = _Closed().trace(shell)
    except Exception:  # torch.fx raises whatever the forward pass raises on its proxies
        return _Uses()
    origins: dict[fx.Node, frozenset[str]] = {}  # of values that no input reaches: their parameters
    direct: dict[fx.Node, set[str]] = {}  # of these, those that no product stands between
    used, found, tables, changed = set(), set(), set(), set()
    for node in graph.nodes:
        inputs = [origins.get(each) for each in node.all_input_nodes]
        reached = frozenset().union(*(each for each in inputs if each))
        used |= reached
        name = getattr(node.target, "__name__", str(node.target))
        if node.op == "get_attr":
            origins[node], direct[node] = frozenset([node.target]), {node.target}
        elif node.op in ("placeholder", "output"):
            continue
        elif _looks_up(node, name):
            tables |= reached
        elif name in PRODUCTS:
            found |= reached
            for each in node.all_input_nodes:
                changed |= _changed(module, each, direct.get(each, ()))
        if None not in inputs and inputs and _is_plain_call(module, node):
            origins[node] = reached
            behind = () if name in PRODUCTS else node.all_input_nodes
            direct[node] = set().union(*(direct[each] for each in behind))
    return _Uses(found - tables if used else None, changed)


@torch.no_grad()
def _changed(module: nn.Module, node: fx.Node, parameters: Iterable[str]) -> set[str]:
    """Return which parameters' zeros are none in what a product reads, as far as can be told."""
    if node.op == "get_attr":
        return set()
    changed = set()
    own = dict(module.named_parameters())
    for name in set(parameters) & set(own):
        generator = torch.Generator().manual_seed(0)
        drawn = {n: (torch.rand(p.shape, generator=generator) + 0.5).to(p) for n, p in own.items()}
        zero = torch.rand(own[name].shape, generator=generator) < 0.5
        drawn[name].masked_fill_(zero.to(own[name].device), 0.0)
        try:
            operand = _value(module, node, drawn)
            if operand is not None and float((operand == 0).double().mean()) < SURVIVES:
                changed.add(name)
        except Exception:  # whatever an operation raises on values that it was not made for
            continue
    return changed


def _value(module: nn.Module, node: fx.Node, tensors: dict[str, Tensor]) -> Tensor | None:
    """Compute what a node stands for, or nothing where a module inside computes it."""
    if node.op == "get_attr":
        known = tensors.get(node.target, getattr(module, node.target, None))
        return None if known is None else known.clone()  # what is written there stays here
    if node.op == "call_module":
        return None
    values = {each: _value(module, each, tensors) for each in node.all_input_nodes}
    if any(value is None for value in values.values()):
        return None
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
    if node.op == "call_method":
        return getattr(args[0], node.target)(*args[1:], **kwargs)
    return node.target(*args, **kwargs)


def _looks_up(node: fx.Node, name: str) -> bool:
    if name in ("embedding", "embedding_bag", "index_select", "gather", "take"):
        return True
    index = node.args[1] if node.target is operator.getitem else None
    return bool(index is not None and _nodes_in(index))


def _nodes_in(value: object) -> list[fx.Node]:
    found: list[fx.Node] = []
    fx.node.map_arg(value, found.append)
    return found


def _is_plain_call(module: nn.Module, node: fx.Node) -> bool:
    """Return whether nothing but the inputs of a call decides what comes out."""
    if node.op != "call_module":
        return True
    return not list(module.get_submodule(node.target).parameters())
