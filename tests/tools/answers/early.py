"""Chapter 9: chance and a threshold, the stopping rule, a curve that peeks."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import torch

from lth_tutorial.variants.drawn_masks import draw_mask, drawing_epoch

RATIO = (1 - math.sqrt(0.8)) / 2


def masks_of(scores, keep=torch.gt):
    return [keep(s, s.sort().values[len(s) // 2]) for s in scores]


def rule(scores, window=5, near=lambda d: d <= 0.1 + 1e-6, keep=torch.gt, empty=False):
    masks = masks_of(scores, keep)
    for epoch in range(window - 1, len(masks)):
        last = masks[epoch - window + 1 : epoch + 1]
        distances = [(last[-1] != mask).float().mean().item() for mask in last[:-1]]
        if all(map(near, distances)) and (empty or all(mask.any() for mask in last)):
            return epoch
    return None


def by_numpy(scores):
    kept = [np.asarray(m) for m in masks_of(scores)]
    for i in range(4, len(kept)):
        counts = [np.count_nonzero(kept[i] ^ kept[i - j]) for j in range(5)]
        if max(counts) * 10 <= kept[i].size and min(k.sum() for k in kept[i - 4 : i + 1]) > 0:
            return np.int64(i).item()


def by_the_package(scores):
    return drawing_epoch([draw_mask({"all": s}, 0.5) for s in scores])


def previous_only(scores):
    masks = masks_of(scores)
    for i in range(4, len(masks)):
        pairs = zip(masks[i - 4 : i], masks[i - 3 : i + 1], strict=True)
        if all((a != b).float().mean() <= 0.1 + 1e-6 for a, b in pairs) and masks[i].any():
            return i
    return None


def on_average(scores):
    masks = masks_of(scores)
    for i in range(4, len(masks)):
        d = [(masks[i] != m).float().mean() for m in masks[i - 4 : i]]
        if sum(d) / 4 <= 0.1 + 1e-6 and all(m.any() for m in masks[i - 4 : i + 1]):
            return i
    return None


def chosen(val, test):
    return test[torch.arange(len(val)), val.argmax(dim=1)]


def with_thresholds(threshold):
    """Return the rule with another threshold for the masks."""

    def drawn(scores):
        masks = [s > threshold(s) for s in scores]
        for epoch in range(4, len(masks)):
            last = masks[epoch - 4 : epoch + 1]
            if all((last[-1] != m).sum() * 10 <= len(m) and m.any() for m in last):
                return epoch

    return drawn


def compared(pairs):
    """Return the rule with other pairs of masks to compare."""

    def drawn(scores):
        masks = masks_of(scores)
        for epoch in range(4, len(masks)):
            last = masks[epoch - 4 : epoch + 1]
            near = all((a != b).sum() * 10 <= len(a) for a, b in pairs(last))
            if near and all(mask.any() for mask in last):
                return epoch

    return drawn


def empties(scores):
    epoch = rule(scores)
    scores.clear()
    return epoch


def gives_up(scores):
    """Return None for good where five masks agree on nothing."""
    masks = masks_of(scores)
    for epoch in range(4, len(masks)):
        if all((masks[epoch] != m).sum() * 10 <= len(m) for m in masks[epoch - 4 : epoch]):
            return epoch if masks[epoch].any() else None


def by_sets(scores):
    kept = []
    for epoch, values in enumerate(scores):
        ranked = sorted(values.tolist())
        kept.append({i for i, v in enumerate(values.tolist()) if v > ranked[len(ranked) // 2]})
        *older, newest = kept[-5:]
        far = [len(newest ^ mask) for mask in older]
        if len(older) == 4 and all(kept[-5:]) and max(far) <= len(values) / 10:
            return float(epoch)


def helped_by_the_test(val, test):
    return test[torch.arange(len(val)), (val + test).argmax(dim=1)]


WRONG = {
    "chance_ratio": [
        (0.05, "forgets"),
        (0.1, "two ways"),
        (1 - RATIO, "below one half"),
        (0.1127, "not p(1 − p)"),
        (0.0513, "*at least one*"),
        (math.sqrt(0.1), "agree"),
        (0.18, "other way round"),
        (100 * RATIO, "percentage"),
        (0.3, "differ by 0.420"),
        (-1, "no share"),
        ("half", "a number in [0, 1]"),
        (math.sqrt(0.9), "*both*"),
        ([0.05, 0.95], "a number in [0, 1]"),
        (0.0522, "differ by 0.099"),
        (1 / 18, "differ by 0.105"),
        ("5.28 %", "a number in [0, 1]"),
    ],
    "stopping_rule": [
        (lambda s: rule(s, near=lambda d: d < 0.1 - 1e-6), "*at most*"),
        (previous_only, "*newest*"),
        (on_average, "not their mean"),
        (lambda s: rule(s, window=4), "with four masks"),
        (lambda s: rule(s, window=6), "sixth"),
        (lambda s: rule(s, empty=True), "keeps nothing"),
        (lambda s: rule(s, keep=torch.ge), "*strictly*"),
        (lambda s: (e := rule(s)) and e + 1, "count from 0"),
        (lambda s: 4, "not 4"),
        (lambda s: "soon", "a whole number"),
        (lambda s: [v.zero_() for v in s] and 3, "changed the scores"),
        (lambda s: masks_of(s), "a whole number"),
        (with_thresholds(torch.median), "n // 2"),
        (with_thresholds(lambda s: s.quantile(0.5)), "n // 2"),
        (with_thresholds(torch.mean), "not their mean"),
        (compared(lambda last: [(last[0], mask) for mask in last]), "not the oldest"),
        (compared(lambda last: itertools.combinations(last, 2)), "further from one another"),
        (lambda s: rule(s, near=lambda d: d <= 0.1), "compare counts"),
        (lambda s: (e := rule(s)) and e - 4, "not at the oldest"),
        (lambda s: rule(s) or 0, "None, not 0"),
        (empties, "changed the scores"),
        (gives_up, "empty for five epochs"),
        (lambda s: torch.tensor([1, 2]), "a whole number"),
        (lambda s: True, "a whole number"),
    ],
    "honest_selection": [
        (lambda val, test: test.amax(dim=1), "best *test* accuracy"),
        (lambda val, test: val.amax(dim=1), "*test* accuracy there"),
        (lambda val, test: test[:, -1], "last epoch"),
        (lambda val, test: test[:, val.mean(dim=0).argmax()], "*own* epoch"),
        (lambda val, test: test[:, test.mean(dim=0).argmax()], "still peeks"),
        (lambda val, test: test[range(3), [2, 3, 4]], "take the *first*"),
        (lambda val, test: val[range(3), test.argmax(dim=1)], "changed places"),
        (lambda val, test: test.mean(dim=1), "no epoch's accuracy"),
        (lambda val, test: chosen(val, test).mean(), "one accuracy per run"),
        (lambda val, test: chosen(val, test) + 0.1, "at its chosen epoch"),
        (lambda val, test: test, "one accuracy per run"),
        (lambda val, test: chosen(val, test.mul_(2)), "changed the accuracies"),
        (lambda val, test: "the best", "one accuracy per run"),
        (helped_by_the_test, "had a say"),
        (lambda val, test: chosen((10 * val).round(), test), "at its chosen epoch"),
        (lambda val, test: test[:, val.argmax(dim=1)], "of its own", "(3, 3)"),
        (lambda val, test: 100 * chosen(val, test), "at its chosen epoch"),
    ],
}

RIGHT = {
    "chance_ratio": [
        RATIO,
        0.0528,
        "0.0528",
        np.float64(RATIO),
        torch.tensor(RATIO),
        Fraction(RATIO),
    ],
    "stopping_rule": [
        rule,
        by_numpy,
        by_the_package,
        lambda s: (e := rule(s)) and torch.tensor(e),
        lambda s: (e := rule(s)) and np.int64(e),
        by_sets,
        with_thresholds(lambda s: s.sort().values[len(s) // 2]),
    ],
    "honest_selection": [
        chosen,
        lambda val, test: test.gather(1, val.argmax(1, keepdim=True)).squeeze(1),
        lambda val, test: (t[v.argmax()] for v, t in zip(val, test, strict=True)),
        lambda val, test: [float(t[int(v.argmax())]) for v, t in zip(val, test, strict=True)],
        lambda val, test: np.take_along_axis(test.numpy(), val.numpy().argmax(1)[:, None], axis=1)[
            :, 0
        ],
    ],
}
