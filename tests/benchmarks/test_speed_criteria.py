"""What criteria cost, in forward-backward passes over the same examples; run with `make bench`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

import lth_tutorial as lt

pytestmark = pytest.mark.bench


def passes(function: Callable[[], object], one_pass: Callable[[], object], repeats: int) -> float:
    """Return the median time of a function over that of a pass, measured in turns."""
    times: dict[Callable, list[float]] = {function: [], one_pass: []}
    for each in times:
        each()
    for _ in range(repeats):
        for each, seconds in times.items():
            start = time.process_time()
            each()
            seconds.append(time.process_time() - start)
    return statistics.median(times[function]) / statistics.median(times[one_pass])


def report(capsys, what: str, value: float, bound: float) -> None:
    with capsys.disabled():
        print(f"\n{what:76} {value:6.2f}  (at most {bound:.3g})", end="")
    assert value <= bound


def images(n: int) -> lt.Dataset:
    x = torch.randint(256, (n, 3, 32, 32), dtype=torch.uint8)
    y = torch.arange(n) % 10
    return lt.make_dataset("noise", (x, y), None, (x[:10], y[:10]))


def one_pass_over(model, x, y) -> Callable[[], object]:
    weights = list(model.parameters())
    return lambda: torch.autograd.grad(F.cross_entropy(model(x), y), weights)


@pytest.mark.parametrize(("criterion", "bound"), [(lt.snip_scores, 1.5), (lt.grasp_scores, 4)])
def test_passes_of_a_criterion(capsys, criterion, bound):
    """ResNet-20, a batch of 128 images."""
    data = images(128)
    model = lt.build_model("resnet_20", seed=0)
    mask = lt.dense_mask(model)
    x, y = data.normalize(data.x_train), data.y_train
    value = passes(lambda: criterion(model, data, mask), one_pass_over(model, x, y), repeats=3)
    report(capsys, f"passes per batch of {criterion.__name__}, ResNet-20", value, bound)


def test_rounds_of_synflow(capsys):
    """ResNet-18, five of the hundred rounds, with their prunings, on one input."""
    data, rounds = images(10), 5
    model = lt.build_model("resnet_18", seed=0).eval()
    x, y = data.normalize(data.x_train[:1]), data.y_train[:1]
    value = passes(
        lambda: lt.prune_to_density(lt.synflow_scores, model, data, 0.8, rounds=rounds),
        one_pass_over(model, x, y),
        repeats=3,
    )
    report(capsys, "passes per round of SynFlow, ResNet-18, one input", value / rounds, 3.5)
