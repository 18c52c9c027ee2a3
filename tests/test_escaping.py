"""Whatever becomes HTML is text first: markup in it is shown, not obeyed."""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import pytest

import lth_tutorial as lt
from lth_tutorial.gallery import papers

EVIL = "<evil-tag a='1'>&amp;\"' onerror=\"evil()\" </td></select></script><!-- &lt;"


class Reader(HTMLParser):
    """Collects what a browser would take for tags and attributes, and the text between."""

    def __init__(self) -> None:
        super().__init__()
        self.tags, self.texts, self.comments = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.texts += [value or "" for _, value in attrs]
        self.names = [name for name, _ in attrs]
        assert not any(name.startswith(("on", "evil")) for name in self.names), attrs

    def handle_data(self, data):
        self.texts.append(data)

    def handle_comment(self, data):
        self.comments.append(data)


def check(page: str, *, times: int = 1) -> None:
    """Assert that the markup stands in the page as text, at least so many times."""
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert "evil-tag" not in reader.tags and not reader.comments
    shown = sum(EVIL in text for text in reader.texts)
    assert shown >= times, (shown, page[:500])


COLUMNS = (
    "chapter", "claim", "source", "setting", "criterion", "effect", "verdict", "measured", "n",
    "agree", "departs", "afterwards",
)  # fmt: skip


@pytest.mark.parametrize("filters", [False, True])
@pytest.mark.parametrize("column", COLUMNS)
def test_markup_in_a_claims_table_is_shown_as_text(column, filters):
    table = lt.claims(chapter=4)
    table = table.assign(n=3).astype({column: object})
    table[column] = EVIL
    check(lt.verdicts(table, filters=filters)._repr_html_())


@pytest.mark.parametrize("where", ["label", "caption", "alt", "alt function", "format"])
def test_markup_in_an_explorer_is_shown_as_text(where):
    def draw(value):
        figure = plt.figure(figsize=(1, 1))
        return figure

    texts = {"label": "a", "caption": "b.", "alt": "c."}
    if where == "format":
        texts["format"] = lambda value: f"{EVIL} {value}"
    elif where == "alt function":
        texts["alt"] = lambda value: EVIL
    else:
        texts[where] = EVIL
    explorer = lt.explore(draw, [1, 2], **texts)
    check(explorer.html)
    view = explorer.widget()
    pages = [child.value for child in view.children[1:]]
    if where in ("caption", "alt", "alt function"):
        check("".join(pages))


def test_markup_in_the_provenance_of_a_gallery_entry_is_shown_as_text():
    entry = lt.gallery("digits-winning-tickets")
    keys = [key for key in ("device", "date", "data", "command", "commit") if key in entry.about]
    for key in keys:
        spoiled = replace(entry, about=entry.about | {key: EVIL})
        reader = Reader()
        reader.feed(spoiled._repr_html_())
        assert "evil-tag" not in reader.tags and not reader.comments, key
    check(replace(entry, about=entry.about | {"device": EVIL})._repr_html_())


def test_markup_in_a_number_of_a_paper_is_shown_as_text(monkeypatch):
    entry = lt.gallery("digits-winning-tickets")
    number = next(n for n in papers.NUMBERS)
    texts = {f.name: EVIL for f in fields(number) if isinstance(getattr(number, f.name), str)}
    kept = {"unit": number.unit, "record": entry.design.name}
    number = replace(number, **(texts | kept), measure=lambda rows, scale: [0.5, 0.6])
    monkeypatch.setattr(sys.modules["lth_tutorial.gallery"], "NUMBERS", [number])
    check(lt.gallery("digits-winning-tickets")._repr_html_(), times=4)


def test_markup_in_the_outcome_of_an_exercise_is_shown_as_text():
    for passed in (True, False, None):
        check(lt.check.Check(passed, EVIL)._repr_html_())


def test_markup_in_the_title_of_answers_is_shown_as_text():
    page = lt.answers("one", title=EVIL)._repr_markdown_()
    check(page.replace("</details>", ""))
