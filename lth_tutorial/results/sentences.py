"""Sentences written from rows, so that they cannot part from what was measured.

A chapter says in words what its figures show. The words follow from intervals here: `told` compares
two arms, `answers` shows what a reader was asked to predict. Both read the same in the book, in
JupyterLab and in Colab.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lth_tutorial.results.intervals import Interval, format_interval, format_number
from lth_tutorial.results.intervals import paired_difference as paired
from lth_tutorial.runtime import choose, is_whole
from lth_tutorial.safety.arguments import checked

if TYPE_CHECKING:
    import pandas as pd


@checked
def difference_at(
    rows: pd.DataFrame, arm_a: str, arm_b: str, *, round: int, value: str = "accuracy"
) -> Interval:
    """Return the paired difference arm_a − arm_b in one round: `paired_difference`, one line.

    Raises:
        ValueError: if there are no pairs in that round; names the rounds with pairs.
    """
    table = paired(rows, arm_a, arm_b, value=value).set_index("round")
    if round not in table.index:
        there = ", ".join(map(str, table.index)) or "no round"
        raise ValueError(f"{arm_a!r} and {arm_b!r} have no pairs in round {round}; in {there}")
    return Interval(*table.loc[round, ["mean", "low", "high"]], int(table.loc[round, "n"]))


@checked
def told(
    interval: Interval, unit: str = "points", *, more: str = "more", less: str = "less"
) -> str:
    """Return a difference in words: which way it goes, or that the interval holds zero.

    Args:
        interval: of a difference.
        unit: "points" prints hundredths, "steps" whole numbers, "" three digits.
        more, less: the words for a difference above and below zero.

    Returns:
        e.g. "0.58 points more [+0.31, +0.86]" or "not told apart: +0.39 points [−0.03, +0.81]".
    """
    choose("unit", unit, ("points", "steps", ""))
    text = format_interval(interval, unit)
    mean, _, ends = text.partition(" ")
    named = f" {unit}" if unit else ""
    if not (interval.low > 0 or interval.high < 0):
        return f"not told apart: {mean}{named} {ends}"
    word = more if interval.low > 0 else less
    return f"{format_number(abs(interval.mean), unit)}{named} {word} {ends}"


@dataclass(frozen=True)
class Answers:
    """Numbered answers that stay folded until the reader opens them; make them with `answers`."""

    texts: tuple[str, ...]
    title: str
    first: int = 1

    def _repr_markdown_(self) -> str:
        title = html.escape(self.title, quote=False)
        return f"<details>\n<summary>{title}</summary>\n\n{self!r}\n\n</details>"

    def __repr__(self) -> str:
        return "\n".join(f"{i}. {text}" for i, text in enumerate(self.texts, start=self.first))


@checked
def answers(*texts: str, title: str = "What figure and table answer", first: int = 1) -> Answers:
    """Return answers to a chapter's predictions, folded, each a paragraph of Markdown.

    Write their numbers with `told` and the rows at hand, so that the text is what was measured.

    Args:
        texts: one per question.
        title: what is read before they are unfolded, plain text.
        first: the number of the first question.

    Raises:
        ValueError: if there is no text, or one is empty, or `first` is below 1.
    """
    if not is_whole(first) or first < 1:
        raise ValueError(f"first is the number of a question, 1 or more; got {first!r}")
    if not texts or not all(text.strip() for text in texts):
        raise ValueError(f"answers are one text or more, none of them empty; got {texts!r}")
    return Answers(tuple(re.sub(r"\s+", " ", text).strip() for text in texts), title, first)
