"""Tiny data and networks, small enough to check by hand, and one thread: runs repeat exactly."""

from __future__ import annotations

import pytest
import torch

import lth_tutorial as lt


@pytest.fixture(autouse=True)
def one_thread():
    lt.limit_threads()


def blobs(n: int, seed: int, features: int = 8, classes: int = 3) -> tuple[torch.Tensor, ...]:
    """Return points around one centre per class, shape [n, features], and their labels."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.eye(features)[:classes] * 3
    y = torch.randint(classes, (n,), generator=generator)
    return centres[y] + torch.randn(n, features, generator=generator), y


@pytest.fixture(scope="session")
def tiny_data() -> lt.Dataset:
    return lt.make_dataset("blobs", blobs(120, 1), blobs(60, 2), blobs(60, 3))


@pytest.fixture(scope="session")
def digits() -> lt.Dataset:
    return lt.load_dataset("digits")


@pytest.fixture
def tiny_model(tiny_data):
    return lt.build_model("mlp_12_6", seed=0, data=tiny_data)


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


@pytest.fixture
def bars_of(monkeypatch):
    """Return a function from a module's name to the list of the bars that it will make."""

    def replaced(module: str) -> list[Bar]:
        made: list[Bar] = []

        def make(total: int, description: str) -> Bar:
            made.append(Bar(total, description))
            return made[-1]

        monkeypatch.setattr(f"{module}.progress_bar", make)
        return made

    return replaced


@pytest.fixture
def config() -> lt.TrainConfig:
    return lt.TrainConfig(steps=40, batch_size=20, lr=0.1, weight_decay=1e-3, eval_every=10)
