"""Figures: one function per kind, rows in, a matplotlib figure out.

Nothing here runs an experiment; means and intervals come from `results`, so a reader gets the same
numbers from the rows. Read `card` first: colours, markers and axes that all figures share.
"""

from lth_tutorial.plotting.card import METHODS, VALUES, not_yet_run
from lth_tutorial.plotting.images import mask_image
from lth_tutorial.plotting.tickets import (
    accuracy_vs_density,
    differences,
    learning_curves,
    steps_vs_density,
)

__all__ = [
    "METHODS",
    "VALUES",
    "accuracy_vs_density",
    "steps_vs_density",
    "learning_curves",
    "differences",
    "mask_image",
    "not_yet_run",
]
