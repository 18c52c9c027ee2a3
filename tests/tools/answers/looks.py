"""Chapter 14: weights that are needed, a null mask, a confounder."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import torch

from lth_tutorial.variants.locality import shuffle_units


def swaps(kept, seed, draws=20_000):
    """Exchange two corners of a rectangle, thousands of times."""
    kept, draw = kept.numpy().copy(), np.random.default_rng(seed).integers
    for _ in range(draws):
        (a, b), (i, j) = draw(0, len(kept), 2), draw(0, kept.shape[1], 2)
        if kept[a, i] and kept[b, j] and not kept[a, j] and not kept[b, i]:
            kept[a, i] = kept[b, j] = False
            kept[a, j] = kept[b, i] = True
    return torch.from_numpy(kept)


def trades_of_lists(kept, seed):
    """Two units put what only one of them has on the table, and deal it anew."""
    generator = torch.Generator().manual_seed(seed)
    rows = [set(row.nonzero().flatten().tolist()) for row in kept]
    for _ in range(400):
        a, b = torch.randperm(len(rows), generator=generator)[:2].tolist()
        table, n = sorted(rows[a] ^ rows[b]), len(rows[a] - rows[b])
        order = torch.randperm(len(table), generator=generator).tolist()
        dealt = [table[i] for i in order]
        both = rows[a] & rows[b]
        rows[a], rows[b] = both | set(dealt[:n]), both | set(dealt[n:])
    new = torch.zeros_like(kept)
    for i, row in enumerate(rows):
        new[i, list(row)] = True
    return new


def order(n, seed):
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def within_rows(kept, seed):
    return torch.stack([row[order(len(row), seed + i)] for i, row in enumerate(kept)])


def _few_swaps(kept, seed):
    new, generator, done = kept.clone(), torch.Generator().manual_seed(seed), 0
    while done < 5:
        a, b = torch.randperm(len(kept), generator=generator)[:2].tolist()
        i, j = torch.randperm(kept.shape[1], generator=generator)[:2].tolist()
        if new[a, i] and new[b, j] and not new[a, j] and not new[b, i]:
            new[a, i] = new[b, j] = False
            new[a, j] = new[b, i] = True
            done += 1
    return new


def total(width):
    return 2 * width * width + 3 * width


def by_search(width, weights, rounds):
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if total(width) * (1 - middle) ** rounds > weights else (low, middle)
        )
    return low


def within_groups(kept, seed):
    """Exchange whole units that keep as many pixels."""
    new, generator = kept.clone(), torch.Generator().manual_seed(seed)
    for count in kept.sum(1).unique():
        places = (kept.sum(1) == count).nonzero().flatten()
        new[places] = kept[places[torch.randperm(len(places), generator=generator)]]
    return new


def pixels_within_groups(kept, seed):
    return within_groups(kept.T, seed).T


def some_swaps(kept, seed):
    return swaps(kept, seed, draws=6_000)


def by_expected_counts(kept, seed):
    generator = torch.Generator().manual_seed(seed)
    share = kept.sum(1)[:, None] * kept.sum(0) / kept.sum()
    return torch.rand(kept.shape, generator=generator) < share


def left_of(weights):
    """Return the share removed per round from another number of weights at the start."""
    return lambda w, n, r: 1 - (n / weights(w)) ** (1 / r)


WRONG = {
    "needed_by_hand": [
        (7, "all that are kept"),
        (5, "constant"),
        (6, "backwards"),
        (13, "biases are not counted"),
        (3, "both inputs"),
        (2, "between the inputs and A"),
        (0, "that path works"),
        (9, "fewer are needed"),
        ("four", "number of weights"),
        (True, "number of weights"),
        (1, "back to the inputs"),
        ([1, 2, 3, 4], "number of weights"),
        (8, "fewer are needed"),
        ("4 weights", "number of weights"),
        (float("inf"), "fewer are needed"),
    ],
    "null_mask": [
        (lambda kept, seed: kept.flatten()[order(kept.numel(), seed)].view_as(kept), "border"),
        (within_rows, "the pixels have not"),
        (lambda kept, seed: within_rows(kept.T, seed).T, "the units have not"),
        (lambda kept, seed: kept[order(len(kept), seed)], "whole units"),
        (lambda kept, seed: kept, "the mask itself"),
        (lambda kept, seed: shuffle_units(kept, 0), "draw from the seed"),
        (lambda kept, seed: torch.rand(kept.shape) < 0.1, "as many as the mask"),
        (lambda kept, seed: kept.logical_not_(), "changed the mask"),
        (lambda kept, seed: kept.float(), "boolean"),
        (lambda kept, seed: kept[:, :3], "shape"),
        (lambda kept, seed: _few_swaps(kept, seed), "too little has moved"),
        (lambda kept, seed: kept.T, "counts"),
        (lambda kept, seed: shuffle_units(kept, seed).tolist(), "boolean tensor"),
        (within_groups, "whole units"),
        (pixels_within_groups, "whole pixels"),
        (lambda kept, s: pixels_within_groups(within_groups(kept, s), s), "share as many pixels"),
        (lambda kept, seed: shuffle_units(kept, random.randrange(10**6)), "same seed"),
        (lambda kept, seed: shuffle_units(kept, seed // 2), "different seeds"),
        (some_swaps, "too little has moved"),
        (by_expected_counts, "as many as the mask"),
    ],
    "removed_per_round": [
        (lambda w, n, r: (n / total(w)) ** (1 / r), "*kept*"),
        (lambda w, n, r: 100 - 100 * (n / total(w)) ** (1 / r), "percent"),
        (lambda w, n, r: (1 - n / total(w)) / r, "shares multiply"),
        (lambda w, n, r: 1 - n / total(w), "all rounds remove together"),
        (lambda w, n, r: 1 - (n / (2 * w * w)) ** (1 / r), "2w + w² + w² + w"),
        (lambda w, n, r: 1 - (n / (3 * w * w)) ** (1 / r), "two layers are w by w"),
        (lambda w, n, r: 1 - (n / (total(w) + 3 * w + 1)) ** (1 / r), "weights only"),
        (lambda w, n, r: 1 - (n / total(w)) ** (1 / (r + 1)), "*prunings*"),
        (lambda w, n, r: 1 - (n / total(w)) ** (1 / (r - 1)), "as there are rounds"),
        (lambda w, n, r: 0.5, "of what remains, not 0.5"),
        (lambda w, n, r: "most", "number between 0 and 1"),
        (lambda w, n, r: w / 0, "raised ZeroDivisionError"),
        (left_of(lambda w: 2 * w + w * w + w), "*two* of w by w"),
        (left_of(lambda w: 2 * w + 2 * w * w), "the output reads w units"),
        (left_of(lambda w: w + 2 * w * w), "*two* inputs"),
        (left_of(lambda w: total(w) + 1), "of what remains"),
        (lambda w, n, r: (1 - n / total(w)) ** (1 / r), "of what remains"),
        (lambda w, n, r: round(1 - (n / total(w)) ** (1 / r), 2), "of what remains, not 0.4"),
        (lambda w, n: 1, "passes 3 arguments"),
        (lambda w, n, r: [1 - (n / total(w)) ** (1 / r)] * r, "number between 0 and 1"),
    ],
}

RIGHT = {
    "needed_by_hand": [4, 4.0, "4", Fraction(4), np.int64(4), torch.tensor(4)],
    "null_mask": [
        shuffle_units,
        swaps,
        trades_of_lists,
    ],
    "removed_per_round": [
        lambda width, weights, rounds: 1 - (weights / total(width)) ** (1 / rounds),
        by_search,
        lambda w, n, r: round(1 - (n / total(w)) ** (1 / r), 3),
        lambda w, n, r: float(1 - np.exp((np.log(n) - np.log(2 * w**2 + 3 * w)) / r)),
        lambda w, n, r: torch.tensor(1.0) - torch.tensor(n / total(w)) ** (1 / r),
    ],
}
