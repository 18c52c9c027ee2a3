"""Print each typical wrong answer to an exercise beside the message that it gets.

    python tests/tools/wrong_answers.py [NAME OF A CHECK …]

The answers stand in `answers`; the message is the one of the check as it is now.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterable, Iterator

import answers

from lth_tutorial import exercises as check


def sources(name: str) -> list[str]:
    """Return the wrong answers to an exercise as they are written."""
    (module,) = (each for each in answers.MODULES if name in each.WRONG)
    (table,) = (
        node.value
        for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "WRONG"
    )
    keys = [ast.literal_eval(key) for key in table.keys]
    return [ast.unparse(row.elts[0]) for row in table.values[keys.index(name)].elts]


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield the name of a check, a wrong answer as it is written, and the message to it."""
    for name in check.__all__[1:]:
        pairs = zip(sources(name), answers.WRONG[name], strict=True)
        for source, (answer, *_) in pairs:
            yield name, source, getattr(check, name)(answer).message


def show(table: Iterable[tuple[str, str, str]]) -> None:
    last = None
    for name, source, message in table:
        if name != last:
            print(f"\n{name}")
        last = name
        print(f"  {source}\n      {message}")


if __name__ == "__main__":
    only = sys.argv[1:]
    show(row for row in rows() if not only or row[0] in only)
