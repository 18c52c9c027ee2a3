from __future__ import annotations

import html
import re

import pytest

import lth_tutorial as lt
from lth_tutorial.results.verdicts import MARKS, MEASURED, mark


def shown(**change):
    table = lt.claims(level="full scale").head(1)
    return lt.verdicts(table.assign(**change))._repr_html_()


def test_a_verdict_is_shown_as_a_word_and_a_mark_never_by_colour_alone():
    assert len(set(MARKS.values())) == len(MARKS)
    for verdict, sign in MARKS.items():
        assert f"{sign} {verdict}" in shown(verdict=verdict)
    assert mark("holds only if 26 %") == "◐"


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
        assert all(html.escape(value[0].upper() + value[1:]) in page for value in table[column])


@pytest.mark.parametrize("where", MEASURED)
def test_chapter_and_level_are_said(where):
    assert f", {where}: " in shown(measured=where)


def test_a_row_says_who_agrees_what_departs_and_what_came_later():
    page = shown(agree="18 of 24 seeds agree.", n=24, departs="half the steps", afterwards="Later.")
    for words in ("18 of 24 seeds agree.", "</strong> half the steps.", "<small>Later.</small>"):
        assert words in page
    assert "≠" not in shown(departs="") and page.count("<details>") == 1


def test_an_empty_table_says_that_nothing_was_measured():
    empty = lt.verdicts(lt.claims().iloc[:0])
    assert "<table" not in empty._repr_html_()
    assert "measured yet" in empty._repr_html_() and "measured yet" in repr(empty)


def test_each_of_several_settings_has_a_line_with_its_own_mark():
    table = lt.claims(chapter=8, record="mnist-pruning-at-init").set_index("key")
    row = table.loc[["mnist-shuffling-does-not-hurt"]].reset_index()
    assert [line[0] for line in row.loc[0, "effect"].split("\n")] == ["?", "✓", "✗", "✓"]
    assert lt.verdicts(row)._repr_html_().count("<li>") == 4
    assert "\n" not in repr(lt.verdicts(row))


def choices(page, name):
    """Return the options of one control: value and text."""
    field = re.search(rf"<select [^>]*name='{name}'>(.*?)</select>", page)[1]
    return re.findall(r'<option value="(.*?)">(.*?)</option>', field)


def test_filters_offer_what_the_table_has_and_hide_nothing():
    table = lt.claims()
    page = lt.verdicts(table, filters=True)._repr_html_()
    chapters = [value for value, _ in choices(page, "chapter")]
    assert chapters == ["", *map(str, sorted(set(table["chapter"])))]
    assert dict(choices(page, "level")).keys() == {"", *table["measured"]}
    assert f"<output>{len(table)} of {len(table)} verdicts</output>" in page
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
    assert re.findall(r'data-level="(.*?)"', page) == list(table["measured"])
    assert choices(page, "verdict") == [
        ("", "all"),
        ("holds only if …", "◐ holds only if … (2)"),
        ("fails here", "✗ fails here (1)"),
    ]
