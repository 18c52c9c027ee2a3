"""The claims table as readers see it: one row per claim, the verdict as a word beside a mark."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lth_tutorial.safety.arguments import checked, need_columns

if TYPE_CHECKING:
    import pandas as pd

MARKS = {
    "holds": "✓",
    "fails here": "✗",
    "inconclusive": "?",
    "not enough runs": "…",
    "not yet run": "○",
}
"""A sign for each verdict, so that no meaning hangs on colour; "holds only if …" has "◐"."""

MEASURED = ("live", "recorded, small", "recorded, large")
"""Where a verdict comes from: its chapter, while it ran, or a record, by its setting's size."""

_NOTHING = "No claim of this kind has been measured yet."

_SHOWN = (
    "chapter", "claim", "source", "setting", "criterion", "effect", "verdict", "measured", "n",
    "agree", "departs", "afterwards",
)  # fmt: skip
_STYLE = """
.lth-claims{width:100%;border-collapse:collapse;table-layout:fixed;margin:1rem 0;color:inherit}
.lth-claims th,.lth-claims td{padding:.5rem .6rem;text-align:left;vertical-align:top;
border-bottom:1px solid currentColor;overflow-wrap:break-word;color:inherit}
.lth-claims th:nth-child(1){width:40%}.lth-claims th:nth-child(3){width:22%}
.lth-claims small{display:block;margin-top:.3rem}
.lth-claims ul{list-style:none;margin:0;padding:0}
.lth-claims summary{cursor:pointer;font-size:.875em;margin-top:.3rem}
@media(max-width:640px){.lth-claims thead{position:absolute;clip-path:inset(50%)}
.lth-claims td{display:block;border:0}.lth-claims tr{display:block;border-bottom:1px solid}}
.lth-claims tr[hidden]{display:none}
.lth-filter:not([hidden]){display:flex;flex-wrap:wrap;gap:.6rem 1.2rem;align-items:end}
.lth-filter label{display:block;font-weight:bold}
.lth-filter select,.lth-filter button{display:block;font:inherit;padding:.25rem .5rem;
max-width:100%;color:inherit;background:transparent;border:1px solid currentColor}
.lth-filter option{color:#000;background:#fff}
.lth-filter output{flex-basis:100%}
""".replace("\n", "")


@dataclass(frozen=True)
class VerdictTable:
    """A claims table that shows itself in a notebook and in the book; make it with `verdicts`."""

    table: pd.DataFrame
    filters: bool = False

    def _repr_html_(self) -> str:
        if self.table.empty:
            return f"<p>{_NOTHING}</p>"
        controls = _controls(self.table) if self.filters else ""
        rows = "".join(_row(claim) for _, claim in self.table.iterrows())
        heads = "".join(f'<th scope="col">{h}</th>' for h in ("Claim", "Measured", "Verdict"))
        return (
            f"<style>{_STYLE}</style>{controls}"
            f"<table class='lth-claims'><thead><tr>{heads}</tr></thead>"
            f"<tbody>{rows}</tbody></table>"
        )

    def __repr__(self) -> str:
        if self.table.empty:
            return _NOTHING
        lines = [
            f"{mark(claim['verdict'])} {claim['verdict']}: {claim['claim']} "
            f"({claim['setting']}; {claim['effect']}, n = {claim['n']}; {claim['agree']})".replace(
                "\n", "; "
            )
            for _, claim in self.table.iterrows()
        ]
        return "\n".join(lines)


@checked
def verdicts(table: pd.DataFrame, *, filters: bool = False) -> VerdictTable:
    """Return a claims table in the form in which the chapters show it.

    Args:
        table: of `claims`, or some of its rows.
        filters: put controls above it that choose rows by chapter, verdict and level (live or
            recorded). The pages of the book bring the script that they need. Without it they stay
            hidden, and every row shows.

    Raises:
        ValueError: if the table lacks a column that is shown.
    """
    if len(table):
        need_columns(table, _SHOWN, "a claims table")
    return VerdictTable(table, filters and len(table) > 0)


def mark(verdict: str) -> str:
    """Return the sign of a verdict; that of "holds only if …" for what has several."""
    return MARKS.get(_kind(verdict), "◐")


def _kind(verdict: str) -> str:
    """Return the verdict to filter by, without the settings or the numbers that it names."""
    if verdict.startswith("holds only if"):
        return "holds only if …"
    return next((kind for kind in MARKS if verdict.startswith(kind)), verdict)


def _controls(table: pd.DataFrame) -> str:
    """Return a form with one choice per column, and how many claims are shown; all at first."""
    kinds = table["verdict"].map(_kind)
    order = [*MARKS][:1] + ["holds only if …"] + [*MARKS][1:]
    measured = [where for where in MEASURED if where in set(table["measured"])]
    choices = {
        "chapter": {str(chapter): str(chapter) for chapter in sorted(set(table["chapter"]))},
        "verdict": {
            kind: f"{mark(kind)} {kind} ({(kinds == kind).sum()})"
            for kind in order
            if kind in set(kinds)
        },
        "level": {where: f"{where} ({(table['measured'] == where).sum()})" for where in measured},
    }
    fields = ""
    for column, options in choices.items():
        listed = "".join(
            f'<option value="{html.escape(key)}">{html.escape(text)}</option>'
            for key, text in options.items()
        )
        fields += (
            f"<div><label for='filter-{column}'>{column.capitalize()}</label>"
            f"<select id='filter-{column}' name='{column}'>"
            f'<option value="">all</option>{listed}</select></div>'
        )
    return (
        f"<form class='lth-filter' aria-label='Filter the claims' hidden>{fields}"
        "<button type='reset'>Show all</button>"
        f"<output>{len(table)} of {len(table)} verdicts</output></form>"
    )


def _row(claim: pd.Series) -> str:
    text = {key: html.escape(str(value)) for key, value in claim.items()}
    keys = " ".join(
        f'data-{column}="{html.escape(str(value))}"'
        for column, value in (
            ("chapter", claim["chapter"]),
            ("verdict", _kind(claim["verdict"])),
            ("level", claim["measured"]),
        )
    )
    source = text["source"][:1].upper() + text["source"][1:]
    departs = f" <strong>≠</strong> {text['departs']}." if claim["departs"] else ""
    return (
        f"<tr {keys}><td>{text['claim']}<small>{source}. Here, chapter {text['chapter']}, "
        f"{text['measured']}: {text['setting']}.{departs}</small></td>"
        f"<td>{_measured(text) if claim['n'] else 'nothing yet'}"
        f"<details><summary>Criterion</summary>"
        f"<small>Holds if {text['criterion']}.</small></details></td>"
        f"<td><strong>{mark(claim['verdict'])} {text['verdict']}</strong></td></tr>"
    )


def _measured(text: Mapping[str, str]) -> str:
    """Return the effects, a line for each setting, how many seeds agree, and what came later."""
    lines = text["effect"].split("\n")
    effects = lines[0] if len(lines) == 1 else f"<ul><li>{'</li><li>'.join(lines)}</li></ul>"
    joint = ", " if len(lines) == 1 else ""
    later = f"<small>{text['afterwards']}</small>" if text["afterwards"] else ""
    return f"{effects}{joint}n = {text['n']}<small>{text['agree']}</small>{later}"
