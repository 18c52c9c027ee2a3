"""Figures: one function per kind, rows in, a matplotlib figure out.

Chapters reach them as `lt.plotting.…`. Nothing here runs an experiment; means and intervals come
from `results`, so a reader gets the same numbers from the rows. Read `card` first: colours, markers
and axes that all figures share. The other modules are in the order of the chapters that need them.
"""

from lth_tutorial.plotting.card import METHODS, VALUES, not_yet_run
from lth_tutorial.plotting.criteria import connected_layers, saliency_plane
from lth_tutorial.plotting.early import (
    accuracy_vs_drawing,
    accuracy_vs_step,
    mask_distances,
    settling,
)
from lth_tutorial.plotting.images import mask_and_arms, mask_image, weight_grids
from lth_tutorial.plotting.looks import (
    excess_by_arm,
    locality_curves,
    neighbours_vs_density,
    receptive_fields,
    spiral_and_wiring,
    weights_vs_accuracy,
    weights_vs_width,
)
from lth_tutorial.plotting.quarrel import (
    quarrel,
    rate_and_worth,
    sweep_rates,
    worth_in_words,
)
from lth_tutorial.plotting.removal import weights_and_accuracy
from lth_tutorial.plotting.rethinking import arm_dots
from lth_tutorial.plotting.retraining import accuracy_vs_budget, learning_rates
from lth_tutorial.plotting.stability import (
    barrier_vs_step,
    error_along_path,
    stability_and_error,
    surface,
)
from lth_tutorial.plotting.structured import cost_bars, coupling, scales_and_accuracy
from lth_tutorial.plotting.supermasks import (
    accuracy_by_network,
    layer_and_arms,
    minus_dense,
    supermasks_vs_density,
)
from lth_tutorial.plotting.theory import (
    error_vs_products,
    imitated_lines,
    imitation,
    subset_sums,
)
from lth_tutorial.plotting.tickets import (
    accuracy_vs_density,
    differences,
    steps_vs_density,
)
from lth_tutorial.plotting.untrained import mask_and_accuracy, supermask_accuracy
from lth_tutorial.plotting.variants import (
    accuracy_vs_penalty,
    accuracy_vs_stored,
    basis_images,
    moved_tickets,
    weights_leaving,
)

__all__ = [
    "METHODS",
    "VALUES",
    "accuracy_vs_density",
    "steps_vs_density",
    "differences",
    "mask_image",
    "mask_and_arms",
    "weight_grids",
    "weights_and_accuracy",
    "coupling",
    "cost_bars",
    "scales_and_accuracy",
    "barrier_vs_step",
    "error_along_path",
    "stability_and_error",
    "surface",
    "arm_dots",
    "quarrel",
    "rate_and_worth",
    "sweep_rates",
    "worth_in_words",
    "learning_rates",
    "accuracy_vs_budget",
    "saliency_plane",
    "connected_layers",
    "minus_dense",
    "supermasks_vs_density",
    "accuracy_by_network",
    "layer_and_arms",
    "supermask_accuracy",
    "mask_and_accuracy",
    "subset_sums",
    "imitated_lines",
    "error_vs_products",
    "imitation",
    "basis_images",
    "accuracy_vs_stored",
    "moved_tickets",
    "accuracy_vs_penalty",
    "weights_leaving",
    "receptive_fields",
    "locality_curves",
    "neighbours_vs_density",
    "excess_by_arm",
    "spiral_and_wiring",
    "weights_vs_accuracy",
    "weights_vs_width",
    "mask_distances",
    "settling",
    "accuracy_vs_drawing",
    "accuracy_vs_step",
    "not_yet_run",
]
