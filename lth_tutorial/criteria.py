"""Criteria: how important is each weight?

Every criterion returns `Scores`, a dictionary with the mask's names and shapes in which higher
means *keep*. What to do with scores is the business of `pruning`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lth_tutorial.data import generator_for
from lth_tutorial.masks import Mask, check_mask
from lth_tutorial.models import State

Scores = dict[str, Tensor]
"""Parameter name to float tensor, higher = keep."""


def magnitude_scores(state: State, mask: Mask) -> Scores:
    """Return |w| for every prunable weight of a trained network.

    Args:
        state: the network's weights, e.g. `snapshot(model)`.
        mask: the mask that it was trained under; gives names and shapes.

    Raises:
        ValueError: if the mask does not fit the state.

    Source: Han et al. 2015; Frankle & Carbin 2019, section 1.
    """
    if isinstance(state, nn.Module):
        raise TypeError("magnitude_scores takes a state, not a model: pass snapshot(model)")
    check_mask(mask, {name: state[name] for name in mask if name in state})
    return {name: state[name].detach().abs() for name in mask}


def random_scores(mask: Mask, seed: int) -> Scores:
    """Return scores uniform in [0, 1) that know nothing of the weights: a control.

    `prune` with these removes weights uniformly at random, over the whole network or within each
    layer, according to its scope.
    """
    return {
        name: torch.rand(kept.shape, generator=generator_for("random scores", seed, i)).to(
            kept.device
        )
        for i, (name, kept) in enumerate(mask.items())
    }
