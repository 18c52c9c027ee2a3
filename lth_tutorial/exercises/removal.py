"""By hand and in code: what a mask leaves, and how weights are really removed (chapter 01)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lth_tutorial.exercises.outcome import (
    OPEN,
    Check,
    NothingDone,
    NothingReturned,
    ReaderError,
    as_number,
    guarded,
)
from lth_tutorial.pruning.masks import Mask

FRACTION, ROUNDS = 0.3, 4


def density_after_rounds(answer: float | None = None) -> Check:
    """Check the density that four rounds leave which each remove 30 % of the remaining weights."""
    if answer is None:
        return OPEN
    number = as_number(answer)
    if math.isnan(number):
        return Check(False, f"the answer is a density, a number in [0, 1]; got {answer!r}")
    kept = 1 - FRACTION
    right = kept**ROUNDS
    if abs(number - right) <= 0.005:
        return Check(True, f"{kept:g} to the power of {ROUNDS} is {right:.4f}")
    typical = {
        1 - ROUNDS * FRACTION: (
            "each round removes its fraction of what *remains*, so the fractions do not add up: "
            "by that count less than nothing would be left"
        ),
        1 - right: "that is the share *removed*; density is the share kept",
        FRACTION**ROUNDS: "the fraction is the share *removed* in a round, not the share kept",
        kept ** (ROUNDS - 1): f"that is one round short of {ROUNDS}",
        kept ** (ROUNDS + 1): f"that is one round too many: {ROUNDS} rounds prune {ROUNDS} times",
        kept: "that is the density after the first round",
    }
    for wrong, idea in typical.items():
        if abs(number - wrong) <= 0.002:
            return Check(False, f"{number:g}: {idea}")
    if abs(number - 100 * right) <= 0.5:
        return Check(False, f"{number:g} looks like a percentage; a density lies in [0, 1]")
    return Check(
        False,
        f"{number:g} is not it. Begin with 1,000 weights: the first round leaves 700, and the "
        f"second removes 30 % of those",
    )


def remove_neurons(
    fn: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]] | None = None,
) -> Check:
    """Check a function `fn(w1, b1, w2, kept)` that removes hidden neurons from two layers.

    `w1` [hidden, inputs] and `b1` [hidden] are the first layer, `w2` [outputs, hidden] the weights
    of the second; `kept` is boolean over the hidden neurons, True = kept. It returns the three
    smaller tensors, with which the network computes what it does with those neurons silenced.
    """

    def check(call: Callable) -> str | None:
        generator = torch.Generator().manual_seed(0)
        # As many neurons as inputs in the second case: a wrong dimension shows in no shape there.
        for inputs, hidden, outputs, names in ((5, 6, 3, "011010"), (4, 4, 4, "1011")):
            w1, b1, w2 = (
                torch.randn(shape, generator=generator)
                for shape in ((hidden, inputs), (hidden,), (outputs, hidden))
            )
            kept = torch.tensor([name == "1" for name in names])
            given = [tensor.clone() for tensor in (w1, b1, w2, kept)]
            try:
                new = call(*given)
            except ReaderError as error:
                if isinstance(error.__cause__, IndexError) and "mask" in str(error.__cause__):
                    return (
                        "in the next layer a neuron is a *column* of w2, not a row: "
                        f"{error.__cause__}"
                    )
                raise
            for name, now, before in zip(
                ("w1", "b1", "w2", "kept"), given, (w1, b1, w2, kept), strict=True
            ):
                if not torch.equal(now, before):
                    return f"your function changed its input `{name}` in place: return new tensors"
            problem = _removal_problem(new, w1, b1, w2, kept)
            if problem:
                return problem
        return None

    return guarded(fn, check, "the smaller network computes what the silenced one does")


def _removal_problem(new: Any, w1: Tensor, b1: Tensor, w2: Tensor, kept: Tensor) -> str | None:
    if new is None:
        raise NothingReturned
    if not isinstance(new, (tuple, list)) or len(new) != 3:
        return f"return three tensors, the new w1, b1 and w2; got {type(new).__name__}"
    wanted = dict(w1=w1[kept], b1=b1[kept], w2=w2[:, kept])
    given = dict(w1=w1, b1=b1, w2=w2)
    inverted = dict(w1=w1[~kept], b1=b1[~kept], w2=w2[:, ~kept])
    got = dict(zip(wanted, new, strict=True))
    for name, tensor in got.items():
        if not isinstance(tensor, Tensor):
            return f"the new {name} is a tensor; got {type(tensor).__name__}"
    if all(_equal(got[name], inverted[name]) for name in got):
        return "True means *kept*: you removed the neurons to keep"
    if all(got[name].shape == given[name].shape for name in got):
        return (
            f"the tensors are as large as before, {tuple(w1.shape)} and {tuple(w2.shape)}: setting "
            f"a neuron to zero is masking; remove its row and its column"
        )
    ideas = {
        "w1": "a neuron is a *row* of w1, its incoming weights",
        "b1": "a neuron takes its bias along: b1 has one entry per hidden neuron",
        "w2": "in the next layer a neuron is a *column* of w2, the weights that read its output",
    }
    if _same_network(got, wanted):  # the neurons that stay may come in any order
        return None
    for name, right in wanted.items():
        if got[name].shape != right.shape:
            shapes = f"{name} has shape {tuple(got[name].shape)}, expected {tuple(right.shape)}"
            return f"{ideas[name]}. {shapes}"
        if not _equal(got[name], right):
            return f"{ideas[name]}; yours has the right shape, but other values in {name}"
    return None


def _same_network(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Return whether two pairs of layers compute the same, whatever the order of their neurons."""
    if any(a[name].shape != b[name].shape for name in b):
        return False
    x = torch.randn(50, b["w1"].shape[1], generator=torch.Generator().manual_seed(1))
    outputs = [(x @ each["w1"].T + each["b1"]).tanh() @ each["w2"].T for each in (a, b)]
    return torch.allclose(*outputs, atol=1e-5)


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)


MaskedStep = Callable[[nn.Module, Mask, torch.optim.Optimizer, Callable[[], Tensor]], None]


def masked_step(fn: MaskedStep | None = None) -> Check:
    """Check a function `fn(model, mask, optimizer, loss)` that does one step of training.

    `loss()` returns the loss of the next batch. Afterwards pruned weights are exactly zero, and
    everything else has moved as the optimiser's own step would have moved it.
    """

    def check(call: Callable) -> str | None:
        for make in (
            lambda p: torch.optim.SGD(p, lr=0.1),
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
            lambda p: torch.optim.Adam(p, lr=0.01),
        ):
            model, optimizer, loss = _running(make)
            mask = {n: w.abs() > w.abs().median() for n, w in _matrices(model).items()}
            with torch.no_grad():
                for name, kept in mask.items():
                    _matrices(model)[name].mul_(kept)
            before = _values(model)
            try:
                returned = call(model, mask, optimizer, loss)
            except ReaderError as error:
                if isinstance(error.__cause__, KeyError) and "bias" in str(error.__cause__):
                    return "biases have no mask, because they are never pruned: leave them out"
                raise
            right, averages = _expected(make, mask)
            after = _values(model)
            if returned is None and all(torch.equal(after[n], before[n]) for n in after):
                raise NothingDone
            problem = _step_problem(before, after, right, mask)
            problem = problem or _averages_problem(_averages(optimizer, model), averages, mask)
            if problem:
                return f"{problem} (with {type(optimizer).__name__})"
        return None

    return guarded(fn, check, "pruned weights stay zero, all others make the optimiser's step")


def _running(make: Callable) -> tuple[nn.Module, torch.optim.Optimizer, Callable[[], Tensor]]:
    """Return a small model in the middle of its training, so that averages are not empty."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    x, y = (torch.randn(8, n, generator=generator) for n in (5, 2))
    optimizer = make(model.parameters())

    def loss() -> Tensor:
        return (model(x) - y).square().mean()

    for _ in range(3):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    return model, optimizer, loss  # the gradients of the last step are still there


Averages = dict[tuple[str, str], Tensor]


def _averages(optimizer: torch.optim.Optimizer, model: nn.Module) -> Averages:
    """Return what the optimiser remembers of each weight: momentum, or Adam's two averages."""
    return {
        (name, key): value.detach().clone()
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor) and value.shape == parameter.shape
    }


def _averages_problem(got: Averages, right: Averages, mask: Mask) -> str | None:
    for (name, key), wanted in right.items():
        kept = mask.get(name, torch.ones_like(wanted, dtype=torch.bool))
        now = got.get((name, key))
        if now is None or not torch.allclose(now[kept], wanted[kept], rtol=1e-4, atol=1e-6):
            return (
                f"the weights are right, but the optimiser's {key} of {name} was changed: the next "
                f"step needs what it remembers of the weights that stay"
            )
    return None


def _expected(make: Callable, mask: Mask) -> tuple[dict[str, Tensor], Averages]:
    """Return what the same step leads to when it is done right, and what the optimiser keeps."""
    model, optimizer, loss = _running(make)
    with torch.no_grad():
        for name, kept in mask.items():
            _matrices(model)[name].mul_(kept)
    optimizer.zero_grad()
    loss().backward()
    optimizer.step()
    values = {n: v * mask[n] if n in mask else v for n, v in _values(model).items()}
    return values, _averages(optimizer, model)


def _matrices(model: nn.Module) -> dict[str, Tensor]:
    return {n: p for n, p in model.named_parameters() if p.ndim == 2}


def _values(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters()}


def _step_problem(before: dict, after: dict, right: dict, mask: Mask) -> str | None:
    if all(torch.equal(after[name], before[name]) for name in after):
        return "nothing moved: one step is loss().backward(), then optimizer.step()"
    if all((after[n][kept] == 0).all() for n, kept in mask.items()):
        return "True means *kept*: your function set the kept weights to zero"
    for name, kept in mask.items():
        revived = int((after[name][~kept] != 0).sum())
        if revived:
            return (
                f"{revived} of {int((~kept).sum())} pruned weights of {name} came back: the "
                f"optimiser's averages, or the gradient, moved them. Apply the mask *after* the "
                f"optimiser's step"
            )
    wrong = [n for n in after if not torch.allclose(after[n], right[n], rtol=1e-4, atol=1e-6)]
    if not wrong:
        return None
    if all((after[n] == 0).all() for n in wrong):
        return f"{wrong[0]} was set to zero, but biases have no mask: they are never pruned"
    return (
        f"pruned weights are zero, but {wrong[0]} did not make the optimiser's step: are old "
        f"gradients still added in (optimizer.zero_grad()), or is there more than one step?"
    )
