"""Packed tickets: a strong ticket in about one bit per weight.

The weights were never trained, so a seed brings them back. What training found is the mask, one
bit per weight; beside it stand one gain per layer and whatever else the network computes with
(running statistics of batch norm, learned γ and β). Hashes of the frozen and of the effective
weights are inside: a file gives the same network again, or an error that says why not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lth_tutorial.networks.calls import copied
from lth_tutorial.networks.layers import with_sign_activations
from lth_tutorial.runtime import choose
from lth_tutorial.safety.arguments import checked
from lth_tutorial.safety.files import (
    as_safetensors,
    read_tensors,
    sealed,
    unsealed,
    write_atomically,
)
from lth_tutorial.states import State, load_state_, state_hash
from lth_tutorial.supermask.design import SupermaskConfig
from lth_tutorial.supermask.frozen import kaiming_normal_, maskable_weights, signed_constant_
from lth_tutorial.supermask.search import Supermask, effective_weights

VERSION = 1
INITIALIZATIONS = {"signed_constant_": signed_constant_, "kaiming_normal_": kaiming_normal_}
_MASK, _OTHER, _GAINS = "mask/", "other/", "gains"


@dataclass(frozen=True)
class TicketSize:
    """Bytes of a packed ticket beside those of the dense network in 32-bit numbers.

    Attributes:
        weights: weights of linear and convolutional layers.
        mask_bytes: the mask, one bit per weight.
        other_bytes: gains, batch norm, header.
        dense_bytes: all parameters and buffers of the dense network.
    """

    weights: int
    mask_bytes: int
    other_bytes: int
    dense_bytes: int

    @property
    def total_bytes(self) -> int:
        """Bytes of the whole file."""
        return self.mask_bytes + self.other_bytes

    @property
    def bits_per_weight(self) -> float:
        """Bits of the whole file per weight."""
        return 8 * self.total_bytes / self.weights

    @property
    def times_smaller(self) -> float:
        """Size of the dense network over that of the file."""
        return self.dense_bytes / self.total_bytes


@checked
def save_ticket(
    path: str | Path,
    model: nn.Module,
    supermask: Supermask,
    *,
    init: Callable,
    seed: int,
    init_keep: float | None = None,
    about: Mapping[str, object] | None = None,
) -> TicketSize:
    """Write a supermask and the recipe of its weights to one safetensors file.

    Args:
        model: with the structure of the network that the mask was found for.
        init: how its frozen weights were drawn: `signed_constant_` or `kaiming_normal_`.
        seed: from which they were drawn.
        init_keep: the `keep` that `init` was given, if it was.
        about: what else a reader should know, in numbers and words.

    Raises:
        ValueError: if these do not give the weights that the mask was found for; nothing is
            written then.
        OSError: if the file cannot be written; it appears whole or not at all.
    """
    name = getattr(init, "__name__", str(init))
    if INITIALIZATIONS.get(name) is not init:
        raise ValueError(
            f"init is one of {', '.join(INITIALIZATIONS)}, which a seed can repeat anywhere; "
            f"got {name!r}"
        )
    recipe = {"init": name, "seed": int(seed), "init_keep": init_keep}
    weights = _redraw(model, recipe, supermask.weights_hash)
    supermask = _on_cpu(supermask)
    plain = {n: t for n, t in supermask.others.items() if not _is_default(n, t)}
    tensors = {f"{_MASK}{n}": _pack(m) for n, m in supermask.mask.items()}
    tensors |= {f"{_OTHER}{n}": t for n, t in plain.items()}
    tensors[_GAINS] = torch.tensor([supermask.gains[n] for n in supermask.mask])
    effective = effective_weights(weights, supermask) | supermask.others
    header = {
        "version": VERSION, **recipe, "design": asdict(supermask.design),
        "shapes": {n: list(m.shape) for n, m in supermask.mask.items()},
        "others": {n: [list(t.shape), str(t.dtype)] for n, t in supermask.others.items()},
        "accuracy": supermask.accuracy, "weights_hash": supermask.weights_hash,
        "effective_hash": state_hash(effective), "about": dict(about or {}),
        "digest": state_hash(tensors),
    }  # fmt: skip
    try:
        raw = as_safetensors(tensors, sealed(header))
        _network_in(raw, "the ticket", model)
    except Exception as error:  # of several kinds, according to what is odd
        raise ValueError(f"this ticket could not be loaded again: {error}") from error
    write_atomically(path, raw)
    mask_bytes = sum(t.numel() for n, t in tensors.items() if n.startswith(_MASK))
    dense = sum(t.numel() * t.element_size() for t in effective.values())
    count = sum(m.numel() for m in supermask.mask.values())
    return TicketSize(count, mask_bytes, len(raw) - mask_bytes, dense)


@checked
def load_ticket(path: str | Path, model: nn.Module) -> nn.Module:
    """Return a network with the effective weights of a packed ticket, in evaluation mode.

    Args:
        model: any network of the same structure; not changed. Its weights do not matter: the
            frozen ones are drawn anew from the file's seed.

    Returns:
        a copy of it (with sign activations, if the ticket has them) that computes the same
        outputs, bit for bit on the same machine, as the network that was saved.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is truncated, altered or no packed ticket, of a newer version, of
            another architecture, or its seed does not give its weights.
    """
    return _network_in(_bytes_of(path), str(path), model)


def _network_in(raw: bytes, path: str, model: nn.Module) -> nn.Module:
    header, tensors = _ticket_in(raw, path)
    network = copied(model)
    design = SupermaskConfig(**header["design"])
    if design.binary_activations:
        network = with_sign_activations(network)
    _check_structure(path, header, network)
    try:
        weights = _redraw(network, header, header["weights_hash"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    others = {
        n: tensors[f"{_OTHER}{n}"]
        if f"{_OTHER}{n}" in tensors
        else torch.full(shape, _default(n), dtype=getattr(torch, dtype.removeprefix("torch.")))
        for n, (shape, dtype) in header["others"].items()
    }
    mask = {n: _unpack(tensors[f"{_MASK}{n}"], s) for n, s in header["shapes"].items()}
    gains = dict(zip(mask, tensors[_GAINS].tolist(), strict=True))
    ticket = Supermask(mask, {}, gains, header["accuracy"], others, [], "", design)
    state = effective_weights(weights, ticket) | others
    if state_hash(state) != header["effective_hash"]:
        raise ValueError(f"{path} is damaged: mask, gains or batch norm are not what was saved")
    load_state_(network, state)
    return network.eval()


def _redraw(model: nn.Module, recipe: dict, expected: str) -> State:
    """Return the frozen weights of a recipe, on the CPU."""
    choose("initialisation", recipe["init"], INITIALIZATIONS)
    drawn = copied(model).cpu()
    INITIALIZATIONS[recipe["init"]](drawn, recipe["seed"], keep=recipe["init_keep"])
    weights = {n: w.detach() for n, w in maskable_weights(drawn).items()}
    if state_hash(weights) != expected:
        raise ValueError(
            f"{recipe['init']} with seed {recipe['seed']} and keep={recipe['init_keep']} does not "
            f"give the weights that the mask was found for: another seed, another keep, or "
            f"another initialisation"
        )
    return weights


def read_ticket(path: str | Path) -> tuple[dict, State]:
    """Return the header of a packed ticket and its tensors, as they stand in the file.

    Raises:
        FileNotFoundError, ValueError: as `load_ticket`.
    """
    return _ticket_in(_bytes_of(path), str(path))


def _bytes_of(path: str | Path) -> bytes:
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no packed ticket {path}")
    return Path(path).read_bytes()


def _ticket_in(raw: bytes, where: str) -> tuple[dict, State]:
    """Return header and tensors in the bytes of a file, checked."""
    try:
        metadata, tensors = read_tensors(raw)
        header = unsealed(metadata)
    except ValueError as error:
        raise ValueError(f"{where} is damaged or truncated: {error}") from error
    if header is None or "version" not in header:
        raise ValueError(f"{where} is no packed ticket: its header names no recipe")
    if header["version"] != VERSION:
        raise ValueError(
            f"{where} is a packed ticket of version {header['version']}; this package reads "
            f"version {VERSION}: use the version of the package that wrote it"
        )
    needed = {_GAINS, *(f"{_MASK}{name}" for name in header["shapes"])}
    known = needed | {f"{_OTHER}{name}" for name in header["others"]}
    # The first tickets had no digest; the hash of the effective weights covers their bits.
    if not needed <= set(tensors) <= known or header.get("digest") not in (
        None, state_hash(tensors),
    ):  # fmt: skip
        raise ValueError(f"{where} is damaged: its tensors are not those that were saved")
    return header, tensors


def _check_structure(path: str | Path, header: dict, model: nn.Module) -> None:
    expected = dict(header["shapes"]) | {n: shape for n, (shape, _) in header["others"].items()}
    own = {n: list(t.shape) for n, t in model.state_dict().items()}
    for name in {*expected, *own}:
        if expected.get(name) != own.get(name):
            raise ValueError(
                f"{path} is a ticket of another architecture: {name} has shape "
                f"{expected.get(name, 'none')} there, {own.get(name, 'none')} in the model"
            )


def _on_cpu(supermask: Supermask) -> Supermask:
    tensors = {"mask": supermask.mask, "others": supermask.others}
    return replace(
        supermask, **{key: {n: t.cpu() for n, t in each.items()} for key, each in tensors.items()}
    )


def _pack(mask: Tensor) -> Tensor:
    return torch.from_numpy(np.packbits(mask.numpy().reshape(-1)))


def _unpack(bits: Tensor, shape: list[int]) -> Tensor:
    count = int(np.prod(shape))
    return torch.from_numpy(np.unpackbits(bits.numpy(), count=count).astype(bool)).view(shape)


def _default(name: str) -> float:
    """Return what biases and batch norm start with: 0, and 1 for scales and variances."""
    return 1.0 if name.endswith(("weight", "running_var")) else 0.0


def _is_default(name: str, tensor: Tensor) -> bool:
    expected = torch.full_like(tensor, _default(name))
    return state_hash({name: tensor}) == state_hash({name: expected})  # −0 is not 0
