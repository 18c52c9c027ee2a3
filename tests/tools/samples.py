"""Made-up data and rows, and small stand-ins, that several test modules share."""

from __future__ import annotations

import pandas as pd
import torch

import lth_tutorial as lt


def blobs(n: int, seed: int, features: int = 8, classes: int = 3) -> tuple[torch.Tensor, ...]:
    """Return points around one centre per class, shape [n, features], and their labels."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.eye(features)[:classes] * 3
    y = torch.randint(classes, (n,), generator=generator)
    return centres[y] + torch.randn(n, features, generator=generator), y


class Bar:
    """Stands in for a progress bar, and counts."""

    def __init__(self, total: int = 0, description: str = "") -> None:
        self.total, self.n = total, 0

    def update(self, n: int = 1) -> None:
        self.n += n

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def table(**arms: list[float]) -> pd.DataFrame:
    """One round of pruning: accuracies by arm, one per seed; the dense network has 0.9."""
    rows = []
    for arm, values in arms.items():
        for seed, value in enumerate(values):
            rows.append({"arm": arm, "seed": seed, "round": 0, "density": 1.0, "accuracy": 0.9})
            rows.append({"arm": arm, "seed": seed, "round": 1, "density": 0.5, "accuracy": value})
    return pd.DataFrame(rows)


def dense_rows(seeds=4):
    heights = {0: 0.20, 50: 0.03, 100: 0.005}
    rows = [
        {"branch_step": k, "seed": s, "height": h + s / 1000, "network": network}
        for network in ("with", "without")
        for k, h in heights.items()
        for s in range(seeds)
    ]
    return pd.DataFrame(rows)


def sparse_rows():
    rows = [
        {"arm": arm, "seed": s, "round": 4, "rewind_step": k, "height": 0.1 / (k + 1) + s / 1000,
         "accuracy": 0.9 + k / 1000 + s / 1000}
        for arm in ("dense", "ticket", "reinit")
        for k in (0, 50)
        for s in range(3)
    ]  # fmt: skip
    return pd.DataFrame(rows)


_X = (-1.0, 0.0, 1.0, 2.0)
_ERRORS = tuple(tuple(abs(a) / 10 + abs(b) / 20 for a in _X) for b in _X)
PLANE = lt.Plane(_X, _X, ((0.0, 0.0), (1.0, 0.0), (0.5, 1.0)), _ERRORS, _ERRORS)


def assert_names(outcome, *words):
    assert outcome.passed is False, outcome
    missing = [word for word in words if word not in outcome.message]
    assert not missing, f"{missing} not in: {outcome.message}"
