"""Structured pruning: whole neurons, filters and attention heads, and what removing them buys.

Chapters 3 and 5 use it. Read `units` first (what belongs together), then `removal` (a smaller
network), `cost` (what it saves, measured) and `scratch` (the same small network, trained from new
weights). `tracing` follows units through a network by their `labels`, and `experiment` compares
criteria for units over many seeds.
"""

from lth_tutorial.structured.cost import cost_table, flops, training_cost
from lth_tutorial.structured.experiment import structured_experiment
from lth_tutorial.structured.removal import kept_units, remove_units, silence_, unit_mask
from lth_tutorial.structured.scratch import scratch, scratch_config
from lth_tutorial.structured.tracing import UntraceableError
from lth_tutorial.structured.units import UnitGroup, Units, all_units, unit_groups, unit_scores

__all__ = [
    "UnitGroup",
    "Units",
    "UntraceableError",
    "unit_groups",
    "all_units",
    "unit_scores",
    "unit_mask",
    "kept_units",
    "silence_",
    "remove_units",
    "cost_table",
    "training_cost",
    "flops",
    "scratch",
    "scratch_config",
    "structured_experiment",
]
