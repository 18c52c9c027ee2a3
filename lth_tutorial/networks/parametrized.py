"""Weight norm and spectral norm: what the stored tensors of a model and of a state stand for.

PyTorch's weight norm computes a weight as g v / ‖v‖ from a gain g and a direction v per output,
spectral norm as W / σ with σ the largest singular value of W, found by two vectors that follow W
in training. Magnitudes are those of the weight that comes out, a direction without weights gives a
weight of zeros, and vectors that follow other weights are of no use between two networks.
"""

from __future__ import annotations

import functools
import re

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _WeightNorm

from lth_tutorial.states import State

_NEW = re.compile(r"(.*\.)?parametrizations\.\w+\.0\._u")
_OLD = re.compile(r"(.*\.)?\w+_u")


def allow_empty_rows_(model: nn.Module) -> None:
    """Let weight norm give zeros for an output whose weights are all pruned, in place of 0 / 0.

    PyTorch computes NaN there. Nothing else about the model changes, to the last bit.
    """
    for module in model.modules():
        if type(module) is _WeightNorm and "forward" not in vars(module):
            module.forward = functools.partial(_weight_norm, module.dim)


def _weight_norm(dim: int, gain: Tensor, direction: Tensor) -> Tensor:
    empty = torch.norm_except_dim(direction.detach(), 2, dim) == 0
    return torch._weight_norm(
        direction.masked_fill(empty, 1.0), gain.masked_fill(empty.view_as(gain), 0.0), dim
    )


def weight_in(state: State, name: str) -> Tensor:
    """Return the weight that a network with this state computes with, given its prunable name."""
    stored = state[name].detach()
    if name.endswith(".original1"):
        gain = state[name.removesuffix("1") + "0"]
        one = [d for d in range(stored.ndim) if gain.ndim == 0 or gain.shape[d] == 1]
        norm = torch.linalg.vector_norm(stored, dim=one, keepdim=True)
        return stored * (gain / norm.where(norm > 0, 1.0))
    u, v = (state.get(f"{name.removesuffix('original')}0.{part}") for part in ("_u", "_v"))
    if u is None or v is None or not name.endswith(".original"):
        return stored
    return stored / torch.dot(u, _as_matrix(stored, u, v) @ v)


def follow_weights(state: State) -> State:
    """Return the state with spectral norm's vectors computed anew from its weights."""
    changed = dict(state)
    for name, u in state.items():
        if _NEW.fullmatch(name):
            weight = state[name.removesuffix("0._u") + "original"]
        elif _OLD.fullmatch(name) and {f"{name[:-2]}_orig", f"{name[:-2]}_v"} <= set(state):
            weight = state[f"{name[:-2]}_orig"]
        else:
            continue
        v = state[f"{name[:-1]}v"]
        matrix = _as_matrix(weight, u, v).double()
        # The largest eigenvector of the smaller of both products: cheaper than singular vectors.
        wide = matrix.shape[0] <= matrix.shape[1]
        small = matrix @ matrix.T if wide else matrix.T @ matrix
        top = torch.linalg.eigh(small).eigenvectors[:, -1]
        other = nn.functional.normalize((matrix.T if wide else matrix) @ top, dim=0)
        changed[name], changed[f"{name[:-1]}v"] = (
            each.to(u.dtype) for each in ((top, other) if wide else (other, top))
        )
    return changed


def check_between(a: State, b: State) -> None:
    """Raise a ValueError if there is no network between two, because of what weights come from."""
    for name, tensor in a.items():
        pruned = name.endswith("_mask") and f"{name[:-5]}_orig" in a
        turned = name.endswith(".base") and ".parametrizations." in f".{name}"
        if (pruned or turned) and not torch.equal(tensor, b[name]):
            layer = name.removesuffix("_mask") if pruned else name.partition(".0.base")[0]
            raise ValueError(
                f"{name} differs between the networks, and weights in between would be computed "
                f"with neither: make {layer} an ordinary weight first, by torch.nn.utils.prune."
                f"remove or torch.nn.utils.parametrize.remove_parametrizations"
            )


def _as_matrix(weight: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Return the weight as the matrix of which u and v are singular vectors.

    Its rows are the outputs: the first dimension, or the second of a transposed convolution.
    """
    fitting = [d for d in range(weight.ndim) if weight.shape[d] == len(u)]
    matrices = [weight.movedim(d, 0).flatten(1) for d in fitting]
    return max(matrices, key=lambda m: abs(float(torch.dot(u, m @ v))))
