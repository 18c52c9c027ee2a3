from __future__ import annotations

import html
import re

import pytest

import lth_tutorial as lt
from lth_tutorial.results.verdicts import MARKS, _mark


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
    assert page.count("<tr ") == len(table) and text.count("\n") == len(table) - 1
    for column in ("source", "claim"):
        assert all(html.escape(value) in page for value in table[column])


@pytest.mark.parametrize("level", ["live", "full scale"])
def test_the_level_is_said(level):
    assert f"({level})." in lt.verdicts(lt.claims(level=level))._repr_html_()


def choices(page, name):
    """Return the options of one control: value and text."""
    field = re.search(rf"<select [^>]*name='{name}'>(.*?)</select>", page)[1]
    return re.findall(r'<option value="(.*?)">(.*?)</option>', field)


def test_filters_offer_what_the_table_has_and_hide_nothing():
    table = lt.claims()
    page = lt.verdicts(table, filters=True)._repr_html_()
    chapters = [value for value, _ in choices(page, "chapter")]
    assert chapters == ["", *map(str, sorted(set(table["chapter"])))]
    assert dict(choices(page, "level")).keys() == {"", *table["level"]}
    assert f"<output>{len(table)} of {len(table)} claims</output>" in page
    assert page.count("<label for=") == page.count("<select id=") == 3
    assert "hidden" not in "".join(re.findall(r"<tr .*?>", page))
    # Without the script of the book there is nothing to choose with.
    assert re.search(r"<form [^>]*hidden>", page)
    assert "<form" not in lt.verdicts(table)._repr_html_()


def test_every_row_says_what_it_is_filtered_by():
    table = lt.claims().head(3)
    verdicts = ["holds only if 26 %", "holds only if a <b>", "fails here"]
    page = lt.verdicts(table.assign(verdict=verdicts), filters=True)._repr_html_()
    assert re.findall(r'data-verdict="(.*?)"', page) == ["holds only if …"] * 2 + ["fails here"]
    assert re.findall(r'data-chapter="(.*?)"', page) == [str(c) for c in table["chapter"]]
    assert re.findall(r'data-level="(.*?)"', page) == list(table["level"])
    assert choices(page, "verdict") == [
        ("", "all"),
        ("holds only if …", "◐ holds only if … (2)"),
        ("fails here", "✗ fails here (1)"),
    ]
