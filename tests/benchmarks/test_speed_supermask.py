"""Ratios of the supermask search: choosing the mask, and a whole step.

Both sides run in one process, in turn, on one thread; medians of CPU time.
"""

from __future__ import annotations

import time
from statistics import median

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

import lth_tutorial as lt
from lth_tutorial.supermask.frozen import maskable_weights
from lth_tutorial.supermask.group import MaskedGroup
from lth_tutorial.supermask.weights import choose_masks

pytestmark = pytest.mark.bench
BATCH = 128


def seconds(*functions, repeats: int) -> list[float]:
    """Return the median CPU time of each function, called in turn."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats + 1):
        for function, own in zip(functions, times, strict=True):
            start = time.process_time()
            function()
            own.append(time.process_time() - start)
    return [median(own[1:]) for own in times]  # the first call warms up


def network(name: str) -> torch.nn.Module:
    model = lt.build_model(name, seed=0)
    lt.signed_constant_(model, seed=0)
    return model


def step_of(group, optimizer):
    """Return a function that makes one training step on random images."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, BATCH, 3, 32, 32, generator=generator)
    y = torch.randint(10, (BATCH,), generator=generator)

    def step() -> None:
        loss = F.cross_entropy(group.logits(x)[0], y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


class FixedMask:
    """The same network under the search's first mask, which never changes; weights are trained.

    Another mask would not do: how long pooling takes depends on the values. (A mask by magnitude
    of signed constants, which are all tied, keeps the first half of the filters.)
    """

    def __init__(self, model: torch.nn.Module, search: MaskedGroup) -> None:
        self.model = model
        weights = maskable_weights(model)
        self.masks = {name: mask[0].float() for name, mask in search.masks().items()}
        self.parameters = dict(weights)
        self.others = {n: t for n, t in model.state_dict().items() if n not in weights}

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        weights = {name: w * self.masks[name] for name, w in self.parameters.items()}
        return functional_call(self.model, self.others | weights, (x[0],))[None]


@pytest.mark.parametrize("name", ["conv_4", "conv_6"])
def test_choosing_masks_beats_sorting(name, capsys):
    model = network(name)
    generator = torch.Generator().manual_seed(1)
    scores = {
        n: torch.randn(1, *w.shape, generator=generator) for n, w in maskable_weights(model).items()
    }
    # A third of the scores are tied: a mask by threshold alone would miss the count.
    scores = {n: torch.where(s > 0.43, s.round(decimals=1), s) for n, s in scores.items()}

    def by_sorting() -> dict[str, torch.Tensor]:
        masks = {}
        for name, score in scores.items():
            flat = score.abs().flatten()
            order = torch.sort(flat, descending=True, stable=True).indices
            mask = torch.zeros(flat.numel(), dtype=torch.bool)
            mask[order[: round(0.5 * flat.numel())]] = True
            masks[name] = mask.view_as(score)
        return masks

    def only_sorting() -> None:
        for score in scores.values():
            torch.sort(score.abs().flatten())

    ours, reference = choose_masks(scores, 0.5, "layer"), by_sorting()
    assert all(torch.equal(ours[n], reference[n]) for n in reference)

    def selecting() -> None:
        choose_masks(scores, 0.5, "layer")

    group = MaskedGroup([model], lt.SupermaskConfig(), 100, [0])
    optimizer = torch.optim.SGD(group.parameters.values(), lr=0.1, momentum=0.9)
    fast, sort, step = seconds(selecting, only_sorting, step_of(group, optimizer), repeats=7)
    with capsys.disabled():
        print(
            f"\n{name}: choosing {1e3 * fast:.1f} ms, sorting {1e3 * sort:.1f} ms, "
            f"{sort / fast:.0f} times; {fast / step:.1%} of a step of {step:.2f} s"
        )
    assert sort / fast >= 20
    assert fast / step <= 0.02


@pytest.mark.parametrize("method", ["edge_popup", "biprop"])
def test_a_step_costs_little_more_than_with_a_fixed_mask(method, capsys):
    model = network("conv_4")
    search = MaskedGroup([model], lt.SupermaskConfig(method), 100, [0])
    groups = search, FixedMask(model, search)
    steps = [
        step_of(group, torch.optim.SGD(group.parameters.values(), lr=0.1, momentum=0.9))
        for group in groups
    ]
    ours, fixed = seconds(*steps, repeats=15)
    with capsys.disabled():
        print(
            f"\n{method}: {ours:.3f} s a step, fixed mask {fixed:.3f} s, ratio {ours / fixed:.3f}"
        )
    assert ours / fixed <= 1.05
