"""Throughput on a GPU as a ratio, both sides in one run; skipped where there is none."""

from __future__ import annotations

import time

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

import lth_tutorial as lt

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
    synchronize(device)


def with_ours(data: lt.Dataset, steps: int, device: str) -> None:
    config = lt.TrainConfig(
        steps=steps, batch_size=128, lr=0.1, weight_decay=1e-4, precision="bf16"
    )
    model = lt.build_model("resnet_20", seed=0).to(device)
    lt.train(model, data.to(device), config)
    synchronize(device)


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


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
