"""Linear mode connectivity: is there a hill between two trained networks?

Train a network to step k, copy it, and let the copies finish on different orders of the data. If
the error stays flat on the straight line between them, training was *stable* from step k on: the
noise of the data order no longer decides where it ends (Frankle et al. 2020, section 2).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.networks.calls import copied
from lth_tutorial.networks.first_pass import first_pass
from lth_tutorial.networks.parametrized import check_between, follow_weights
from lth_tutorial.pruning.masks import Mask, check_boolean
from lth_tutorial.runtime import choose, is_whole
from lth_tutorial.safety.arguments import checked
from lth_tutorial.stability.buffers import (
    check_seen,
    frozen_norms,
    norms_of,
    reestimate_group_,
    warn_of_buffers,
)
from lth_tutorial.states import State, load_state_, snapshot
from lth_tutorial.training.evaluation import evaluate_group
from lth_tutorial.training.groups import SingleModel, Stack, can_stack

BatchNorm = Literal["reestimate", "stale"]
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


@checked
def interpolate(a: State, b: State, alpha: float, *, extrapolate: bool = False) -> State:
    """Return the weights at (1 − alpha) · a + alpha · b: exactly a at 0 and exactly b at 1.

    Tensors of whole numbers (batch norm's counter) are those of `a`. The vectors of spectral norm
    are computed anew from the weights in between. Other buffers are interpolated like weights,
    batch norm's statistics too: `barrier` measures those anew.

    Args:
        extrapolate: allow positions outside [0, 1], beyond the two networks.

    Raises:
        ValueError: for states of different networks, weights that are NaN or infinite (naming the
            tensor), an alpha outside [0, 1], or networks that torch.nn.utils.prune has pruned
            differently.
    """
    check_states(a, b)
    check_between(a, b)
    if not math.isfinite(alpha) or not (extrapolate or 0 <= alpha <= 1):
        raise ValueError(
            f"alpha lies in [0, 1], between the two networks; got {alpha!r} (extrapolate=True goes "
            f"beyond them)"
        )
    return _between(a, b, float(alpha))


@checked
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
            training images (of instance norm that keeps some, too); "stale" interpolates those of
            the ends, which are not the statistics of the network in between. A norm that is frozen
            (in evaluation mode inside a model in training mode, or with the same statistics in
            both networks) stays as it is.
        mask: if given, both networks must be zero wherever it prunes.

    Raises:
        ValueError: for states that do not fit each other, the model or the mask, weights that are
            NaN or infinite (each naming the tensor), or, with "stale", a batch norm that has never
            seen data.
        TypeError: if an entry of the mask is not a boolean tensor.

    Warns:
        BufferWarning: naming buffers that differ between the networks and may be computed from
            data or weights in a way that nobody here knows.

    Source: Frankle et al. 2020 (linear mode connectivity), section 2.
    """
    check_points(points)
    check_states(a, b)
    check_between(a, b)
    check_states(snapshot(model), a)
    warn_of_buffers(model, [a, b])
    for state in (a, b):
        _check_masked(state, mask)
    last = points - 1
    # From the nearer end, so that swapping the ends gives the same networks to the last bit.
    states = [
        _between(a, b, i / last) if 2 * i <= last else _between(b, a, (last - i) / last)
        for i in range(points)
    ]
    frozen = frozen_norms(model, [a, b])
    losses, errors = evaluate_states(model, states, data, split, batch_norm, frozen)
    return Barrier(tuple(i / last for i in range(points)), errors, losses)


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
        if tensor.dtype != b[name].dtype:
            raise ValueError(
                f"{name} is {tensor.dtype} in one state and {b[name].dtype} in the other: bring "
                f"both to one type"
            )
        for each in (tensor, b[name]):
            if not bool(torch.isfinite(each).all()):
                raise ValueError(f"{name} holds NaN or infinity; did the training diverge?")


def _between(a: State, b: State, alpha: float) -> State:
    def between(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        # A sum, unlike a step from one to the other, has the same bits from both sides.
        return (one + other) / 2 if alpha == 0.5 else torch.lerp(one, other, alpha)

    state = {
        name: between(tensor, b[name]) if are_numbers(tensor) else tensor.clone()
        for name, tensor in a.items()
    }
    return state if alpha in (0, 1) else follow_weights(state)


def are_numbers(tensor: torch.Tensor) -> bool:
    """Return whether there is something between two tensors like this one."""
    return tensor.is_floating_point() or tensor.is_complex()


def _check_masked(state: State, mask: Mask | None) -> None:
    if mask is not None:
        check_boolean(mask)
    for name, kept in (mask or {}).items():
        if name not in state or state[name].shape != kept.shape:
            raise ValueError(f"the mask of {name} does not fit the networks")
        if bool((state[name][~kept] != 0).any()):
            raise ValueError(f"a network has weights in {name} where the mask prunes")


def check_points(points: int) -> None:
    """Raise a ValueError unless a line has its ends and something in between."""
    if not is_whole(points) or points < 3:
        raise ValueError(f"points is a whole number of at least 3; got {points!r}")


def evaluate_states(
    model: nn.Module,
    states: Iterable[State],
    data: Dataset,
    split: str,
    batch_norm: str,
    frozen: Collection[str] = (),
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return loss and error of every state, many small networks at a time."""
    choose("batch_norm", batch_norm, ("reestimate", "stale"))
    group: SingleModel | Stack
    losses: list[float] = []
    errors: list[float] = []
    stacking, probe = can_stack([model, model]) and not frozen, copied(model)
    first_pass(probe, data)
    states = iter(states)
    while some := list(itertools.islice(states, _STACK if stacking else 1)):
        if stacking:
            group = Stack([probe] * len(some), some)
        else:
            load_state_(probe, some[0])
            group = SingleModel(probe)
        if batch_norm == "stale":
            check_seen(probe, some)
        elif norms_of(probe):
            reestimate_group_(group, data, frozen)
        loss, accuracy = evaluate_group(group, data, split)
        losses += loss.tolist()
        errors += (1 - accuracy).tolist()
    return tuple(losses), tuple(errors)


def _height(values: Sequence[float]) -> float:
    return max(values) - (values[0] + values[-1]) / 2
