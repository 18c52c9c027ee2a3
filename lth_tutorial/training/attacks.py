"""Attacks by gradients on the inputs: FGSM and PGD within a maximum norm.

Chapter 9 needs this. An attack moves every number of an example by at most `eps`, in the units in
which the examples are stored, so that the loss rises. `TrainConfig(attack=…)` trains on attacked
batches, `evaluate(…, attack=…)` measures robust accuracy, `adversarial_examples` returns them.
The network is attacked in evaluation mode; its buffers, gradients and modes stay as they were.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lth_tutorial.data.dataset import Dataset, are_tokens, generator_for
from lth_tutorial.networks.first_pass import explained
from lth_tutorial.runtime import is_number, is_whole
from lth_tutorial.safety.arguments import checked
from lth_tutorial.safety.kinds import with_python_numbers_
from lth_tutorial.safety.warn import warn
from lth_tutorial.training.groups import SingleModel

_SMALLEST = 1 / 2_000  # of the data's range; 1/255 of 0 … 1 is eight times as much
_SOME = 64  # examples whose gradients are looked at before a run


class AttackWarning(UserWarning):
    """An attack that is probably not the one that was meant: in other units, or without effect."""


@dataclass(frozen=True)
class Attack:
    """How examples are attacked; make one by `fgsm` or `pgd`.

    Attributes:
        eps: largest change of every number of an example, in the units in which the data are
            stored: 8 for images in 0 … 255, 8 / 255 for the same images in 0 … 1.
        steps: gradient steps.
        step_size: change by one step, in the same units; default `eps` for one step, and
            2.5 eps / steps for several (Madry et al. 2018, appendix).
        random_start: start at a random point within `eps` instead of at the example.
        restarts: attacks per example when accuracy is measured; the worst of them counts.
        bounds: lowest and highest value an example can have; default those of the training
            examples where they are stored as whole numbers.

    Raises:
        ValueError: for values out of range; says what is allowed.
    """

    eps: float
    steps: int = 1
    step_size: float | None = None
    random_start: bool = False
    restarts: int = 1
    bounds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        with_python_numbers_(self)
        if not _is_positive(self.eps):
            raise ValueError(
                f"eps is the largest change of a number, above 0; got {self.eps!r}. For accuracy "
                f"without an attack leave the attack out"
            )
        for name in ("steps", "restarts"):
            value = getattr(self, name)
            if not is_whole(value) or value < 1:
                raise ValueError(f"{name} is a whole number of at least 1; got {value!r}")
        if self.step_size is not None and not _is_positive(self.step_size):
            raise ValueError(f"step_size is above 0; got {self.step_size!r}")
        if not isinstance(self.random_start, bool):
            raise ValueError(f"random_start is True or False; got {self.random_start!r}")
        if self.restarts > 1 and not self.random_start:
            raise ValueError(
                f"{self.restarts} restarts from the same point are the same attack: set "
                f"random_start=True"
            )
        if self.bounds is not None and not _are_bounds(self.bounds):
            raise ValueError(
                f"bounds are the lowest and the highest value of an example, e.g. (0, 255); "
                f"got {self.bounds!r}"
            )

    @property
    def stride(self) -> float:
        """The change by one step, in the data's units."""
        if self.step_size is not None:
            return self.step_size
        return self.eps if self.steps == 1 else 2.5 * self.eps / self.steps


@checked
def fgsm(
    eps: float, *, random_start: bool = False, bounds: tuple[float, float] | None = None
) -> Attack:
    """Return the fast gradient sign method: one step of size `eps`.

    Args:
        eps, bounds: see `Attack`.
        random_start: with it the method trains networks that resist more than itself (Wong et al.
            2020); the step is 1.25 eps then.

    Source: Goodfellow et al. 2015, section 4.
    """
    stride = 1.25 * eps if random_start and _is_positive(eps) else None
    return Attack(eps, 1, stride, random_start, bounds=bounds)


@checked
def pgd(
    eps: float,
    *,
    steps: int = 10,
    step_size: float | None = None,
    random_start: bool = True,
    restarts: int = 1,
    bounds: tuple[float, float] | None = None,
) -> Attack:
    """Return projected gradient descent: several steps, each projected back to within `eps`.

    Args: see `Attack`.

    Source: Madry et al. 2018, section 2.
    """
    return Attack(eps, steps, step_size, random_start, restarts, bounds)


@checked
@explained
def adversarial_examples(
    model: torch.nn.Module,
    x: Tensor,
    y: Tensor,
    data: Dataset,
    attack: Attack,
    *,
    seed: int = 0,
    start: Tensor | None = None,
) -> Tensor:
    """Return attacked examples, float32 in the units of the data, shape of `x`.

    Args:
        x, y: examples as the data set stores them, [batch, …], and their labels [batch].
        data: whose mean and std the model's inputs are normalised by, and whose range they keep.
        seed: draws the random start.
        start: where to start instead, in the data's units; it is put within `eps` and the range.

    Raises:
        ValueError: for an attack that does not fit data or model, or examples that do not fit.
    """
    if x.shape[1:] != data.shape or y.shape != x.shape[:1] or x.ndim == 0:
        raise ValueError(
            f"x are examples of shape [batch, {', '.join(map(str, data.shape))}] ({data.name}) and "
            f"y their labels [batch]; got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    group = SingleModel(model)
    check_attack(attack, group, data)
    box = Box.of(attack, data)
    clean = data.normalize(x)[None]
    first = None if start is None else data.normalize(start)[None]
    if first is None and attack.random_start:
        first = random_start(clean, box, attack_keys([seed], data.device), 0)
    group.set_training(False)
    try:
        moved = perturb(group, clean, y[None], attack, box, first)[0]
    finally:
        group.restore_modes()
    trailing = (1,) * (len(data.shape) - 1)
    return moved * data.std.view(-1, *trailing) + data.mean.view(-1, *trailing)


class Box(NamedTuple):
    """What an attack may do, in normalised units per channel, each of shape [channels, 1, …]."""

    eps: Tensor
    stride: Tensor
    low: Tensor
    high: Tensor

    @staticmethod
    def of(attack: Attack, data: Dataset) -> Box:
        """Return the box of an attack for examples that are normalised like `data`."""
        trailing = (1,) * (len(data.shape) - 1)
        mean, std = data.mean.view(-1, *trailing), data.std.view(-1, *trailing)
        low, high = data_bounds(attack, data)
        sizes = (torch.full_like(std, size) / std for size in (attack.eps, attack.stride))
        return Box(*sizes, (low - mean) / std, (high - mean) / std)


class Adversary:
    """Attacks batch after batch of a run; its random starts are those of (data seed, step)."""

    def __init__(self, attack: Attack, data: Dataset, data_seeds: Sequence[int]) -> None:
        self.attack, self.box = attack, Box.of(attack, data)
        self.keys = attack_keys(data_seeds, data.device)

    def __call__(self, group, x: Tensor, y: Tensor, step: int | Tensor) -> Tensor:
        """Return attacked examples [replicates, batch, …]; leaves the group in evaluation mode.

        With a single key, all replicates see the same starts.
        """
        group.set_training(False)
        start = None
        if self.attack.random_start:
            start = random_start(x, self.box, self.keys, step)
        return perturb(group, x, y, self.attack, self.box, start)


def perturb(group, x: Tensor, y: Tensor, attack: Attack, box: Box, start: Tensor | None) -> Tensor:
    """Return attacked examples from normalised ones [replicates, batch, …], likewise normalised.

    The group is in evaluation mode. The losses are summed, so that no example of any replicate
    knows of another.

    Args:
        start: where to start, or None for the examples themselves.
    """
    low, high = torch.maximum(x - box.eps, box.low), torch.minimum(x + box.eps, box.high)
    moved = x if start is None else torch.clamp(start, low, high)
    with torch.enable_grad():
        for _ in range(attack.steps):
            leaf = moved.detach().requires_grad_()
            logits = group.logits(leaf.clone()).float()  # a first layer may work in place
            loss = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum")
            (gradient,) = torch.autograd.grad(loss, leaf)
            moved = torch.clamp(moved + box.stride * gradient.sign(), low, high)
    return moved.detach()


def random_start(x: Tensor, box: Box, keys: Tensor, step: int | Tensor) -> Tensor:
    """Return random points within eps of the examples: a pure function of (key, step).

    Args:
        x: normalised examples [replicates, batch, …].
        keys: from `attack_keys`, one per replicate, or one for all.
        step: of training, or a number of the attack.
    """
    # Numbers from a counter instead of a generator: equal on every device, and a recorded step of
    # a GPU can compute them. The mixing is that of SplitMix64 (Steele et al. 2014).
    n, step = x[0].numel(), torch.as_tensor(step, dtype=torch.int64, device=x.device)
    z = (keys + step * _ODD)[:, None] + torch.arange(1, n + 1, device=x.device) * _GOLDEN
    for shift, factor in ((30, _MIX_A), (27, _MIX_B)):
        z = (z ^ ((z >> shift) & ((1 << (64 - shift)) - 1))) * factor
    share = ((z >> 38) & 0xFFFFFF).float() / 2**24
    return x + (2 * share.view(len(keys), *x.shape[1:]) - 1) * box.eps


def attack_keys(data_seeds: Sequence[int], device: torch.device) -> Tensor:
    """Return one whole number per data seed, for `random_start`."""
    keys = [generator_for("attack", seed).initial_seed() for seed in data_seeds]
    return torch.tensor(keys, dtype=torch.int64, device=device)


def _signed(bits: int) -> int:
    return bits - (1 << 64) if bits >> 63 else bits


_GOLDEN, _ODD = _signed(0x9E3779B97F4A7C15), _signed(0xD1342543DE82EF95)
_MIX_A, _MIX_B = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)


def data_bounds(attack: Attack, data: Dataset) -> tuple[float, float]:
    """Return the lowest and highest value of an example.

    Raises:
        ValueError: if they cannot be known, or the examples do not keep to them.
    """
    low, high = float(data.x_train.min()), float(data.x_train.max())
    if attack.bounds is None:
        if data.x_train.is_floating_point():
            raise ValueError(
                f"the examples of {data.name} are stored as fractions and have no known range, so "
                f"an attack cannot keep to it; the training examples lie in {low:g} … {high:g}: "
                f"pass bounds=(lowest, highest)"
            )
        return low, high
    if low < attack.bounds[0] or high > attack.bounds[1]:
        raise ValueError(
            f"bounds are {attack.bounds}, but the training examples of {data.name} lie in "
            f"{low:g} … {high:g}; give bounds, eps and step_size in the data's own units"
        )
    return attack.bounds


def check_attack(attack: Attack, group, data: Dataset) -> None:
    """Raise or warn, before any long computation, unless an attack fits data and models.

    Raises:
        TypeError: for something that is no `Attack`.
        ValueError: for data without a known range, or a model whose loss has no gradient with
            respect to its inputs.

    Warns:
        AttackWarning: for an eps that is probably in other units, and where every gradient is zero.
    """
    if not isinstance(attack, Attack):
        raise TypeError(f"an attack is made by fgsm or pgd; got {type(attack).__name__}")
    if are_tokens(data.x_train):
        raise ValueError(f"an attack moves examples by fractions; those of {data.name} are tokens")
    low, high = data_bounds(attack, data)
    share = attack.eps / (high - low) if high > low else math.inf
    if not _SMALLEST <= share < 1:
        size = "a tiny part of" if share < 1 else "as large as"
        warn(
            f"eps = {attack.eps:g} is {size} the range of {data.name}, {low:g} … {high:g}: is it "
            f"in other units? eps is given in the units in which the data are stored",
            AttackWarning,
        )
    x, y = data.normalize(data.x_train[:_SOME]), data.y_train[:_SOME]
    x = x.expand(group.size, *x.shape).clone().requires_grad_()
    group.set_training(False)
    try:
        with torch.enable_grad():
            logits = group.logits(x.clone()).float()
            loss = F.cross_entropy(logits.flatten(0, 1), y.repeat(group.size), reduction="sum")
            gradient = None
            if loss.requires_grad:
                (gradient,) = torch.autograd.grad(loss, x, allow_unused=True)
    finally:
        group.restore_modes()
    if gradient is None:
        raise ValueError(
            f"the loss of {type(group.models[0]).__name__} has no gradient with respect to its "
            f"inputs (does forward use no_grad, detach or argmax?), so an attack by gradients "
            f"finds nothing"
        )
    if not bool(gradient.count_nonzero()):
        warn(
            f"the gradients of {type(group.models[0]).__name__} with respect to its inputs are "
            f"exactly zero: an attack by gradients finds nothing, which is no robustness",
            AttackWarning,
        )


def _is_positive(value: object) -> bool:
    return is_number(value) and 0 < value < math.inf


def _are_bounds(bounds: object) -> bool:
    if not isinstance(bounds, tuple) or len(bounds) != 2:
        return False
    return all(is_number(b) and math.isfinite(b) for b in bounds) and (bounds[0] < bounds[1])
