"""Estimate the GPU-minutes of the experiments: `python tests/tools/estimate_cost.py [NAME …]`.

Runs every experiment that has no record (or those named) without training: the training loop is
replaced by one that counts steps and operations, and one seed stands for all. Pruning, masks and
removal are done for real, on a few random images. Operations are those of matrix products and
convolutions, three forward passes per step. Evaluation is not counted.
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from dataclasses import replace

import torch

import lth_tutorial as lt
import lth_tutorial.supermask.search
import lth_tutorial.training.loop
import lth_tutorial.training.replicates
from lth_tutorial.experiments import EXPERIMENTS, Experiment, experiment, run
from lth_tutorial.structured.cost import flops
from lth_tutorial.training.outcome import SNAPSHOT
from lth_tutorial.training.progress import Run
from lth_tutorial.training.steps import apply_masks, masked_parameters

SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar10": (3, 32, 32)}


class Counting:
    """Stands in for `training.fit`: counts, and leaves every weight as it was.

    Attributes:
        steps: optimiser steps by network.
        operations: of all steps.
        kernels: launches of all steps: about six per module, forward and backward. Too many where
            a GPU trains seeds and arms as one stack.
    """

    def __init__(self) -> None:
        self.steps: Counter = Counter()
        self.operations = self.kernels = 0.0

    def __call__(
        self, group, data, config, *, masks, start_step, data_seeds, stop_step=None, save_at=(),
        on_step=None, workdir=None,
    ) -> list[lt.TrainResult]:  # fmt: skip
        """Return results as `fit` would, of networks that stay where they started."""
        stop_step = config.steps if stop_step is None else stop_step
        apply_masks(masked_parameters(group, masks))
        kept = Run(group, data, config, start_step)
        for step in save_at:
            kept.keep(f"{SNAPSHOT}{step}")
        for step in (start_step, stop_step) if config.eval_every else ():
            kept.record(step)
        steps, model = stop_step - start_step, group.models[0]
        one = flops(model, data.normalize(data.x_train[:1]))
        self.steps[f"{type(model).__name__} of {one / 1e6:.1f} MFLOP"] += steps
        self.operations += 3.0 * one * config.batch_size * group.size * steps
        leaves = sum(not list(module.children()) for module in model.modules())
        self.kernels += 6.0 * leaves * steps
        group.restore_modes()
        group.write_back()
        return kept.results(stop_step)

    def repeat(self, times: int) -> None:
        """Count everything so many times."""
        self.steps = Counter({network: times * n for network, n in self.steps.items()})
        self.operations *= times
        self.kernels *= times


def count(design: Experiment) -> Counting:
    """Return what an experiment would compute."""
    generator = torch.Generator().manual_seed(0)
    shape = SHAPES[design.dataset]
    x = torch.randint(0, 256, (300, *shape), dtype=torch.uint8, generator=generator)
    y = torch.arange(300) % 10
    data = lt.make_dataset(design.dataset, (x, y), (x[:20], y[:20]), (x[:20], y[:20]))
    counting = Counting()
    modules = (
        lth_tutorial.training.replicates,
        lth_tutorial.supermask.search,
        lth_tutorial.training.loop,
    )
    before = [module.fit for module in modules]
    try:
        for module in modules:
            module.fit = counting
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run(replace(design, seeds=design.seeds[:1], together=()), data)
    finally:
        for module, fit in zip(modules, before, strict=True):
            module.fit = fit
    counting.repeat(len(design.seeds))
    return counting


def main() -> None:
    """Print a line per experiment."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="default: all without a record")
    parser.add_argument("--tflops", type=float, default=10.0, help="what convolutions reach")
    parser.add_argument("--launch-us", type=float, default=2.5, help="per kernel, in a graph")
    options = parser.parse_args()
    torch.set_num_threads(1)
    # The networks of the spiral are for the cores of a CPU.
    missing = [
        design.name
        for design in EXPERIMENTS
        if design.name not in lt.recorded() and design.dataset in SHAPES
    ]
    for name in options.names or missing:
        counted = count(experiment(name))
        arithmetic = counted.operations / (1e12 * options.tflops) / 60
        launches = counted.kernels * 1e-6 * options.launch_us / 60
        print(
            f"{name}: {sum(counted.steps.values()):,} steps, {counted.operations / 1e15:,.1f} "
            f"PFLOP; about {max(arithmetic, launches):.0f} GPU-minutes ({arithmetic:.0f} of "
            f"arithmetic at {options.tflops:g} TFLOP/s, {launches:.0f} of launches at most)"
        )
        for network, steps in counted.steps.most_common():
            print(f"    {network}: {steps:,} steps")


if __name__ == "__main__":
    main()
