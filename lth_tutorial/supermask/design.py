"""How a supermask is found: everything but the data, the network, the seeds and the training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from lth_tutorial.networks.weights import check_stored, warn_of_left_out, warn_of_lost_zeros
from lth_tutorial.pruning.prune import SCOPES, Scope
from lth_tutorial.runtime import choose, is_number
from lth_tutorial.safety.kinds import with_python_numbers_
from lth_tutorial.supermask.frozen import maskable_weights
from lth_tutorial.supermask.selection import check_keep, kept_count

METHODS = ("edge_popup", "biprop", "sampled")


@dataclass(frozen=True)
class SupermaskConfig:
    """How scores become weights.

    Attributes:
        method: "edge_popup" uses the kept weights as they are (Ramanujan et al. 2020); "biprop"
            their signs times one gain per layer (Diffenderfer & Kailkhura 2021); "sampled" draws
            every step's mask, weight by weight with probability σ(score), and the final one too
            (Zhou et al. 2019).
        keep: share of the weights that the mask keeps, in (0, 1]; None for "sampled", which finds
            its own.
        scope: "layer" keeps this share of every layer; "global" of the whole network, wherever
            the highest scores are.
        anneal: share of the training over which the density falls from 1 to `keep`, by the same
            factor every step; 0 has the final density from the start. Very sparse global masks
            need it: chosen at once, they may empty a layer before its scores have learned.
        binary_activations: replace ReLU modules by sign activations (with "biprop": a network of
            one bit per weight and activation).
        learn_batchnorm: train γ and β of batch norm together with the scores. Otherwise they are
            frozen as they arrive, which for a new network means that there are none (1 and 0).
        rescale: multiply the kept weights of a layer by size / kept ("dynamic weight rescaling",
            Zhou et al. 2019, section 5).
    """

    method: Literal["edge_popup", "biprop", "sampled"] = "edge_popup"
    keep: float | None = 0.5
    scope: Scope = "layer"
    anneal: float = 0.0
    binary_activations: bool = False
    learn_batchnorm: bool = False
    rescale: bool = False

    def __post_init__(self) -> None:
        with_python_numbers_(self)
        choose("method", self.method, METHODS)
        choose("scope", self.scope, SCOPES)
        if self.method == "sampled" and self.keep is not None:
            raise ValueError(f"a sampled mask finds its own density; got keep={self.keep!r}")
        if self.method != "sampled":
            check_keep(self.keep)
        for name in ("binary_activations", "learn_batchnorm", "rescale"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is True or False; got {getattr(self, name)!r}")
        if not is_number(self.anneal) or not 0 <= self.anneal < 1:
            raise ValueError(f"anneal is a share of the training, in [0, 1); got {self.anneal!r}")

    @property
    def binary(self) -> bool:
        """Whether the effective weights of a layer are −gain, 0 and +gain."""
        return self.method == "biprop"

    def density(self, step: int, steps: int) -> float:
        """Return the share of weights that the mask keeps at a step of the training."""
        if self.keep is None:
            raise ValueError("a sampled mask has no declared density")
        progress = step / (self.anneal * steps) if self.anneal else 1.0
        return self.keep if progress >= 1 else self.keep**progress


def check_design(model: nn.Module, design: SupermaskConfig) -> None:
    """Raise a ValueError unless a model can have such a supermask; warn of what it cannot cover."""
    weights = maskable_weights(model)
    warn_of_left_out(model, weights)
    warn_of_lost_zeros(model)
    if design.binary:
        check_stored(model, "biprop")  # whose signs and gain are of weights as they are stored
    if design.keep is not None and design.scope == "layer":
        for name, weight in weights.items():
            kept_count(weight.numel(), design.keep, name)
    elif design.keep is not None:
        kept_count(sum(w.numel() for w in weights.values()), design.keep, "the network")
    if design.learn_batchnorm and not batch_norm_parameters(model):
        raise ValueError(
            "learn_batchnorm=True, but the model has no batch norm with γ and β; with_batch_norm "
            "puts some before the activations"
        )


def batch_norm_parameters(model: nn.Module) -> list[str]:
    """Return the names of γ and β of every batch norm layer."""
    return [
        f"{name}.{own}" if name else own
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        for own, _ in module.named_parameters(recurse=False)
    ]
