"""Stability: do two copies of a network, trained on other orders of the data, stay connected?

Chapter 6 asks it, and chapter 7 builds on the answer. Read `connectivity` first (the error along
the line between two networks; what is no weight on the way is the business of `buffers`), then
`instability` (copies that part at a step), `rewinding` (tickets by the step they are rewound to)
and `landscape` (planes through three networks).
"""

from lth_tutorial.stability.buffers import (
    BufferWarning,
)
from lth_tutorial.stability.connectivity import (
    Barrier,
    barrier,
    interpolate,
)
from lth_tutorial.stability.instability import (
    instability,
)
from lth_tutorial.stability.landscape import (
    Plane,
    plane,
    round_barriers,
)
from lth_tutorial.stability.rewinding import (
    rewinding_experiment,
)

__all__ = [
    "Barrier",
    "barrier",
    "interpolate",
    "BufferWarning",
    "instability",
    "rewinding_experiment",
    "Plane",
    "plane",
    "round_barriers",
]
