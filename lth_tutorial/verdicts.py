"""The claims table as readers see it: one row per claim, the verdict as a word beside a mark."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

MARKS = {
    "holds": "✓",
    "fails here": "✗",
    "inconclusive": "?",
    "single run": "1",
    "not yet run": "○",
}
"""A sign for each verdict, so that no meaning hangs on colour; "holds only if …" has "◐"."""

_STYLE = """
.lth-claims{width:100%;border-collapse:collapse;table-layout:fixed;margin:1rem 0;color:inherit}
.lth-claims th,.lth-claims td{padding:.5rem .6rem;text-align:left;vertical-align:top;
border-bottom:1px solid currentColor;overflow-wrap:break-word;color:inherit}
.lth-claims th:nth-child(1){width:40%}.lth-claims th:nth-child(3){width:22%}
.lth-claims small{display:block;margin-top:.3rem}
@media(max-width:640px){.lth-claims thead{position:absolute;clip-path:inset(50%)}
.lth-claims td{display:block;border:0}.lth-claims tr{display:block;border-bottom:1px solid}}
""".replace("\n", "")


@dataclass(frozen=True)
class VerdictTable:
    """A claims table that shows itself in a notebook and in the book; make it with `verdicts`."""

    table: pd.DataFrame

    def _repr_html_(self) -> str:
        rows = "".join(_row(claim) for _, claim in self.table.iterrows())
        heads = "".join(f'<th scope="col">{h}</th>' for h in ("Claim", "Measured", "Verdict"))
        return (
            f"<style>{_STYLE}</style><table class='lth-claims'><thead><tr>{heads}</tr></thead>"
            f"<tbody>{rows}</tbody></table>"
        )

    def __repr__(self) -> str:
        lines = [
            f"{_mark(claim['verdict'])} {claim['verdict']}: {claim['claim']} "
            f"({claim['setting']}; {claim['effect']}, n = {claim['n']})"
            for _, claim in self.table.iterrows()
        ]
        return "\n".join(lines)


def verdicts(table: pd.DataFrame) -> VerdictTable:
    """Return a claims table in the form in which the chapters show it.

    Args:
        table: of `claims`, or some of its rows.
    """
    return VerdictTable(table)


def _mark(verdict: str) -> str:
    return MARKS.get(verdict, "◐")


def _row(claim: pd.Series) -> str:
    text = {key: html.escape(str(value)) for key, value in claim.items()}
    measured = f"{text['effect']}, n = {text['n']}" if claim["n"] else "nothing yet"
    return (
        f"<tr><td>{text['claim']}<small>{text['source']}. Here: {text['setting']} "
        f"({text['level']}).</small></td>"
        f"<td>{measured}<small>Holds if {text['criterion']}.</small></td>"
        f"<td><strong>{_mark(claim['verdict'])} {text['verdict']}</strong></td></tr>"
    )
