"""Files that a part leaves for its record, besides rows: masks, networks that were found."""

from __future__ import annotations

import re
from pathlib import Path

from lth_tutorial.safety.files import write_atomically

SHIPPED = "shipped"
"""Folder inside a part's workdir; the command line copies what it holds beside the record."""


def ship(workdir: str | Path | None, name: str, content: bytes) -> None:
    """Leave a file for the command line to put beside the record; without a workdir, do nothing."""
    if workdir is not None:
        write_atomically(Path(workdir) / SHIPPED / name, content)


def file_name(label: str) -> str:
    """Return a label as part of a file's name."""
    return re.sub("[^a-z0-9]+", "-", label)
