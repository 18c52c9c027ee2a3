"""Pruning coefficients: whole rows of them, and what a pruned network in a basis has to store.

Single coefficients are pruned by `prune`, as weights are. Here are groups: a row of coefficients
belongs to one basis vector of a layer's outputs. In the identity basis that is a unit, in the
basis of singular vectors one rank of the weight: structured pruning is a choice of basis.
Source: Alabdulmohsin et al. 2021.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from lth_tutorial.pruning.masks import Mask, check_boolean, check_mask_of
from lth_tutorial.pruning.ranking import best
from lth_tutorial.runtime import choose, is_number
from lth_tutorial.safety.arguments import checked
from lth_tutorial.variants.bases import Basis

Side = Literal["outputs", "inputs"]
SIDES = ("outputs", "inputs")


@dataclass(frozen=True)
class Stored:
    """Numbers that the prunable part of a network takes on disk.

    Attributes:
        coefficients: kept ones.
        basis: entries of basis vectors that were computed from trained weights and that a kept
            coefficient needs. A formula (cosines) or a seed (a rotation) takes none.
        dense: weights of the dense network.
    """

    coefficients: int
    basis: int
    dense: int

    @property
    def share(self) -> float:
        """All stored numbers over those of the dense network; more than 1 is possible."""
        return (self.coefficients + self.basis) / self.dense


@checked
def stored_numbers(mask: Mask, bases: Mapping[str, Basis]) -> Stored:
    """Return what has to be stored of a network in bases whose coefficients are masked.

    In the weights themselves nothing is zero: their "sparsity" says nothing.

    Args:
        mask: of the coefficients.
        bases: by the names of the weights, as for `in_basis`.

    Raises:
        ValueError: if this is no mask, or a basis is of a weight that it does not name.
    """
    check_boolean(mask)
    for name in bases:
        choose("weight in bases:", name, map(weight_name, mask))
    basis = 0
    for name, kept in mask.items():
        own = bases.get(weight_name(name), Basis())
        if own.trained:
            matrix = kept.flatten(1)
            for side, used in ((own.left, matrix.any(1)), (own.right, matrix.any(0))):
                basis += 0 if side is None else int(used.sum()) * len(side)
    kept = sum(int(kept.sum()) for kept in mask.values())
    return Stored(kept, basis, sum(kept.numel() for kept in mask.values()))


def weight_name(name: str) -> str:
    """Return the name of the weight that a parameter of coefficients stands for."""
    owner, middle, rest = name.rpartition("parametrizations.")
    return owner + rest.removesuffix(".original") if middle else name


def group_norms(coefficients: Tensor, side: Side = "outputs") -> Tensor:
    """Return the ℓ2 norm of every row [outputs] or column [inputs] of a layer's coefficients."""
    choose("side", side, SIDES)
    return coefficients.detach().flatten(1).norm(dim=1 if side == "outputs" else 0)


@checked
def prune_groups(
    coefficients: Mapping[str, Tensor],
    mask: Mask,
    fraction: float | Mapping[str, float],
    *,
    side: Side = "outputs",
) -> Mask:
    """Return a mask without the share `fraction` of each layer's remaining rows of least ℓ2 norm.

    Args:
        coefficients: by parameter name, e.g. a state; pruned ones count as zero.
        mask: what remains so far; a row remains if any of its coefficients does.
        fraction: in [0, 1), for all layers or by parameter name; layers it does not name are left
            alone.
        side: "outputs" removes rows, "inputs" columns.

    Raises:
        ValueError: for a fraction out of range, one that leaves a layer nothing, an unknown layer,
            or a mask that does not fit.
    """
    check_mask_of(mask, coefficients)
    shares = fraction if isinstance(fraction, Mapping) else dict.fromkeys(mask, fraction)
    for name in shares:
        choose("layer in fraction:", name, mask)
    pruned = dict(mask)
    for name, share in shares.items():
        if not is_number(share) or not 0 <= share < 1:
            raise ValueError(
                f"fraction is the share of remaining rows to prune, in [0, 1); got {share!r} for "
                f"{name}"
            )
        pruned[name] = _without_rows(coefficients[name], mask[name], float(share), side, name)
    return pruned


def _without_rows(values: Tensor, kept: Tensor, share: float, side: Side, name: str) -> Tensor:
    matrix = kept.flatten(1)
    alive = matrix.any(1 if side == "outputs" else 0)
    n = int(alive.sum())
    left = n - round(share * n)
    if left < 1:
        raise ValueError(
            f"fraction {share!r} would prune all {n} remaining groups of {name}, and nothing would "
            f"pass through it; take a smaller one"
        )
    norms = group_norms(values.masked_fill(~kept, 0.0), side)
    (chosen,) = best([norms], [alive], left)
    return (matrix & (chosen[:, None] if side == "outputs" else chosen)).view_as(kept)
