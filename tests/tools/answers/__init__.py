"""Answers to the book's exercises, right ones in several styles and typical wrong ones.

Each module has two tables by the name of the check: `RIGHT`, and `WRONG` with the words that the
message to each answer has to contain. A new wrong answer is one more line in a table.
`python tests/tools/wrong_answers.py` prints every wrong answer beside its message.
"""

from __future__ import annotations

import importlib
import pkgutil

MODULES = [
    importlib.import_module(f"{__name__}.{module.name}")
    for module in pkgutil.iter_modules(__path__)
]
RIGHT = {name: answers for module in MODULES for name, answers in module.RIGHT.items()}
WRONG = {name: answers for module in MODULES for name, answers in module.WRONG.items()}
