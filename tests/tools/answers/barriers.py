"""Chapter 6: the barrier between two networks."""

from __future__ import annotations

import numpy as np
import torch


def mixed(a, b, alpha):
    return {
        name: (1 - alpha) * w + alpha * b[name] if w.is_floating_point() else w
        for name, w in a.items()
    }


def in_place(a, b, alpha):
    for name, w in a.items():
        if w.is_floating_point():
            w.mul_(1 - alpha).add_(alpha * b[name])
    return a


def right(heights):
    found = None
    for step in sorted(heights, reverse=True):
        if np.mean(heights[step]) >= 0.02:
            break
        found = step
    return found


def first(heights, summary=np.mean):
    return next((s for s in sorted(heights) if summary(heights[s]) < 0.02), None)


def changes_the_end(a, b, alpha):
    found = mixed(a, b, alpha)
    b["fc1.weight"].zero_()
    return found


def everything(a, b, alpha):
    return {name: (1 - alpha) * a[name] + alpha * b[name] for name in a}


def counter_of_b(a, b, alpha):
    return mixed(a, b, alpha) | {name: w for name, w in b.items() if not w.is_floating_point()}


def only_weights(a, b, alpha):
    return {name: w if "norm" in name else mixed(a, b, alpha)[name] for name, w in a.items()}


def leaves_counters_out(a, b, alpha):
    return {n: w for n, w in mixed(a, b, alpha).items() if w.is_floating_point()}


def copies_then_lerps(a, b, alpha):
    new = {name: w.clone() for name, w in a.items()}
    for name, w in new.items():
        if w.is_floating_point():
            w.lerp_(b[name], alpha)
    return new


def by_all(heights):
    low = {step: sum(values) / len(values) < 0.02 for step, values in heights.items()}
    return min((s for s in low if all(low[t] for t in low if t >= s)), default=None)


def after_the_last_bad(heights):
    steps = sorted(heights)
    bad = [i for i, s in enumerate(steps) if torch.tensor(heights[s]).mean() >= 0.02]
    at = bad[-1] + 1 if bad else 0
    return np.int64(steps[at]) if at < len(steps) else None


def place_of(heights):
    step = right(heights)
    return None if step is None else sorted(heights).index(step)


def at_most(heights):
    steps = sorted(heights)
    good = [np.mean(heights[s]) <= 0.02 for s in steps]
    return next((s for i, s in enumerate(steps) if all(good[i:])), None)


def counter_as_a_fraction(a, b, alpha):
    return {n: w if w.is_floating_point() else w.float() for n, w in mixed(a, b, alpha).items()}


def looks_one_step_ahead(heights):
    steps = sorted(heights)
    low = [np.mean(heights[s]) < 0.02 for s in steps]
    return next((s for i, s in enumerate(steps) if all(low[i : i + 2])), None)


def empties(heights):
    found = None
    while heights:
        step = max(heights)
        values = heights.pop(step)
        if sum(values) / len(values) >= 0.02:
            break
        found = step
    return found


def backwards(heights):
    found = []
    for step, values in sorted(heights.items(), reverse=True):
        if not sum(values) < 0.02 * len(values) - 1e-12:
            break
        found.append(step)
    return float(found[-1]) if found else None


WRONG = {
    "barrier_height": [
        (0.30, "exceeds the ends"),
        (0.28, "both"),
        (0.26, "both"),
        (0.14, "middle of the range"),
        (0.172, "not of the path"),
        (0.098, "not the mean"),
        (27, "in points"),
        (0.5, "largest error minus"),
        ("much", "a number"),
        (True, "a number"),
        (0.22, "largest error minus"),
        (0.24, "largest error minus"),
        (torch.tensor([0.3, 0.03]), "a number"),
    ],
    "interpolation": [
        (
            lambda a, b, alpha: mixed(b, a, alpha) | {k: v for k, v in a.items() if "num" in k},
            "nearer to the other end",
        ),
        (
            lambda a, b, alpha: {
                n: torch.lerp(w.float(), b[n].float(), alpha) for n, w in a.items()
            },
            "must not be mixed",
        ),
        (in_place, "changed a state"),
        (
            lambda a, b, alpha: {
                n: (w + b[n]) / 2 if w.is_floating_point() else w for n, w in a.items()
            },
            "is not",
        ),
        (lambda a, b, alpha: a["fc1.weight"], "a dictionary"),
        (lambda a, b, alpha: 1 / 0, "raised ZeroDivisionError"),
        (lambda a, b, alpha: {n: torch.lerp(a[n], b[n], alpha) for n in a}, "counts batches"),
        (everything, "must not be mixed"),
        (counter_of_b, "take it from a"),
        (only_weights, "running_var"),
        (leaves_counters_out, "a dictionary"),
        (changes_the_end, "changed a state"),
        (lambda a, b, alpha: list(mixed(a, b, alpha).values()), "a dictionary"),
        (counter_as_a_fraction, "as it is", "torch.int64"),
        (lambda a, b, alpha: mixed(a, b, round(alpha)), "is not (1 − α) a + α b"),
        (lambda a, b, alpha: mixed(a, b, 3 * alpha**2 - 2 * alpha**3), "is not (1 − α) a + α b"),
        (lambda a, b: a, "passes 3 arguments"),
    ],
    "stable_from": [
        (first, "unstable again"),
        (lambda h: right({s: [np.median(v)] for s, v in h.items()}), "counts every seed"),
        (lambda h: right(h) or 10**9, "return None"),
        (lambda h: right(h) or None, "stable from step 0"),
        (
            lambda h: next((s for s in h if all(np.mean(h[t]) < 0.02 for t in h if t >= s)), None),
            "sort them",
        ),
        (at_most, "*below* 2 points"),
        (place_of, "a key of `heights`"),
        (lambda h: right({s: [max(v)] for s, v in h.items()}), "a key of"),
        (lambda h: max(h), "from which on"),
        (lambda h: (s := right(h)) and -s, "from which on"),
        (lambda h: right({s: [sum(v)] for s, v in h.items()}), "from which on"),
        (looks_one_step_ahead, "*all* later ones"),
        (empties, "changed `heights`"),
        (lambda h: right({s: [sum(v) / 2] for s, v in h.items()}), "number of seeds"),
        (lambda h: right({s: [sum(v) / len(h[min(h)])] for s, v in h.items()}), "own number"),
        (lambda h: right({s: [round(np.mean(v), 2)] for s, v in h.items()}), "do not round"),
        (lambda h: right({s: np.abs(v) for s, v in h.items()}), "mean magnitude"),
        (lambda h: next(s for s in sorted(h) if np.mean(h[s]) < 0.02), "next(…, None)"),
        (lambda h: right(h) or False, "return None"),
    ],
}

RIGHT = {
    "barrier_height": [
        0.27,
        "0.27",
        0.30 - (0.02 + 0.04) / 2,
        np.float32(0.27),
        torch.tensor(0.27),
    ],
    "interpolation": [
        mixed,
        copies_then_lerps,
        lambda a, b, alpha: {
            n: w.double() if w.is_floating_point() else w for n, w in mixed(a, b, alpha).items()
        },
        lambda a, b, alpha: a if alpha == 0 else mixed(a, b, alpha),
    ],
    "stable_from": [
        right,
        by_all,
        after_the_last_bad,
        backwards,
    ],
}
