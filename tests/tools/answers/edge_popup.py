"""Chapter 10: which weights a supermask keeps, and how its scores learn."""

from __future__ import annotations

import math

import numpy as np
import torch

import lth_tutorial as lt


def by_rank(scores, keep):
    kept = torch.zeros(scores.numel(), dtype=torch.bool)
    order = scores.abs().flatten().argsort(descending=True, stable=True)
    kept[order[: round(keep * scores.numel())]] = True
    return kept.view_as(scores)


def by_threshold(scores, keep):
    limit = scores.abs().flatten().sort(descending=True).values[round(keep * scores.numel()) - 1]
    return scores.abs() >= limit


def sorted_by_hand(scores, keep):
    ranked = sorted(range(scores.numel()), key=lambda i: (-abs(float(scores.flatten()[i])), i))
    kept = torch.zeros(scores.shape, dtype=torch.bool)
    kept.view(-1)[ranked[: round(keep * scores.numel())]] = True
    return kept


def by_numpy(scores, keep):
    order = np.argsort(-np.abs(scores.numpy()).ravel(), kind="stable")
    kept = np.zeros(scores.numel(), dtype=bool)
    kept[order[: round(keep * len(kept))]] = True
    return torch.from_numpy(kept.reshape(scores.shape))


def rounded(how):
    """Return a mask that keeps as many as another rounding says."""

    def mask(scores, keep):
        return by_rank(scores, how(keep * scores.numel()) / scores.numel())

    return mask


def row_by_row(scores, keep):
    rows = scores if scores.ndim > 1 else scores[None]
    return torch.stack([by_rank(row, keep) for row in rows]).view_as(scores)


def in_place(scores, keep):
    return by_rank(scores.abs_(), keep)


def by_autograd(weight, scores, upstream):
    scores = scores.requires_grad_()
    (weight * lt.top_k_mask(scores.abs(), 0.5)).backward(upstream)
    return scores.grad


def through_the_magnitude(weight, scores, upstream):
    scores = scores.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((weight * scores.abs()).mul(upstream).sum(), scores)
    return gradient


def overwrites(weight, scores, upstream):
    return upstream.mul_(weight).mul_(scores.sign())


def column_by_column(scores, keep):
    return row_by_row(scores.T, keep).T if scores.ndim > 1 else by_rank(scores, keep)


def columns_first(scores, keep):
    return by_rank(scores.T.contiguous(), keep).T if scores.ndim > 1 else by_rank(scores, keep)


def ties_to_the_last(scores, keep):
    kept = torch.zeros(scores.numel(), dtype=torch.bool)
    order = scores.abs().flatten().argsort(stable=True)
    kept[order[len(kept) - round(keep * len(kept)) :]] = True
    return kept.view_as(scores)


def only_flat(scores, keep):
    if scores.ndim == 1:
        return by_rank(scores, keep)


WRONG = {
    "kept_by_hand": [
        ([0, 3, 5], "*magnitudes*"),
        ([2, 4, 6], "counted from 0"),
        ([1, 3], "three"),
        ([1, 3, 4], "not the three largest"),
        (3, "list of places"),
        ([0, 2, 4], "left out"),
        ([1, 4, 6], "counted from 0"),
        ([-0.9, 0.5, 0.4], "*places*"),
        ([True, False, False, True, False, True], "*magnitudes*"),
        (np.array([True, False, False, True, False, True]), "*magnitudes*"),
        ([True, True, False, True, False, False], "not the three largest"),
        ([0.9, 0.5, 0.4], "*places*"),
        ("b, d, f", "list of places"),
        ([], "half of six weights are three"),
        ([1, 3, 5, 5], "each of them once"),
        ([1, 3, 6], "from 0 to 5"),
        ("0, 3, 5", "*magnitudes*"),
        ("101010", "left out"),
    ],
    "edge_popup_mask": [
        (lambda scores, keep: lt.top_k_mask(scores, keep).bool(), "magnitude"),
        (lambda scores, keep: by_rank(scores, 1 - keep), "*kept*"),
        (by_threshold, "ties"),
        (lambda scores, keep: by_rank(-scores.abs().reciprocal(), keep), "largest |score|"),
        (lambda scores, keep: by_rank(scores, keep).float(), "boolean"),
        (lambda scores, keep: by_rank(scores.flip(0), keep).flip(0), "first ones"),
        (rounded(math.floor), "round(keep * n)"),
        (rounded(math.ceil), "keep=0.3"),
        (row_by_row, "not within each row"),
        (in_place, "in place"),
        (lambda scores, keep: scores.abs() > scores.abs().quantile(1 - keep), "weights are kept"),
        (lambda scores, keep: by_rank(scores, keep).flatten(), "shape"),
        (lambda scores, keep: by_rank(scores, keep).tolist(), "boolean tensor"),
        (lambda scores, keep: by_rank(scores, keep) * scores, "boolean"),
        (rounded(lambda x: math.floor(x + 0.5)), "*even*"),
        (
            lambda s, keep: by_rank(s, (s.numel() - round((1 - keep) * s.numel())) / s.numel()),
            "even",
        ),
        (column_by_column, "row or column"),
        (columns_first, "row by row"),
        (ties_to_the_last, "first ones"),
        (only_flat, "every branch"),
        (lambda scores, keep: scores.abs() > keep, "weights are kept"),
    ],
    "score_gradient": [
        (lambda w, s, g: g * w * s.sign() * (s.abs() > s.abs().median()), "pop up again"),
        (lambda w, s, g: g * w, "sign(s)"),
        (lambda w, s, g: g, "chain rule"),
        (lambda w, s, g: -g * w * s.sign(), "negative gradient"),
        (lambda w, s, g: g * w * s, "differentiate"),
        (lambda w, s, g: (g * w).sum(), "shape"),
        (lambda w, s, g: g * w.abs() * s.sign(), "weight × |s|"),
        (lambda w, s, g: g * s.sign(), "chain rule"),
        (lambda w, s, g: g * w * (s.abs() > s.abs().median()), "pop up again"),
        (overwrites, "in place"),
        (lambda w, s, g: w * s.sign(), "comes from above"),
        (lambda w, s, g: g * w * s.sign() * s.abs(), "weight × |s|"),
        (lambda w, s, g: g * w.sign() * s.sign(), "weight × |s|"),
    ],
}

RIGHT = {
    "kept_by_hand": [
        [5, 1, 3],
        (1, 3, 5),
        {5, 1, 3},
        range(1, 6, 2),
        torch.tensor([1, 3, 5]),
        np.array([3, 1, 5]),
        [False, True, False, True, False, True],
        [0, 1, 0, 1, 0, 1],
        "1, 3, 5",
        "[1, 3, 5]",
        "010101",
        {1: 0.9, 3: 0.5, 5: 0.4},
        np.array([False, True, False, True, False, True]),
        torch.tensor([False, True, False, True, False, True]),
    ],
    "edge_popup_mask": [
        by_rank,
        sorted_by_hand,
        by_numpy,
        lambda scores, keep: lt.top_k_mask(scores.abs(), keep).bool(),
    ],
    "score_gradient": [
        lambda weight, scores, upstream: upstream * weight * scores.sign(),
        by_autograd,
        through_the_magnitude,
        lambda w, s, g: (g * w * s.sign()).tolist(),
        lambda w, s, g: g.numpy() * w.numpy() * np.sign(s.numpy()),
        lambda w, s, g: torch.where(s > 0, g * w, -g * w).double(),
    ],
}
