"""Chapter 3: what half the filters cost, a unit through a residual block."""

from __future__ import annotations

import copy
from fractions import Fraction

import numpy as np
import torch
from torch import nn


def cut(model, kept, *, conv2=True, stem_bias=True, invert=False):
    """Prune the residual stream, with the mistakes that readers make."""
    kept = ~kept if invert else kept
    small = copy.deepcopy(model)
    small.stem.weight = nn.Parameter(model.stem.weight[kept])
    if stem_bias:
        small.stem.bias = nn.Parameter(model.stem.bias[kept])
    small.conv1.weight = nn.Parameter(model.conv1.weight[:, kept])
    if conv2:
        small.conv2.weight = nn.Parameter(model.conv2.weight[kept])
        small.conv2.bias = nn.Parameter(model.conv2.bias[kept])
    small.output.weight = nn.Parameter(model.output.weight[:, kept])
    return small


def silence(model, kept):
    with torch.no_grad():
        model.stem.weight[~kept] = 0
    return model


def keep_the_first(model, kept):
    return cut(model, torch.arange(len(kept)) < kept.sum())


def shrink(model, kept):
    """Replace the layers of a model by smaller ones."""
    n = int(kept.sum())
    new = {"stem": nn.Conv2d(2, n, 3, padding=1), "conv1": nn.Conv2d(n, 4, 3, padding=1)}
    new |= {"conv2": nn.Conv2d(4, n, 3, padding=1), "output": nn.Linear(n, 3)}
    rows = {"stem": 0, "conv1": 1, "conv2": 0, "output": 1}
    for name, layer in new.items():
        old = getattr(model, name)
        weight = old.weight[kept] if rows[name] == 0 else old.weight[:, kept]
        bias = old.bias[kept] if rows[name] == 0 else old.bias
        layer.weight.data, layer.bias.data = weight.detach().clone(), bias.detach().clone()
        setattr(model, name, layer)
    return model


def on_a_copy(model, kept):
    return shrink(copy.deepcopy(model), kept)


def by_index_select(model, kept):
    small, at = copy.deepcopy(model), kept.nonzero().flatten()
    with torch.no_grad():
        for name, parameter in small.named_parameters():
            layer = name.split(".")[0]
            if layer in ("stem", "conv2"):
                parameter.set_(parameter.index_select(0, at))
            elif name.endswith("weight"):
                parameter.set_(parameter.index_select(1, at))
    return small


def rows_everywhere(model, kept):
    small = copy.deepcopy(model)
    for layer in (small.stem, small.conv1, small.conv2):
        layer.weight.data, layer.bias.data = layer.weight[kept].data, layer.bias[kept].data
    return small


def forgets_the_output(model, kept):
    small = cut(model, kept)
    small.output = copy.deepcopy(model.output)
    return small


def prunes_inside_the_block(model, kept):
    small = copy.deepcopy(model)
    small.conv1.weight.data = model.conv1.weight.data[:3]
    small.conv1.bias.data = model.conv1.bias.data[:3]
    small.conv2.weight.data = model.conv2.weight.data[:, :3]
    return small


def shares_what_stays(model, kept):
    small = cut(model, kept)
    small.conv1.bias, small.output.bias = model.conv1.bias, model.output.bias
    return small


def fitted_to_one_mask(model, kept):
    return cut(model, torch.tensor([True, False, True, True, False]))


def opens_kept(model, kept):
    small = cut(model, kept)
    kept.fill_(True)
    return small


class Smaller(nn.Module):
    """The smaller network as a class of its own."""

    def __init__(self, model, kept):
        super().__init__()
        for name, layer in cut(model, kept).named_children():
            setattr(self, name, layer)

    def forward(self, x):
        h = torch.relu(self.stem(x))
        h = torch.relu(h + self.conv2(torch.relu(self.conv1(h))))
        return self.output(h.mean((-1, -2)))


class Unfinished(Smaller):
    def forward(self, x):
        return self.output(self.stem(x))


class Pair(Smaller):
    def forward(self, x):
        return super().forward(x), x


def makes_up_for_it(model, kept):
    small = cut(model, kept)
    small.output.weight.data *= len(kept) / kept.sum()
    return small


WRONG = {
    "prune_residual": [
        (lambda m, k: cut(m, k, conv2=False), "the addition has no partner"),
        (lambda m, k: cut(m, k, stem_bias=False), "takes its bias in the stem along"),
        (lambda m, k: cut(m, k, invert=True), "stem *makes*"),
        (silence, "zeros are not removed"),
        (keep_the_first, "index with the mask"),
        (lambda m, k: cut(m, k.roll(1)), "same channels removed in every layer"),
        (lambda m, k: k, "return the smaller model; got Tensor"),
        (shrink, "changed the model that it was given"),
        (rows_everywhere, "which dimension"),
        (forgets_the_output, "classifier *reads*"),
        (prunes_inside_the_block, "stem *makes*"),
        (lambda m, k: cut(m, k).state_dict(), "return the smaller model"),
        (lambda m, k: nn.Sequential(cut(m, k)), "the same layers"),
        (shares_what_stays, "shares memory"),
        (fitted_to_one_mask, "same channels removed in every layer"),
        (opens_kept, "changed `kept`"),
        (Unfinished, "does not run"),
        (Pair, "gives (3, 3) numbers"),
        (lambda m, k: cut(m, k).double(), "single precision"),
        (makes_up_for_it, "not those of the silenced block"),
    ],
    "filters_left": [
        (0.5, "reads half as many channels"),
        (0.75, "share *removed*"),
        (0.125, "pixels of a filter stay"),
        (25, "percentage"),
        (9216, "divide by all"),
        (0.3, "which of the four sizes"),
        ("a quarter", "a number in [0, 1]"),
        (1 / 16, "which of the four sizes"),
        (True, "a number in [0, 1]"),
        (np.array([0.5, 0.5]), "a number in [0, 1]"),
    ],
}

RIGHT = {
    "prune_residual": [
        cut,
        on_a_copy,
        by_index_select,
        Smaller,
    ],
    "filters_left": [1 / 4, "0.25", Fraction(1, 4), np.float32(0.25), torch.tensor(0.25)],
}
