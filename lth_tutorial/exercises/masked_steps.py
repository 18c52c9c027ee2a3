"""In code: a step of training that keeps the mask (chapter 01)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lth_tutorial.exercises.outcome import Check, NothingDone, ReaderError, close, guarded
from lth_tutorial.pruning.masks import Mask

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
            before, trained = _values(model), list(model.parameters())
            settings, drawn = _settings(optimizer), loss.drawn
            given = {name: kept.clone() for name, kept in mask.items()}
            try:
                returned = call(model, given, optimizer, loss)
            except ReaderError as error:
                if isinstance(error.__cause__, KeyError) and "bias" in str(error.__cause__):
                    return "biases have no mask, because they are never pruned: leave them out"
                raise
            if set(given) != set(mask) or any(not torch.equal(given[n], mask[n]) for n in mask):
                return "your function changed the mask: a step only reads it"
            right, averages = _expected(make, mask)
            after = _values(model)
            if any(a is not b for a, b in zip(trained, model.parameters(), strict=True)):
                return (
                    "the model has new parameters now, and the optimiser still trains the old "
                    "ones: change the values of a parameter, do not replace it"
                )
            still = all(torch.equal(after[n], before[n]) for n in after)
            if returned is None and still and loss.drawn == drawn:
                raise NothingDone
            if not still and loss.drawn > drawn + 1:
                return (
                    "every call of loss() draws the *next* batch, and yours called it "
                    f"{loss.drawn - drawn} times: one step is one batch, so keep what it returned"
                )
            problem = _step_problem(before, after, right, mask) or _slip(make, mask, after, right)
            problem = problem or _averages_problem(_averages(optimizer, model), averages, mask)
            if problem is None and _settings(optimizer) != settings:
                problem = "the optimiser's settings changed, its rate perhaps: a step leaves them"
            if problem is None and not all(p.requires_grad for p in trained):
                problem = "the next step needs gradients, but a parameter no longer requires them"
            if problem:
                return f"{problem} (with {type(optimizer).__name__})"
        return None

    return guarded(fn, check, "pruned weights stay zero, all others make the optimiser's step")


class _Loss:
    """The loss of the next batch, another one at each call."""

    def __init__(self, model: nn.Module, generator: torch.Generator) -> None:
        self.model, self.generator, self.drawn = model, generator, 0

    def __call__(self) -> Tensor:
        self.drawn += 1
        x, y = (torch.randn(8, n, generator=self.generator) for n in (5, 2))
        return (self.model(x) - y).square().mean()


def _settings(optimizer: torch.optim.Optimizer) -> list[dict]:
    """Return the rate, and whatever else an optimiser was told."""
    return [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]


def _running(make: Callable) -> tuple[nn.Module, torch.optim.Optimizer, _Loss]:
    """Return a small model in the middle of its training, so that averages are not empty."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    optimizer, loss = make(model.parameters()), _Loss(model, generator)
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


def _expected(make: Callable, mask: Mask, slip: str = "") -> tuple[dict[str, Tensor], Averages]:
    """Return what the same step leads to when it is done right, and what the optimiser keeps.

    Or with a typical slip: old gradients left in, a second step, averages that start anew.
    """
    model, optimizer, loss = _running(make)
    with torch.no_grad():
        for name, kept in mask.items():
            _matrices(model)[name].mul_(kept)
    if slip == "anew":
        optimizer.state.clear()
    if slip != "added":
        optimizer.zero_grad()
    loss().backward()
    for _ in range(2 if slip == "twice" else 1):
        optimizer.step()
    values = {n: v * mask[n] if n in mask else v for n, v in _values(model).items()}
    return values, _averages(optimizer, model)


def _matrices(model: nn.Module) -> dict[str, Tensor]:
    return {n: p for n, p in model.named_parameters() if p.ndim == 2}


def _values(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters()}


def _step_problem(before: dict, after: dict, right: dict, mask: Mask) -> str | None:
    if all(torch.equal(after[name], before[name]) for name in after):
        return (
            "nothing moved: one step is loss().backward(), *then* optimizer.step(), with the model "
            "and the optimiser that are passed in, not with copies"
        )
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
    wrong = _missed(after, right)
    if wrong and all((after[n] == 0).all() for n in wrong):
        return f"{wrong[0]} was set to zero, but biases have no mask: they are never pruned"
    return None


def _missed(after: dict, right: dict) -> list[str]:
    """Return the names of the parameters that are not where a step leads to."""
    return [n for n in after if not close(after[n], right[n], rtol=1e-4)]


_SLIPS = {
    "added": "the gradients of the step before are still added in: optimizer.zero_grad() first",
    "twice": "that is more than one step of the optimiser",
    "anew": "the step ignores the optimiser's averages: use the one that is running, as it is",
}


def _slip(make: Callable, mask: Mask, after: dict, right: dict) -> str | None:
    """Return by which slip the values missed the optimiser's step, if they did."""

    missed = _missed(after, right)
    if not missed:
        return None
    for slip, idea in _SLIPS.items():
        if not _missed(after, _expected(make, mask, slip)[0]):
            return f"pruned weights are zero, but {idea}"
    return (
        f"pruned weights are zero, but {missed[0]} did not make the step of the optimiser "
        f"that was passed in: its rate, its averages, one step"
    )
