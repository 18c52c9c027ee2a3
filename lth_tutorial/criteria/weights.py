"""Criteria that look at the weights alone: their size, their change, or nothing at all."""

from __future__ import annotations

import torch

from lth_tutorial.data.dataset import generator_for
from lth_tutorial.networks.parametrized import weight_in
from lth_tutorial.pruning.masks import Mask, Scores, check_boolean, check_mask_of
from lth_tutorial.safety.arguments import checked
from lth_tutorial.states import State


@checked
def magnitude_scores(state: State, mask: Mask) -> Scores:
    """Return |w| for every prunable weight of a trained network.

    Under weight norm and spectral norm, w is the weight that comes out of them.

    Args:
        state: the network's weights, e.g. `snapshot(model)`.
        mask: the mask that it was trained under; gives names and shapes.

    Raises:
        ValueError: if the mask does not fit the state.

    Source: Han et al. 2015; Frankle & Carbin 2019, section 1.
    """
    check_mask_of(mask, state)
    return {name: weight_in(state, name).abs() for name in state if name in mask}


@checked
def relative_magnitude_scores(state: State, mask: Mask) -> Scores:
    """Return |w| over the mean |w| that its layer keeps: magnitudes made comparable across layers.

    For a threshold over the whole network, which would otherwise empty the layers whose weights
    are small because they are many.

    Args:
        state: the network's weights, e.g. `snapshot(model)`.
        mask: gives names and shapes; only kept weights count in the mean.

    Raises:
        ValueError: if the mask does not fit the state.

    Source: the code of Li et al. 2020 (boosting tickets).
    """
    check_mask_of(mask, state)
    scores = {}
    for name in (name for name in state if name in mask):
        size, kept = weight_in(state, name).abs(), mask[name]
        mean = (size * kept).sum() / kept.sum()
        scores[name] = size / mean if float(mean) > 0 else size
    return scores


@checked
def random_scores(mask: Mask, seed: int) -> Scores:
    """Return scores uniform in [0, 1) that know nothing of the weights: a control.

    `prune` with these removes weights uniformly at random, over the whole network or within each
    layer, according to its scope.
    """
    check_boolean(mask)
    return {
        name: torch.rand(kept.shape, generator=generator_for("random scores", seed, i)).to(
            kept.device
        )
        for i, (name, kept) in enumerate(mask.items())
    }


@checked
def movement_scores(state: State, start: State, mask: Mask) -> Scores:
    """Return |w − w₀|, how far training moved every prunable weight.

    Args:
        state: the trained weights.
        start: the weights that training began with.
        mask: gives names and shapes.

    Raises:
        ValueError: if the mask does not fit one of the states.

    Source: Zhou et al. 2019, section 2 (the criterion *movement*).
    """
    check_mask_of(mask, state)
    check_mask_of(mask, start)
    names = [name for name in state if name in mask]
    return {name: (weight_in(state, name) - weight_in(start, name)).abs() for name in names}


@checked
def magnitude_increase_scores(state: State, start: State, mask: Mask) -> Scores:
    """Return |w| − |w₀|, by how much training made every prunable weight larger.

    Negative for a weight that moved towards zero.

    Args:
        state, start, mask: as for `movement_scores`.

    Raises:
        ValueError: if the mask does not fit one of the states.

    Source: Zhou et al. 2019, section 2 (the criterion *magnitude increase*).
    """
    check_mask_of(mask, state)
    check_mask_of(mask, start)
    names = [name for name in state if name in mask]
    return {name: weight_in(state, name).abs() - weight_in(start, name).abs() for name in names}
