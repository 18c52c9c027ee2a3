"""Links the first use of each glossary term in a chapter, and shows its meaning on hovering.

The links are made while the book is built: a chapter's prose stays plain Markdown, and a term
that is added to the glossary is linked in every chapter of the same build. Headings, code,
formulas, tables, outputs and existing links are left alone. The tip is Tippy's (in
`_assets/vendor`, so that it works offline); without JavaScript the link to the glossary remains.
"""

from __future__ import annotations

import html
import re
from functools import cache

from docutils import nodes
from sphinx.application import Sphinx

GLOSSARY = "book/glossary"
CHAPTERS = "notebooks/"
SCRIPTS = ("vendor/popper.min.js", "vendor/tippy-bundle.umd.min.js", "lth_glossary.js")

LEFT_ALONE = (
    nodes.title, nodes.literal, nodes.literal_block, nodes.reference, nodes.math, nodes.math_block,
    nodes.raw, nodes.table, nodes.caption,
)  # fmt: skip

# Terms that are everyday words, too: where they mean what the glossary says.
SENSES = {
    "connected": r"connected(?= weights?\b)",
    "dense": r"dense(?= (networks?|ones?)\b)",
    "fraction": r"(?<!\ba )fractions?",
    "magnitude": r"(?<!order of )(?<!orders of )magnitudes?",
    "round": r"(?<!turns )(?<!way )rounds?(?! (the|it|to|a|by)\b)",
    "unit": r"units?(?! in which)",
}
ONLY_IN = {"basis": ("13",), "gain": ("12",), "stable": ("06", "07", "13")}


def forms(term: str) -> str:
    """Return the expression for a term: its plural, and a space for a hyphen, are its forms."""
    if term in SENSES:
        return SENSES[term]
    if term.isupper():
        return re.escape(term)
    words = re.escape(term).replace(r"\-", "[- ]").replace(r"\ ", r"\s+")
    return f"{words[:-1]}(?:y|ies)" if words.endswith("y") else f"{words}(?:s|es)?"


@cache
def expression(term: str) -> re.Pattern:
    return re.compile(rf"\b(?:{forms(term)})\b", 0 if term.isupper() else re.IGNORECASE)


def meanings(app: Sphinx) -> dict[str, tuple[str, str]]:
    """Return the anchor and the meaning of every term, as the glossary page has them."""
    found = {}
    for item in app.env.get_doctree(GLOSSARY).findall(nodes.definition_list_item):
        meaning = " ".join(item[-1].astext().split())
        for term in item.findall(nodes.term):
            # What else the line says, "Scratch-E, Scratch-B", are names of the same thing.
            for name in term.astext().split(", "):
                found[name] = (term["ids"][0], meaning)
    return found


def is_prose(text: nodes.Text) -> bool:
    parent = text.parent
    inside = False
    while parent is not None:
        if isinstance(parent, LEFT_ALONE) or "cell" in parent.get("classes", ()):
            return False
        inside = inside or isinstance(parent, nodes.paragraph)
        parent = parent.parent
    return inside


def link_terms(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    if not docname.startswith(CHAPTERS) or app.builder.format != "html":
        return
    chapter = docname.removeprefix(CHAPTERS)[:2]
    terms = {
        term: found
        for term, found in meanings(app).items()
        if chapter in ONLY_IN.get(term, (chapter,))
    }
    page = app.builder.get_relative_uri(docname, GLOSSARY)
    for text in list(doctree.findall(nodes.Text)):
        if terms and is_prose(text):
            pieces = linked(str(text), terms, page)
            if len(pieces) > 1:
                text.parent.replace(text, pieces)


def linked(text: str, terms: dict[str, tuple[str, str]], page: str) -> list[nodes.Node]:
    """Return a text in pieces, with links around terms, which are taken out of `terms`."""
    hits = [(m.start(), -len(m[0]), m[0], t) for t in terms if (m := expression(t).search(text))]
    if not hits:
        return [nodes.Text(text)]
    start, _, word, term = min(hits)  # the first, and of two at one place the longer
    anchor, meaning = terms.pop(term)
    for other in [name for name, found in terms.items() if found[0] == anchor]:
        del terms[other]
    opening = f'<a class="lth-term" href="{page}#{anchor}" data-meaning="{html.escape(meaning)}">'
    end = start + len(word)
    return [
        nodes.Text(text[:start]),
        nodes.raw("", opening, format="html"),
        nodes.Text(word),
        nodes.raw("", "</a>", format="html"),
        *linked(text[end:], terms, page),
    ]


def add_scripts(app: Sphinx, pagename: str, templatename, context: dict, doctree) -> None:
    if pagename.startswith(CHAPTERS):
        for script in SCRIPTS:
            app.add_js_file(script, loading_method="defer")


def setup(app: Sphinx) -> dict:
    # Before the theme's and our own repairs, after references are resolved.
    app.connect("doctree-resolved", link_terms, priority=800)
    app.connect("html-page-context", add_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
