"""Tensors of sums of paths, and what every operation does to them.

Paths add up where a network adds and scales. What saturates, centres or normalises hides them: at
the numbers that flow here a ReLU6 is flat, and a layer norm subtracts all that it is given. So the
model runs on a `Path`, a tensor that knows that it comes from the input, and every operation on
one follows a rule (`rules`, and `blocks` for what PyTorch computes in one piece):

- layers, sums, averages, poolings, ReLU and moves of elements are done as they are;
- activations and norms pass on what they get, a norm times |γ|, plus |β|;
- a difference adds, because a factor −1 counts by its magnitude like any weight;
- a product of two paths (a gate, attention) is entered by paths through either factor;
- anything else is refused by name.

Batch norm with running statistics only scales and shifts, and is done as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

MASKED = -1e4
"""Whatever adds as little as this to a score of attention hides it: no path runs there."""

RULES: dict[str, Callable] = {}
"""Name of a PyTorch function to its rule, a function (func, args, kwargs); see `rules`."""

MADE_LIKE = {
    "new_zeros", "new_ones", "new_full", "new_empty", "new_tensor", "zeros_like", "ones_like",
    "full_like", "empty_like", "rand_like", "randn_like",
}  # fmt: skip
"""Functions that make a tensor in the pattern of a path: it is none until one is written."""

RENAMED = {
    "__rsub__": "sub", "__isub__": "sub", "__iadd__": "add", "__radd__": "add", "__imul__": "mul",
    "__rmul__": "mul", "__idiv__": "div", "__itruediv__": "div", "__rdiv__": "div",
    "__rtruediv__": "div", "__rmatmul__": "matmul", "__pow__": "pow", "__rpow__": "pow",
}  # fmt: skip

_COUNTING: ContextVar[bool] = ContextVar("counting", default=False)


class Path(Tensor):
    """A tensor of sums of paths; `of_input` is false for what comes from weights alone."""

    of_input = True

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        """Do what the rule for a function says."""
        return _follow(func, args, kwargs or {})


@contextmanager
def counting(on: bool) -> Iterator[None]:
    """Let a constant factor count as 1 or 0, and no constant be added."""
    token = _COUNTING.set(on)
    try:
        yield
    finally:
        _COUNTING.reset(token)


def is_counting() -> bool:
    """Return whether constants count as 1 or 0."""
    return _COUNTING.get()


def path(tensor: Tensor, *, of_input: bool = True) -> Path:
    """Return the same tensor as a `Path`."""
    with torch._C.DisableTorchFunctionSubclass():
        result = tensor.as_subclass(Path)
    result.of_input = of_input
    return result


def plain(value: Any) -> Any:
    """Return the tensor under a `Path`; anything else as it is."""
    if not isinstance(value, Path):
        return value
    with torch._C.DisableTorchFunctionSubclass():
        return value.as_subclass(Tensor)


def refuse(what: str) -> None:
    """Raise a ValueError that names an operation and the layer in which it stands."""
    frame, layer = sys._getframe(1), ""
    while frame is not None and not layer:
        owner = frame.f_locals.get("self")
        layer = f" in {type(owner).__name__}" if isinstance(owner, nn.Module) else ""
        frame = frame.f_back
    raise ValueError(
        f"cannot follow paths through {what}{layer}. Connected weights, path counts and SynFlow "
        f"take networks of layers, activations, norms, attention, sums and products"
    )


def _follow(func: Callable, args: tuple, kwargs: dict) -> Any:
    name = getattr(func, "__name__", str(func))
    key = RENAMED.get(name, name)
    if key not in RULES and key.endswith("_") and key[:-1] in RULES:
        key = key[:-1]
    rule = RULES.get(key)
    if rule is None:
        refuse(name)
    if rule is not run and not torch.is_grad_enabled():
        refuse(f"{name} without gradients, as in an autograd.Function of its own,")
    leaves, _ = tree_flatten((args, kwargs))
    of_input = any(isinstance(leaf, Path) and leaf.of_input for leaf in leaves)
    result = rule(func, args, kwargs)
    if name.endswith("_") and not name.startswith("__") and key != name:
        result = _written(args[0], result)  # in place: others may hold that tensor
    made = key in MADE_LIKE
    return tree_map(lambda v: plain(v) if made else _wrapped(v, of_input), result)


def _wrapped(value: Any, of_input: bool) -> Any:
    if isinstance(value, Path) and value.of_input == of_input:
        return value
    value = plain(value)
    numbers = isinstance(value, Tensor) and value.is_floating_point()
    return path(value, of_input=of_input) if numbers else value


def _written(target: Tensor, result: Tensor) -> Tensor:
    become_path(target, result.dtype)
    with torch._C.DisableTorchFunctionSubclass():
        target.copy_(result)
    return target


def become_path(target: Tensor, dtype: torch.dtype) -> None:
    """Turn a tensor that was made to be filled into a `Path`, in place."""
    if not isinstance(target, Path):
        target.data = target.data.to(dtype)
        target.__class__ = Path
    target.of_input = True


def run(func: Callable, args: tuple, kwargs: dict) -> Any:
    """Call a function on plain tensors, with constants in the precision of the paths."""
    leaves, _ = tree_flatten((args, kwargs))
    dtype = next((plain(leaf).dtype for leaf in leaves if isinstance(leaf, Path)), None)

    def prepared(value: Any) -> Any:
        value = plain(value)
        other = isinstance(value, Tensor) and value.is_floating_point() and value.dtype != dtype
        return value.to(dtype) if other else value

    args, kwargs = tree_map(prepared, (args, kwargs))
    with torch._C.DisableTorchFunctionSubclass():
        return func(*args, **kwargs)


def magnitude(constant: Any) -> Any:
    """Return the factor by which a constant scales paths; a `Path` as it is."""
    whole = isinstance(constant, Tensor) and not plain(constant).is_floating_point()
    if isinstance(constant, (bool, Path)) or whole:
        return constant
    if not isinstance(constant, (int, float, Tensor)):
        return constant
    if not _COUNTING.get():
        return abs(constant)
    if isinstance(constant, Tensor):
        return (constant != 0).to(constant.dtype)
    return float(constant != 0)
