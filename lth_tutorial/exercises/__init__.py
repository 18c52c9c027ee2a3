"""Checks for the exercises: they test properties, and a failure names the idea that was missed.

The book reaches them as `lt.check.…`. A check takes the reader's answer, a number or a function,
and returns a `Check`; it never raises, so that a notebook with open exercises still runs from top
to bottom. Read `outcome` first, then the checks in the order of the chapters' exercises.
"""

from __future__ import annotations

from lth_tutorial.exercises.after_pruning import (
    matching_test,
    rates_after_pruning,
    total_steps,
)
from lth_tutorial.exercises.barriers import barrier_height, interpolation, stable_from
from lth_tutorial.exercises.counting import remaining_weights
from lth_tutorial.exercises.early import chance_ratio, honest_selection, stopping_rule
from lth_tutorial.exercises.edge_popup import edge_popup_mask, kept_by_hand, score_gradient
from lth_tutorial.exercises.generalised import (
    artefact,
    moved_density,
    numbers_stored,
    penalised_gradient,
)
from lth_tutorial.exercises.looks import needed_by_hand, null_mask, removed_per_round
from lth_tutorial.exercises.magnitude import magnitude_pruning
from lth_tutorial.exercises.masked_steps import masked_step
from lth_tutorial.exercises.outcome import Check
from lth_tutorial.exercises.prizes import gain, packed_bytes, sign_gradient
from lth_tutorial.exercises.removal import density_after_rounds, remove_neurons
from lth_tutorial.exercises.rethinking import fair_steps, isolates, scratch_b_epochs
from lth_tutorial.exercises.saliency import (
    connected,
    density_at_round,
    hessian_diagonal,
    predicted_increase,
    snip,
)
from lth_tutorial.exercises.structured import filters_left, prune_residual
from lth_tutorial.exercises.subset_sums import (
    relu_paths,
    subset_error_by_hand,
    subset_search,
)
from lth_tutorial.exercises.tickets import control, rewind

__all__ = [
    "Check",
    "density_after_rounds",
    "remove_neurons",
    "masked_step",
    "remaining_weights",
    "magnitude_pruning",
    "filters_left",
    "prune_residual",
    "rewind",
    "control",
    "barrier_height",
    "interpolation",
    "stable_from",
    "scratch_b_epochs",
    "fair_steps",
    "isolates",
    "total_steps",
    "rates_after_pruning",
    "matching_test",
    "predicted_increase",
    "hessian_diagonal",
    "density_at_round",
    "snip",
    "connected",
    "chance_ratio",
    "stopping_rule",
    "honest_selection",
    "packed_bytes",
    "gain",
    "sign_gradient",
    "kept_by_hand",
    "edge_popup_mask",
    "score_gradient",
    "subset_error_by_hand",
    "subset_search",
    "relu_paths",
    "numbers_stored",
    "moved_density",
    "artefact",
    "penalised_gradient",
    "needed_by_hand",
    "null_mask",
    "removed_per_round",
]
