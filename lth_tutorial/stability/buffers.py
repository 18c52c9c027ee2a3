"""Buffers between networks: what a network in between would measure is not interpolated.

Statistics of norms are measured anew on the training images, unless a norm was frozen on purpose;
spectral norm's vectors follow the weights (`networks.parametrized`); of buffers that nobody here
knows, the reader is warned.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.networks.parametrized import follow_weights
from lth_tutorial.safety.warn import warn
from lth_tutorial.states import State
from lth_tutorial.training.groups import SingleModel, Stack

_CHUNK = 500


class BufferWarning(UserWarning):
    """Buffers of two networks differ, and what lies between them may be no network's."""


@torch.no_grad()
def reestimate_group_(
    group: SingleModel | Stack, data: Dataset, frozen: Collection[str] = ()
) -> None:
    """Measure the statistics of all norms but the frozen ones on the training images, in place.

    The mean over batches of 500 images in stored order of each batch's mean and variance; an
    incomplete last batch counts only where there is no other.
    """
    known = {} if isinstance(group, Stack) else norms_of(group.models[0])
    norms = [norm for name, norm in known.items() if name not in frozen]
    usual = [norm.momentum for norm in norms]
    group.set_training(isinstance(group, Stack))  # of a single model: no dropout
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    whole = max(len(data.x_train) // _CHUNK * _CHUNK, min(_CHUNK, len(data.x_train)))
    for i, x in enumerate(data.x_train[:whole].split(_CHUNK)):
        # With weight 1 / (i + 1) the running statistics are the mean over the batches so far.
        group.momentum = 1 / (i + 1)
        for norm in norms:
            norm.momentum = 1 / (i + 1)
        x = data.normalize(x)
        group.logits(x.expand(group.size, *x.shape))
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
    group.restore_modes()


def norms_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return the norms that keep statistics of data, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _NormBase) and module.track_running_stats
    }


def frozen_norms(model: nn.Module, states: Sequence[State] = ()) -> set[str]:
    """Return the names of norms whose statistics training left alone, on purpose."""
    norms = norms_of(model)
    frozen = {name for name, norm in norms.items() if model.training and not norm.training}

    def same(names: Iterable[str]) -> bool:
        return all(torch.equal(states[0][n], state[n]) for n in names for state in states[1:])

    if len(states) > 1 and not same(states[0]):
        for name in norms:
            prefix = f"{name}." if name else ""
            if same([f"{prefix}running_mean", f"{prefix}running_var"]):
                frozen.add(name)
    return frozen


def warn_of_buffers(model: nn.Module, states: Sequence[State]) -> None:
    """Warn, naming them, of buffers that differ between networks for a reason nobody here knows."""
    parts = ("running_mean", "running_var", "num_batches_tracked")
    known = {f"{name}.{part}" if name else part for name in norms_of(model) for part in parts}
    followed = follow_weights(states[0])
    odd = [
        name
        for name, _ in model.named_buffers()
        if name in states[0] and name not in known and followed[name] is states[0][name]
        and not all(torch.equal(states[0][name], state[name]) for state in states[1:])
    ]  # fmt: skip
    if odd:
        warn(
            f"{', '.join(odd)}: buffers that differ between the networks are interpolated like "
            f"weights (whole numbers are those of the first); if they are computed from data or "
            f"weights, the networks in between are not what they would be",
            BufferWarning,
        )


def check_seen(model: nn.Module, states: Sequence[State]) -> None:
    """Raise a ValueError, naming it, if a batch norm has no statistics to interpolate."""
    for name, norm in norms_of(model).items():
        counter = f"{name}.num_batches_tracked" if name else "num_batches_tracked"
        counts = isinstance(norm, _BatchNorm)  # instance norm does not
        if counts and any(int(state[counter]) == 0 for state in states):
            raise ValueError(
                f"{name} has never seen data, its statistics mean nothing; train the network, or "
                f"ask for batch_norm='reestimate'"
            )
