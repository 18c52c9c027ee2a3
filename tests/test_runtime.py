from __future__ import annotations

import io
import sys

import pytest
import torch

import lth_tutorial as lt
from lth_tutorial.runtime import choose, in_book_build, progress_bar


def test_pick_device_names_a_device_that_exists():
    torch.ones(1, device=lt.pick_device())


@pytest.mark.parametrize("threads", [0, -1, 1.5, "two"])
def test_limit_threads_refuses_what_is_not_a_number_of_threads(threads):
    with pytest.raises(ValueError, match="threads"):
        lt.limit_threads(threads)


def test_an_unknown_name_is_repeated_with_the_nearest_known_one():
    with pytest.raises(ValueError, match=r"unknown arm 'tiket'. Did you mean 'ticket'\?"):
        choose("arm", "tiket", ["ticket", "random"])


def test_versions_name_what_a_rerun_needs():
    assert {"torch", "python", "lth_tutorial", "cuda_device"} <= set(lt.versions())


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_progress_bar_is_for_people_and_silent_in_the_book_build(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.delenv("LTH_TUTORIAL_BUILD", raising=False)
    assert not progress_bar(3, "watched").disable
    monkeypatch.setenv("LTH_TUTORIAL_BUILD", "1")
    assert in_book_build() and progress_bar(3, "built").disable
    monkeypatch.setenv("LTH_TUTORIAL_BUILD", "0")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert progress_bar(3, "into a file").disable
