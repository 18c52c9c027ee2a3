"""Speed as ratios, both sides in one run, medians of alternating repeats, one thread.

Run with `make bench`; the table is printed. Bounds are asserted, so that a slow-down fails.
"""

from __future__ import annotations

import itertools
import statistics
import struct
import subprocess
import sys
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
        print(f"\n{what:76} {value:6.2f}  (at least {bound:.3g})", end="")
    assert value >= bound


def noise(n: int, n_test: int) -> lt.Dataset:
    """Return random images of MNIST's shape."""
    x = torch.randint(0, 256, (n, 1, 28, 28), dtype=torch.uint8)
    y = torch.arange(n) % 10
    return lt.make_dataset("noise", (x, y), None, (x[:n_test], y[:n_test]))


def test_masked_training_against_a_raw_loop(capsys):
    """LeNet-300-100, batch 60, SGD with momentum: the same computation without our loop."""
    data = noise(6_000, 100)
    x, y = data.x_train, data.y_train
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
    # No two of one size: which of equal weights torch keeps is left open. Below 2²⁴, so exact.
    sizes = torch.randperm(sum(p.numel() for p in model.parameters())).float() + 1
    torch.nn.utils.vector_to_parameters(sizes / 2**24, model.parameters())
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
    report(capsys, "prune 11.2 M weights, over torch.nn.utils.prune", value, 25)


def test_a_level_of_pruning_against_a_raw_loop(capsys):
    """LeNet-300-100: twice 1,000 steps and a test of 10,000 images, one pruning and rewind."""
    data = noise(55_000, 10_000)
    config = lt.TrainConfig(steps=1_000, batch_size=60, lr=0.01)
    raw_x, raw_test = data.normalize(data.x_train), data.normalize(data.x_test)

    def ours() -> None:
        model = lt.build_model("lenet_300_100", seed=0)
        lt.iterative_magnitude_pruning(model, data, config, lt.IMPConfig(rounds=1))

    def raw() -> None:
        model = lt.build_model("lenet_300_100", seed=0)
        weights = [p for p in model.parameters() if p.ndim == 2]
        start = [p.detach().clone() for p in model.parameters()]
        masks = [torch.ones_like(weight) for weight in weights]
        for level in range(2):
            optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
            for step in range(config.steps):
                if step % 916 == 0:
                    order = torch.randperm(55_000)
                rows = order[step % 916 * 60 : (step % 916 + 1) * 60]
                optimizer.zero_grad()
                F.cross_entropy(model(raw_x[rows]), data.y_train[rows]).backward()
                optimizer.step()
                with torch.no_grad():
                    for weight, kept in zip(weights, masks, strict=True):
                        weight.mul_(kept)
            with torch.no_grad():
                (model(raw_test).argmax(dim=1) == data.y_test).float().mean().item()
                if level == 0:
                    values = torch.cat([weight.abs().flatten() for weight in weights])
                    threshold = values.sort().values[len(values) // 5]
                    masks = [(weight.abs() > threshold).float() for weight in weights]
                    for parameter, first in zip(model.parameters(), start, strict=True):
                        parameter.copy_(first)

    report(
        capsys, "a level of pruning LeNet-300-100, over a raw loop", ratio(ours, raw, 3), 1 / 1.15
    )


def test_two_processes_against_one(capsys):
    """LeNet-300-100, two seeds of two rounds, on two idle cores."""
    data = noise(6_000, 100)
    config = lt.TrainConfig(steps=2_000, batch_size=60, lr=0.01)
    imp = lt.IMPConfig(rounds=1)

    def go(workers: int) -> None:
        lt.lottery_experiment(
            "lenet_300_100", data, config, imp, arms=["ticket"], seeds=[0, 1], workers=workers
        )

    report(
        capsys, "two processes over one, LeNet-300-100", ratio(lambda: go(2), lambda: go(1), 3), 1.8
    )


def test_a_barrier_against_evaluating_its_networks(capsys):
    """21 points of a 64-64-64-64-64-64-10 network on the digits' test images."""
    data = lt.load_dataset("digits")
    model = lt.build_model("mlp_64_64_64_64_64", seed=0, data=data)
    a, b = (lt.snapshot(lt.build_model("mlp_64_64_64_64_64", seed=s, data=data)) for s in (0, 1))
    networks = [lt.build_model("mlp_64_64_64_64_64", seed=s, data=data) for s in range(21)]
    value = ratio(
        lambda: lt.barrier(model, a, b, data, points=21),
        lambda: [lt.evaluate(network, data) for network in networks],
        repeats=15,
    )
    report(capsys, "a barrier of 21 points, over evaluating 21 networks", value, 1 / 1.3)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_instability_against_a_loop_over_seeds(capsys, batch_norm):
    """The two deep networks of the chapter on the digits, eight seeds, two branch steps."""
    data = lt.load_dataset("digits")
    config = lt.TrainConfig(steps=200, batch_size=10 if batch_norm else 20, lr=0.05)

    def build(seed: int) -> torch.nn.Module:
        widths = [64] * 6
        layers = [torch.nn.Flatten()]
        for n, m in itertools.pairwise(widths):
            norm = [torch.nn.BatchNorm1d(m)] if batch_norm else []
            layers += [torch.nn.Linear(n, m), *norm, torch.nn.ReLU()]
        model = torch.nn.Sequential(*layers, torch.nn.Linear(64, 10))
        lt.reinitialize(model, seed)
        return model

    def go(seeds) -> None:
        lt.instability(build, data, config, branch_steps=[0, 100], seeds=seeds)

    def loop() -> None:
        for seed in range(8):
            go([seed])

    value = ratio(lambda: go(range(8)), loop, repeats=3)
    norm = "with" if batch_norm else "without"
    report(capsys, f"instability of eight seeds over a loop, {norm} batch norm", value, 1.8)


def measured(program: str, *arguments: str) -> float:
    """Return the number that a program prints, run in a process of its own."""
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def report_at_most(capsys, what: str, value: float, bound: float) -> None:
    with capsys.disabled():
        print(f"\n{what:76} {value:6.2f}  (at most {bound})", end="")
    assert value <= bound


IMPORT = """
import time, torch
start = time.perf_counter()
import lth_tutorial
print(time.perf_counter() - start)
"""


def test_the_time_to_import(capsys):
    seconds = statistics.median(measured(IMPORT) for _ in range(5))
    report_at_most(capsys, "seconds that import lth_tutorial adds to import torch", seconds, 0.5)


RESIDENT = """
import os, sys
import torchvision.datasets
import lth_tutorial as lt

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

lt.load_dataset("digits").normalize(lt.load_dataset("digits").x_test)
before = resident()
data = lt.load_dataset("mnist", root=sys.argv[1], download=False)
assert len(data.x_train) + len(data.x_val) + len(data.x_test) == 70_000
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of a process as Linux does")
def test_the_memory_of_mnist(capsys, tmp_path):
    """70,000 images in the original files, loaded."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for prefix, n in (("train", 60_000), ("t10k", 10_000)):
        images = struct.pack(">IIII", 0x803, n, 28, 28) + bytes(range(256)) * (n * 784 // 256)
        images += bytes(16 + n * 784 - len(images))
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(images)
        labels = struct.pack(">II", 0x801, n) + bytes(i % 10 for i in range(n))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(labels)
    report_at_most(capsys, "MB of memory that MNIST takes", measured(RESIDENT, str(tmp_path)), 70)


PRUNING = """
import resource, sys
import torch
import lth_tutorial as lt

lt.limit_threads()
x, y = torch.randint(0, 256, (600, 1, 28, 28), dtype=torch.uint8), torch.arange(600) % 10
data = lt.make_dataset("noise", (x, y), (x[:100], y[:100]), (x[:100], y[:100]))
model = lt.build_model("mlp_1200_1000", seed=0)
assert lt.density(lt.dense_mask(model)) == 1 and sum(p.numel() for p in model.parameters()) > 2e6
config = lt.TrainConfig(steps=10, batch_size=60, optimizer="adam", lr=1e-3, eval_every=5)
imp = lt.IMPConfig(rounds=int(sys.argv[1]))
rounds = lt.iterative_magnitude_pruning(model, data, config, imp, workdir=sys.argv[2])
assert len(rounds) == imp.rounds + 1
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of a process as Linux does")
def test_memory_does_not_grow_with_rounds(capsys, tmp_path):
    """Iterative pruning of 2.1 million weights with Adam and a working directory."""
    two, ten = (measured(PRUNING, str(n), str(tmp_path / str(n))) for n in (2, 10))
    report_at_most(capsys, "peak memory of pruning, round 10 over round 2", ten / two, 1.1)
