"""A companion to the lottery ticket book: prune, rewind, control, measure.

Four nouns carry everything, each a dictionary keyed by parameter name or a table: a *state*
(weights), a *mask* (True = kept), *scores* (higher = keep) and *rows* (one measurement each).

The code stands in rooms. `__all__`, at the end of this file, has them in the order in which to read
them, first the pipeline, which coursework imports, then the apparatus of the book; a room imports
only rooms that stand before it. The face of each (`help(lth_tutorial.training)`, say) tells what it
is for. Every name that a room's `__all__` lists can be had from here: `import lth_tutorial as lt`.
"""

# The rooms as modules, by names of their own: the star imports below bring functions that are
# called like their room (`claims`, `gallery`).
# ruff: noqa: F403
from lth_tutorial import claims as _claims
from lth_tutorial import criteria as _criteria
from lth_tutorial import data as _data
from lth_tutorial import exercises as check
from lth_tutorial import explore as _explore
from lth_tutorial import gallery as _gallery
from lth_tutorial import networks as _networks
from lth_tutorial import plotting
from lth_tutorial import pruning as _pruning
from lth_tutorial import results as _results
from lth_tutorial import runtime as _runtime
from lth_tutorial import safety as _safety
from lth_tutorial import stability as _stability
from lth_tutorial import states as _states
from lth_tutorial import structured as _structured
from lth_tutorial import supermask as _supermask
from lth_tutorial import theory as _theory
from lth_tutorial import tickets as _tickets
from lth_tutorial import training as _training
from lth_tutorial import variants as _variants
from lth_tutorial.claims import *
from lth_tutorial.criteria import *
from lth_tutorial.data import *
from lth_tutorial.explore import *
from lth_tutorial.gallery import *
from lth_tutorial.networks import *
from lth_tutorial.pruning import *
from lth_tutorial.results import *
from lth_tutorial.runtime import *
from lth_tutorial.runtime import __version__ as __version__
from lth_tutorial.safety import *
from lth_tutorial.stability import *
from lth_tutorial.states import *
from lth_tutorial.structured import *
from lth_tutorial.supermask import *
from lth_tutorial.theory import *
from lth_tutorial.tickets import *
from lth_tutorial.training import *
from lth_tutorial.variants import *

__all__ = ["check", "plotting"]
__all__ += _safety.__all__
__all__ += _runtime.__all__
__all__ += _states.__all__
__all__ += _data.__all__
__all__ += _networks.__all__
__all__ += _pruning.__all__
__all__ += _training.__all__
__all__ += _criteria.__all__
__all__ += _tickets.__all__
__all__ += _stability.__all__
__all__ += _structured.__all__
__all__ += _supermask.__all__
__all__ += _theory.__all__
__all__ += _variants.__all__
__all__ += _results.__all__
__all__ += _claims.__all__
__all__ += _explore.__all__
__all__ += _gallery.__all__

# Reports of faults, and the scripts in them, name these two as they stood before there were rooms.
from lth_tutorial.results import records as records  # noqa: E402
from lth_tutorial.training import checkpoints as checkpoints  # noqa: E402
