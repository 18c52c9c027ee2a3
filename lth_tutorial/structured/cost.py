"""What a network costs: numbers to store, operations, bytes, and time by the clock."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lth_tutorial.runtime import is_whole
from lth_tutorial.training.groups import SingleModel

if TYPE_CHECKING:
    import pandas as pd

CANNOT_CHANGE = "zeros are stored and multiplied like any number: latency cannot change"


@torch.no_grad()
def cost_table(models: Mapping[str, nn.Module], x: Tensor, *, repeats: int = 20) -> pd.DataFrame:
    """Measure what some networks cost, side by side; the first is the reference.

    Args:
        models: name to network, all on the device of `x`.
        x: the inputs [batch, …] on which latency is measured, normalised as in training.
        repeats: how often each network is timed. The networks take turns, so that a busy machine
            slows all of them alike.

    Returns:
        one row per network: network, parameters, nonzeros (parameters that are not exactly zero),
        flops (of one example: two per multiply-add, matrix products and convolutions only), bytes
        (parameters and buffers as they lie in memory), latency_ms (median time of one batch),
        speedup (the reference's latency over this one's), and note, which says where latency
        cannot change because a network has zeros but the reference's size.

    Raises:
        ValueError: if there is no network, or `repeats` is not a positive whole number.
    """
    import pandas as pd

    if not models:
        raise ValueError("cost_table needs at least one network, the reference")
    if not is_whole(repeats) or repeats < 1:
        raise ValueError(f"repeats is a whole number of at least 1; got {repeats!r}")
    rows = []
    latency = _latencies(models, x, repeats)
    for name, model in models.items():
        parameters = list(model.parameters())
        tensors = [*parameters, *model.buffers()]
        row = {
            "network": name,
            "parameters": sum(p.numel() for p in parameters),
            "nonzeros": sum(int(p.count_nonzero()) for p in parameters),
            "flops": flops(model, x),
            "bytes": sum(t.numel() * t.element_size() for t in tensors),
            "latency_ms": 1000 * latency[name],
            "speedup": latency[next(iter(models))] / latency[name],
        }
        first = rows[0] if rows else row
        masked = row["nonzeros"] < first["nonzeros"] and row["flops"] == first["flops"]
        rows.append(row | {"note": CANNOT_CHANGE if masked else ""})
    return pd.DataFrame(rows)


@torch.no_grad()
def flops(model: nn.Module, x: Tensor) -> int:
    """Return the floating-point operations of one forward pass on one example of `x`.

    Two per multiply-add; matrix products and convolutions only, zeros included.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    group = SingleModel(model)
    group.set_training(False)
    with counter, sdpa_kernel(SDPBackend.MATH):  # the counter does not know a CPU's fused attention
        model(x[:1])
    group.restore_modes()
    return counter.get_total_flops()


def _latencies(models: Mapping[str, nn.Module], x: Tensor, repeats: int) -> dict[str, float]:
    """Return the median seconds of one batch; the networks take turns.

    Each timed pass follows one of the same network that is not timed: after a smaller network's
    turn the caches would hold more of what the next one needs.
    """
    groups = {name: SingleModel(model) for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for group in groups.values():
        group.set_training(False)
    for _ in range(repeats):
        for name, group in groups.items():
            group.logits(x[None])
            _wait(x)
            start = time.perf_counter()
            group.logits(x[None])
            _wait(x)
            seconds[name].append(time.perf_counter() - start)
    for group in groups.values():
        group.restore_modes()
    return {name: statistics.median(values) for name, values in seconds.items()}


def _wait(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
