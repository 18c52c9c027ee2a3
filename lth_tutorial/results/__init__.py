"""Results: from rows to intervals, records and verdicts.

Read `intervals` first: means, paired differences and what *matching* means. `records` keeps
measured rows on disk with the provenance that lets anyone measure them again; `tasks` are the parts
of a record that one machine finished, and `objects` the place where they lie. `names` holds what
an arm is called on a page, `sentences` says in words what rows show, and `verdicts` draws the
table of verdicts that stands in every chapter.
"""

from lth_tutorial.results.intervals import (
    Interval,
    difference_table,
    matching,
    paired_difference,
    summarize,
    t_interval,
)
from lth_tutorial.results.names import (
    arm_name,
)
from lth_tutorial.results.records import (
    load_provenance,
    load_rows,
    recorded,
    save_rows,
    widen,
)
from lth_tutorial.results.sentences import (
    answers,
    difference_at,
    told,
)
from lth_tutorial.results.verdicts import (
    verdicts,
)

__all__ = [
    "Interval",
    "t_interval",
    "summarize",
    "paired_difference",
    "difference_table",
    "matching",
    "arm_name",
    "save_rows",
    "load_rows",
    "load_provenance",
    "recorded",
    "widen",
    "difference_at",
    "told",
    "answers",
    "verdicts",
]
