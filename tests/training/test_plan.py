"""The plan on the device, against the batches that the data order gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import lth_tutorial as lt
from lth_tutorial.data.dataset import DataOrder, augment, batch_indices, pick
from lth_tutorial.training.plan import Plan

CONFIG = lt.TrainConfig(
    steps=60, batch_size=20, lr=0.1, schedule="cosine", warmup_steps=5, augment=True
)


@pytest.fixture(scope="module")
def images() -> lt.Dataset:
    """210 images of 3 × 6 × 5 pixels: ten batches of 20 an epoch, and a rest."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (210, 3, 6, 5), dtype=torch.uint8, generator=generator)
    y = torch.arange(210) % 7
    return lt.make_dataset("noise", (x, y), None, (x[:10], y[:10]))


def batches(plan: Plan, steps) -> list[tuple]:
    found = []
    for step in steps:
        plan.prepare(step)
        x, y, lr, number = plan.read()
        assert int(number) == step
        found.append((x, y, lr))
        plan.advance()
    return found


@pytest.mark.parametrize("augmented", [True, False], ids=["augmented", "plain"])
@pytest.mark.parametrize(("start", "stop"), [(0, 60), (7, 31), (10, 20), (19, 60), (59, 60)])
def test_batches_are_those_of_batch_indices_and_augment(images, augmented, start, stop):
    """Bit for bit, for several seeds and epochs, wherever a run starts."""
    config, seeds = replace(CONFIG, augment=augmented), [0, 5, 123]
    plan = Plan(images, config, seeds, start, stop)
    for step, (x, y, lr) in zip(range(start, stop), batches(plan, range(start, stop)), strict=True):
        assert x.is_contiguous()
        for i, seed in enumerate(seeds):
            rows = batch_indices(210, 20, step, seed)
            expected = images.normalize(images.x_train[rows])
            expected = augment(expected, step, seed) if augmented else expected
            assert torch.equal(x[i], expected) and torch.equal(y[i], images.y_train[rows])
        assert float(lr) == pytest.approx(lt.learning_rate(config, step), rel=1e-6)


def test_a_run_that_goes_on_sees_the_batches_of_the_whole_run(images):
    """From a later step, and after a jump."""
    whole = batches(Plan(images, CONFIG, [3], 0, 60), range(60))
    for part, steps in (
        (Plan(images, CONFIG, [3], 23, 60), range(23, 60)),
        (Plan(images, CONFIG, [3], 0, 60), [0, 1, 7, 3, 44, 45, 2]),
    ):
        for step, found in zip(steps, batches(part, steps), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(found, whole[step], strict=True))


def test_images_of_floats_and_channels_side_by_side(images):
    """In memory as they are made; the values are the same."""
    floats = replace(images, x_train=images.x_train.float())
    for data in (images, floats):
        plan = Plan(data, CONFIG, [2, 4], 0, 3, channels_last=True)
        order = DataOrder(data, 20, [2, 4], augmented=True)
        for step, (x, _, _) in enumerate(batches(plan, range(3))):
            assert x[0].is_contiguous(memory_format=torch.channels_last)
            assert torch.equal(x, order.batch(step)[0])


def test_vectors_have_a_plan_too(tiny_data):
    config = lt.TrainConfig(steps=13, batch_size=30)
    order = DataOrder(tiny_data, 30, [1], augmented=False)
    for step, (x, y, _) in enumerate(batches(Plan(tiny_data, config, [1], 0, 13), range(13))):
        assert torch.equal(x, order.batch(step)[0]) and torch.equal(y, order.batch(step)[1])
    assert torch.equal(pick(tiny_data.x_train, torch.tensor([[3, 1]]))[0, 1], tiny_data.x_train[1])
