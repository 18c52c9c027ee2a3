"""What the first forward pass tells of a model: whether it takes the data and returns logits."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lth_tutorial.data.dataset import Dataset, are_tokens
from lth_tutorial.networks.calls import OutputError, call_with
from lth_tutorial.safety.arguments import Function
from lth_tutorial.states import check_initialized


def first_pass(model: nn.Module, data: Dataset, n: int = 2) -> None:
    """Raise a ValueError unless a model takes n examples in both modes and returns logits.

    It changes nothing: buffers are copies, modes and the random state are put back.
    """
    check_initialized(model)
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and parameter.dtype != torch.float32:
            raise ValueError(
                f"{name} is {parameter.dtype}; weights are trained and scored in float32: "
                f"model.float() (and precision='bf16' for arithmetic in half precision)"
            )
    before = [(module, module.training) for module in model.modules()]
    devices = [data.device] if data.device.type == "cuda" else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            # In the mode in which it arrived last: a module may be frozen on purpose.
            model.eval()
            _pass(model, data, n, "evaluation")
            for module, training in before:
                module.training = training or not before[0][1]
            _pass(model, data, n, "training")
    finally:
        for module, training in before:
            module.training = training


def _pass(model: nn.Module, data: Dataset, n: int, mode: str) -> None:
    x = data.normalize(data.x_train[:n])
    buffers: dict[str, Tensor] = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        logits = call_with(model, buffers, x)
    except OutputError:
        raise
    except Exception as error:  # whatever a forward pass raises on what it does not take
        hint = ""
        if any(isinstance(m, (nn.Embedding, nn.EmbeddingBag)) for m in model.modules()):
            hint = " (examples are normalised unless they are token indices, of a type like int64)"
        elif are_tokens(data.x_train):
            hint = " (whole numbers are token indices, not normalised; pixels are uint8 or float)"
        raise ValueError(
            f"the model cannot take examples of shape {data.shape} ({data.name}), {len(x)} at a "
            f"time in {mode} mode: {error}{hint}"
        ) from error
    if logits.shape[1] < data.num_classes:
        raise ValueError(
            f"the model's output has shape {tuple(logits.shape)} for {len(x)} examples; "
            f"{data.name} needs [{len(x)}, {data.num_classes}] or more classes"
        )


def explained(function: Function) -> Function:
    """Let a function of `model` and `data` say why a forward pass fails as `first_pass` says it.

    What works costs nothing, and an error that the first pass does not explain stays as it is.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*arguments, **options):
        try:
            return function(*arguments, **options)
        except ValueError:
            raise
        except Exception:  # whatever a forward pass raises
            given = signature.bind(*arguments, **options).arguments
            first_pass(given["model"], given["data"])
            raise

    return typing.cast(Function, call)


@contextmanager
def taking(model: nn.Module, x: Tensor) -> Iterator[None]:
    """Raise a ValueError, with the shape of x, where a model cannot take it."""
    try:
        yield
    except (ValueError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a forward pass raises
        raise ValueError(
            f"{type(model).__name__} cannot take x of shape {tuple(x.shape)} and type {x.dtype}: "
            f"{error}"
        ) from error
