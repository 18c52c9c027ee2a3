"""Throughput on a GPU against its goals; skipped where there is none. `make gpu` runs the same."""

from __future__ import annotations

import gpu_check
import pytest
import torch

pytestmark = [
    pytest.mark.bench,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module")
def data():
    return {shape: gpu_check.noise(shape) for shape in (gpu_check.CIFAR, gpu_check.MNIST)}


def is_of_the_goals_class() -> bool:
    return any(kind in torch.cuda.get_device_name(0) for kind in ("H100", "H200"))


@pytest.mark.parametrize("work", gpu_check.WORKS, ids=lambda work: work.name)
def test_a_step_beside_its_floor(capsys, data, work):
    found = gpu_check.timed(work, data[work.shape])
    with capsys.disabled():
        print(f"\n{gpu_check.line(found)}", end="")
    if work.goal is not None and is_of_the_goals_class():
        assert found["step_us"] <= work.goal


def test_against_a_loop_with_a_loader(capsys, data):
    found = gpu_check.against_a_loader(data[gpu_check.CIFAR])
    with capsys.disabled():
        print(f"\n{gpu_check.line(found)}  (at least 20)", end="")
    assert found["ratio"] >= 20


def test_watching_a_run_costs_little(capsys, data):
    for found in gpu_check.cost_of_watching(data):
        with capsys.disabled():
            print(f"\n{gpu_check.line(found)}  (a share of at most 0.03)", end="")
        assert found["share"] <= 0.03
