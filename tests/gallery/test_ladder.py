"""The compute ladder: every experiment on digits, MNIST and CIFAR-10, with what it costs."""

from __future__ import annotations

import lth_tutorial as lt
from lth_tutorial.experiments import EXPERIMENTS
from lth_tutorial.gallery.ladder import GPUS
from lth_tutorial.results.records import recorded


def test_the_ladder_has_every_experiment_once_and_says_what_was_measured():
    ladder = lt.compute_ladder()
    assert isinstance(ladder, lt.ComputeLadder)
    names = [name for _, name, _, _ in ladder.rows]
    spiral = {each.name for each in EXPERIMENTS if each.dataset == "cubist_spiral"}
    assert len(set(names)) == len(names)
    assert set(names) == {each.name for each in EXPERIMENTS} - spiral
    for size, name, minutes, measured in ladder.rows:
        assert not minutes or size in ("short", "cifar10")
        assert set(minutes) in (set(), set(GPUS)) and all(m > 0 for m in minutes.values())
        assert bool(measured) == (name in recorded())


def test_the_ladder_shows_the_same_as_text_and_as_a_table():
    ladder = lt.compute_ladder()
    page, text = ladder._repr_html_(), repr(ladder)
    assert page.count("<code>") == len(text.splitlines()) == len(ladder.rows)
    for _, name, _, measured in ladder.rows:
        assert f"<code>{name}</code>" in page and f"{name}: " in text
        assert measured in text
