"""Strong tickets: networks that are never trained, only chosen from.

Chapters 10 and 12 use this room. Read `selection` first (which scores are the highest), then
`frozen` (the weights that stay), `weights` (from scores to what a network computes with), `design`,
`group` and `search` (settings and training of the scores), `zhou` and `signs` (masks and signs of
trained tickets) and `packed` (a ticket of one bit per weight; `shipped` has those that come with
the package). `comparison` puts supermasks beside trained networks over many seeds.
"""

from lth_tutorial.supermask.comparison import supermask_experiment
from lth_tutorial.supermask.design import SupermaskConfig
from lth_tutorial.supermask.frozen import kaiming_normal_, signed_constant_
from lth_tutorial.supermask.packed import TicketSize, load_ticket, save_ticket
from lth_tutorial.supermask.search import (
    Supermask,
    biprop,
    edge_popup,
    effective_state,
    learned_supermask,
    train_supermasks,
)
from lth_tutorial.supermask.selection import top_k_mask
from lth_tutorial.supermask.shipped import load_shipped_ticket, shipped_tickets
from lth_tutorial.supermask.signs import signs_experiment
from lth_tutorial.supermask.zhou import large_final_mask, replace_kept, rescale_kept

__all__ = [
    "supermask_experiment",
    "signs_experiment",
    "TicketSize",
    "load_ticket",
    "load_shipped_ticket",
    "shipped_tickets",
    "save_ticket",
    "SupermaskConfig",
    "kaiming_normal_",
    "signed_constant_",
    "Supermask",
    "biprop",
    "edge_popup",
    "effective_state",
    "learned_supermask",
    "train_supermasks",
    "top_k_mask",
    "large_final_mask",
    "replace_kept",
    "rescale_kept",
]
