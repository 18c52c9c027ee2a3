"""Calling a model: with tensors in place of its own, and what must come out.

Every forward pass of the package goes through `logits_of`, so that a model that returns something
else than logits is refused in the same words everywhere.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves

_WRAPPERS = (
    nn.DataParallel,
    nn.parallel.DistributedDataParallel,
    torch.optim.swa_utils.AveragedModel,
)


class OutputError(ValueError):
    """A model returns something else than logits."""


def logits_of(output: object, n: int, model: nn.Module) -> Tensor:
    """Return a model's output for n examples, or raise an OutputError unless it is [n, classes]."""
    is_right = isinstance(output, Tensor) and output.ndim == 2 and len(output) == n
    if is_right and output.is_floating_point():
        return output
    mode = "training" if model.training else "evaluation"
    what = type(output).__name__
    if isinstance(output, Tensor):
        kind = f" and type {output.dtype}" if is_right else ""
        what = f"a tensor of shape {tuple(output.shape)}{kind}"
    elif isinstance(output, Mapping):
        what = f"a {what} with {', '.join(map(str, output))}"
    elif isinstance(output, (tuple, list)):
        what = f"a {what} of {len(output)}"
    raise OutputError(
        f"{type(model).__name__} returns {what} in {mode} mode for {n} examples; its output must "
        f"be one tensor of logits [{n}, classes], real numbers. Wrap it in a module that returns "
        f"that alone"
    )


def call_with(model: nn.Module, tensors: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Return the logits [batch, classes] with some tensors in place of the model's own.

    Of a model in a wrapper (nn.DataParallel, torch.compile), the model inside is called: a wrapper
    knows only tensors that the model holds. It gets a copy of x: a forward pass may write into it.
    """
    while (inner := inner_model(model)) is not model:
        prefix = next(f"{name}." for name, child in model.named_children() if child is inner)
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        model = inner
    refuse_compiled(model)
    everywhere = _in_every_place(model, tensors)
    return logits_of(
        functional_call(model, everywhere, (x.clone(),), tie_weights=False), len(x), model
    )


def refuse_compiled(model: nn.Module) -> None:
    """Raise OutputError for a TorchScript module: nobody can replace its tensors."""
    if isinstance(model, torch.jit.ScriptModule):
        raise OutputError(
            f"{type(model).__name__} is compiled by TorchScript, which lets nobody put tensors in "
            f"place of its own; pass the module that it was made from"
        )


def _in_every_place(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors also for the other places of those that are shared, each place once.

    PyTorch's own `tie_weights` takes a module that stands twice for two, and gives it back with
    the tensors of the call in place of its own.
    """
    own = {
        f"{path}.{name}" if path else name: tensor
        for path, module in model.named_modules()
        for held in (module._parameters, module._buffers)
        for name, tensor in held.items()
        if tensor is not None
    }
    given = {id(own[name]): tensor for name, tensor in tensors.items() if name in own}
    unknown = {name: tensor for name, tensor in tensors.items() if name not in own}
    return unknown | {n: given[id(t)] for n, t in own.items() if id(t) in given}


def inner_model(model: nn.Module) -> nn.Module:
    """Return the model inside a wrapper that only says how it is run, else the model itself."""
    if isinstance(model, _WRAPPERS):
        return model.module
    return getattr(model, "_orig_mod", model)  # of torch.compile


def copied(model: nn.Module) -> nn.Module:
    """Return a copy of a model, also of one that keeps what it has computed from its weights.

    Raises:
        ValueError: if something in it cannot be copied.
    """
    computed = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in tree_leaves(list(vars(module).values()))
        if isinstance(value, Tensor) and not value.is_leaf
    }
    try:
        return copy.deepcopy(model, computed)
    except (TypeError, RuntimeError, NotImplementedError) as error:
        raise ValueError(
            f"{type(model).__name__} cannot be copied, which this needs: {error}. Keep what cannot "
            f"be copied outside the module, or give it a __deepcopy__"
        ) from error
