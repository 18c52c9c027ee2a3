"""Chapter 7: budgets, schedules after pruning, and what matching means."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import stats

import lth_tutorial as lt


def rates(schedule, way, k):
    return [schedule[-1]] * (len(schedule) - k) if way == "fine_tune" else schedule[k:]


def tuned_too_long(schedule, way, k):
    return [schedule[-1]] * len(schedule) if way == "fine_tune" else schedule[k:]


def always_low(schedule, way, k):
    return schedule[k:] if way == "rewind" else [schedule[-1]] * (len(schedule) - k)


def from_the_start(schedule, way, k):
    return schedule[: len(schedule) - k] if way != "fine_tune" else rates(schedule, way, k)


def never_low(schedule, way, k):
    return schedule[k:]


def rate_at_k(schedule, way, k):
    return [schedule[k]] * (len(schedule) - k) if way == "fine_tune" else schedule[k:]


def reversing(schedule, way, k):
    schedule.reverse()
    return schedule


def shuffled(schedule, way, k):
    return sorted(schedule[k:]) if way == "rewind" else rates(schedule, way, k)


def matches(pruned, dense, margin):
    interval = lt.t_interval([a - b for a, b in zip(pruned, dense, strict=True)])
    return interval.n >= 3 and interval.low >= -margin


def mean_only(pruned, dense, margin):
    return len(pruned) > 2 and sum(pruned) / len(pruned) >= sum(dense) / len(dense) - margin


def unpaired(pruned, dense, margin):
    a, b = lt.t_interval(pruned), lt.t_interval(dense)
    return a.n >= 3 and a.low >= b.high - margin


def any_n(pruned, dense, margin):
    return lt.t_interval([a - b for a, b in zip(pruned, dense, strict=True)]).low >= -margin or (
        len(pruned) < 3
    )


def normal(pruned, dense, margin):
    d = [a - b for a, b in zip(pruned, dense, strict=True)]
    mean = sum(d) / len(d)
    error = math.sqrt(sum((x - mean) ** 2 for x in d) / (len(d) - 1) / len(d))
    return len(d) >= 3 and mean - 1.96 * error >= -margin


def two_sided(pruned, dense, margin):
    interval = lt.t_interval([a - b for a, b in zip(pruned, dense, strict=True)])
    return interval.n >= 3 and interval.low >= -margin and interval.high <= margin


def matching(factor, deviation=lambda d: np.std(d, ddof=1), root=math.sqrt):
    """Return a test of matching with its own idea of the half-width of an interval."""

    def test(pruned, dense, margin):
        d = np.subtract(pruned, dense)
        if len(d) < 3:
            return False
        return d.mean() - factor(len(d)) * deviation(d) / root(len(d)) >= -margin

    return test


def student(n):
    return stats.t.ppf(0.975, n - 1)


def by_scipy(a, b, margin):
    d = np.subtract(a, b)
    if len(d) < 3:
        return False
    low, _ = stats.t.interval(0.95, len(d) - 1, d.mean(), stats.sem(d) or 1e-12)
    return low > -margin


def by_torch(pruned, dense, margin):
    d = torch.tensor(pruned, dtype=torch.float64) - torch.tensor(dense, dtype=torch.float64)
    return len(d) >= 3 and bool(d.mean() - student(len(d)) * d.std() / len(d) ** 0.5 > -margin)


def shows_nothing_worse(pruned, dense, margin):
    interval = lt.t_interval([a - b for a, b in zip(pruned, dense, strict=True)])
    return interval.n >= 3 and interval.high >= -margin


def the_other_way_round(pruned, dense, margin):
    return matches(dense, pruned, margin)


def without_a_margin(pruned, dense, margin):
    return matches(pruned, dense, 0.0)


def more_than_three(pruned, dense, margin):
    return len(pruned) > 3 and matches(pruned, dense, margin)


def in_points(pruned, dense, margin):
    return matches(pruned, dense, margin / 100)


def not_significantly_different(pruned, dense, margin):
    return len(pruned) >= 3 and bool(stats.ttest_ind(pruned, dense).pvalue > 0.05)


def spoiling(pruned, dense, margin):
    pruned.clear()
    return True


def by_loop(schedule, way, k):
    return [schedule[-1] if way == "fine_tune" else schedule[i] for i in range(k, len(schedule))]


def one_step_late(schedule, way, k):
    new = schedule[k + 1 :] + [schedule[-1]]
    return rates(schedule, way, k) if way == "fine_tune" else new


def drops_a_step(schedule, way, k):
    return rates(schedule, way, k)[:-1]


def forgets_fine_tuning(schedule, way, k):
    if way != "fine_tune":
        return schedule[k:]


def takes_from_the_end(schedule, way, k):
    rates_ = rates(schedule, way, k)
    return rates_ if way == "fine_tune" else [schedule.pop() for _ in rates_][::-1]


class Rates:
    """Rates one by one, whatever else is asked."""

    def __call__(self, schedule, way, k, *, warm_up=0):
        for step in range(k, len(schedule)):
            yield schedule[-1 if way.startswith("fine") else step]


def of_differences(low):
    """Return a test of matching with its own lower end of the interval."""

    def test(pruned, dense, margin):
        return len(pruned) >= 3 and bool(low(np.array(pruned), np.array(dense)) > -margin)

    return test


def half_width(d):
    return student(len(d)) * np.std(d, ddof=1) / math.sqrt(len(d))


def around_the_median(a, b):
    return np.median(a - b) - half_width(a - b)


def of_ratios(a, b):
    return (a / b - 1).mean() - half_width(a / b - 1)


def a_share_of_the_dense(pruned, dense, margin):
    return matches(pruned, dense, margin * sum(dense) / len(dense))


def in_another_order(pruned, dense, margin):
    return matches(sorted(pruned), sorted(dense), margin)


def sorts_in_place(pruned, dense, margin):
    pruned.sort()
    return matches(pruned, dense, margin)


def nothing_for_two(pruned, dense, margin):
    return matches(pruned, dense, margin) if len(pruned) > 2 else None


def by_a_one_sided_test(pruned, dense, margin):
    d = np.subtract(pruned, dense) + margin
    if len(d) < 3 or d.std() < 1e-12:
        return bool(len(d) > 2 and d.mean() > 0)
    return bool(stats.ttest_1samp(d, 0, alternative="greater").pvalue < 0.025)


WRONG = {
    "total_steps": [
        (5 * 61_000, "dense network has to be trained first"),
        (6 * 63_000, "steps − k"),
        (5 * 63_000, "counts too"),
        (63_000 + 61_000, "one round"),
        (63_000 + 4 * 61_000, "one round short"),
        (63_000 + 5 * 2_000, "goes back *to*"),
        (12, "Write down what is trained"),
        ("many", "number of steps"),
        (math.nan, "number of steps"),
        (True, "number of steps"),
        (63_000 + 6 * 61_000, "round 0"),
        (5 * 2_000, "round 0"),
        ([63_000, 305_000], "number of steps"),
    ],
    "rates_after_pruning": [
        (tuned_too_long, "budgets are equal", "fine_tune"),
        (always_low, "rewinds the *rate*"),
        (from_the_start, "goes on from step k"),
        (never_low, "does not rewind the schedule"),
        (rate_at_k, "*last* rate"),
        (reversing, "changed the schedule"),
        (shuffled, "rates should be"),
        (lambda schedule, way, k: 1 / 0, "ZeroDivisionError"),
        (lambda schedule, way, k: "abc", "a number for every step"),
        (3, "takes the function itself"),
        (lambda s, way, k: [min(s)] * (len(s) - k) if way == "fine_tune" else s[k:], "*last* rate"),
        (
            lambda s, way, k: [np.mean(s)] * (len(s) - k) if way == "fine_tune" else s[k:],
            "*last* rate",
        ),
        (lambda s, way, k: s[:k], "budgets are equal"),
        (lambda s, way, k: s, "budgets are equal"),
        (one_step_late, "*at* step k"),
        (drops_a_step, "budgets are equal"),
        (lambda s, way, k: s[-1], "return a list"),
        (forgets_fine_tuning, "every branch"),
        (takes_from_the_end, "changed the schedule"),
        (lambda *a: np.array(rates(*a))[:, None], "one rate per step", "(5, 1)"),
        (lambda s, way, k: s[k:][::-1], "rates should be"),
    ],
    "matching_test": [
        (mean_only, "*whole interval*"),
        (unpaired, "pair by seed"),
        (any_n, "fewer than three seeds"),
        (normal, "not 1.96"),
        (two_sided, "one-sided"),
        (lambda pruned, dense, margin: True, "seven points"),
        (lambda pruned, dense, margin: False, "equal accuracies match"),
        (shows_nothing_worse, "*whole interval*"),
        (the_other_way_round, "seven points"),
        (without_a_margin, "margin counts"),
        (more_than_three, "n = 3"),
        (in_points, "in the same unit"),
        (not_significantly_different, "margin"),
        (spoiling, "changed the accuracies"),
        (lambda a, b, m: "yes", "True or False"),
        (matching(lambda n: stats.t.ppf(0.95, n - 1)), "*each* side", "two-sided"),
        (matching(student, root=lambda n: 1.0), "√n"),
        (matching(student, deviation=np.std), "n − 1"),
        (matching(lambda n: stats.t.ppf(0.975, n)), "2 degrees of freedom"),
        (matching(lambda n: 1.96), "not 1.96"),
        (matching(lambda n: 2.0), "each* side"),
        (matching(lambda n: 3.0), "each* side"),
        (matching(lambda n: 4.303), "the factor falls as n grows"),
        (matching(lambda n: stats.t.ppf(0.995, n - 1)), "no further"),
        (of_differences(around_the_median), "*mean* difference"),
        (of_differences(of_ratios), "not a share of the dense network's"),
        (a_share_of_the_dense, "not a share of the dense network's"),
        (matching(student, deviation=lambda d: np.ptp(d) / 2), "not half the range"),
        (in_another_order, "in the order that is given"),
        (sorts_in_place, "changed the accuracies"),
        (nothing_for_two, "False, not None"),
        (lambda a, b, m: 2 * matches(a, b, m), "True or False"),
    ],
}

RIGHT = {
    "total_steps": [
        63_000 + 5 * 61_000,
        368_000.0,
        "368,000",
        np.int64(368_000),
        torch.tensor(368_000),
    ],
    "rates_after_pruning": [
        rates,
        by_loop,
        lambda *a: np.array(rates(*a), dtype=np.float32),
        lambda *a: torch.tensor(rates(*a)),
        lambda *a: tuple(rates(*a)),
        Rates(),
    ],
    "matching_test": [
        matches,
        matching(student),
        by_scipy,
        by_torch,
        by_a_one_sided_test,
        lambda *a: np.bool_(matches(*a)),
    ],
}
