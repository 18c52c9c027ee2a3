"""The loss surface around networks: planes through three of them, and the path of pruning.

Where `connectivity` walks along one line, a plane shows the ground beside it; the barriers between
the networks of successive rounds show that pruning with rewinding never leaves its valley.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lth_tutorial.data.dataset import Dataset
from lth_tutorial.networks.parametrized import check_between, follow_weights
from lth_tutorial.runtime import is_number
from lth_tutorial.safety.arguments import checked
from lth_tutorial.stability.buffers import frozen_norms, warn_of_buffers
from lth_tutorial.stability.connectivity import (
    BatchNorm,
    are_numbers,
    barrier,
    check_points,
    check_states,
    evaluate_states,
)
from lth_tutorial.states import State, snapshot
from lth_tutorial.tickets.lottery import IMPRound

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Plane:
    """Error and loss on a grid in the plane through three networks.

    Attributes:
        x, y: coordinates of columns and rows, as Euclidean distances between weights: the first
            network lies at (0, 0), the second at (distance, 0), the third above the axis.
        anchors: the places of the three networks.
        errors: error in [0, 1], one tuple per row of the grid, the lowest row first.
        losses: mean cross-entropy (nats), likewise.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    anchors: tuple[tuple[float, float], ...]
    errors: tuple[tuple[float, ...], ...]
    losses: tuple[tuple[float, ...], ...]


@checked
def plane(
    model: nn.Module,
    a: State,
    b: State,
    c: State,
    data: Dataset,
    *,
    points: int = 15,
    margin: float = 0.2,
    split: str = "test",
    batch_norm: BatchNorm = "reestimate",
) -> Plane:
    """Measure error and loss on a grid in the plane through three networks.

    Args:
        model: gives the structure; it is left as it was.
        a, b, c: states, e.g. a rewind point, a ticket and the dense solution, or three branches.
        points: grid points in each direction, 3 or more.
        margin: how far the grid reaches beyond the triangle, as a share of its extent, 0 or more.
        split, batch_norm: as for `barrier`.

    Raises:
        ValueError: for states that do not fit each other or the model, weights that are NaN or
            infinite, or three networks on one line (two equal ones, say).

    Source: the construction of Garipov et al. 2018, section 3.
    """
    check_points(points)
    if not (is_number(margin) and 0 <= margin < math.inf):
        raise ValueError(f"margin is a share of at least 0; got {margin!r}")
    for state in (b, c, snapshot(model)):
        check_states(a, state)
    for state in (b, c):
        check_between(a, state)
    warn_of_buffers(model, [a, b, c])
    names = [name for name, _ in model.named_parameters()]
    ab, ac = (_flat(end, names) - _flat(a, names) for end in (b, c))
    width = float(ab.norm())
    along = float(ab @ ac) / width if width else 0.0
    above = math.sqrt(max(float(ac @ ac) - along**2, 0.0))
    if width == 0 or above < 1e-4 * width:
        raise ValueError("the three networks lie on one line: there is no one plane through them")
    anchors = ((0.0, 0.0), (width, 0.0), (along, above))
    x, y = (_axis([anchor[i] for anchor in anchors], points, margin) for i in (0, 1))

    def at(place: tuple[float, float]) -> State:
        towards_c = place[1] / above
        towards_b = (place[0] - towards_c * along) / width
        return _combination(a, b, c, towards_b, towards_c)

    places = ((column, row) for row in y for column in x)
    losses, errors = evaluate_states(
        model, map(at, places), data, split, batch_norm, frozen_norms(model, [a, b, c])
    )
    return Plane(x, y, anchors, _rows(errors, points), _rows(losses, points))


@checked
def round_barriers(
    model: nn.Module,
    rounds: Sequence[IMPRound],
    data: Dataset,
    *,
    points: int = 11,
    split: str = "test",
    batch_norm: BatchNorm = "reestimate",
) -> pd.DataFrame:
    """Return the barrier between the trained networks of every two successive rounds.

    Returns:
        A frame with the columns round (the later one), density (of the later one), height,
        loss_height, error_a, error_b and max_error.

    Raises:
        ValueError: for fewer than two rounds.

    Source: Paul et al. 2023 (Unmasking the lottery ticket hypothesis), section 3.
    """
    import pandas as pd

    if len(rounds) < 2:
        raise ValueError(f"a barrier lies between two rounds; got {len(rounds)}")
    rows = []
    for before, after in itertools.pairwise(rounds):
        found = barrier(
            model, before.state, after.state, data, points=points, split=split,
            batch_norm=batch_norm,
        )  # fmt: skip
        rows.append({"round": after.index, "density": after.density} | found.summary())
    return pd.DataFrame(rows)


def _flat(state: State, names: Sequence[str]) -> Tensor:
    return torch.cat([state[name].flatten().double() for name in names])


def _axis(values: Sequence[float], points: int, margin: float) -> tuple[float, ...]:
    low, high = min(values), max(values)
    beyond = margin * (high - low)
    step = (high - low + 2 * beyond) / (points - 1)
    return tuple(low - beyond + i * step for i in range(points))


def _combination(a: State, b: State, c: State, towards_b: float, towards_c: float) -> State:
    state = {
        name: tensor + towards_b * (b[name] - tensor) + towards_c * (c[name] - tensor)
        if are_numbers(tensor)
        else tensor.clone()
        for name, tensor in a.items()
    }
    return follow_weights(state)


def _rows(values: tuple[float, ...], points: int) -> tuple[tuple[float, ...], ...]:
    return tuple(values[i : i + points] for i in range(0, len(values), points))
