"""Why a random network contains a trained one: the proofs of 2020, made into code (chapter 11).

Read `subsets` first: one target weight as a sum of some of n random numbers. `construction` then
does it for every weight of a network, and prunes a random network of twice the depth onto it;
`measured` repeats both over many seeds.
"""

from lth_tutorial.theory.construction import (
    PrunedRandomNetwork,
    RandomLayer,
    output_error,
    prune_random_layer,
    prune_random_network,
    relu_network,
)
from lth_tutorial.theory.measured import imitation_experiment, subset_sum_experiment
from lth_tutorial.theory.subsets import (
    Subset,
    best_single,
    best_subset,
    random_products,
    typical_error,
)

__all__ = [
    "PrunedRandomNetwork",
    "RandomLayer",
    "Subset",
    "best_single",
    "best_subset",
    "imitation_experiment",
    "output_error",
    "prune_random_layer",
    "prune_random_network",
    "random_products",
    "relu_network",
    "subset_sum_experiment",
    "typical_error",
]
