from __future__ import annotations

import io
import sys

import pytest
import torch

import lth_tutorial as lt
from lth_tutorial.runtime import check_device, choose, in_book_build, progress_bar


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


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    "device", ["cuda", "cuda:3", torch.device("cuda", 1), "mps", "gpu", "meta"]
)
def test_a_device_that_does_not_work_is_named_with_those_that_do(device):
    digits = lt.load_dataset("digits")
    for load in (lambda: lt.load_dataset("digits", device=device), lambda: digits.to(device)):
        with pytest.raises(ValueError, match=r"'.*' does not work here \(.+\); .* has 'cpu'"):
            load()


def test_a_driver_too_old_is_the_reason_that_is_given(monkeypatch):
    """PyTorch's own words, as on a machine with such a driver."""

    def fails(*_, **__):
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11000).\n…")

    monkeypatch.setattr(torch, "zeros", fails)
    with pytest.raises(ValueError, match=r"'cuda'.*driver on your system is too old.*has 'cpu'"):
        check_device("cuda")
