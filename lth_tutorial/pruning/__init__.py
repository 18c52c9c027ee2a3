"""Masks, and how a mask gets smaller: the heart of the pipeline.

Read `masks` first: which weights may be pruned, and what a mask is (chapter 1). `ranking` finds
exactly the best k of millions of scores (`radix`, with its `radix_kernels`, on a GPU), `prune`
takes the lowest share away, over the whole network or layer by layer (chapters 1, 2 and 4).
`schedules` says how many weights to keep in how many rounds (chapter 8). Where scores come from is
the business of `criteria`.
"""

from lth_tutorial.pruning.masks import (
    Criterion,
    Mask,
    Scores,
    apply_mask_,
    dense_mask,
    density,
    layer_densities,
    load_mask,
    overlap,
    save_mask,
    shuffle_within_layers,
)
from lth_tutorial.pruning.prune import (
    LayerCollapseWarning,
    TiedScoresWarning,
    keep_best,
    prune,
    prune_like,
)
from lth_tutorial.pruning.schedules import (
    layer_counts,
    prune_to_density,
)

__all__ = [
    "Mask",
    "Scores",
    "Criterion",
    "dense_mask",
    "apply_mask_",
    "density",
    "layer_densities",
    "overlap",
    "shuffle_within_layers",
    "save_mask",
    "load_mask",
    "prune",
    "prune_like",
    "keep_best",
    "LayerCollapseWarning",
    "TiedScoresWarning",
    "layer_counts",
    "prune_to_density",
]
