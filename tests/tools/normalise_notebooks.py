"""Bring chapters into the form in which they are stored.

    python tests/tools/normalise_notebooks.py [--check | --written] [notebook ...]

A stored chapter keeps outputs only for the cells tagged `nbval-check-output`, which nbval compares
with a fresh run; everything else would be noise in a review. Without arguments all of notebooks/
is executed and written back; `--check` executes nothing and fails if a file is not in this form,
and `--written` executes nothing and writes the form.
(nbstripout would also drop the execution counts, and nbval never compares a cell without one.)

An execution is also a measurement: the verdicts that the chapter computed and the seconds of a
processor core that it took are kept in the package, and the chapter says the time in a sentence.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from bootstrap import ROOT
from nbclient import NotebookClient
from nbformat import NotebookNode

from lth_tutorial.claims import CLAIMS
from lth_tutorial.claims.live import KEPT, VARIABLE, noted

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


def measure(notebook: NotebookNode, stem: str) -> dict:
    """Execute a chapter; return its verdicts, and the processor time of its kernel in seconds."""
    with TemporaryDirectory() as folder:
        os.environ[VARIABLE] = folder
        before = processor_time()
        execute(notebook)
        seconds = processor_time() - before
        found = {entry["key"]: entry for entry in noted(Path(folder), int(stem[:2]))}
    if seconds < 1:
        raise RuntimeError(f"{stem}: {seconds} s is no time of a kernel that has ended")
    return {
        "seconds": round(seconds, 1),
        "verdicts": [found[claim.key] for claim in CLAIMS if claim.key in found],
    }


def processor_time() -> float:
    """Return the seconds that ended child processes have computed, theirs included.

    A clock on the wall would measure who else uses the machine.
    """
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def running_time(seconds: float) -> str:
    """Return the sentence on running time, e.g. "… takes about 40 seconds of one processor core."

    Rounded to five seconds, above 90 to half minutes: another run differs by as much.
    """
    if seconds < 90:
        words = f"{max(5, 5 * round(seconds / 5))} seconds"
    else:
        words = f"{round(seconds / 30) / 2:g} minutes"
    return f"Running everything takes about {words} of one processor core."


def with_running_time(source: str, seconds: float) -> str:
    """Return the opening cell with the measured running time in it.

    Raises:
        ValueError: unless exactly one sentence begins with "Running everything takes".
    """
    pattern = r"Running everything takes [^.]*(\.\d[^.]*)*\."
    if len(re.findall(pattern, source)) != 1:
        raise ValueError("one sentence of “Before you start” begins “Running everything takes”")
    return re.sub(pattern, running_time(seconds), source)


def kept_file(path: Path) -> Path:
    """Return the file that keeps what a chapter of notebooks/ measured."""
    return KEPT / f"{path.stem}.json"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--check", action="store_true", help="change nothing; fail if needed")
    way.add_argument("--written", action="store_true", help="execute nothing; write the form")
    parser.add_argument("notebooks", nargs="*", type=Path)
    arguments = parser.parse_args()

    os.environ["LTH_TUTORIAL_BUILD"] = "1"
    paths = arguments.notebooks or sorted((ROOT / "notebooks").glob("*.ipynb"))
    odd = []
    for path in paths:
        before = path.read_text()
        notebook = nbformat.reads(before, as_version=4)
        kept = kept_file(path)
        if not arguments.check and not arguments.written:
            text = json.dumps(measure(notebook, path.stem), ensure_ascii=False, indent=1) + "\n"
            kept.write_text(text, encoding="utf-8")
        opening = notebook.cells[0]
        seconds = json.loads(kept.read_text(encoding="utf-8"))["seconds"]
        opening.source = with_running_time(opening.source, seconds)
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
