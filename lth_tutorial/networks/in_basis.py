"""A weight that is computed from coefficients in a fixed orthogonal basis: W = U C Vᵀ (chapter 13).

The parameter of such a layer are the coefficients C; training, masks and snapshots work on them as
on any weight. `variants.bases` makes bases and gives a network to them.
"""

from __future__ import annotations

from torch import Tensor, nn


class InBasis(nn.Module):
    """The map from coefficients to a weight and back, for `torch.nn.utils.parametrize`."""

    def __init__(self, left: Tensor | None, right: Tensor | None) -> None:
        """Take orthogonal matrices [outputs, outputs] and [inputs, inputs], None for identity."""
        super().__init__()
        self.register_buffer("left", left)
        self.register_buffer("right", right)

    def forward(self, coefficients: Tensor) -> Tensor:
        """Return the weight that belongs to the coefficients."""
        return combine(coefficients, self.left, self.right)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return the coefficients of a weight."""
        left = None if self.left is None else self.left.mT
        return combine(weight, left, None if self.right is None else self.right.mT)


def combine(coefficients: Tensor, left: Tensor | None, right: Tensor | None) -> Tensor:
    """Return left @ C @ right.T in the shape of C: [outputs, …], or [replicates, outputs, …]."""
    matrix = coefficients
    stacked = max((side.ndim for side in (left, right) if side is not None), default=2) - 2
    matrix = matrix.flatten(1 + stacked)
    if left is not None:
        matrix = left @ matrix
    if right is not None:
        matrix = matrix @ right.mT
    return matrix.view_as(coefficients)
