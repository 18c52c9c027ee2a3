"""Weights in another basis: W = U C Vᵀ, with C trained and pruned in place of W (chapter 13).

A weight matrix is a table of numbers only once somebody has chosen coordinates. Here every layer
may have its own: orthogonal matrices U on the side of its outputs and V on that of its inputs. A
network "in a basis" computes the same function; its parameters are the coefficients C = Uᵀ W V, so
that everything else in the package (training, masks, pruning, rewinding) works on C unchanged.
Source: Alabdulmohsin et al. 2021 (the generalised lottery ticket hypothesis).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lth_tutorial.data.dataset import generator_for
from lth_tutorial.networks.calls import copied, refuse_compiled
from lth_tutorial.networks.in_basis import InBasis
from lth_tutorial.networks.weights import prunable_weights, shared_weights
from lth_tutorial.runtime import choose
from lth_tutorial.safety.arguments import at_least, checked

Kind = Literal["identity", "dct_inputs", "rotation_inputs", "dct", "rotation", "svd"]
KINDS = get_args(Kind)
_TOLERANCE = 1e-4  # of QᵀQ − 1: single-precision products of some hundred numbers err by 1e-6


@dataclass(frozen=True)
class Basis:
    """The coordinates of one weight: W = left @ C @ right.T, None for the identity.

    A kernel [outputs, channels, height, width] counts as a matrix with one row per output.

    Attributes:
        left: orthogonal [outputs, outputs], its columns the basis vectors of the outputs' side.
        right: orthogonal [inputs, inputs], its columns those of the inputs' side.
        trained: whether it was computed from trained weights: then it must be stored, and counts.
    """

    left: Tensor | None = None
    right: Tensor | None = None
    trained: bool = False


@checked
def in_basis(model: nn.Module, bases: Mapping[str, Basis]) -> nn.Module:
    """Return a copy of the model that computes the same from coefficients.

    The parameter `fc1.weight` becomes `fc1.parametrizations.weight.original`, which holds the
    coefficients; `fc1.weight` is computed from it. Weights that `bases` does not name stay as they
    are. `from_basis` leads back.

    Args:
        bases: by the name of a prunable weight.

    Raises:
        ValueError: for a name that is no prunable weight, a weight that stands in several places or
            in a recurrent layer of PyTorch's, or a matrix of the wrong size or type, on another
            device, or not orthogonal; names the layer.
    """
    weights = prunable_weights(model)
    for name, basis in bases.items():
        choose("weight to give a basis:", name, weights)
        check_basis(basis, weights[name], name)
    _check_owners(model, bases)
    changed = copied(model)
    for name, basis in bases.items():
        if basis.left is not None or basis.right is not None:
            owner, _, attribute = name.rpartition(".")
            module = changed.get_submodule(owner)
            parametrize.register_parametrization(
                module, attribute, InBasis(basis.left, basis.right)
            )
    return changed


def _check_owners(model: nn.Module, names: Iterable[str]) -> None:
    """Raise unless a computed weight would be used wherever the model uses the weight."""
    refuse_compiled(model)
    tied = [name for name in shared_weights(model) if name in names]
    if tied:
        raise ValueError(
            f"{', '.join(tied)} stands in several places of the model; give each its own"
        )
    computed = [name for name in names if "parametrizations." in name]
    if computed:
        raise ValueError(
            f"{', '.join(computed)} is computed from other tensors already; make it an ordinary "
            f"weight first (from_basis, or parametrize.remove_parametrizations)"
        )
    recurrent = [
        n for n in names if isinstance(model.get_submodule(n.rpartition(".")[0]), nn.RNNBase)
    ]
    if recurrent:
        raise ValueError(
            f"PyTorch's recurrent layers keep their own references to {', '.join(recurrent)}, and "
            f"would go on computing with the old weights; leave them out of `bases`"
        )


@checked
def from_basis(model: nn.Module) -> nn.Module:
    """Return a copy of the model with ordinary weights in place of coefficients."""
    # PyTorch's remove_parametrizations would take the weight from every copy of the module: they
    # share a class that was made for them.
    plain = copied(model)
    for module in list(plain.modules()):
        if not parametrize.is_parametrized(module):
            continue
        weights = {name: getattr(module, name).detach() for name in module.parametrizations}
        module.__class__ = type(module).__mro__[1]
        del module.parametrizations
        for name, weight in weights.items():
            module.register_parameter(name, nn.Parameter(weight))
    return plain


def check_basis(basis: Basis, weight: Tensor, name: str) -> None:
    """Raise a ValueError, naming the weight, unless a basis fits it and is orthogonal."""
    sizes = {"left": len(weight), "right": weight[0].numel()}
    for side, size in sizes.items():
        matrix = getattr(basis, side)
        if matrix is None:
            continue
        what = f"the {side} basis of {name}"
        if tuple(matrix.shape) != (size, size):
            raise ValueError(
                f"{what} has shape {tuple(matrix.shape)}; the weight {tuple(weight.shape)} needs "
                f"({size}, {size})"
            )
        if matrix.device != weight.device or matrix.dtype != weight.dtype:
            raise ValueError(
                f"{what} is {matrix.dtype} on {matrix.device}, the weight {weight.dtype} on "
                f"{weight.device}; move it: basis.to(weight)"
            )
        off = float((matrix.mT @ matrix - torch.eye(size).to(matrix)).abs().max())
        if not off <= _TOLERANCE:
            raise ValueError(
                f"{what} is not orthogonal: QᵀQ differs from 1 by {off:.2g} (allowed "
                f"{_TOLERANCE:g}); the magnitude of a coefficient would depend on the length of "
                f"its basis vector. torch.linalg.qr(matrix).Q is orthogonal"
            )


@checked
def bases_of(
    model: nn.Module,
    kind: Kind,
    *,
    shape: tuple[int, ...] | None = None,
    seed: int = 0,
    trained: Mapping[str, Tensor] | None = None,
) -> dict[str, Basis]:
    """Return a basis for every prunable weight of a model.

    Args:
        kind: "identity"; "dct_inputs" (two-dimensional cosines over the pixels that the first layer
            sees, or over every kernel's window) and "rotation_inputs" (a random rotation in the
            same places, the control); "dct" (cosines on both sides of all layers) and "rotation"
            (random rotations in the same places); "svd" (singular vectors of trained weights).
        shape: of one example, [channels, height, width]; needed where a fully connected layer
            comes first, to know which inputs are neighbours. Without it they are a sequence.
        seed: draws the rotations.
        trained: state of the trained network, for "svd".

    Raises:
        ValueError: for an unknown kind, or one that lacks its `shape` or `trained`.
    """
    choose("basis", kind, KINDS)
    weights = prunable_weights(model)
    if kind == "svd":
        if trained is None or any(name not in trained for name in weights):
            raise ValueError("the SVD basis is that of trained weights: pass trained=, their state")
        return {name: svd_basis(trained[name].to(w)) for name, w in weights.items()}
    bases = {}
    for i, (name, weight) in enumerate(weights.items()):
        sides = {"identity": "", "dct": "lr", "rotation": "lr"}.get(kind)
        if sides is None:
            sides = "r" if i == 0 or weight.ndim > 2 else ""
        draw = generator_for("basis", seed, i)
        matrices = {"l": None, "r": None}
        for side in sides:
            if kind.startswith("rotation"):
                size = len(weight) if side == "l" else weight[0].numel()
                matrix = random_rotation(size, draw)
            elif side == "l":
                matrix = dct_matrix(len(weight))
            else:
                matrix = _cosines_of_inputs(weight, shape if i == 0 else None, name)
            matrices[side] = matrix.to(weight)
        bases[name] = Basis(matrices["l"], matrices["r"])
    return bases


@checked
def dct_matrix(n: int) -> Tensor:
    """Return the orthogonal matrix [n, n] whose column k is the cosine of frequency k (DCT-II)."""
    at_least("n", n, 1)
    place, frequency = torch.arange(n, dtype=torch.float64)[:, None] + 0.5, torch.arange(n)
    matrix = torch.cos(math.pi * place * frequency / n) * math.sqrt(2 / n)
    matrix[:, 0] /= math.sqrt(2)
    return matrix


@checked
def dct_2d(height: int, width: int, channels: int = 1) -> Tensor:
    """Return cosines over pixels in rows, every channel for itself, as columns; orthogonal."""
    pixels = torch.kron(dct_matrix(height), dct_matrix(width))
    return torch.kron(torch.eye(channels, dtype=torch.float64), pixels)


def random_rotation(n: int, generator: torch.Generator) -> Tensor:
    """Return an orthogonal matrix [n, n], all directions alike (Haar measure; Mezzadri 2007)."""
    q, r = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
    return q * r.diagonal().sign()


def svd_basis(weight: Tensor) -> Basis:
    """Return the singular vectors of a trained weight: in their basis it is diagonal."""
    u, _, vt = torch.linalg.svd(weight.detach().double().flatten(1), full_matrices=True)
    return Basis(u.to(weight), vt.mT.contiguous().to(weight), trained=True)


def _cosines_of_inputs(weight: Tensor, shape: tuple[int, ...] | None, name: str) -> Tensor:
    if weight.ndim == 4:
        return dct_2d(*weight.shape[2:], channels=weight.shape[1])
    inputs = weight[0].numel()
    if shape is None or tuple(shape) == (inputs,):
        return dct_matrix(inputs)
    if len(shape) != 3 or math.prod(shape) != inputs:
        raise ValueError(
            f"{name} has {inputs} inputs; an example of shape {tuple(shape)} does not say which "
            f"of them are neighbours. Pass shape=(channels, height, width)"
        )
    return dct_2d(shape[1], shape[2], channels=shape[0])
