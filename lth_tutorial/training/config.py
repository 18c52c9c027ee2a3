"""Settings: how to train, and how to prune iteratively.

Both are frozen: change a copy with `dataclasses.replace(config, steps=500)`. They check
themselves, so that a typing error is found before the first step of a long run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from lth_tutorial.pruning.prune import Scope, check_fraction
from lth_tutorial.runtime import choose, is_number, is_whole
from lth_tutorial.safety.arguments import ArgumentError
from lth_tutorial.safety.kinds import shown, with_python_numbers_
from lth_tutorial.training.attacks import Attack


@dataclass(frozen=True)
class Removal:
    """A growing ℓ2 penalty on the weights that a mask is going to remove (chapter 13).

    The gradient of such a weight w gets λ(t) · w added at step t, where λ rises from 0 over `ramp`
    steps and then stays: λ(t) = largest · min(1, t / ramp) ** power, t rounded down to a multiple
    of `every`. Source: Bai et al. 2022, section 3; their code has largest 1, ramp 50,000, every 5
    and any of the three powers.

    Attributes:
        largest: the final λ, finite and at least 0; 0 leaves the weights alone.
        ramp: steps over which λ grows, counted from step 0.
        power: 1, 2 or 3.
        every: steps between two updates of λ.
    """

    largest: float = 1.0
    ramp: int = 50_000
    power: int = 1
    every: int = 1

    def __post_init__(self) -> None:
        with_python_numbers_(self)
        good = _finite(self.largest) and self.largest >= 0
        _require(good, "largest (of λ)", self.largest, "a finite number of at least 0")
        for name in ("ramp", "every"):
            value = getattr(self, name)
            _require(is_whole(value) and value >= 1, name, value, "at least 1")
        good = is_whole(self.power) and self.power in (1, 2, 3)
        _require(good, "power", self.power, "1, 2 or 3")

    def strength(self, step: int) -> float:
        """Return λ at an optimiser step, counted from 0."""
        step = step // self.every * self.every
        return self.largest * min(1.0, step / self.ramp) ** self.power


@dataclass(frozen=True)
class TrainConfig:
    """How to train: everything but the data, the network and the seeds.

    Attributes:
        steps: optimiser updates from step 0 to the end of training.
        batch_size: examples per step.
        optimizer: "sgd" (with `momentum`) or "adam".
        lr: peak learning rate.
        momentum: of SGD; Adam ignores it.
        weight_decay: ℓ2 penalty coefficient.
        bn_l1: ℓ1 penalty coefficient s of the scales γ of batch norm: s·sign(γ) is added to their
            gradient (network slimming, Liu et al. 2017).
        schedule: "steps" divides the rate by 10 at each of `lr_drops`, "cosine" lets it fall to 0.
        lr_drops: steps at which the rate drops; with schedule "cosine" an error.
        warmup_steps: steps over which the rate first rises linearly, counted from 1: step 0 has
            lr / warmup_steps, never 0. A drop inside the warm-up waits for its end.
        augment: shift and mirror the training images at random (pure function of data_seed, step).
        eval_every: steps between validation points; None for no validation history.
        precision: of products on a GPU: "fp32"; "tf32", whose factors have 10 bits; or "bf16",
            mixed precision. A CPU takes "tf32" for "fp32".
        attack: made by `fgsm` or `pgd`: the examples of each step are attacked first, so that the
            network learns to resist (adversarial training, Madry et al. 2018). Its random starts
            depend on (data_seed, step) alone; restarts are for measuring only.
        removal: with it, the weights that the mask prunes are not held at zero, but drawn there by
            a growing penalty.
    """

    steps: int = 2_000
    batch_size: int = 60
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    bn_l1: float = 0.0
    schedule: Literal["steps", "cosine"] = "steps"
    lr_drops: tuple[int, ...] = ()
    warmup_steps: int = 0
    augment: bool = False
    eval_every: int | None = None
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    attack: Attack | None = None
    removal: Removal | None = None

    def __post_init__(self) -> None:
        with_python_numbers_(self)
        for name in ("steps", "batch_size", "eval_every"):
            value = getattr(self, name)
            if not (name == "eval_every" and value is None):
                _require(is_whole(value) and value >= 1, name, value, "at least 1")
        _require(_finite(self.lr) and self.lr > 0, "lr", self.lr, "above 0")
        momentum, decay = self.momentum, self.weight_decay
        _require(_finite(momentum) and 0 <= momentum < 1, "momentum", momentum, "in [0, 1)")
        _require(_finite(decay) and decay >= 0, "weight_decay", decay, "at least 0")
        _require(_finite(self.bn_l1) and self.bn_l1 >= 0, "bn_l1", self.bn_l1, "at least 0")
        choose("optimizer", self.optimizer, ("sgd", "adam"))
        choose("schedule", self.schedule, ("steps", "cosine"))
        choose("precision", self.precision, ("fp32", "tf32", "bf16"))
        _require(isinstance(self.augment, bool), "augment", self.augment, "True or False")
        removal = self.removal is None or isinstance(self.removal, Removal)
        _require(removal, "removal", self.removal, "a Removal, or None")
        if not (self.attack is None or isinstance(self.attack, Attack)):
            raise ValueError(f"attack is made by fgsm or pgd, or None; got {self.attack!r}")
        _require(isinstance(self.lr_drops, tuple), "lr_drops", self.lr_drops, "a tuple of steps")
        inside = all(is_whole(s) and 0 < s < self.steps for s in self.lr_drops)
        _require(inside, "lr_drops", self.lr_drops, f"steps between 0 and {self.steps}")
        fits = self.schedule == "steps" or not self.lr_drops
        _require(fits, "lr_drops", self.lr_drops, 'empty with schedule "cosine"')
        good = is_whole(self.warmup_steps) and 0 <= self.warmup_steps < self.steps
        _require(good, "warmup_steps", self.warmup_steps, f"in 0 … {self.steps - 1}")
        if self.removal is not None:
            self._check_removal(self.removal)

    def _check_removal(self, removal: Removal) -> None:
        if removal.ramp > self.steps:
            raise ValueError(
                f"removal: the penalty grows for {removal.ramp} steps, and the run has "
                f"{self.steps}; lengthen it, or shorten the ramp"
            )
        largest = 2 * (1 + self.momentum) / self.lr
        if self.optimizer == "sgd" and removal.largest + self.weight_decay >= largest:
            raise ValueError(
                f"removal: λ = {removal.largest:g} makes steps of rate {self.lr:g} and momentum "
                f"{self.momentum:g} overshoot zero further each time; keep λ below {largest:.3g}"
            )


@dataclass(frozen=True)
class IMPConfig:
    """How to prune iteratively.

    Attributes:
        rounds: prunings; round 0 is the dense network.
        fraction: share of the *remaining* weights removed per round, in (0, 1); or one share per
            parameter name, with scope "layer".
        scope: rank weights over the whole network ("global") or within each layer ("layer").
        rewind_step: the step k whose weights and schedule position are restored. The dense
            network is trained through in one run, its optimiser going on at step k (the authors'
            OpenLTH restarts it there); tickets begin with a new one. 0 is the
            original ticket (Frankle & Carbin 2019); k > 0 is late rewinding (Frankle et al. 2020).
        after_pruning: "rewind" restores weights and schedule; "lr_rewind" keeps the trained
            weights and restores the schedule only; "fine_tune" keeps them and trains at a constant
            low rate (Renda et al. 2020). All train `steps - rewind_step` more.
        finetune_lr: that constant rate; default the schedule's value at 90 % of the steps.
    """

    rounds: int = 10
    fraction: float | Mapping[str, float] = 0.2
    scope: Scope = "global"
    rewind_step: int = 0
    after_pruning: Literal["rewind", "lr_rewind", "fine_tune"] = "rewind"
    finetune_lr: float | None = None

    def __post_init__(self) -> None:
        with_python_numbers_(self)
        for name, least in (("rounds", 1), ("rewind_step", 0)):
            value = getattr(self, name)
            _require(is_whole(value) and value >= least, name, value, f"at least {least}")
        check_fraction(self.fraction, self.scope)
        choose("after_pruning", self.after_pruning, ("rewind", "lr_rewind", "fine_tune"))
        if self.finetune_lr is not None:
            lr = self.finetune_lr
            _require(_finite(lr) and lr > 0, "finetune_lr", lr, "above 0")


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the learning rate of an optimiser step, counted from 0."""
    if not isinstance(config, TrainConfig):
        raise ArgumentError(f"config is a TrainConfig; got {shown(config)}")
    if not is_whole(step) or step < 0:
        raise ValueError(f"step is a whole number of at least 0; got {step!r}")
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "cosine":
        progress = (step - config.warmup_steps) / (config.steps - config.warmup_steps)
        return config.lr * (1 + math.cos(math.pi * progress)) / 2
    return config.lr / 10 ** sum(step >= drop for drop in config.lr_drops)


def retraining_config(config: TrainConfig, imp: IMPConfig) -> TrainConfig:
    """Return the configuration that a pruned network is trained with."""
    if imp.after_pruning != "fine_tune":
        return config
    lr = imp.finetune_lr or learning_rate(config, int(0.9 * config.steps))
    return replace(config, lr=lr, schedule="steps", lr_drops=(), warmup_steps=0)


def _finite(value: object) -> bool:
    return is_number(value) and math.isfinite(value)


def _require(condition: bool, name: str, value: object, allowed: str) -> None:
    if not condition:
        raise ValueError(f"{name} must be {allowed}; got {value!r}{_kind(value)}")


def _kind(value: object) -> str:
    """Return what is wrong with the kind of a value, where it is not its size."""
    if isinstance(value, bool) or not is_number(value):
        return f" ({type(value).__name__})"
    if not is_whole(value) and math.isfinite(value) and value == int(value):
        return f": a whole number is written {int(value)}"
    return "" if is_whole(value) or "." in repr(value) else f" ({type(value).__name__})"
