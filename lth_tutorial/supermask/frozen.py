"""The weights that are never trained, drawn so that a seed alone brings them back.

A packed ticket stores a seed in place of its weights. So they come from the raw numbers of a
counter-based generator (Philox), whose stream NumPy never changes, on the CPU whatever the model's
device, by arithmetic that gives the same bits everywhere.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from torch import Tensor, nn

from lth_tutorial.data.dataset import generator_for
from lth_tutorial.networks.weights import LAYERS, prunable_weights, shared_weights
from lth_tutorial.runtime import is_whole
from lth_tutorial.safety.arguments import checked
from lth_tutorial.supermask.selection import check_keep

_GRID = 2.0**16


def maskable_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights that a supermask chooses from, by name: all that are prunable.

    Raises:
        ValueError: as `prunable_weights`, or if one of them stands in several places of the model.
    """
    weights = prunable_weights(model)
    shared = [name for name in shared_weights(model) if name in weights]
    if shared:
        raise ValueError(
            f"{', '.join(shared)} stands in several places of the model, and a supermask has one "
            f"mask for each: give each place a weight of its own"
        )
    return weights


@checked
def signed_constant_(model: nn.Module, seed: int, *, keep: float | None = None) -> None:
    """Set every weight to ±√(2 / fan_in), the signs drawn from `seed`, in place.

    Args:
        keep: if given, the constant is √(2 / (fan_in · keep)): scaled to the share of weights
            that a supermask will keep, so that activations have the same variance at any density.
            (The authors' code divides by 1 − keep, which is this at one half only.)

    Biases become zero, and batch norm the identity.

    Raises:
        ValueError: for a model without prunable weights, or a bad seed or `keep`.

    Source: Ramanujan et al. 2020, section 4 (signed Kaiming constant, scaled and unscaled).
    """
    _draw(model, seed, keep, _signs)


@checked
def kaiming_normal_(model: nn.Module, seed: int, *, keep: float | None = None) -> None:
    """Draw every weight from N(0, 2 / fan_in), or N(0, 2 / (fan_in · keep)), in place.

    The normal numbers are rounded to multiples of 2⁻¹⁶, so that the last bit of a logarithm,
    which differs between machines, does not matter. Else as `signed_constant_`.

    Source: He et al. 2015.
    """
    _draw(model, seed, keep, _normals)


@torch.no_grad()
def _draw(model: nn.Module, seed: int, keep: float | None, numbers) -> None:
    if not is_whole(seed) or not 0 <= seed < 2**63:
        raise ValueError(f"a seed is a whole number in 0 … 2⁶³ − 1; got {seed!r}")
    if keep is not None:
        check_keep(keep)
    weights = maskable_weights(model)
    for name, weight in weights.items():
        scale = math.sqrt(2 / (fan_in(weight) * (1 if keep is None else keep)))
        drawn = (numbers(name, seed, weight.numel()) * scale).astype(np.float32)
        weight.copy_(torch.from_numpy(drawn).view(weight.shape))
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_parameters()
        elif isinstance(module, tuple(LAYERS)):
            for own, parameter in module.named_parameters(recurse=False):
                if "bias" in own:
                    parameter.zero_()


def fan_in(weight: Tensor) -> int:
    """Return how many inputs a unit has: [outputs, inputs, …] without the first dimension."""
    return weight[0].numel()


def draw_scores(weights: dict[str, Tensor], seed: int | None) -> dict[str, Tensor]:
    """Return initial scores for all weights: Kaiming-uniform with a = √5, ±1 / √fan_in.

    Without a seed all are 0: a sampled mask then begins with a probability of 1/2 everywhere.

    Source: Ramanujan et al. 2020 and Zhou et al. 2019, their code.
    """
    if seed is None:
        return {name: torch.zeros_like(weight.detach()) for name, weight in weights.items()}
    scores = {}
    for i, (name, weight) in enumerate(weights.items()):
        bound = 1 / math.sqrt(fan_in(weight))
        uniform = torch.rand(weight.shape, generator=generator_for("supermask scores", seed, i))
        scores[name] = ((2 * uniform - 1) * bound).to(weight.device)
    return scores


def _raw(name: str, seed: int, count: int) -> np.ndarray:
    """Return 64-bit numbers that belong to a parameter's name and a seed alone."""
    key = np.array([zlib.crc32(name.encode()), seed], dtype=np.uint64)
    return np.random.Philox(key=key).random_raw(count)


def _signs(name: str, seed: int, count: int) -> np.ndarray:
    bytes_ = _raw(name, seed, -(-count // 64)).astype("<u8").view(np.uint8)
    return np.unpackbits(bytes_, count=count, bitorder="little") * 2.0 - 1.0


def _normals(name: str, seed: int, count: int) -> np.ndarray:
    pairs = -(-count // 2)  # two normal numbers from two uniform ones (Box & Muller 1958)
    a, b = ((_raw(name, seed, 2 * pairs) >> np.uint64(11)) * 2.0**-53).reshape(2, pairs)
    radius, angle = np.sqrt(-2 * np.log(1 - a)), 2 * np.pi * b
    drawn = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
    return np.round(drawn * _GRID) / _GRID
