"""Criteria: how important is each weight?

Every criterion returns `Scores`, a dictionary with the mask's names and shapes in which higher
means *keep*. What to do with scores is the business of `pruning`. Those in `weights` look at the
weights alone; those in `gradients`, `curvature` and `flow` look at the network, as functions
(model, data, mask) that leave the model as it was: a `Criterion`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from lth_tutorial.criteria.curvature import fisher_scores, obd_scores
from lth_tutorial.criteria.flow import connected_weights, count_paths, synflow_scores
from lth_tutorial.criteria.gradients import gradient_scores, grasp_scores, snip_scores
from lth_tutorial.criteria.weights import (
    Scores,
    magnitude_increase_scores,
    magnitude_scores,
    movement_scores,
    random_scores,
)
from lth_tutorial.data import Dataset
from lth_tutorial.masks import Mask

Criterion = Callable[[nn.Module, Dataset, Mask], Scores]
"""What scores the weights that a mask keeps: `snip_scores` and the like."""

__all__ = [
    "Criterion",
    "Scores",
    "magnitude_scores",
    "random_scores",
    "movement_scores",
    "magnitude_increase_scores",
    "gradient_scores",
    "snip_scores",
    "grasp_scores",
    "fisher_scores",
    "obd_scores",
    "synflow_scores",
    "connected_weights",
    "count_paths",
]
