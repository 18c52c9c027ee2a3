"""Tiny data and networks, small enough to check by hand, and one thread: runs repeat exactly."""

from __future__ import annotations

import pytest
from samples import Bar, blobs

import lth_tutorial as lt


@pytest.fixture(autouse=True)
def one_thread():
    lt.limit_threads()


@pytest.fixture(scope="session")
def tiny_data() -> lt.Dataset:
    return lt.make_dataset("blobs", blobs(120, 1), blobs(60, 2), blobs(60, 3))


@pytest.fixture(scope="session")
def digits() -> lt.Dataset:
    return lt.load_dataset("digits")


@pytest.fixture
def tiny_model(tiny_data):
    return lt.build_model("mlp_12_6", seed=0, data=tiny_data)


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
