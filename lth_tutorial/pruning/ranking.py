"""Which of many scores are the highest, without sorting them all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lth_tutorial.pruning import radix

_FEW = 100_000
_STRIDE = 97  # prime, so that the sample does not keep step with the width of a layer
_SLACK = 4.0  # standard deviations of the sampled threshold's rank


def best(values: Sequence[Tensor], allowed: Sequence[Tensor], keep: int) -> list[Tensor]:
    """Return where the `keep` highest of the allowed values stand, ties to the lower index.

    The vectors are ranked together, as if they were one, in the order given.

    Args:
        values: floating-point vectors; the allowed ones without NaN.
        allowed: boolean vectors of the same lengths, at least `keep` True in all.

    Returns:
        boolean vectors of the same lengths, exactly `keep` True in all.
    """
    quick = (torch.float32, torch.float64)
    if not all(v.device.type == "cpu" and v.dtype in quick for v in values):
        flat = _on_a_gpu(torch.cat(list(values)), torch.cat(list(allowed)), keep)
        return list(flat.split([len(v) for v in values]))
    chosen = _by_band([v.detach().numpy() for v in values], [a.numpy() for a in allowed], keep)
    return [torch.from_numpy(each) for each in chosen]


def _on_a_gpu(values: Tensor, allowed: Tensor, keep: int) -> Tensor:
    if values.dtype == torch.float64 or not radix.is_available(values.device):
        return _by_selection(values, allowed, keep)
    highest = radix.Highest([(0, len(values))], [keep], values.device)
    return highest(radix.ordered_bits(values.detach().float(), allowed))


def _by_selection(values: Tensor, allowed: Tensor, keep: int) -> Tensor:
    n = int(allowed.count_nonzero())
    if keep in (0, n):
        return allowed.clone() if keep else torch.zeros_like(allowed)
    threshold = (values if n == len(values) else values[allowed]).kthvalue(n - keep + 1).values
    chosen = (values > threshold).logical_and_(allowed)
    tied = (values == threshold).logical_and_(allowed).nonzero().squeeze(1)
    chosen[tied[: keep - int(chosen.count_nonzero())]] = True
    return chosen


def _by_band(values: list[np.ndarray], allowed: list[np.ndarray], keep: int) -> list[np.ndarray]:
    """Rank exactly only what lies in a narrow band round the threshold, guessed from a sample.

    What is above the band is kept; how many are tells whether the threshold lies within. If it
    does not (a sample can mislead), everything counts as the band.
    """
    for low, high in (_guess(values, allowed, keep), (-np.inf, np.inf)):
        above = [(v > high) & a for v, a in zip(values, allowed, strict=True)]
        places = [
            np.flatnonzero(((v >= low) & a) ^ up)
            for v, a, up in zip(values, allowed, above, strict=True)
        ]
        missing = keep - sum(np.count_nonzero(up) for up in above)
        band = np.concatenate([v[p] for v, p in zip(values, places, strict=True)])
        if 0 <= missing <= len(band):
            break
    best = _best_of(band, missing)
    ends = np.cumsum([len(p) for p in places])[:-1]
    for up, place, taken in zip(above, places, np.split(best, ends), strict=True):
        up[place[taken]] = True
    return above


def _best_of(values: np.ndarray, keep: int) -> np.ndarray:
    if keep in (0, len(values)):
        return np.full(len(values), bool(keep))
    place = len(values) - keep
    threshold = np.partition(values, place)[place]
    chosen = values > threshold
    tied = np.flatnonzero(values == threshold)
    chosen[tied[: keep - np.count_nonzero(chosen)]] = True
    return chosen


def _guess(values: list[np.ndarray], allowed: list[np.ndarray], keep: int) -> tuple[float, float]:
    """Return ends of a band that most likely holds the threshold; everything, of few values."""
    if sum(map(len, values)) <= _FEW:
        return -np.inf, np.inf
    some = [v[::_STRIDE][a[::_STRIDE]] for v, a in zip(values, allowed, strict=True)]
    sample = np.concatenate(some)
    share = 1 - keep / max(1, sum(map(np.count_nonzero, allowed)))
    slack = _SLACK * np.sqrt(len(sample) * share * (1 - share)) + 2
    first, last = (round(len(sample) * share + sign * slack) for sign in (-1, 1))
    low = np.partition(sample, first)[first] if first >= 0 else -np.inf
    high = np.partition(sample, last)[last] if last < len(sample) else np.inf
    return low, high
