"""Dual tickets: a random mask, made a good one by how the network is trained (chapter 13).

The lottery ticket hypothesis looks for the mask that suits the weights. The dual hypothesis takes
any random mask and makes the weights suit it: those that the mask will remove are drawn to zero by
an ℓ2 penalty that grows while the network trains, then removed, and the rest trains on. Training
itself is `train` with `TrainConfig.removal`; here are the masks, the test that a mask said to be
random is random, and the experiment with its controls.
Source: Bai et al. 2022 (the dual lottery ticket hypothesis), section 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lth_tutorial.criteria import random_scores
from lth_tutorial.pruning.masks import Mask, check_mask_of, dense_mask
from lth_tutorial.pruning.prune import prune
from lth_tutorial.safety.arguments import checked

_TOO_FAR = 5.0
"""Standard deviations of a rank correlation beyond which a mask is not called random."""


@checked
def random_mask(model: nn.Module, density: float, seed: int) -> Mask:
    """Return a mask that keeps a random share `density` of every layer, in (0, 1)."""
    mask = dense_mask(model)
    check_share(density)
    return prune(random_scores(mask, seed), mask, 1 - density, scope="layer")


def check_share(density: float) -> None:
    """Raise a ValueError unless a random mask can have this density."""
    if not 0 < density < 1:
        raise ValueError(f"density is the share of weights that stay, in (0, 1); got {density!r}")


@checked
def rank_correlation(mask: Mask, weights: Mapping[str, Tensor]) -> dict[str, float]:
    """Return Spearman's correlation of "kept" with the magnitude of each layer's weights.

    Near 0, give or take 1/√n for n weights, if the mask does not know the weights; near ±0.8 if it
    keeps the largest or the smallest half. NaN where a layer keeps all or nothing.

    Args:
        weights: that the network began with, by parameter name.

    Raises:
        ValueError: if mask and weights do not fit each other.
    """
    check_mask_of(mask, weights)
    found = {}
    for name, kept in mask.items():
        ranks = _ranks(weights[name].detach().abs().flatten().double())
        found[name] = float(torch.corrcoef(torch.stack([ranks, kept.flatten().double()]))[0, 1])
    return found


@checked
def check_random(mask: Mask, weights: Mapping[str, Tensor]) -> None:
    """Raise unless a mask is unrelated to the magnitudes of the initial weights.

    A published program for random tickets removed the smallest initial weights unless told
    otherwise; its results would have been those of magnitude pruning at initialisation.

    Raises:
        ValueError: naming the layer whose rank correlation is more than 5 standard deviations from
            0, which a random mask has once in about two million layers.
    """
    for name, value in rank_correlation(mask, weights).items():
        bound = _TOO_FAR / math.sqrt(max(mask[name].numel() - 1, 1))
        if abs(value) > bound:
            which = "largest" if value > 0 else "smallest"
            raise ValueError(
                f"the mask of {name} is not random: it favours the {which} initial weights (rank "
                f"correlation {value:+.2f}, of a random mask within ±{bound:.2f}); "
                f"random_mask(model, density, seed) draws one"
            )


def _ranks(values: Tensor) -> Tensor:
    """Return ranks from 0, the mean of their places for equal values."""
    _, group, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return ((2 * last - counts - 1) / 2)[group]


def removed_power(state: Mapping[str, Tensor], mask: Mask) -> float:
    """Return the share of the squared weights that a mask removes, in [0, 1].

    0.9 for a mask of density 0.1 and weights that know nothing of it; near 0 once the others were
    drawn to zero.
    """
    total = sum(float(state[name].square().sum()) for name in mask)
    gone = sum(
        float(state[name].masked_fill(kept, 0.0).square().sum()) for name, kept in mask.items()
    )
    return gone / total if total else 0.0
