"""Bring chapters into the form in which they are stored.

    python tests/tools/normalise_notebooks.py [--check] [notebook ...]

A stored chapter keeps outputs only for the cells tagged `nbval-check-output`, which nbval compares
with a fresh run; everything else would be noise in a review. Without arguments all of notebooks/
is executed and written back; `--check` executes nothing and fails if a file is not in this form.
(nbstripout would also drop the execution counts, and nbval never compares a cell without one.)
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from bootstrap import ROOT
from nbclient import NotebookClient
from nbformat import NotebookNode

CHECKED = "nbval-check-output"
CELL_METADATA = ("cellView", "jupyter", "mystnb", "tags")
NOTEBOOK_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def is_checked(cell: NotebookNode) -> bool:
    return CHECKED in cell.metadata.get("tags", [])


def normal_form(notebook: NotebookNode) -> str:
    """Return the text to store for a notebook, executed or not."""
    cells = []
    for number, cell in enumerate(notebook.cells):
        kept = {
            "cell_type": cell.cell_type,
            "id": cell.get("id", f"cell-{number:02d}"),
            "metadata": {key: cell.metadata[key] for key in CELL_METADATA if key in cell.metadata},
            "source": cell.source.strip("\n"),
        }
        if cell.cell_type == "code":
            checked = is_checked(cell)
            kept["execution_count"] = cell.execution_count if checked else None
            kept["outputs"] = [plain(output) for output in cell.outputs] if checked else []
        cells.append(kept)
    stored = {
        "cells": cells,
        "metadata": NOTEBOOK_METADATA,
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return nbformat.writes(nbformat.from_dict(stored)).rstrip("\n") + "\n"


def plain(output: NotebookNode) -> dict:
    """Return an output without the metadata that a front end may have added."""
    if output.output_type == "stream":
        return {"output_type": "stream", "name": output.name, "text": output.text}
    return dict(output)


def execute(notebook: NotebookNode) -> None:
    # In an empty folder, because a chapter must not depend on where it is run.
    with TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=300,
            kernel_name="python3",
            coalesce_streams=True,
            resources={"metadata": {"path": folder}},
        ).execute()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail if needed")
    parser.add_argument("notebooks", nargs="*", type=Path)
    arguments = parser.parse_args()

    os.environ["LTH_TUTORIAL_BUILD"] = "1"
    paths = arguments.notebooks or sorted((ROOT / "notebooks").glob("*.ipynb"))
    odd = []
    for path in paths:
        before = path.read_text()
        notebook = nbformat.reads(before, as_version=4)
        if not arguments.check:
            execute(notebook)
        after = normal_form(notebook)
        if after != before:
            odd.append(path)
            if not arguments.check:
                path.write_text(after)
    verdict = "not in normal form: run `make normalise`" if arguments.check else "written"
    for path in odd:
        print(f"{path}: {verdict}")
    return int(arguments.check and bool(odd))


if __name__ == "__main__":
    sys.exit(main())
