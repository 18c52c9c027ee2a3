"""Throughput on a GPU as a ratio, both sides in one run; skipped where there is none."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from floors import floor_of_a_step, wait_for
from torch.utils.data import DataLoader, TensorDataset

import lth_tutorial as lt
from lth_tutorial.experiments import experiment

pytestmark = [
    pytest.mark.bench,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def images_of_cifars_shape(n: int) -> lt.Dataset:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8, generator=generator)
    y = torch.arange(n) % 10
    return lt.make_dataset("noise", (x, y), None, (x[:100], y[:100]))


def with_a_loader(data: lt.Dataset, steps: int, device: str) -> None:
    """Train ResNet-20 as most code does: a DataLoader, fp32, images normalized one by one."""
    model = lt.build_model("resnet_20", seed=0).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    images = data.normalize(data.x_train)
    loader = DataLoader(TensorDataset(images, data.y_train), 128, shuffle=True, num_workers=2)
    done = 0
    while done < steps:
        for x, y in loader:
            x, y = x.to(device), y.to(device)
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            done += 1
            if done == steps:
                break
    wait_for(torch.device(device))


def with_ours(data: lt.Dataset, steps: int, device: str) -> None:
    config = lt.TrainConfig(
        steps=steps, batch_size=128, lr=0.1, weight_decay=1e-4, precision="bf16"
    )
    model = lt.build_model("resnet_20", seed=0).to(device)
    lt.train(model, data.to(device), config)
    wait_for(torch.device(device))


def images_per_second(train, data: lt.Dataset, steps: int, device: str) -> float:
    train(data, min(steps, 20), device)
    start = time.perf_counter()
    train(data, steps, device)
    return steps * 128 / (time.perf_counter() - start)


def test_resnet20_against_a_plain_loop_with_a_loader(capsys):
    data = images_of_cifars_shape(20_000)
    ours, theirs = (images_per_second(f, data, 300, "cuda") for f in (with_ours, with_a_loader))
    with capsys.disabled():
        print(
            f"\nResNet-20, images/s: {ours:,.0f} over {theirs:,.0f} with a DataLoader: "
            f"{ours / theirs:.2f}  (at least 3)",
            end="",
        )
    assert ours >= 3 * theirs


@dataclass(frozen=True)
class Goal:
    """What a whole experiment of a paper may take, from a slice of it.

    Attributes:
        train: trains so many steps, all replicates at once.
        steps: of the whole, each with all replicates that train at once.
        minutes: that it may take on a GPU of the H100's class.
    """

    model: str
    replicates: int
    config: lt.TrainConfig
    shape: tuple[int, ...]
    train: Callable
    steps: int
    minutes: float
    slice: int = 1_500


def noise(shape: tuple[int, ...]) -> lt.Dataset:
    """Return as many random images as the papers train on, on the GPU."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (55_200, *shape), dtype=torch.uint8, generator=generator)
    y = torch.arange(55_200) % 10
    train, val = (x[:45_000], y[:45_000]), (x[45_000:45_200], y[45_000:45_200])
    return lt.make_dataset("noise", train, val, (x[45_200:], y[45_200:])).to("cuda")


def replicates(goal: Goal, data: lt.Dataset, steps: int) -> None:
    seeds = range(goal.replicates)
    models = [lt.build_model(goal.model, seed=s).cuda() for s in seeds]
    dense = lt.dense_mask(models[0])
    masks = [lt.prune(lt.random_scores(dense, s), dense, 0.5, scope="layer") for s in seeds]
    masks = [{name: kept.cuda() for name, kept in mask.items()} for mask in masks]
    lt.train_replicates(
        models, data, goal.config, data_seeds=list(seeds), masks=masks, stop_step=steps
    )


def supermask(goal: Goal, data: lt.Dataset, steps: int) -> None:
    model = lt.build_model(goal.model, seed=0).cuda()
    lt.kaiming_normal_(model, 0)
    search = lt.biprop if goal.config.precision == "bf16" else lt.edge_popup
    search(model, data, 0.5, replace(goal.config, steps=steps))


def _config(name: str, part: int = 0, field: str = "train") -> lt.TrainConfig:
    return getattr(experiment(name).parts[part], field)


# Steps: LeNet, 20 rounds after the dense one, all arms and seeds at once. Instability: for every
# seed the way to the last branch step, and from each of six branch steps two copies to the end.
GOALS = {
    "the lottery of LeNet-300-100: 5 seeds × 4 arms × 21 rounds": Goal(
        "lenet_300_100", 20, _config("mnist-lenet-imp"), (1, 28, 28), replicates, 21 * 50_000, 10,
        slice=4_000,
    ),
    "instability of ResNet-20: 3 seeds × 6 branch steps × 2 copies": Goal(
        "resnet_20", 1, _config("cifar10-resnet20-instability"), (3, 32, 32), replicates,
        3 * (5_000 + sum(2 * (63_000 - k) for k in (0, 100, 500, 1_000, 2_000, 5_000))), 25,
    ),
    "one edge-popup run of Conv-6, 100 epochs": Goal(
        "conv_6", 1, _config("cifar10-edge-popup", 2, "search"), (3, 32, 32), supermask, 35_100, 3,
    ),
    "biprop of ResNet-18, 100 epochs": Goal(
        "resnet_18", 1, _config("cifar10-multi-prize", 8, "search"), (3, 32, 32), supermask,
        17_500, 9, slice=400,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOALS)
def test_a_papers_experiment_in_minutes(capsys, name):
    """Extrapolated from the difference of a long and a short slice: warming up falls out."""
    goal, device = GOALS[name], torch.device("cuda")
    data = noise(goal.shape)
    times = []
    for steps in (goal.slice // 4, goal.slice):
        goal.train(goal, data, steps)
        wait_for(device)
        start = time.perf_counter()
        goal.train(goal, data, steps)
        wait_for(device)
        times.append(time.perf_counter() - start)
    step = (times[1] - times[0]) / (goal.slice - goal.slice // 4)
    model = lt.build_model(goal.model, seed=0).cuda()
    trained = sum(p.numel() for p in model.parameters())
    x = data.normalize(data.x_train[: goal.config.batch_size])
    floor = floor_of_a_step(model, x, goal.replicates, goal.config, trained)
    minutes = step * goal.steps / 60
    with capsys.disabled():
        print(
            f"\n{name}, {torch.cuda.get_device_name(0)}: {minutes:.1f} minutes (at most "
            f"{goal.minutes:g}); a step {1e6 * step:,.0f} µs, {step / floor.seconds:.1f} times its "
            f"floor ({1e6 * floor.arithmetic_s:,.0f} µs of arithmetic, "
            f"{1e6 * floor.memory_s:,.0f} µs of memory)",
            end="",
        )
    if any(kind in torch.cuda.get_device_name(0) for kind in ("H100", "H200")):
        assert minutes <= goal.minutes
