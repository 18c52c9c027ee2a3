"""What Ray costs: the same tasks on one machine, with it and without, side by side."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

import lth_tutorial as lt
from lth_tutorial.experiments import EXPERIMENTS, Experiment
from lth_tutorial.experiments.__main__ import main
from lth_tutorial.experiments.design import LotteryPart

pytestmark = pytest.mark.bench
TASK_S = 30


@pytest.mark.filterwarnings("ignore")
def test_ray_adds_at_most_a_twentieth_to_tasks_of_half_a_minute(tmp_path, monkeypatch, capsys):
    """Four tasks, one after the other, on one core: both sides train the same number of steps."""
    train = lt.TrainConfig(steps=1_000, batch_size=50, optimizer="adam", lr=2e-3)
    part = LotteryPart("mlp_100_50", train, lt.IMPConfig(rounds=1), ("ticket",))
    data = lt.load_dataset("digits")
    started = time.perf_counter()
    part.measure(data, [0], None)
    steps = round(TASK_S / (time.perf_counter() - started) * train.steps)
    part = replace(part, train=replace(train, steps=steps))
    small = Experiment("timed", 4, "?", "digits", (0, 1, 2, 3), (part,), together=(1, 1, 1, 1))
    monkeypatch.setattr("lth_tutorial.experiments.EXPERIMENTS", (*EXPERIMENTS, small))

    def seconds(name: str, *options: str) -> float:
        out = ["--out", str(tmp_path / name), "--workdir", str(tmp_path / f"{name}-work")]
        began = time.perf_counter()
        assert main(["run", "timed", *out, *options]) == 0
        return time.perf_counter() - began

    import ray

    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False,
             logging_level="error")  # fmt: skip
    try:
        with_ray = seconds("ray", "--ray", "auto")
    finally:
        ray.shutdown()
    without = seconds("none")
    with capsys.disabled():
        print(f"\nRay: {with_ray:.1f} s, without {without:.1f} s: {with_ray / without:.3f} times")
    assert with_ray / without <= 1.05
