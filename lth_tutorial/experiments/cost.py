"""What experiments cost: steps, operations, and about how many minutes on which device.

Steps are those that an experiment announces to its progress bar. Operations are those of matrix
products and convolutions of the dense network, three forward passes to a step; masked networks
cost as much, smaller ones less, evaluation is not counted. Minutes are an estimate: the operations
at a rate that convolutions reach, and a time for each layer, which is all that small ones need.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.experiments.design import Experiment, Part, groups_of_seeds
from lth_tutorial.experiments.running import jobs_of, steps_of
from lth_tutorial.networks.build import build_model
from lth_tutorial.structured.cost import flops
from lth_tutorial.theory.construction import relu_network
from lth_tutorial.training.config import TrainConfig

_SHAPES = {
    "digits": ((1, 8, 8), 1_000), "mnist": ((1, 28, 28), 55_000), "cifar10": ((3, 32, 32), 45_000)
}  # fmt: skip
"""Of known data sets: shape of an image, and training images."""


@dataclass(frozen=True)
class Device:
    """What a device does.

    Attributes:
        tflops: 10¹² operations a second that convolutions reach, by precision.
        layer_us: microseconds that each layer takes in a step of one replicate, forward, backward
            and optimiser, where operations do not matter.
    """

    tflops: dict[str, float]
    layer_us: float


DEVICES = {
    "H200": Device({"bf16": 180, "fp32": 30}, 14),
    "A100": Device({"bf16": 90, "fp32": 15}, 25),
    "T4": Device({"bf16": 5, "fp32": 5}, 60),
    "CPU core": Device({"bf16": 0.02, "fp32": 0.04}, 15),
}
"""Of the H200, measured with 8 or more replicates of ResNet-20, Conv-6 and ResNet-18 side by side;
of the others, in proportion to what their makers say, not measured. A T4 has no bfloat16."""


@dataclass(frozen=True)
class Cost:
    """What a part of an experiment, or all of it, takes.

    Attributes:
        steps: of training, over all replicates.
        operations: of all steps.
        minutes: estimate by device.
    """

    steps: int
    operations: float
    minutes: dict[str, float]

    def __add__(self, other: Cost) -> Cost:
        minutes = {name: time + other.minutes[name] for name, time in self.minutes.items()}
        return Cost(self.steps + other.steps, self.operations + other.operations, minutes)


_known: dict[str, Cost | None] = {}


def cost_of(design: Experiment) -> Cost | None:
    """Return what all parts and seeds of an experiment take; None where no estimate is made."""
    key = repr(design)
    if key not in _known:
        _known[key] = _cost_of(design)
    return _known[key]


def _cost_of(design: Experiment) -> Cost | None:
    first, *rest = part_costs(design)
    for each in rest:
        first = None if first is None or each is None else first + each
    return first


@lru_cache(maxsize=8)
def _blank(dataset: str) -> Dataset:
    """Return a data set of the size of a known one, all of whose images are one blank image."""
    shape, n = _SHAPES[dataset]
    blank, labels = torch.zeros(1, *shape, dtype=torch.uint8), torch.arange(n) % 10
    x = [blank.expand(size, *shape) for size in (n, 20, 20)]  # of no size in memory
    y = [labels[: len(each)] for each in x]
    channels = torch.ones(shape[0])
    return Dataset(dataset, x[0], y[0], x[1], y[1], x[2], y[2], 10, 0 * channels, channels)


def part_costs(design: Experiment) -> list[Cost | None]:
    """Return what each part of an experiment takes, over all seeds.

    None for a part that does not announce its steps, or whose network has no name.
    """
    costs: list[Cost | None] = [None] * len(design.parts)
    if design.dataset not in _SHAPES:
        return costs
    data = _blank(design.dataset)
    for i, part in enumerate(design.parts):
        known = any(hasattr(part, name) for name in ("hidden", "network"))
        known = known or _is_name(getattr(part, "model", None))
        # All groups of seeds take as long, so the first stands for them.
        job = jobs_of(design, 1.0)[i * len(groups_of_seeds(design))]
        steps = steps_of(job, data) if known else 0
        if steps:
            costs[i] = _cost(part, data, steps * len(design.seeds) // len(job.seeds))
    return costs


@lru_cache(maxsize=64)  # the same few networks over and over, and large ones take a second
def _is_name(model: object) -> bool:
    """Return whether `build_model` knows a network."""
    try:
        return isinstance(model, str) and build_model(model, seed=0) is not None
    except ValueError:
        return False


def _cost(part: Part, data: Dataset, steps: int) -> Cost:
    config = next(v for v in vars(part).values() if isinstance(v, TrainConfig))
    one, layers = _network(part, data)
    operations = 3.0 * one * config.batch_size * steps
    minutes = {
        name: (operations / (1e12 * device.tflops.get(config.precision, device.tflops["fp32"]))
               + steps * layers * 1e-6 * device.layer_us) / 60
        for name, device in DEVICES.items()
    }  # fmt: skip
    return Cost(steps, operations, minutes)


def _network(part: Part, data: Dataset) -> tuple[int, int]:
    """Return the operations of one example, and the number of layers."""
    if hasattr(part, "network"):
        return _size(part.network(data, 0), data)
    if hasattr(part, "model"):
        return _named(part.model, data.name)
    sizes = (torch.Size(data.shape).numel(), *part.hidden, data.num_classes)
    return _size(relu_network(sizes, seed=0), data)


@lru_cache(maxsize=64)
def _named(name: str, dataset: str) -> tuple[int, int]:
    data = _blank(dataset)
    return _size(build_model(name, seed=0, data=data), data)


def _size(model: nn.Module, data: Dataset) -> tuple[int, int]:
    layers = sum(not list(module.children()) for module in model.modules())
    return flops(model, data.normalize(data.x_train[:1])), layers


def in_minutes(minutes: float) -> str:
    """Return an estimate in words, no more exact than it is."""
    if minutes < 1:
        return f"{max(1, 60 * minutes):.0f} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
