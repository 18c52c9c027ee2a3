"""Linear mode connectivity: is there a hill between two trained networks?

Train a network to step k, copy it, and let the copies finish on different orders of the data. If
the error stays flat on the straight line between them, training was *stable* from step k on: the
noise of the data order no longer decides where it ends (Frankle et al. 2020, section 2).
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.pruning.masks import Mask
from lth_tutorial.runtime import choose, is_whole
from lth_tutorial.states import State, snapshot
from lth_tutorial.training.evaluation import evaluate_group
from lth_tutorial.training.groups import SingleModel, Stack, can_stack

BatchNorm = Literal["reestimate", "stale"]
_CHUNK = 500
_STACK = 31


@dataclass(frozen=True)
class Barrier:
    """Error and loss on the straight line between two networks.

    Attributes:
        alphas: positions on the line: 0 is the first network, 1 the second.
        errors: error in [0, 1] at each position.
        losses: mean cross-entropy (nats) at each position.
    """

    alphas: tuple[float, ...]
    errors: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def height(self) -> float:
        """Largest error on the line minus the mean error of its ends, in [0, 1]."""
        return _height(self.errors)

    @property
    def loss_height(self) -> float:
        """Largest loss on the line minus the mean loss of its ends (nats)."""
        return _height(self.losses)

    def summary(self) -> dict[str, float]:
        """Return heights, and the errors of both ends and at the worst point, for a row."""
        return {
            "height": self.height,
            "loss_height": self.loss_height,
            "error_a": self.errors[0],
            "error_b": self.errors[-1],
            "max_error": max(self.errors),
        }


def interpolate(a: State, b: State, alpha: float, *, extrapolate: bool = False) -> State:
    """Return the weights at (1 − alpha) · a + alpha · b: exactly a at 0 and exactly b at 1.

    Tensors of whole numbers (batch norm's counter) are those of `a`.

    Args:
        extrapolate: allow positions outside [0, 1], beyond the two networks.

    Raises:
        ValueError: for states of different networks, weights that are NaN or infinite (naming the
            tensor), or an alpha outside [0, 1].
    """
    check_states(a, b)
    if not math.isfinite(alpha) or not (extrapolate or 0 <= alpha <= 1):
        raise ValueError(
            f"alpha lies in [0, 1], between the two networks; got {alpha!r} (extrapolate=True goes "
            f"beyond them)"
        )
    return _between(a, b, alpha)


def barrier(
    model: nn.Module,
    a: State,
    b: State,
    data: Dataset,
    *,
    points: int = 11,
    split: str = "test",
    batch_norm: BatchNorm = "reestimate",
    mask: Mask | None = None,
) -> Barrier:
    """Return error and loss at evenly spaced points on the line between two networks.

    The height does not depend on which end comes first. Read it beside the errors of the ends: two
    networks that both failed have no barrier between them.

    Args:
        model: gives the structure; it is left as it was.
        a, b: states of two networks of that structure, e.g. `result.final`.
        points: positions including both ends, 3 or more; the papers take 11 to 31.
        split: images to evaluate on: "train", "val" or "test".
        batch_norm: "reestimate" measures the statistics of every interpolated network on the
            training images; "stale" interpolates those of the ends, which are not the statistics
            of the network in between.
        mask: if given, both networks must be zero wherever it prunes.

    Raises:
        ValueError: for states that do not fit each other, the model or the mask, weights that are
            NaN or infinite (each naming the tensor), or, with "stale", a batch norm that has never
            seen data.

    Source: Frankle et al. 2020 (linear mode connectivity), section 2.
    """
    check_points(points)
    check_states(a, b)
    check_states(snapshot(model), a)
    for state in (a, b):
        _check_masked(state, mask)
    last = points - 1
    # From the nearer end, so that swapping the ends gives the same networks to the last bit.
    states = [
        _between(a, b, i / last) if 2 * i <= last else _between(b, a, (last - i) / last)
        for i in range(points)
    ]
    losses, errors = evaluate_states(model, states, data, split, batch_norm)
    return Barrier(tuple(i / last for i in range(points)), errors, losses)


def reestimate_batch_norm_(model: nn.Module, data: Dataset) -> None:
    """Measure the statistics of every batch norm layer on the training images, in place.

    The mean over batches of 500 images in stored order of each batch's mean and variance; an
    incomplete last batch counts only where there is no other.
    """
    _reestimate_(SingleModel(model), data)


@torch.no_grad()
def _reestimate_(group: SingleModel | Stack, data: Dataset) -> None:
    norms = [] if isinstance(group, Stack) else _batch_norms(group.models[0])
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


def check_states(a: State, b: State) -> None:
    """Raise a ValueError, naming the tensor, unless two states are finite and of one structure."""
    odd = sorted(set(a) ^ set(b))
    if odd:
        raise ValueError(f"these are states of different networks: only one has {', '.join(odd)}")
    for name, tensor in a.items():
        if tensor.shape != b[name].shape:
            raise ValueError(
                f"these are states of different networks: {name} has shape {tuple(tensor.shape)} "
                f"in one and {tuple(b[name].shape)} in the other"
            )
        for each in (tensor, b[name]):
            if not bool(torch.isfinite(each).all()):
                raise ValueError(f"{name} holds NaN or infinity; did the training diverge?")


def _between(a: State, b: State, alpha: float) -> State:
    return {
        name: torch.lerp(tensor, b[name], alpha) if tensor.is_floating_point() else tensor.clone()
        for name, tensor in a.items()
    }


def _check_masked(state: State, mask: Mask | None) -> None:
    for name, kept in (mask or {}).items():
        if name not in state or state[name].shape != kept.shape:
            raise ValueError(f"the mask of {name} does not fit the networks")
        if bool((state[name][~kept] != 0).any()):
            raise ValueError(f"a network has weights in {name} where the mask prunes")


def _batch_norms(model: nn.Module) -> list[nn.Module]:
    kinds = nn.modules.batchnorm._BatchNorm
    return [m for m in model.modules() if isinstance(m, kinds) and m.track_running_stats]


def _check_seen(model: nn.Module, states: Sequence[State]) -> None:
    for name, module in model.named_modules():
        counter = f"{name}.num_batches_tracked"
        if module in _batch_norms(model) and any(int(state[counter]) == 0 for state in states):
            raise ValueError(
                f"{name} has never seen data, its statistics mean nothing; train the network, or "
                f"ask for batch_norm='reestimate'"
            )


def check_points(points: int) -> None:
    """Raise a ValueError unless a line has its ends and something in between."""
    if not is_whole(points) or points < 3:
        raise ValueError(f"points is a whole number of at least 3; got {points!r}")


def evaluate_states(
    model: nn.Module, states: Iterable[State], data: Dataset, split: str, batch_norm: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return loss and error of every state, many small networks at a time."""
    choose("batch_norm", batch_norm, ("reestimate", "stale"))
    group: SingleModel | Stack
    losses: list[float] = []
    errors: list[float] = []
    stacking, probe, states = can_stack([model, model]), copy.deepcopy(model), iter(states)
    while some := list(itertools.islice(states, _STACK if stacking else 1)):
        if stacking:
            group = Stack([probe] * len(some), some)
        else:
            probe.load_state_dict(some[0])
            group = SingleModel(probe)
        if batch_norm == "stale":
            _check_seen(probe, some)
        elif _batch_norms(probe):
            _reestimate_(group, data)
        loss, accuracy = evaluate_group(group, data, split)
        losses += loss.tolist()
        errors += (1 - accuracy).tolist()
    return tuple(losses), tuple(errors)


def _height(values: Sequence[float]) -> float:
    return max(values) - (values[0] + values[-1]) / 2
