"""Which scores are the highest: exact counts, ties by index, and a gradient that ignores it all.

Choosing is a step function of the scores, and the derivative of a step is zero almost everywhere.
The *straight-through* estimator pretends on the way back that the mask was the score itself.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lth_tutorial.runtime import is_number
from lth_tutorial.safety.arguments import ArgumentError
from lth_tutorial.safety.kinds import shown

_BLOCK = 65_536


def top_k_mask(scores: Tensor, keep: float) -> Tensor:
    """Return the mask of the highest scores, as numbers 0 and 1, with a straight-through gradient.

    Forward, exactly `round(keep · n)` of the n entries are 1; among equal scores those with lower
    indices. Backward, the gradient passes to the scores unchanged, kept or not.

    Args:
        scores: any shape, floating point. Edge-popup ranks magnitudes: pass `scores.abs()`, and
            the chain rule adds the factor sign(s).
        keep: share of the entries to keep, in (0, 1].

    Raises:
        ValueError: for a `keep` out of range or so small that nothing is kept, or scores that are
            NaN or no tensor of numbers.

    Source: Ramanujan et al. 2020, section 3.
    """
    if not isinstance(scores, Tensor) or not scores.is_floating_point():
        got = scores.dtype if isinstance(scores, Tensor) else shown(scores)
        raise ArgumentError(f"scores are a tensor of floating-point numbers; got {got}")
    count = kept_count(scores.numel(), keep)
    if bool(scores.isnan().any()):
        raise ValueError(f"{int(scores.isnan().sum())} of {scores.numel()} scores are NaN")
    return _TopK.apply(scores, count)


class _TopK(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scores: Tensor, count: int) -> Tensor:
        return highest(scores.reshape(1, -1), count).view(scores.shape).to(scores.dtype)

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, None]:
        return upstream, None


def kept_count(n: int, keep: float, name: str = "the layer") -> int:
    """Return `round(keep · n)`.

    Raises:
        ValueError: if `keep` is not in (0, 1], or nothing would be kept of `name`.
    """
    check_keep(keep)
    count = round(float(keep) * n)
    if n == 0:
        raise ValueError(f"there is nothing to choose from: no weight of {name} is left")
    if count == 0:
        raise ValueError(
            f"keep={keep!r} keeps none of the {n} weights of {name}: nothing would pass through "
            f"it; keep at least {1 / n:.2g}"
        )
    return count


def check_keep(keep: object) -> None:
    """Raise a ValueError unless `keep` is a share in (0, 1]."""
    if not is_number(keep) or not 0 < keep <= 1:
        raise ValueError(f"keep is the share of weights that a supermask keeps, in (0, 1]; "
                         f"got {keep!r}")  # fmt: skip


@torch.no_grad()
def highest(values: Tensor, count: int) -> Tensor:
    """Return where the `count` highest values of every row stand, ties to the lower index.

    Args:
        values: [rows, n], without NaN.

    Returns:
        booleans [rows, n], exactly `count` of them True in every row.
    """
    n = values.shape[1]
    if count >= n:
        return torch.ones_like(values, dtype=torch.bool)
    if values.device.type == "cpu":
        return torch.from_numpy(_by_partition(values.detach().numpy(), count))
    return _by_sorting(values, count)


@torch.no_grad()
def largest(scores: Tensor, count: int) -> Tensor:
    """Return where the `count` largest magnitudes of every row stand; see `highest`.

    Args:
        scores: [rows, n], of 32 or 64 bits.
    """
    if scores.device.type != "cpu" or count >= scores.shape[1]:
        return highest(scores.abs(), count)
    values = scores.detach().numpy()
    # Without their sign, the bits of floating-point numbers are whole numbers of the same order,
    # which NumPy ranks in half the time.
    kind = np.dtype(f"i{values.itemsize}")
    bits = values.view(kind) & np.iinfo(kind).max
    return torch.from_numpy(_by_partition(bits, count))


def _by_partition(values: np.ndarray, count: int) -> np.ndarray:
    # NumPy selects and compares several times faster than torch does on a CPU.
    place = values.shape[1] - count
    threshold = np.partition(values, place, axis=1)[:, place, None]
    chosen = values >= threshold
    if np.count_nonzero(chosen) == len(values) * count and not np.isnan(threshold).any():
        return chosen
    for row, limit, mask in zip(values, threshold, chosen, strict=True):
        _drop_ties(row, limit, mask, np.count_nonzero(mask) - count)
    return chosen


def _drop_ties(row: np.ndarray, limit: np.ndarray, mask: np.ndarray, surplus: int) -> None:
    """Unset those of the values equal to the threshold that have the highest indices."""
    end = len(row)
    while surplus > 0:  # from the end, block by block: nearly always the first one is enough
        start = max(0, end - _BLOCK)
        gone = start + np.flatnonzero(row[start:end] == limit)[-surplus:]
        mask[gone] = False
        surplus, end = surplus - len(gone), start


def _by_sorting(values: Tensor, count: int) -> Tensor:
    # On a GPU a sort is quick, and nothing has to be read back.
    best = values.sort(dim=1, descending=True, stable=True).indices[:, :count]
    return torch.zeros_like(values, dtype=torch.bool).scatter_(1, best, True)
