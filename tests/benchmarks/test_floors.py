"""The floors beside the GPU's times, computed where there is no GPU."""

from __future__ import annotations

import pytest
import torch
from floors import bandwidth, floor_of_a_step, peak_operations

import lth_tutorial as lt

CPU = torch.device("cpu")


def test_a_floor_counts_the_operations_and_bytes_of_lenet():
    model, x = lt.build_model("lenet_300_100", seed=0), torch.zeros(60, 1, 28, 28)
    config = lt.TrainConfig(steps=1, batch_size=60, optimizer="adam")
    floor = floor_of_a_step(model, x, 20, config, 266_610)
    assert floor.operations == 3 * 2 * 266_200 * 60 * 20
    # flattened inputs, two hidden layers and the logits; 11 numbers per weight
    assert floor.bytes == 20 * (4 * 11 * 266_610 + 4 * 4 * 60 * (784 + 300 + 100 + 10))
    assert floor.seconds == max(floor.arithmetic_s, floor.memory_s) > 0


def test_a_single_moment_and_half_the_width_need_fewer_bytes():
    model, x = lt.build_model("vgg_tiny", seed=0), torch.zeros(8, 3, 32, 32)
    trained = sum(p.numel() for p in model.parameters())
    sgd = lt.TrainConfig(steps=1, batch_size=8)
    full, half = (
        floor_of_a_step(model, x, 1, lt.TrainConfig(steps=1, batch_size=8, precision=p), trained)
        for p in ("fp32", "bf16")
    )
    weights = 4 * 9 * trained
    assert full.bytes - weights == 2 * (half.bytes - weights)
    assert sgd.optimizer == "sgd" and full.operations == half.operations


@pytest.mark.parametrize("measure", [lambda: peak_operations(CPU, torch.float32),
                                     lambda: bandwidth(CPU)])  # fmt: skip
def test_the_device_is_measured_in_the_right_order_of_magnitude(measure):
    assert 1e8 < measure() < 1e14
