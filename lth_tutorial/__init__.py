"""A companion to the lottery ticket book: prune, rewind, control, measure.

Four nouns carry everything, each a dictionary keyed by parameter name or a table: a *state*
(weights), a *mask* (True = kept), *scores* (higher = keep) and *rows* (one measurement each).
Read the modules in the order of the imports below.
"""

from lth_tutorial import exercises as check
from lth_tutorial import plotting
from lth_tutorial.arms import lottery_experiment
from lth_tutorial.before_training import prune_before_training
from lth_tutorial.checkpoints import DamagedFileWarning
from lth_tutorial.claims import CLAIMS, Claim, claims
from lth_tutorial.config import IMPConfig, TrainConfig, learning_rate
from lth_tutorial.connectivity import Barrier, barrier, interpolate
from lth_tutorial.corruption import corrupt_data
from lth_tutorial.criteria import (
    Criterion,
    Scores,
    connected_weights,
    count_paths,
    fisher_scores,
    gradient_scores,
    grasp_scores,
    magnitude_increase_scores,
    magnitude_scores,
    movement_scores,
    obd_scores,
    random_scores,
    snip_scores,
    synflow_scores,
)
from lth_tutorial.data import Dataset, batch_indices, make_dataset
from lth_tutorial.datasets import load_dataset
from lth_tutorial.evaluation import evaluate
from lth_tutorial.explore import Explorer, explore
from lth_tutorial.failures import MemoryWarning
from lth_tutorial.gallery import GalleryEntry, gallery
from lth_tutorial.instability import instability
from lth_tutorial.landscape import Plane, plane, round_barriers
from lth_tutorial.layers import SignActivation, with_batch_norm, with_sign_activations
from lth_tutorial.lottery import IMPRound, iterative_magnitude_pruning, rewind_
from lth_tutorial.masks import (
    Mask,
    apply_mask_,
    dense_mask,
    density,
    layer_densities,
    load_mask,
    overlap,
    save_mask,
    shuffle_within_layers,
)
from lth_tutorial.models import State, build_model, reinitialize, snapshot, state_hash
from lth_tutorial.networks import mlp
from lth_tutorial.outcome import DivergenceWarning, Metrics, TrainResult
from lth_tutorial.pruning import LayerCollapseWarning, keep_best, prune, prune_like
from lth_tutorial.records import (
    load_provenance,
    load_rows,
    recorded,
    save_rows,
    widen,
)
from lth_tutorial.replicates import train_replicates
from lth_tutorial.results import (
    Interval,
    difference_table,
    matching,
    paired_difference,
    summarize,
    t_interval,
)
from lth_tutorial.retraining import retraining_experiment
from lth_tutorial.rewinding import rewinding_experiment
from lth_tutorial.runtime import limit_threads, pick_device, versions
from lth_tutorial.schedules import layer_counts, prune_to_density
from lth_tutorial.structured import (
    UnitGroup,
    Units,
    UntraceableError,
    all_units,
    cost_table,
    flops,
    kept_units,
    remove_units,
    scratch,
    scratch_config,
    silence_,
    structured_experiment,
    unit_groups,
    unit_mask,
    unit_scores,
)
from lth_tutorial.supermask import (
    Supermask,
    SupermaskConfig,
    TicketSize,
    biprop,
    edge_popup,
    effective_state,
    kaiming_normal_,
    large_final_mask,
    learned_supermask,
    load_shipped_ticket,
    load_ticket,
    replace_kept,
    rescale_kept,
    save_ticket,
    shipped_tickets,
    signed_constant_,
    signs_experiment,
    supermask_experiment,
    top_k_mask,
    train_supermasks,
)
from lth_tutorial.theory import (
    PrunedRandomNetwork,
    RandomLayer,
    Subset,
    best_single,
    best_subset,
    imitation_experiment,
    output_error,
    prune_random_layer,
    prune_random_network,
    random_products,
    relu_network,
    subset_sum_experiment,
    typical_error,
)
from lth_tutorial.training import train
from lth_tutorial.verdicts import verdicts

__version__ = "0.1.0"

__all__ = [
    "all_units",
    "apply_mask_",
    "Barrier",
    "barrier",
    "batch_indices",
    "best_single",
    "best_subset",
    "biprop",
    "build_model",
    "check",
    "Claim",
    "CLAIMS",
    "claims",
    "connected_weights",
    "corrupt_data",
    "cost_table",
    "count_paths",
    "Criterion",
    "DamagedFileWarning",
    "Dataset",
    "dense_mask",
    "density",
    "difference_table",
    "DivergenceWarning",
    "MemoryWarning",
    "edge_popup",
    "effective_state",
    "evaluate",
    "explore",
    "Explorer",
    "fisher_scores",
    "flops",
    "gallery",
    "GalleryEntry",
    "gradient_scores",
    "grasp_scores",
    "imitation_experiment",
    "IMPConfig",
    "IMPRound",
    "instability",
    "interpolate",
    "Interval",
    "iterative_magnitude_pruning",
    "kaiming_normal_",
    "keep_best",
    "kept_units",
    "large_final_mask",
    "layer_counts",
    "layer_densities",
    "LayerCollapseWarning",
    "learned_supermask",
    "learning_rate",
    "limit_threads",
    "load_dataset",
    "load_mask",
    "load_provenance",
    "load_rows",
    "load_ticket",
    "load_shipped_ticket",
    "shipped_tickets",
    "lottery_experiment",
    "magnitude_increase_scores",
    "magnitude_scores",
    "make_dataset",
    "Mask",
    "matching",
    "Metrics",
    "mlp",
    "movement_scores",
    "obd_scores",
    "output_error",
    "overlap",
    "paired_difference",
    "pick_device",
    "Plane",
    "plane",
    "plotting",
    "prune",
    "prune_before_training",
    "prune_like",
    "prune_random_layer",
    "prune_random_network",
    "prune_to_density",
    "PrunedRandomNetwork",
    "random_products",
    "random_scores",
    "RandomLayer",
    "recorded",
    "reinitialize",
    "relu_network",
    "remove_units",
    "replace_kept",
    "rescale_kept",
    "retraining_experiment",
    "rewind_",
    "rewinding_experiment",
    "round_barriers",
    "save_mask",
    "save_rows",
    "save_ticket",
    "Scores",
    "scratch",
    "scratch_config",
    "shuffle_within_layers",
    "SignActivation",
    "signed_constant_",
    "signs_experiment",
    "silence_",
    "snapshot",
    "snip_scores",
    "State",
    "state_hash",
    "structured_experiment",
    "Subset",
    "subset_sum_experiment",
    "summarize",
    "Supermask",
    "supermask_experiment",
    "SupermaskConfig",
    "synflow_scores",
    "t_interval",
    "TicketSize",
    "top_k_mask",
    "train",
    "train_replicates",
    "train_supermasks",
    "TrainConfig",
    "TrainResult",
    "typical_error",
    "unit_groups",
    "unit_mask",
    "unit_scores",
    "UnitGroup",
    "Units",
    "UntraceableError",
    "verdicts",
    "versions",
    "widen",
    "with_batch_norm",
    "with_sign_activations",
]
