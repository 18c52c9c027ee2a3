"""From scores to the weights that a network computes with, one function per method.

Backward, each passes to the scores what the straight-through estimator says: the gradient of the
effective weight, times the frozen weight, as if the mask were the score. Tensors have the
replicates first: [replicates, outputs, inputs, …].
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lth_tutorial.pruning.prune import Scope
from lth_tutorial.pruning.radix import Highest
from lth_tutorial.supermask.selection import kept_count, largest


def choose_masks(scores: Mapping[str, Tensor], keep: float, scope: Scope) -> dict[str, Tensor]:
    """Return the masks of the largest magnitudes, booleans [replicates, …], for every layer."""
    flat = {name: each.detach().flatten(1) for name, each in scores.items()}
    if scope == "layer":
        chosen = [largest(row, kept_count(row.shape[1], keep, n)) for n, row in flat.items()]
    else:
        sizes = [row.shape[1] for row in flat.values()]
        count = kept_count(sum(sizes), keep, "the network")
        chosen = largest(torch.cat(list(flat.values()), dim=1), count).split(sizes, dim=1)
    return {n: mask.view(scores[n].shape) for n, mask in zip(flat, chosen, strict=True)}


def selector(scores: Mapping[str, Tensor], keep: float, scope: Scope) -> Highest:
    """Return what makes the choice of `choose_masks` on a GPU, for all layers at once.

    It takes the scores of all layers one after the other, [layers, replicates, …] flattened.
    """
    replicates = len(next(iter(scores.values())))
    sizes = {name: each[0].numel() for name, each in scores.items()}
    device = next(iter(scores.values())).device
    if scope == "layer":
        counts = [kept_count(n, keep, name) for name, n in sizes.items() for _ in range(replicates)]
        pieces = [n for n in sizes.values() for _ in range(replicates)]
        return Highest(list(enumerate(pieces)), counts, device)
    count = kept_count(sum(sizes.values()), keep, "the network")
    pieces = [(i, n) for n in sizes.values() for i in range(replicates)]
    return Highest(pieces, [count] * replicates, device)


def gains(magnitude: Tensor, mask: Tensor) -> Tensor:
    """Return the mean magnitude of the kept weights of every replicate, shape [replicates].

    Args:
        magnitude: |w|, [replicates, …].
        mask: 0 and 1, in the same type.

    Source: Diffenderfer & Kailkhura 2021: of all multiples of the signs, this one is
    nearest to the kept weights.
    """
    if magnitude.is_cuda:  # where products of matrices may be rounded to TF32
        return (magnitude * mask).flatten(1).sum(dim=1) / _counts(mask)
    flat = magnitude.flatten(1), mask.flatten(1)
    return torch.bmm(flat[0][:, None], flat[1][:, :, None]).flatten() / _counts(mask)


def rescaling(mask: Tensor) -> Tensor:
    """Return size / kept of every replicate, shape [replicates]; the mask as 0 and 1."""
    return mask[0].numel() / _counts(mask)


def _counts(mask: Tensor) -> Tensor:
    # An empty layer gets a finite factor.
    return mask.flatten(1).sum(dim=1).clamp(min=1)


def signs(weight: Tensor) -> Tensor:
    """Return +1 or −1 for every weight, +1 for zero: a binary layer has three values, not four."""
    return torch.where(weight >= 0, 1.0, -1.0)


def per_replicate(factor: Tensor, like: Tensor) -> Tensor:
    """Return a factor [replicates] in a shape that multiplies `like`."""
    return factor.view(-1, *(1,) * (like.ndim - 1))


class StraightThrough(torch.autograd.Function):
    """`values · mask · factor`; backward, upstream · weight · sign(score): as if M were |score|."""

    @staticmethod
    def forward(
        ctx, score: Tensor, mask: Tensor, weight: Tensor, values: Tensor, factor: Tensor | None
    ) -> Tensor:
        """Take the frozen weights, and what stands in their place in the network."""
        ctx.save_for_backward(score, weight)
        effective = mask * values
        return effective if factor is None else effective.mul_(per_replicate(factor, values))

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Return the gradient of the scores alone."""
        score, weight = ctx.saved_tensors
        return (upstream * weight).mul_(score.sign()), None, None, None, None


class Sampled(torch.autograd.Function):
    """`values · mask · factor` of a mask drawn with probability σ(score).

    Backward, the mask counts as σ(score), in `factor` = size / Σ mask too: a weight whose score
    grows makes all others of its layer count for less (Zhou et al. 2019, their code).
    """

    @staticmethod
    def forward(ctx, score: Tensor, mask: Tensor, values: Tensor, factor: Tensor | None) -> Tensor:
        """Take the frozen weights, and what they are rescaled by, [replicates] or nothing."""
        ctx.save_for_backward(score, mask, values, factor)
        kept = values * mask
        return kept if factor is None else kept.mul_(per_replicate(factor, values))

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        """Return the gradient of the scores alone."""
        score, mask, values, factor = ctx.saved_tensors
        gradient = upstream * values  # of the mask
        if factor is not None:
            others = (gradient * mask).flatten(1).sum(dim=1) / _counts(mask)
            gradient = (gradient - per_replicate(others, gradient)) * per_replicate(factor, values)
        probability = score.sigmoid()
        return gradient * probability * (1 - probability), None, None, None
