"""Tickets: found by iterative magnitude pruning, rewound, and compared with their controls.

Chapters 4, 5, 7 and 8 live here. Read `lottery` first: the rounds of train, prune and rewind.
`arms` adds the controls (re-initialised, random and one-shot tickets) and returns rows, `measures`
says what is measured of each. `retraining` compares what to do after pruning, `before_training`
prunes networks that were never trained, and `together` trains all arms of a round at once.
"""

from lth_tutorial.tickets.arms import (
    lottery_experiment,
)
from lth_tutorial.tickets.before_training import (
    prune_before_training,
)
from lth_tutorial.tickets.lottery import (
    IMPRound,
    iterative_magnitude_pruning,
    rewind_,
)
from lth_tutorial.tickets.retraining import (
    retraining_experiment,
)

__all__ = [
    "IMPRound",
    "iterative_magnitude_pruning",
    "rewind_",
    "lottery_experiment",
    "retraining_experiment",
    "prune_before_training",
]
