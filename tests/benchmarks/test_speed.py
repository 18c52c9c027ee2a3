"""Speed as ratios, both sides in one run, medians of alternating repeats, one thread.

Run with `make bench`; the table is printed. Bounds are asserted, so that a slow-down fails.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils import prune as torch_prune

import lth_tutorial as lt

pytestmark = pytest.mark.bench


def ratio(ours: Callable[[], object], theirs: Callable[[], object], repeats: int = 5) -> float:
    """Return median time of `theirs` over that of `ours`: above 1, ours is faster."""
    times: dict[Callable, list[float]] = {ours: [], theirs: []}
    for function in (ours, theirs):
        function()
    for _ in range(repeats):
        for function, seconds in times.items():
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
    return statistics.median(times[theirs]) / statistics.median(times[ours])


def report(capsys, what: str, value: float, bound: float) -> None:
    with capsys.disabled():
        print(f"\n{what:76} {value:6.2f}  (at least {bound})", end="")
    assert value >= bound


def test_masked_training_against_a_raw_loop(capsys):
    """LeNet-300-100, batch 60, SGD with momentum: the same computation without our loop."""
    x = torch.randint(0, 256, (6_000, 1, 28, 28), dtype=torch.uint8)
    y = torch.arange(6_000) % 10
    data = lt.make_dataset("noise", (x, y), None, (x[:100], y[:100]))
    config = lt.TrainConfig(steps=300, batch_size=60, lr=0.01)
    model = lt.build_model("lenet_300_100", seed=0)
    mask = lt.prune(lt.random_scores(lt.dense_mask(model), 0), lt.dense_mask(model), 0.5)
    raw_x = data.normalize(x)

    def ours() -> None:
        lt.train(model, data, config, mask=mask)

    def raw() -> None:
        weights = [p for n, p in model.named_parameters() if n in mask]
        masks = [kept.float() for kept in mask.values()]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        for step in range(config.steps):
            if step % 100 == 0:
                order = torch.randperm(6_000)
            rows = order[step % 100 * 60 : (step % 100 + 1) * 60]
            optimizer.zero_grad()
            F.cross_entropy(model(raw_x[rows]), y[rows]).backward()
            optimizer.step()
            with torch.no_grad():
                for weight, kept in zip(weights, masks, strict=True):
                    weight.mul_(kept)

    report(
        capsys, "masked training of LeNet-300-100, steps/s over a raw loop", ratio(ours, raw), 0.9
    )


def test_stacked_replicates_against_one_after_the_other(capsys):
    """64-100-50-10 with Adam, eight seeds."""
    data = lt.load_dataset("digits")
    config = lt.TrainConfig(steps=300, batch_size=50, optimizer="adam", lr=5e-3)
    models = [lt.build_model("mlp_100_50", seed=s, data=data) for s in range(8)]
    value = ratio(
        lambda: lt.train_replicates(models, data, config, data_seeds=range(8)),
        lambda: [lt.train(m, data, config, data_seed=s) for s, m in enumerate(models)],
    )
    report(capsys, "eight stacked replicates of 100-50, over one after the other", value, 2.5)


def test_pruning_against_torch(capsys):
    """11.2 million weights, 80 %, global, scores included; the same mask."""
    layers = [torch.nn.Linear(1_000, 2_800, bias=False) for _ in range(4)]
    model = torch.nn.Sequential(*layers)
    results = {}

    def ours() -> None:
        mask = lt.dense_mask(model)
        results["ours"] = lt.prune(lt.magnitude_scores(model.state_dict(), mask), mask, 0.8)

    def theirs() -> None:
        parameters = [(layer, "weight") for layer in layers]
        torch_prune.global_unstructured(parameters, torch_prune.L1Unstructured, amount=0.8)
        results["theirs"] = [layer.weight_mask.bool() for layer in layers]
        for layer in layers:
            weight = layer.weight_orig.detach().clone()
            torch_prune.remove(layer, "weight")
            layer.weight.data = weight

    value = ratio(ours, theirs, repeats=3)
    masks = zip(results["ours"].values(), results["theirs"], strict=True)
    assert all(torch.equal(a, b) for a, b in masks)
    report(capsys, "prune 11.2 M weights, over torch.nn.utils.prune", value, 18)
