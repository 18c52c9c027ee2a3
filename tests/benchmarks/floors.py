"""How fast a training step could be at best, from what the device reaches on simple work."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

import lth_tutorial as lt
from lth_tutorial.structured.cost import flops


@dataclass(frozen=True)
class Floor:
    """The least that one step can take.

    Attributes:
        operations: floating-point operations of matrix products and convolutions.
        bytes: that must be read and written, if nothing is moved twice.
        arithmetic_s: time for the operations alone, at the measured peak.
        memory_s: time for the bytes alone, at the measured bandwidth.
    """

    operations: float
    bytes: float
    arithmetic_s: float
    memory_s: float

    @property
    def seconds(self) -> float:
        """The larger of the two: they can overlap."""
        return max(self.arithmetic_s, self.memory_s)


def floor_of_a_step(
    model: nn.Module, x: torch.Tensor, replicates: int, config: lt.TrainConfig, trained: int
) -> Floor:
    """Return the floor of one optimiser step of some replicates of a model.

    Three forward passes' worth of operations. Weights are read forward and backward; gradients,
    moments and weights are read and written by the optimiser; the output of every layer is
    written, read again backward, and so is its gradient.

    Args:
        x: a batch [batch, …] of normalised inputs on the device.
        trained: numbers that the optimiser updates, per replicate.
    """
    kind = torch.bfloat16 if config.precision == "bf16" else torch.float32
    operations = 3.0 * flops(model, x) * len(x) * replicates
    moments = 2 if config.optimizer == "adam" else 1
    # Weights twice; the gradient written and read; weights and moments read and written; the mask.
    per_weight = 4.0 * (2 + 2 + 2 * (1 + moments) + 1)
    per_output = 4.0 * kind.itemsize
    moved = per_weight * trained + per_output * _outputs(model, x)
    total = replicates * moved
    return Floor(
        operations, total, operations / peak_operations(x.device, kind), total / bandwidth(x.device)
    )


@torch.no_grad()
def _outputs(model: nn.Module, x: torch.Tensor) -> int:
    """Return the numbers that all layers put out for a batch."""
    total = 0

    def add(module, inputs, output) -> None:
        nonlocal total
        total += output.numel()

    leaves = [m for m in model.modules() if not list(m.children()) and not isinstance(m, nn.ReLU)]
    hooks = [module.register_forward_hook(add) for module in leaves]
    try:
        model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return total


@cache
def peak_operations(device: torch.device, dtype: torch.dtype) -> float:
    """Return the operations per second of a large matrix product, TF32 allowed."""
    n = 8_192 if device.type == "cuda" else 512
    a = torch.randn(n, n, device=device, dtype=dtype)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        return 2.0 * n**3 / seconds_of(lambda: a @ a, device)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@cache
def bandwidth(device: torch.device) -> float:
    """Return the bytes per second, read and written, of copying a large tensor."""
    size = 2**28 if device.type == "cuda" else 2**22
    source = torch.zeros(size, device=device)
    target = torch.empty_like(source)
    return 2.0 * 4 * size / seconds_of(lambda: target.copy_(source), device)


def seconds_of(call: Callable[[], object], device: torch.device, repeats: int = 7) -> float:
    """Return the median time of a call, after one that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        wait_for(device)
        start = time.perf_counter()
        call()
        wait_for(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
