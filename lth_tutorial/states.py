"""States: a network's weights as a dictionary, copied so that training cannot reach them.

Everything that is rewound, compared or written to disk is a `State`. `state_hash` is the proof
that two of them are the same to the bit.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

__all__ = ["State", "snapshot", "state_hash"]

State = dict[str, Tensor]
"""A detached copy of a model's `state_dict()`: parameter name to tensor."""


def snapshot(model: nn.Module) -> State:
    """Return a copy of the model's state that later training cannot change."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def state_hash(state: State) -> str:
    """Return a SHA-256 digest of names, types, shapes and bits of a state.

    Equal digests mean bit-identical weights: the proof that a ticket was rewound.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
