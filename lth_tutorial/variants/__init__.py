"""Variants of the hypothesis: one word of it changed at a time.

Chapters 9, 13 and 14 stand on this room; each builds on the pipeline before it, and none on another
chapter's modules.

- Chapter 9: `early_bird` (a ticket found while training is under way) by the rule in `drawn_masks`,
  `drawing` (when and how well, over several seeds), `boosting` (masks found at a low rate).
- Chapter 13: `bases`, `coefficients` and `basis_tickets` change the coordinates in which weights
  are pruned, `elastic` and `elastic_tickets` the network that a ticket belongs to, `dual` and
  `dual_tickets` where the mask comes from.
- Chapter 14: `locality` (where the kept pixels of a unit lie), then `sifting` (the pruning that
  makes them local) and `matching` (the overlap of two seeds' masks); `spiral` (a problem in the
  plane), then `spiral_search` and `spiral_pruners`; `shipped` has what their records leave behind.
"""

from lth_tutorial.variants.bases import (
    Basis,
    bases_of,
    dct_2d,
    dct_matrix,
    from_basis,
    in_basis,
)
from lth_tutorial.variants.basis_tickets import (
    basis_experiment,
)
from lth_tutorial.variants.boosting import (
    boosting_experiment,
    boosting_mask,
)
from lth_tutorial.variants.coefficients import (
    Stored,
    prune_groups,
    stored_numbers,
)
from lth_tutorial.variants.drawing import (
    History,
    early_bird_experiment,
    mask_histories,
    random_histories,
    settling_experiment,
    settling_rows,
    train_history,
)
from lth_tutorial.variants.drawn_masks import (
    draw_mask,
    drawing_epoch,
    mask_distance,
    unrelated_distance,
)
from lth_tutorial.variants.dual import (
    check_random,
    random_mask,
    rank_correlation,
)
from lth_tutorial.variants.dual_tickets import (
    dual_experiment,
)
from lth_tutorial.variants.early_bird import (
    EarlyBird,
    TicketWarning,
    early_bird,
    train_on,
)
from lth_tutorial.variants.elastic import (
    append_blocks,
    block_map,
    block_stages,
    interpolate_blocks,
    parse_block_map,
    transfer_ticket,
)
from lth_tutorial.variants.elastic_tickets import (
    elastic_experiment,
)
from lth_tutorial.variants.locality import (
    connected_units,
    displacements,
    first_layer,
    kept_at_distance,
    neighbour_share,
    paths_to,
    shuffle_units,
)
from lth_tutorial.variants.matching import match_units, overlaps_between_seeds, shuffled_layers
from lth_tutorial.variants.shipped import load_masks, load_solution
from lth_tutorial.variants.sifting import (
    count_biases,
    locality_experiment,
    sifting_network,
    small_convolution,
)
from lth_tutorial.variants.spiral import needed_weights, spiral_network
from lth_tutorial.variants.spiral_pruners import compare_on_spiral, fewest_weights
from lth_tutorial.variants.spiral_search import (
    Found,
    descend,
    enumerate_masks,
    random_masks,
    train_masks,
)

__all__ = [
    "EarlyBird",
    "TicketWarning",
    "draw_mask",
    "mask_distance",
    "unrelated_distance",
    "drawing_epoch",
    "early_bird",
    "train_on",
    "History",
    "train_history",
    "mask_histories",
    "random_histories",
    "settling_rows",
    "settling_experiment",
    "early_bird_experiment",
    "boosting_mask",
    "boosting_experiment",
    "Basis",
    "bases_of",
    "in_basis",
    "from_basis",
    "dct_matrix",
    "dct_2d",
    "prune_groups",
    "Stored",
    "stored_numbers",
    "basis_experiment",
    "block_stages",
    "append_blocks",
    "interpolate_blocks",
    "parse_block_map",
    "block_map",
    "transfer_ticket",
    "elastic_experiment",
    "random_mask",
    "rank_correlation",
    "check_random",
    "dual_experiment",
    "first_layer",
    "displacements",
    "neighbour_share",
    "kept_at_distance",
    "shuffle_units",
    "paths_to",
    "connected_units",
    "sifting_network",
    "locality_experiment",
    "count_biases",
    "small_convolution",
    "match_units",
    "shuffled_layers",
    "overlaps_between_seeds",
    "spiral_network",
    "needed_weights",
    "compare_on_spiral",
    "fewest_weights",
    "Found",
    "descend",
    "enumerate_masks",
    "random_masks",
    "train_masks",
    "load_masks",
    "load_solution",
]
