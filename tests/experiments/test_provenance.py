"""Rows say which code made them."""

from __future__ import annotations

import subprocess

from lth_tutorial.experiments.provenance import commit


def test_the_environment_says_the_commit_wherever_it_is_set(monkeypatch):
    monkeypatch.setenv("LTH_TUTORIAL_COMMIT", "0123abc")
    assert commit() == "0123abc as LTH_TUTORIAL_COMMIT says"
    for nothing in ("", None):
        if nothing is None:
            monkeypatch.delenv("LTH_TUTORIAL_COMMIT")
        else:
            monkeypatch.setenv("LTH_TUTORIAL_COMMIT", nothing)
        assert "LTH_TUTORIAL_COMMIT" not in commit()


def test_without_git_and_environment_it_is_unknown(monkeypatch):
    def no_git(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.delenv("LTH_TUTORIAL_COMMIT", raising=False)
    monkeypatch.setattr(subprocess, "run", no_git)
    assert commit() == "unknown"
