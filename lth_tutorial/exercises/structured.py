"""By hand and in code: what half the filters cost, a unit through a residual block (chapter 03)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lth_tutorial.exercises.outcome import (
    OPEN,
    Check,
    NothingReturned,
    as_number,
    guarded,
    is_open,
    shown,
)

FILTERS, CHANNELS = 64, 64
_NAMES = "stem, conv1, conv2, output"


def filters_left(answer: float | None = None) -> Check:
    """Check the share of weights that a middle layer keeps if every layer loses half its filters.

    The layer has 64 filters of 3 by 3 that read 64 channels.
    """
    if is_open(answer):
        return OPEN
    number = as_number(answer)
    if math.isnan(number):
        return Check(False, f"the answer is a share, a number in [0, 1]; got {shown(answer)}")
    if abs(number - 0.25) <= 1e-6:
        left = FILTERS // 2 * (CHANNELS // 2) * 9
        return Check(True, f"{left:,} of {FILTERS * CHANNELS * 9:,}: half the rows, half of each")
    typical = {
        0.5: "the filters of the layer *before* it go too, so each filter left reads half as many "
        "channels",
        0.75: "that is the share *removed*; asked is the share kept",
        0.125: "the 3 by 3 pixels of a filter stay: only filters and the channels they read go",
        25.0: "that looks like a percentage; a share lies in [0, 1]",
        FILTERS // 2 * (CHANNELS // 2) * 9.0: "that is the number of weights left; divide by all",
    }
    for wrong, idea in typical.items():
        if abs(number - wrong) <= 1e-6:
            return Check(False, f"{number:g}: {idea}")
    return Check(
        False,
        f"{number:g} is not it. The weight has shape [64, 64, 3, 3]: which of the four sizes does "
        f"the removal change, and by how much?",
    )


class _Block(nn.Module):
    """A stem, and a residual block on top of it, as in the chapter."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 5, 3, padding=1)
        self.conv1, self.conv2 = nn.Conv2d(5, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1)
        self.output = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = (x + self.conv2(self.conv1(x).relu())).relu()
        return self.output(x.mean(dim=(2, 3)))


def prune_residual(fn: Callable[[nn.Module, Tensor], nn.Module] | None = None) -> Check:
    """Check a function `fn(model, kept)` that removes channels of a residual stream.

    `model` has the layers `stem`, `conv1`, `conv2` and `output` and computes `h = relu(stem(x))`,
    then `relu(h + conv2(relu(conv1(h))))`, averages over pixels, and applies `output`. `kept` is
    boolean over the channels of `h`. The function returns a model with smaller layers that
    computes what the model does with those channels silenced; the one it was given stays whole.
    """

    def check(call: Callable) -> str | None:
        generator = torch.Generator().manual_seed(0)
        model = _Block()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        x = _images(generator)
        for names in ("10110", "01101", "00110"):
            kept, given = torch.tensor([name == "1" for name in names]), copy.deepcopy(model)
            given_kept = kept.clone()
            new = call(given, given_kept)
            problem = _residual_problem(new, model, kept, x)
            if problem:
                return problem
            if not torch.equal(given_kept, kept):
                return "your function changed `kept`: it only reads it"
            if _changed(given, model):
                return (
                    "your function changed the model that it was given: copy it first "
                    "(copy.deepcopy), or nobody can compare the smaller network with the whole one"
                )
            with torch.no_grad():
                for parameter in new.parameters():
                    parameter.add_(1.0)
            if _changed(given, model):
                return (
                    "the smaller model shares memory with the one it was given, so that "
                    "fine-tuning one changes the other: copy what stays (copy.deepcopy, clone)"
                )
        return None

    return guarded(fn, check, "the smaller block computes what the silenced one does")


def _changed(model: nn.Module, whole: nn.Module) -> bool:
    now = model.state_dict()
    return any(
        name not in now or now[name].shape != w.shape or not torch.equal(now[name], w)
        for name, w in whole.state_dict().items()
    )


def _images(generator: torch.Generator) -> Tensor:
    return torch.randn(3, 2, 6, 6, generator=generator)


def _residual_problem(new: Any, model: _Block, kept: Tensor, x: Tensor) -> str | None:
    if new is None:
        raise NothingReturned
    if not isinstance(new, nn.Module):
        return f"return the smaller model; got {type(new).__name__}"
    n = int(kept.sum())
    wanted = {
        "stem.weight": ((n, 2, 3, 3), "the stem *makes* the channels: they are its rows"),
        "stem.bias": ((n,), "a channel takes its bias in the stem along"),
        "conv1.weight": ((4, n, 3, 3), "conv1 *reads* the channels: they are its dimension 1"),
        "conv1.bias": ((4,), "the filters of conv1 are not part of the stream: they stay"),
        "conv2.weight": (
            (n, 4, 3, 3),
            "what conv2 makes is *added* to the stem's channels: it must lose the same rows, or "
            "the addition has no partner for them",
        ),
        "conv2.bias": ((n,), "a channel takes its bias in conv2 along"),
        "output.weight": ((3, n), "the classifier *reads* the channels: they are its columns"),
    }
    state = new.state_dict()
    if not set(wanted) <= set(state):
        return f"the smaller model has the same layers, with the names of the old one: {_NAMES}"
    if all(tuple(state[name].shape) == tuple(model.state_dict()[name].shape) for name in wanted):
        return "all layers have their old sizes: zeros are not removed; make smaller tensors"
    for name, (shape, idea) in wanted.items():
        if tuple(state[name].shape) != shape:
            return f"{idea}. {name} has shape {tuple(state[name].shape)}, expected {shape}"
    with torch.no_grad():
        expected = _silenced(model, kept)(x)
        try:
            got = new(x)
        except Exception as error:
            return (
                "the sizes are right, but the smaller model does not run on images in single "
                f"precision ({type(error).__name__}: {error})"
            )
        if not isinstance(got, Tensor) or got.shape != expected.shape:
            return f"the smaller model gives {tuple(expected.shape)} numbers, as the old one does"
        if torch.allclose(got, _silenced(model, _first(kept))(x), atol=1e-4):
            return "the first channels were kept, whatever `kept` says: index with the mask"
    if not torch.allclose(got, expected, rtol=1e-3, atol=1e-4):
        return (
            "the sizes are right, but the outputs are not those of the silenced block: are the "
            "same channels removed in every layer, as `kept` says?"
        )
    return None


def _first(kept: Tensor) -> Tensor:
    """Return a wrong choice of as many channels: the first ones."""
    return torch.arange(len(kept)) < int(kept.sum())


def _silenced(model: _Block, kept: Tensor) -> _Block:
    quiet = copy.deepcopy(model)
    for layer in (quiet.stem, quiet.conv2):
        layer.weight.data[~kept] = 0
        layer.bias.data[~kept] = 0
    return quiet
