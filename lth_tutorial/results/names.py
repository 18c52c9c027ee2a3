"""The names of arms: what text, tables, legends and claims call them, everywhere the same.

Rows hold short keys, `units_l1`; a page shows names, "smallest ℓ1". `arm_name` translates. Figures
take their labels from here, and so does `difference_table`.
"""

from __future__ import annotations

import re

from lth_tutorial.safety.arguments import checked

ARM_NAMES: dict[str, str] = {
    "dense": "dense network",
    "ticket": "ticket",
    "reinit": "re-initialised",
    "random": "random mask",
    "one_shot": "one-shot",
    "rewind": "weight rewinding",
    "lr_rewind": "learning-rate rewinding",
    "fine_tune": "fine-tuning",
    "fine_tuned": "in rounds, fine-tuned",
    "no_retraining": "pruned, not retrained",
    "units_l1": "smallest ℓ1",
    "units_random": "random units",
    "units_bn_scale": "smallest scales",
    "scratch_e": "Scratch-E",
    "scratch_b": "Scratch-B",
    "slimmed": "trained with ℓ1 on scales",
    "unslimmed": "trained without",
    "magnitude": "magnitude",
    "obd": "OBD",
    "gradient": "gradient",
    "fisher": "Fisher",
    "inverted": "inverted OBD",
    "smart": "random, smart ratios",
    "snip": "SNIP",
    "grasp": "GraSP",
    "synflow": "SynFlow",
    "after_training": "magnitude after training",
    "edge_popup": "edge-popup",
    "biprop": "biprop",
    "biprop_norm": "biprop, batch norm learned",
    "biprop_1_1": "biprop 1/1",
    "biprop_1_1_norm": "biprop 1/1, batch norm learned",
    "subset": "best subset of products",
    "single": "best single product",
    "batch_gradient": "minibatch gradients",
    "random_gradient": "random · gradient",
    "constant": "constants, ticket's signs",
    "redrawn": "redrawn, ticket's signs",
    "ticket_signs_random": "ticket, random signs",
    "constant_signs_random": "constants, random signs",
    "redrawn_signs_random": "redrawn, random signs",
    "large_final": "large trained weights",
    "same_sign": "large trained weights, sign kept",
    "sampled": "learned mask",
    "sampled_rescaled": "learned mask, rescaled",
    "four_rounds": "IMP in four rounds",
    "gradual": "gradual, one training",
    "snip_iterative": "SNIP in 30 steps",
    "sifted": "IMP as in the paper",
    "conv": "small convolutional network",
    "search": "search, weight by weight",
    "random_search": "best of random masks",
    "exhaustive": "every mask",
    "identity": "weights themselves",
    "identity_shuffled": "weights themselves, shuffled",
    "dct_inputs": "cosines, first inputs",
    "rotation_inputs": "rotation, first inputs",
    "dct": "cosines, both sides",
    "rotation": "random rotation",
    "rotation_shuffled": "rotation, shuffled",
    "svd": "singular vectors",
    "stretched": "moved ticket",
    "stretched_reinit": "moved mask, own weights",
    "stretched_random": "moved mask, shuffled",
    "magnitude_at_rewind": "largest at rewinding",
    "regularised": "random mask, penalised",
    "scratch": "random mask from the start",
    "early_bird": "early-bird",
    "early_bird_momentum": "early-bird, momentum kept",
    "final_mask": "mask of the end",
    "same_counts": "random units, same counts",
    "early_bird_reinit": "early-bird, new weights",
    "early_bird_rewound": "early-bird, rewound",
    "low_mask": "low-rate mask",
    "low_mask_reinit": "low-rate mask, new weights",
    "high_mask": "high-rate mask",
    "high_mask_reinit": "high-rate mask, new weights",
    "low_mask_random": "random mask, same counts",
    "strong_mask": "mask of PGD training",
    "natural_mask": "mask of natural training",
    "narrow": "narrow dense network",
    "heads_l1": "heads of smallest ℓ1",
    "slimmed_random": "trained with ℓ1, random channels",
}
"""The name of every arm on a page, by its key in the rows."""

SPOILT = {
    "shuffled": "shuffled",
    "reinit": "re-drawn",
    "random_labels": "random labels",
    "shuffled_pixels": "shuffled pixels",
}
"""What is spoilt in an arm whose key has a stroke: "snip/reinit" is "SNIP, re-drawn"."""


@checked
def arm_name(arm: str) -> str:
    """Return what an arm is called on a page; a name that no table holds is its own.

    A part before a colon or a comma stays: "act 1: reinit" is "act 1: re-initialised".
    """
    key, stroke, spoilt = arm.partition("/")
    part, key = re.fullmatch(r"(.*[:,] )?(.*)", key, flags=re.S).groups(default="")
    name = part + ARM_NAMES.get(key, key)
    return f"{name}, {SPOILT.get(spoilt, spoilt)}" if stroke else name
