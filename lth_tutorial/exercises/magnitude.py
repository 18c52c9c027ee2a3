"""In code: one round of magnitude pruning (chapter 04)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lth_tutorial.exercises.outcome import Check, guarded, mask_problem


@dataclass(frozen=True)
class _PruningCase:
    """One call of the reader's function, and what a wrong count in this case gives away."""

    weights: Tensor
    mask: Tensor
    fraction: float
    too_few: str = "the fraction is the share to remove, not the share to keep"
    too_many: str = "too few weights were removed: round(fraction * remaining) go in every call"


def _pruning_cases() -> Iterator[_PruningCase]:
    """Yield small cases from the plainest on: the first that fails names the idea."""

    def case(weights: list[float], kept: str, fraction: float, **hints: str) -> _PruningCase:
        return _PruningCase(
            torch.tensor(weights), torch.tensor([k == "1" for k in kept]), fraction, **hints
        )

    yield case([0.9, 0.1, 0.5, 0.3, 0.7], "11111", 0.4)
    yield case([-0.9, 0.1, 0.5, -0.3, 0.7], "11111", 0.4)
    yield case(
        [0.9, 0.0, 0.5, 0.0, 0.3, 0.7, 0.0, 0.0, 0.4, 0.0],
        "1010110010",
        0.4,
        too_few="the fraction is of the weights that *remain*, not of all weights",
        too_many="weights pruned earlier are not candidates: rank only those still kept",
    )
    yield case(
        [0.9, 8.0, 0.5, -9.0, 0.3, 0.7, 7.0, 0.4],
        "10101101",
        0.4,
        too_few="pruned entries may hold large stale values: rank only the weights still kept",
        too_many="pruned entries may hold large stale values: rank only the weights still kept",
    )
    ties = (
        "with ties a threshold removes all equal weights or none: rank, and remove an exact count"
    )
    yield case([0.5, -0.5, 0.5, -0.5, 0.1], "11111", 0.4, too_few=ties, too_many=ties)
    zeros = (
        "a kept weight may be exactly zero: the mask, not the value, says what was pruned, and "
        "an exact number is removed"
    )
    yield case([0.0, 0.6, 0.0, 0.0, 0.8, 0.0], "111110", 0.4, too_few=zeros, too_many=zeros)
    # A pruned zero ties with a kept one, before it and after it in the order of places.
    for kept in ("0101111", "1101110"):
        yield case([0.0, 0.0, 0.6, 0.0, 0.8, 0.7, 0.0], kept, 0.2, too_few=zeros, too_many=zeros)
    rounding = "the number removed is round(fraction * remaining), not rounded down or up"
    for n in (9, 11):
        magnitudes = [0.1 * (i + 1) for i in range(n)]
        yield case(magnitudes, "1" * n, 0.2, too_few=rounding, too_many=rounding)
    yield case([0.3, 0.2, 0.1], "111", 0.1, too_few="round(0.1 * 3) is 0: nothing is removed")
    for n, even in ((5, 2), (3, 2)):
        half = f"round(0.5 * {n}) is {even}: `round` takes a half to the *even* number"
        yield case([0.1 * (i + 1) for i in range(n)], "1" * n, 0.5, too_few=half, too_many=half)
    whole = f"{rounding}, and counts over the whole layer, not row by row"
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        weights = torch.randn(5, 7, generator=generator)
        kept = torch.rand(5, 7, generator=generator) < 0.7
        yield _PruningCase(weights, kept, (0.2, 0.5, 0.1, 0.35)[seed], whole, whole)


def magnitude_pruning(fn: Callable[[Tensor, Tensor, float], Tensor] | None = None) -> Check:
    """Check a function `fn(weights, mask, fraction)` that returns the mask after one more pruning.

    `mask` is boolean, True = kept. The new mask has `round(fraction * remaining)` weights fewer,
    the smallest in magnitude among the kept. Pruned weights never return; inputs stay unchanged.
    """

    def check(call: Callable) -> str | None:
        for case in _pruning_cases():
            weights, mask = case.weights.clone(), case.mask.clone()
            new = call(weights, mask, case.fraction)
            for name, before, after in (
                ("weights", case.weights, weights),
                ("mask", case.mask, mask),
            ):
                if not torch.equal(before, after):
                    return f"your function changed its input `{name}` in place: return a new mask"
            problem = mask_problem(new, case.mask) or _pruning_problem(new, case)
            if problem:
                return problem
        return None

    return guarded(fn, check, "exact counts, smallest magnitudes, nested masks, ties and zeros")


def _pruning_problem(new: Tensor, case: _PruningCase) -> str | None:
    weights, old = case.weights, case.mask
    remaining = int(old.sum())
    keep = remaining - round(case.fraction * remaining)
    where = _described(case)

    revived = new & ~old
    if revived.any():
        value = weights[revived][0].item()
        return (
            "masks are nested: a pruned weight never returns, whatever value its entry still "
            f"holds, but one with value {value:.2g} came back.{where}"
        )
    kept, removed = weights[new].abs(), weights[old & ~new].abs()
    best = weights[old].abs().sort(descending=True).values
    if old.all() and len(kept) == remaining - keep and _same(kept, best[keep:]):
        return f"True means *kept*: your mask is True for the weights to remove.{where}"
    if len(kept) != keep:
        idea = case.too_few if len(kept) < keep else case.too_many
        return f"{idea}: {keep} of {remaining} weights remain, your mask keeps {len(kept)}.{where}"
    if not len(removed) or kept.min() >= removed.max():
        return None
    signed = weights[old].sort(descending=True).values[:keep]
    if (weights[old] < 0).any() and _same(weights[new], signed):
        lost = weights[old & ~new].min().item()
        return (
            f"magnitude, not sign: {lost:.2g} is a large weight, but it was removed because it is "
            f"negative. Rank absolute values.{where}"
        )
    if _same(kept, best[remaining - keep :]):
        return f"the *smallest* magnitudes are removed; you removed the largest.{where}"
    return (
        f"the smallest magnitudes among the kept weights"
        f"{' of the whole layer' if old.ndim > 1 else ''} are removed: you removed one of "
        f"{removed.max():.2g} and kept one of {kept.min():.2g}.{where}"
    )


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.sort().values, b.sort().values)


def _described(case: _PruningCase) -> str:
    """Return the case in numbers, where it is small enough to be read."""
    if case.weights.ndim > 1:
        return ""
    weights = ", ".join(f"{value:.2g}" for value in case.weights.tolist())
    mask = " ".join("1" if kept else "0" for kept in case.mask.tolist())
    return f" (Weights [{weights}], mask [{mask}], fraction {case.fraction}.)"
