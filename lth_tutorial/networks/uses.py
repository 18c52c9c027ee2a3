"""What a module's forward pass does with a parameter of its own: a product, or something else.

A class that nobody here knows may hold a kernel, a table of positions, a scale or a token, all of
them parameters with several dimensions. `torch.fx` records the forward pass without running it, the
layers inside left closed, and the recording says which parameters enter a product.
"""

from __future__ import annotations

import copy
import operator
import warnings
from weakref import WeakKeyDictionary

import torch
from torch import fx, nn

PRODUCTS = set(
    "linear matmul __matmul__ __rmatmul__ mm bmm addmm addbmm baddbmm einsum tensordot bilinear "
    "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d deform_conv2d".split()
)
_recorded: WeakKeyDictionary[nn.Module, tuple[frozenset, set[str] | None]] = WeakKeyDictionary()


def multiplied(module: nn.Module) -> set[str] | None:
    """Return the names of the module's own parameters that enter a matrix product or convolution.

    Those that are looked up by an index somewhere are tables, and left out. None if the forward
    pass cannot be recorded, or uses none of its parameters.
    """
    own = frozenset(name for name, _ in module.named_parameters())
    known = _recorded.get(module)
    if known is None or known[0] != own:
        known = _recorded[module] = (own, _from_recording(module))
    return known[1]


class _Closed(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return True


def _from_recording(module: nn.Module) -> set[str] | None:
    # A copy of the outermost layer: what a forward pass keeps for itself must not stay a recording.
    shell = copy.copy(module)
    shell.__dict__ = {k: dict(v) if isinstance(v, dict) else v for k, v in vars(module).items()}
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            graph = _Closed().trace(shell)
    except Exception:  # torch.fx raises whatever the forward pass raises on its proxies
        return None
    origins: dict[fx.Node, frozenset[str]] = {}  # of values that no input reaches: their parameters
    used, found, tables = set(), set(), set()
    for node in graph.nodes:
        inputs = [origins.get(each) for each in node.all_input_nodes]
        reached = frozenset().union(*(each for each in inputs if each))
        used |= reached
        name = getattr(node.target, "__name__", str(node.target))
        if node.op == "get_attr":
            origins[node] = frozenset([node.target])
        elif node.op in ("placeholder", "output"):
            continue
        elif _looks_up(node, name):
            tables |= reached
        elif name in PRODUCTS:
            found |= reached
        if None not in inputs and inputs and _is_plain_call(module, node):
            origins[node] = reached
    return found - tables if used else None


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
