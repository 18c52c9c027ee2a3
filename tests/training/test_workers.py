"""Seeds in processes: their values in order, warnings and errors; workers that die."""

from __future__ import annotations

import os
import signal
import warnings
from pathlib import Path

import pytest
import torch
from samples import Bar

import lth_tutorial as lt
from lth_tutorial.training.workers import map_seeds


def test_warnings_of_a_worker_reach_the_reader():
    def function(seed, on_step):
        warnings.warn(f"seed {seed} went wrong", lt.DivergenceWarning, stacklevel=1)

    with pytest.warns(lt.DivergenceWarning, match="seed . went wrong"):
        map_seeds(function, [1, 2], workers=2)


def test_a_function_made_here_travels_to_processes_in_order():
    offset = 10
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = map_seeds(
            lambda s, on_step: (s + offset, torch.get_num_threads()), [3, 1, 2], workers=2
        )
    assert values == [(13, 1), (11, 1), (12, 1)]


def die_once(folder: Path):
    def function(seed, on_step):
        mark = folder / f"{seed}"
        first = not mark.exists()
        mark.touch()
        if seed == 2 and first:
            os.kill(os.getpid(), signal.SIGKILL)
        return seed * 10

    return function


def test_a_seed_whose_worker_dies_is_computed_once_more(tmp_path):
    assert map_seeds(die_once(tmp_path), [1, 2, 3, 4], workers=2) == [10, 20, 30, 40]


def test_a_seed_whose_worker_dies_twice_is_named():
    def function(seed, on_step):
        if seed == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return seed

    with pytest.raises(RuntimeError, match="the worker process of seed 2 died twice"):
        map_seeds(function, [1, 2, 3], workers=2)


def test_an_error_in_a_worker_is_the_readers():
    def function(seed, on_step):
        raise ValueError(f"seed {seed} is wrong")

    with pytest.raises(ValueError, match="seed . is wrong"):
        map_seeds(function, [1, 2, 3], workers=2)


def test_the_progress_of_workers_is_shown():
    def function(seed, on_step):
        for _ in range(seed):
            on_step()

    bar = Bar()
    map_seeds(function, [100, 300], workers=2, bar=bar)
    assert bar.n == 400
