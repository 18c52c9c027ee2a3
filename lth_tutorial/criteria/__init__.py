"""Criteria: how important is each weight?

Chapters 2 and 8 compare them. Every criterion returns `Scores`, a dictionary with the mask's names
and shapes in which higher means *keep*; what to do with scores is the business of `pruning`. Read
`weights` first, whose criteria look at the weights alone. Those in `gradients`, `curvature` and
`flow` look at the network, as functions (model, data, mask) that leave the model as it was: a
`Criterion`. `passes` and `second_derivatives` are the machinery they share; `paths`, with its
`rules` and `blocks`, that of `flow`.
"""

from __future__ import annotations

from lth_tutorial.criteria.curvature import fisher_scores, obd_scores
from lth_tutorial.criteria.flow import connected_weights, count_paths, synflow_scores
from lth_tutorial.criteria.gradients import gradient_scores, grasp_scores, snip_scores
from lth_tutorial.criteria.weights import (
    magnitude_increase_scores,
    magnitude_scores,
    movement_scores,
    random_scores,
    relative_magnitude_scores,
)

__all__ = [
    "magnitude_scores",
    "random_scores",
    "relative_magnitude_scores",
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
