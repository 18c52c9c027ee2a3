"""Subset sums: which of n random numbers add up to a target?

n numbers have 2ⁿ subset sums, and for random numbers they crowd around zero, so the best one
misses a target by an amount that about halves with every number more. That is the reason why a
random network can be pruned onto a trained one at the price of a few neurons per weight (Pensia
et al. 2020, building on Lueker 1998). Picking one number instead leaves an error of about 1/n.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lth_tutorial.data.dataset import generator_for
from lth_tutorial.runtime import is_whole
from lth_tutorial.safety.arguments import checked

LARGEST = 44
"""Most numbers `best_subset` searches: 2²² sums on either side, about a gigabyte of memory."""

_DIRECT = 10  # up to so many numbers, all sums are listed at once
_CHUNK = 1 << 21  # sums held at a time where many targets are searched together


class Subset(NamedTuple):
    """Some of n numbers and how well their sum meets a target.

    Attributes:
        kept: boolean, shape [..., n]; True = in the subset.
        total: the sum of the kept numbers, float64, shape [...].
        error: |target − total|, at least 0, float64, shape [...].
    """

    kept: Tensor
    total: Tensor
    error: Tensor


def random_products(*shape: int, seed: int) -> Tensor:
    """Return products of two independent uniform numbers from [−1, 1], float64.

    Such a product is what one path input → random neuron → output multiplies its input by. Its
    mean is 0 and its variance 1/9; small products are more frequent than large ones.

    Args:
        shape: of the result, e.g. `random_products(200, 12, seed=0)`: twelve for each of 200.
        seed: draws both factors; the global random state is neither read nor changed.

    Raises:
        ValueError: for a shape that is empty or not of positive whole numbers, or a bad seed.
    """
    if not shape or not all(is_whole(size) and size >= 1 for size in shape):
        raise ValueError(f"the shape is one or more whole numbers of at least 1; got {shape!r}")
    generator = generator_for("random products", seed)
    u, v = 2 * torch.rand(2, *shape, generator=generator, dtype=torch.float64) - 1
    return u * v


@checked
def best_subset(values: Tensor, target: Tensor | float) -> Subset:
    """Return the subset of `values` whose sum is nearest to `target`; the empty one counts.

    The search is exact. Up to 10 numbers all 2ⁿ sums are listed. Beyond that the numbers are cut
    into halves (Horowitz & Sahni 1974, "meet in the middle"): sort the sums of one half, and for
    each sum of the other look up the two that come nearest to what is missing. That takes about
    n · 2^(n/2) operations instead of 2ⁿ. Among equally good subsets the choice is unspecified, but
    always the same.

    Args:
        values: shape [..., n] with n ≤ 44; computed in float64.
        target: a number, or one per row of values: shape [...] of values without its last
            dimension (broadcast against it).

    Raises:
        ValueError: for no numbers or too many, for values or targets that are not finite, and for
            shapes that do not fit each other.

    Source: Pensia et al. 2020, section 3, use such sums as building blocks.
    """
    values, target, shape = _rows(values, target)
    n = values.shape[1]
    if n > LARGEST:
        raise ValueError(
            f"{n} numbers have 2^{n} subset sums; the exact search takes at most {LARGEST}. "
            f"Far fewer are needed: the error about halves with each"
        )
    search = _listed if n <= _DIRECT else _in_the_middle
    rows = max(1, _CHUNK >> (n if n <= _DIRECT else (n + 1) // 2))
    parts = zip(values.split(rows), target.split(rows), strict=True)
    return _subset(values, torch.cat([search(*part) for part in parts]), target, shape)


@checked
def best_single(values: Tensor, target: Tensor | float) -> Subset:
    """Return the one of `values` that is nearest to `target`, or none where 0 is nearer.

    The error falls about like 1/n, so an error of ε takes about 1/ε numbers. This is the idea of
    Malach et al. (2020), kindly read: their proof asks that both factors of a product be close to
    wanted values, which takes about 1/ε² tries.

    Args:
        values: shape [..., n], any n.
        target: as for `best_subset`.

    Raises:
        ValueError: as `best_subset`, but for no upper limit of n.
    """
    values, target, shape = _rows(values, target)
    nearest = (values - target[:, None]).abs().min(dim=1)
    kept = torch.zeros(values.shape, dtype=torch.bool, device=values.device)
    kept.scatter_(1, nearest.indices[:, None], (nearest.values < target.abs())[:, None])
    return _subset(values, kept, target, shape)


@checked
def typical_error(n: int, std: float = 1 / 3, target: float = 0.0) -> float:
    """Return the error to expect of the best of 2ⁿ subset sums, from counting alone.

    A random subset of n numbers with mean 0 and standard deviation `std` has a sum that is nearly
    normal, with variance n · std² / 2 (half from the numbers, half from the choice). The 2ⁿ sums
    are then about as dense at the target as 2ⁿ independent draws, and the nearest of them is off
    by a median of ln 2 / (2 · density). A heuristic: sums that share numbers are not independent.

    Args:
        n: how many numbers, at least 1.
        std: of one number; 1/3 is that of `random_products`.
        target: in the units of the numbers.

    Raises:
        ValueError: for n below 1, a std that is not above 0, or a target that is not finite.
    """
    if not (is_whole(n) and n >= 1) or not 0 < std < math.inf or not math.isfinite(target):
        raise ValueError(
            f"n is at least 1, std above 0 and the target finite; got n={n!r}, std={std!r}, "
            f"target={target!r}"
        )
    variance = n * std**2 / 2
    height = math.exp(-(target**2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)
    # So far from the numbers' sums that no double is small enough for their density there.
    return math.ldexp(math.log(2) / (2 * height), -n) if height else math.inf


def _rows(values: Tensor, target: Tensor | float) -> tuple[Tensor, Tensor, torch.Size]:
    """Return values [rows, n], one target per row, and the shape of the rows as given."""
    values = torch.as_tensor(values).detach().double()
    if not isinstance(target, Tensor):  # a Python number must not pass through float32
        target = torch.tensor(target, dtype=torch.float64)
    target = target.detach().to(values)
    if values.ndim == 0 or values.shape[-1] == 0:
        raise ValueError(f"at least one number is needed; got values of shape {values.shape}")
    for name, tensor in (("values", values), ("target", target)):
        if not tensor.isfinite().all():
            odd = tensor[~tensor.isfinite()][0].item()
            raise ValueError(f"{name} must be finite; one is {odd}")
    try:
        shape = torch.broadcast_shapes(values.shape[:-1], target.shape)
    except RuntimeError as error:
        raise ValueError(
            f"values [..., n] need one target per row, a number or shape "
            f"{tuple(values.shape[:-1])}; got {tuple(target.shape)}"
        ) from error
    n = values.shape[-1]
    return values.expand(*shape, n).reshape(-1, n), target.expand(shape).reshape(-1), shape


def _subset(values: Tensor, kept: Tensor, target: Tensor, shape: torch.Size) -> Subset:
    # Summed anew: the halves of the search round differently.
    total = (values * kept).sum(dim=1)
    error = (target - total).abs()
    return Subset(kept.view(*shape, kept.shape[1]), total.view(shape), error.view(shape))


def _bits(numbers: Tensor, n: int) -> Tensor:
    """Return the binary digits of whole numbers as booleans [..., n], the smallest first."""
    return (numbers[..., None] >> torch.arange(n, device=numbers.device)) & 1 == 1


def _sums(values: Tensor) -> Tensor:
    """Return all 2ⁿ subset sums [rows, 2ⁿ]; the binary digits of a sum's index are its subset."""
    sums = values.new_zeros(len(values), 1)
    for value in values.T:
        sums = torch.cat([sums, sums + value[:, None]], dim=1)
    return sums


def _listed(values: Tensor, target: Tensor) -> Tensor:
    best = (_sums(values) - target[:, None]).abs().argmin(dim=1)
    return _bits(best, values.shape[1])


def _in_the_middle(values: Tensor, target: Tensor) -> Tensor:
    half = values.shape[1] // 2
    left = _sums(values[:, :half])
    right, order = _sums(values[:, half:]).sort(dim=1)
    missing = target[:, None] - left
    above = torch.searchsorted(right, missing).clamp(max=right.shape[1] - 1)
    below = (above - 1).clamp(min=0)
    gaps = torch.cat([(right.gather(1, place) - missing).abs() for place in (below, above)], dim=1)
    best = gaps.argmin(dim=1, keepdim=True)
    place = torch.cat([below, above], dim=1).gather(1, best)
    chosen = order.gather(1, place)[:, 0]
    left_bits = _bits(best[:, 0] % left.shape[1], half)
    return torch.cat([left_bits, _bits(chosen, values.shape[1] - half)], dim=1)
