"""Masks: which weights a pruned network keeps.

A mask is a dictionary from parameter name to a boolean tensor of the weight's shape, True where
the weight is kept. It lives outside the model: `apply_mask_` sets pruned weights to zero, `train`
keeps them there, and nothing about the model itself changes. Which weights are prunable is decided
in `networks.weights`: matrices and kernels, no biases, norms or tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from lth_tutorial.data.dataset import Dataset, permutation
from lth_tutorial.networks.parametrized import allow_empty_rows_
from lth_tutorial.networks.weights import (
    prunable_weights,
    warn_of_left_out,
    warn_of_lost_zeros,
)
from lth_tutorial.runtime import choose
from lth_tutorial.safety.arguments import checked
from lth_tutorial.safety.files import (
    UncheckedFileWarning,
    as_safetensors,
    read_tensors,
    sealed,
    unsealed,
    write_atomically,
)
from lth_tutorial.safety.warn import warn
from lth_tutorial.states import State, state_hash

Mask = dict[str, Tensor]
"""Parameter name to boolean tensor, True = kept."""

Scores = dict[str, Tensor]
"""Parameter name to float tensor, higher = keep."""

Criterion = Callable[[nn.Module, Dataset, Mask], Scores]
"""What scores the weights that a mask keeps: `snip_scores` and the like."""


@checked
def dense_mask(model: nn.Module) -> Mask:
    """Return the mask that keeps every prunable weight, in the model's order.

    Prunable are the weights of linear, bilinear, convolutional, recurrent and attention layers,
    and parameters of other classes that enter a matrix product or a convolution (see
    `networks.weights.prunable_weights`).

    Raises:
        ValueError: if the model has no prunable weights, a layer is not initialised yet, or a mask
            would not do what it says, because a weight is computed from other tensors.

    Warns:
        LeftOutWarning: if tables, scales or constants are a large part of the model.
        LostZerosWarning: if a layer makes numbers of the zeros of what it stores (weight
            standardisation, say), so that no zero of the mask is one of the weight.
    """
    weights = prunable_weights(model)
    warn_of_left_out(model, weights)
    warn_of_lost_zeros(model)
    return {name: torch.ones_like(w, dtype=torch.bool) for name, w in weights.items()}


def in_order_of(names: Iterable[str], values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a dictionary in the order of some names; those that are not among them come last."""
    first = [name for name in names if name in values]
    return {name: values[name] for name in dict.fromkeys([*first, *values])}


def weights_under(model: nn.Module, mask: Mask) -> dict[str, Tensor]:
    """Return the model's prunable weights, for a mask that fits them.

    Raises:
        ValueError, TypeError: if the mask does not fit the model (see `check_mask`).
    """
    weights = prunable_weights(model)
    check_mask(mask, weights)
    allow_empty_rows_(model)
    return weights


def check_mask(mask: Mask, weights: Mapping[str, Tensor]) -> None:
    """Raise unless `mask` has exactly the names, shapes and device of the prunable `weights`.

    Raises:
        ValueError: naming the first entry that does not fit, and what would.
        TypeError: if an entry is not a boolean tensor.
    """
    for name in mask:
        choose("layer in the mask:", name, weights)
    missing = [name for name in weights if name not in mask]
    if missing:
        raise ValueError(
            f"the mask says nothing about {', '.join(missing)}; a mask names every prunable "
            f"weight (all True where nothing is pruned: see dense_mask)"
        )
    check_boolean(mask)
    for name, kept in mask.items():
        if kept.shape != weights[name].shape:
            raise ValueError(
                f"mask[{name!r}] has shape {tuple(kept.shape)}; the weight has "
                f"{tuple(weights[name].shape)}"
            )
        if kept.device != weights[name].device:
            raise ValueError(
                f"mask[{name!r}] is on {kept.device}, the weight on {weights[name].device}"
            )


def check_mask_of(mask: Mask, state: Mapping[str, Tensor]) -> None:
    """Raise unless a mask fits the weights of a state, which are real numbers.

    Raises:
        ValueError: naming the first entry that does not fit.
        TypeError: if an entry of the mask is not a boolean tensor.
    """
    check_mask(mask, {name: state[name] for name in mask if name in state})
    for name in mask:
        if not state[name].is_floating_point():
            raise ValueError(f"the weights {name} are real numbers; got {state[name].dtype}")


def check_boolean(mask: Mask) -> None:
    """Raise a TypeError unless every entry is a boolean tensor, a ValueError if there is none."""
    if not mask:
        raise ValueError("the mask is empty; dense_mask(model) makes one that keeps everything")
    for name, kept in mask.items():
        if not isinstance(kept, Tensor) or kept.dtype != torch.bool:
            got = kept.dtype if isinstance(kept, Tensor) else type(kept).__name__
            raise TypeError(f"mask[{name!r}] is {got}; a mask is boolean, True = kept")
        if kept.numel() == 0:
            raise ValueError(f"mask[{name!r}] has no elements: shape {tuple(kept.shape)}")


@checked
def apply_mask_(model: nn.Module, mask: Mask) -> None:
    """Set the model's pruned weights to exactly zero, in place.

    This does not keep them there: an optimiser step may revive them. `train(…, mask=mask)` does.

    Raises:
        ValueError, TypeError: if the mask does not fit the model (see `check_mask`).
    """
    weights = weights_under(model, mask)
    with torch.no_grad():
        for name, kept in mask.items():
            weights[name].masked_fill_(~kept, 0.0)


def masked_state(state: State, mask: Mask) -> State:
    """Return a copy of `state` with its pruned weights set to exactly zero."""
    return {
        name: tensor.masked_fill(~mask[name], 0.0) if name in mask else tensor.clone()
        for name, tensor in state.items()
    }


@checked
def density(mask: Mask) -> float:
    """Return the share of prunable weights that the mask keeps, in [0, 1]."""
    check_boolean(mask)
    return sum(int(kept.sum()) for kept in mask.values()) / sum(m.numel() for m in mask.values())


@checked
def layer_densities(mask: Mask) -> dict[str, float]:
    """Return the share of weights kept in each layer, in [0, 1], by parameter name."""
    check_boolean(mask)
    return {name: int(kept.sum()) / kept.numel() for name, kept in mask.items()}


@checked
def overlap(a: Mask, b: Mask) -> float:
    """Return the Jaccard index of the weights two masks keep, in [0, 1].

    Two random masks of density d overlap by about d / (2 - d), not by 0: compare with that.

    Raises:
        ValueError: if the masks belong to different networks.
    """
    check_mask(a, b)
    check_boolean(b)
    both = sum(int((a[name] & b[name]).sum()) for name in a)
    either = sum(int((a[name] | b[name]).sum()) for name in a)
    return both / either if either else 1.0


@checked
def shuffle_within_layers(mask: Mask, seed: int) -> Mask:
    """Return a random mask that keeps as many weights in every layer as `mask` does.

    The control that asks whether it matters *which* weights survive, or only how many per layer.
    """
    check_boolean(mask)
    shuffled = {}
    for i, (name, kept) in enumerate(mask.items()):
        order = permutation(kept.numel(), "shuffled mask", seed, i).to(kept.device)
        shuffled[name] = kept.flatten()[order].view_as(kept)
    return shuffled


@checked
def save_mask(mask: Mask, path: str | Path) -> None:
    """Write a mask to a safetensors file; the file appears whole or not at all.

    Names, their order and all bits are under a checksum.

    Raises:
        TypeError, ValueError: if this is no mask, or it could not be loaded again (a name that is
            no text, say). Nothing is written then.
        OSError: if the file cannot be written.
    """
    check_boolean(mask)
    try:
        header = {"kind": "mask", "names": list(mask), "digest": state_hash(mask)}
        raw = as_safetensors(mask, sealed(header))
        _mask_in(raw, "the mask")
    except Exception as error:  # of several kinds, according to what is odd about a name
        raise ValueError(f"this mask could not be loaded again: {error}") from error
    write_atomically(path, raw)


@checked
def load_mask(path: str | Path) -> Mask:
    """Return the mask that `save_mask` wrote, on the CPU, its layers in their order.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not a mask, or damaged.

    Warns:
        UncheckedFileWarning: if an earlier version wrote the file, without a checksum.
    """
    mask, checked = _mask_in(Path(path).read_bytes(), str(path))
    if not checked:
        text = f"{path} was written without a checksum and is taken as it stands; "
        warn(text + "save_mask gives it one", UncheckedFileWarning)
    return mask


def _mask_in(raw: bytes, where: str) -> tuple[Mask, bool]:
    """Return the mask in the bytes of a file, and whether it was under a checksum."""
    try:
        metadata, mask = read_tensors(raw)
        header = unsealed(metadata)
    except ValueError as error:
        raise ValueError(f"{where} is damaged: {error}") from error
    wrong = [name for name, kept in mask.items() if kept.dtype != torch.bool]
    other = header is not None and header.get("kind") != "mask"
    if wrong or other or not mask:
        raise ValueError(
            f"{where} is not a mask: {', '.join(wrong) or 'it'} holds no boolean tensor"
        )
    if any(int(kept.view(torch.uint8).max()) > 1 for kept in mask.values() if kept.numel()):
        raise ValueError(f"{where} is damaged: a byte is neither True nor False")
    if header is None:
        return mask, False
    if state_hash(mask) != header["digest"] or set(header["names"]) != set(mask):
        raise ValueError(f"{where} is damaged: the mask is not what was saved")
    return {name: mask[name] for name in header["names"]}, True
