from __future__ import annotations

import html

import pytest

import lth_tutorial as lt
from lth_tutorial.verdicts import MARKS, _mark


def shown(**change):
    table = lt.claims(level="full scale").head(1)
    return lt.verdicts(table.assign(**change))._repr_html_()


def test_a_verdict_is_shown_as_a_word_and_a_mark_never_by_colour_alone():
    assert len(set(MARKS.values())) == len(MARKS)
    for verdict, mark in MARKS.items():
        assert f"{mark} {verdict}" in shown(verdict=verdict)
    assert _mark("holds only if 26 %") == "◐"


def test_the_box_follows_the_table():
    assert "+1.23 [0.1, 2] points, n = 7" in shown(effect="+1.23 [0.1, 2] points", n=7)
    assert "nothing yet" in shown(n=0)
    assert "<b>" not in shown(claim="a <b> claim") and "a &lt;b&gt; claim" in shown(
        claim="a <b> claim"
    )


def test_every_claim_has_its_row_with_source_and_criterion():
    table = lt.claims()
    page, text = lt.verdicts(table)._repr_html_(), repr(lt.verdicts(table))
    assert page.count("<tr>") == len(table) + 1 and text.count("\n") == len(table) - 1
    for column in ("source", "claim"):
        assert all(html.escape(value) in page for value in table[column])


@pytest.mark.parametrize("level", ["live", "full scale"])
def test_the_level_is_said(level):
    assert f"({level})." in lt.verdicts(lt.claims(level=level))._repr_html_()
