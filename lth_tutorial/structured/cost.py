"""What a network costs: numbers to store, operations, bytes, and time by the clock."""

from __future__ import annotations

import math
import re
import statistics
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.networks.calls import copied
from lth_tutorial.networks.first_pass import taking
from lth_tutorial.runtime import is_whole
from lth_tutorial.safety.arguments import checked
from lth_tutorial.training.config import TrainConfig
from lth_tutorial.training.groups import SingleModel
from lth_tutorial.training.loop import fit

if TYPE_CHECKING:
    import pandas as pd

NO_GAIN = "zeros are stored and multiplied like any number: no operation is saved"


@checked
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
        speedup (the reference's latency over this one's), and note, which says where no
        operation is saved because a network has zeros but the reference's size.

    Raises:
        ValueError: if there is no network, or `repeats` is not a positive whole number.
    """
    import pandas as pd

    _check_compared("cost_table", models, repeats)
    # First, because it says what is wrong with x before anything is timed.
    operations = {name: flops(model, x) for name, model in models.items()}
    rows = []
    latency = _latencies(models, x, repeats)
    for name, model in models.items():
        parameters = list(model.parameters())
        tensors = [*parameters, *model.buffers()]
        row = {
            "network": name,
            "parameters": sum(p.numel() for p in parameters),
            "nonzeros": sum(int(p.count_nonzero()) for p in parameters),
            "flops": operations[name],
            "bytes": sum(t.numel() * t.element_size() for t in tensors),
            "latency_ms": 1000 * latency[name],
            "speedup": latency[next(iter(models))] / latency[name],
        }
        first = rows[0] if rows else row
        masked = row["nonzeros"] < first["nonzeros"] and row["flops"] == first["flops"]
        rows.append(row | {"note": NO_GAIN if masked else ""})
    return pd.DataFrame(rows)


@checked
@torch.no_grad()
def flops(model: nn.Module, x: Tensor) -> int:
    """Return the floating-point operations of one forward pass on one example of `x`.

    Two per multiply-add; matrix products and convolutions only, zeros included. Those of
    recurrent layers, attention and bilinear layers are such products, and count.

    Raises:
        ValueError: for a fused kernel whose products cannot be counted, which it names, or an x
            that the model cannot take.
    """
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False, custom_mapping=_PRODUCTS)
    group = SingleModel(model)
    group.set_training(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    try:
        for parameter in trained:  # the counter cannot take one that a module is called with
            parameter.requires_grad_(False)
        with taking(model, x), _taken_apart(), counter, _Fused(counter) as fused:
            model(x[:1].detach().clone())  # a forward pass may write into it
    finally:
        group.restore_modes()
        for parameter in trained:
            parameter.requires_grad_(True)
    if fused.unknown:
        raise ValueError(
            f"cannot count the operations of {', '.join(sorted(fused.unknown))}, which "
            f"{type(model).__name__} computes in one piece"
        )
    return counter.get_total_flops()


@contextmanager
def _taken_apart() -> Iterator[None]:
    """Compute attention and recurrent layers by matrix products, where a library has one piece."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            warnings.catch_warnings(action="ignore", category=UserWarning),  # oneDNN's, of TF32
            sdpa_kernel(SDPBackend.MATH),
            torch.backends.mkldnn.flags(enabled=False),
            torch.backends.cudnn.flags(enabled=False),
        ):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class _Fused(TorchDispatchMode):
    """Notes kernels that look like products and are none that the counter knows."""

    def __init__(self, counter) -> None:
        super().__init__()
        self.known, self.unknown = counter.flop_registry, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._overloadpacket.__name__
        if _LOOKS_LIKE_A_PRODUCT.search(name) and func._overloadpacket not in self.known:
            self.unknown.add(name)
        return func(*args, **(kwargs or {}))


_LOOKS_LIKE_A_PRODUCT = re.compile(
    r"conv(?!ert)|(^|_|add|b)mm(_|$)|(^|_|add)mv|lstm(?!_cell)|gru(?!_cell)|rnn|attention|attn"
    r"|encoder|linear(?!_to)|trilinear(?!\dd)|(^|_)dot(_|$)"
)


def _vector(a, *_, out_shape=None, **__) -> int:
    return 2 * math.prod(a)


def _biased_vector(_, a, *__, out_shape=None, **___) -> int:
    return 2 * math.prod(a)


def _trilinear(a, b, c, expand1, expand2, expand3, sum_dim, *_, out_shape=None, **__) -> int:
    """Bilinear layers: an output multiplies every pair of inputs, and then its weights."""
    shapes = []
    for shape, expand in ((a, expand1), (b, expand2), (c, expand3)):
        full = list(shape)
        for dim in sorted(expand):
            full.insert(dim, 1)
        shapes.append(full)
    return 2 * math.prod(torch.broadcast_shapes(*map(tuple, shapes)))


_aten = torch.ops.aten
_PRODUCTS = {
    _aten._trilinear: _trilinear,
    _aten.mv: _vector,
    _aten.dot: _vector,
    _aten.vdot: _vector,
    _aten.addmv: _biased_vector,
}


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


@checked
def training_cost(
    models: Mapping[str, nn.Module], data: Dataset, config: TrainConfig, *, repeats: int = 5
) -> pd.DataFrame:
    """Measure what a step of *training* costs some networks, side by side; the first is the
    reference.

    Args:
        models: name to network, all on the device of `data`; copies of them are trained.
        config: batch size, optimiser, penalty and attack; `steps` is not used.
        repeats: how often each is timed, over ten steps. The networks take turns, so that a busy
            machine slows all of them alike.

    Returns:
        one row per network: network, parameters, flops (of one example forward and backward,
        counted as three forward passes), step_ms (median) and speedup (the reference's over it).

    Raises:
        ValueError: if there is no network, or `repeats` is not a positive whole number.
    """
    import pandas as pd

    _check_compared("training_cost", models, repeats)
    steps = replace(config, steps=11, lr_drops=(), warmup_steps=0, eval_every=None)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(repeats):
        for name, model in models.items():
            seconds[name].append(_seconds_of_steps(model, data, steps))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    x, first = data.normalize(data.x_train[:1]), next(iter(models))
    rows = [
        {
            "network": name,
            "parameters": sum(p.numel() for p in model.parameters()),
            "flops": 3 * flops(model, x),
            "step_ms": 100 * median[name],
            "speedup": median[first] / median[name],
        }
        for name, model in models.items()
    ]
    return pd.DataFrame(rows)


def _check_compared(who: str, models: Mapping[str, nn.Module], repeats: int) -> None:
    if not models:
        raise ValueError(f"{who} needs at least one network, the reference")
    if not is_whole(repeats) or repeats < 1:
        raise ValueError(f"repeats is a whole number of at least 1; got {repeats!r}")


def _seconds_of_steps(model: nn.Module, data: Dataset, config: TrainConfig) -> float:
    """Return the time of all steps of a training but its first, which also prepares it."""
    marks: list[float] = []

    def mark() -> None:
        _wait(data.x_train)
        marks.append(time.perf_counter())

    group = SingleModel(copied(model))
    fit(group, data, config, masks=None, start_step=0, data_seeds=[0], on_step=mark)
    return marks[-1] - marks[0]


def _wait(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
