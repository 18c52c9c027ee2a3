"""What every chapter must look like: `problems(path)` returns what is wrong with one."""

from __future__ import annotations

import re
from pathlib import Path

import bootstrap
import nbformat
from nbformat import NotebookNode
from normalise_notebooks import CHECKED, is_checked

# The template. Other second-level headings may stand between these.
HEADINGS = (
    "Before you start",
    "The claim",
    "Idea in words",
    "Method from scratch",
    "Same thing from the package",
    "Live experiment",
    "Full-scale result",
    "Interactive figure",
    "What this does and does not show",
    "Exercises",
    "Summary",
    "References",
)
# The question stands before whichever figure answers it, so its place is free.
ANYWHERE = "Predict first"

CELLS = range(25, 46)
MAX_WORDS = 3_000
MAX_LINES = 30
# Of visible code that is not the method: what reads, writes and prints. Shown in the sections
# below, code is the method, or how it is called.
MAX_PLUMBING = 120
METHOD = ("Idea in words", "Method from scratch", "Same thing from the package", "Exercises")
HIDDEN = {"hide-input", "hide-cell", "remove-cell", "remove-input"}
# With these tags nbval would not compare, or would accept an error.
SKIP_TAGS = {"nbval-skip", "nbval-ignore-output", "nbval-raises-exception", "raises-exception"}
SOLUTION = {
    "tags": ["hide-cell", "solution"],
    "cellView": "form",
    "jupyter": {"source_hidden": True},
}
STUB = re.compile(r"^\w*answer\w* = None\b", re.MULTILINE)
FIGURE = re.compile(r"\blt\.plotting\.|\bplotting\.\w+\(|\bplt\.|\blt\.plot\w*\(|\.plot\(")
MYST = re.compile(r"\{[\w:+.-]+\}`|^\s*(```|:::+)\{", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)")
LOCAL_PATH = re.compile(r"""["'](\.{1,2}/|notebooks/|book/|_build/|/home/|/content/|/tmp/|~/)""")


def problems(path: Path) -> list[str]:
    """Return one line for each rule that the chapter breaks; empty if it is in order."""
    notebook = nbformat.read(path, as_version=4)
    checks = (
        title_and_headings,
        sizes,
        bootstrap_cells,
        stored_outputs,
        tags,
        asserts,
        exercises,
        text_that_works_everywhere,
        figures,
        plumbing,
        predictions,
        placeholders,
        recorded_figures,
    )
    return [f"{path.name}: {line}" for check in checks for line in check(notebook, path)]


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def markdown(notebook: NotebookNode) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def headings(notebook: NotebookNode, level: int) -> list[str]:
    pattern = re.compile(rf"^#{{{level}}} (.+?)\s*$", re.MULTILINE)
    return [title for text in markdown(notebook) for title in pattern.findall(text)]


def section(notebook: NotebookNode, title: str) -> list[NotebookNode]:
    """Return the code cells from one heading of the template to the next."""
    found, inside = [], False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for heading in re.findall(r"^## (.+?)\s*$", cell.source, re.MULTILINE):
                if heading in HEADINGS:
                    inside = heading == title
        elif inside:
            found.append(cell)
    return found


def title_and_headings(notebook: NotebookNode, path: Path) -> list[str]:
    found = []
    number = path.name.split("-")[0]
    first = notebook.cells[0].source if notebook.cells else ""
    if not re.match(rf"# {int(number)}\. \S", first):
        found.append(f"the first cell must start with '# {int(number)}. Title'")
    if len(headings(notebook, 1)) != 1:
        found.append("there must be exactly one first-level heading")
    present = headings(notebook, 2)
    missing = [title for title in (*HEADINGS, ANYWHERE) if title not in present]
    if missing:
        found.append(f"headings missing: {', '.join(missing)}")
    template = [title for title in present if title in HEADINGS]
    if not missing and template != list(HEADINGS):
        found.append(f"headings out of order: {', '.join(template)}")
    return found


def is_written(cell: NotebookNode) -> bool:
    """Return whether a cell is text that is written from rows, its code hidden: `lt.answers`."""
    hidden = bool(HIDDEN & set(cell.metadata.get("tags", [])))
    return cell.cell_type == "code" and hidden and "lt.answers(" in cell.source


def sizes(notebook: NotebookNode, path: Path) -> list[str]:
    found = []
    # A written text parts the text that it stands in: with both halves it counts as one cell.
    kinds = [is_written(cell) for cell in notebook.cells]
    halves = zip(kinds, notebook.cells[1:], strict=False)
    parted = sum(written and after.cell_type == "markdown" for written, after in halves)
    cells = len(kinds) - sum(kinds) - parted
    if cells not in CELLS:
        found.append(f"{cells} cells; allowed are {CELLS[0]} to {CELLS[-1]}")
    words = sum(len(text.split()) for text in markdown(notebook))
    if words > MAX_WORDS:
        found.append(f"{words} words; allowed are {MAX_WORDS}")
    for index, cell in enumerate(notebook.cells):
        code = cell.source.partition("lt.answers(")[0] if is_written(cell) else cell.source
        lines = len(code.splitlines())
        if cell.cell_type == "code" and lines > MAX_LINES:
            found.append(f"cell {index} has {lines} lines; allowed are {MAX_LINES}")
    return found


def plumbing(notebook: NotebookNode, path: Path) -> list[str]:
    """Count the lines of code that a reader sees outside the method; blanks and comments not."""
    method = [cell for title in METHOD for cell in section(notebook, title)]
    lines = 0
    for cell in code_cells(notebook):
        if cell in method or HIDDEN & set(cell.metadata.get("tags", [])):
            continue
        code = [line.strip() for line in cell.source.splitlines()]
        lines += sum(bool(line) and not line.startswith("#") for line in code)
    if lines > MAX_PLUMBING:
        return [f"{lines} visible lines are not the method; allowed are {MAX_PLUMBING}"]
    return []


def predictions(notebook: NotebookNode, path: Path) -> list[str]:
    """Find what gives a prediction away: an assert of the experiment above the questions."""
    found, inside = [], False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for heading in re.findall(r"^## (.+?)\s*$", cell.source, re.MULTILINE):
                inside = heading == "Live experiment"
        elif inside and re.search(r"^\s*assert\b", cell.source, re.M):
            later = notebook.cells[notebook.cells.index(cell) :]
            if any(f"## {ANYWHERE}" in each.source for each in later):
                found.append(f"asserted above '{ANYWHERE}': {cell.source.splitlines()[0]}")
    return found


def placeholders(notebook: NotebookNode, path: Path) -> list[str]:
    """Find cards that only say "not yet run": the results page lists those."""
    cells = [c for c in code_cells(notebook) if "not_yet_run" in c.source]
    return [f"a card says 'not yet run': {c.source.splitlines()[0]}" for c in cells]


def recorded_figures(notebook: NotebookNode, path: Path) -> list[str]:
    """Find figures of records that no caption follows: text in italics below the code."""
    found: list[str] = []
    for cell, after in zip(notebook.cells, notebook.cells[1:], strict=False):
        drawn = cell.cell_type == "code" and re.search(r"lt\.plotting\.", cell.source)
        if drawn and re.search(r"load_rows\(", cell.source) and not after.source.startswith("*"):
            found.append(f"a recorded figure has no caption: {cell.source.splitlines()[0]}")
    return found


def bootstrap_cells(notebook: NotebookNode, path: Path) -> list[str]:
    found = []
    expected = (
        (bootstrap.INSTALL, bootstrap.INSTALL_TAGS),
        (bootstrap.SETUP, bootstrap.SETUP_TAGS),
    )
    for (source, tags), cell in zip(expected, code_cells(notebook), strict=False):
        if cell.source != source or cell.metadata.get("tags") != tags:
            found.append(f"a bootstrap cell differs from tests/tools/bootstrap.py:\n{cell.source}")
    return found


def stored_outputs(notebook: NotebookNode, path: Path) -> list[str]:
    found = []
    checked = [cell for cell in code_cells(notebook) if is_checked(cell)]
    if not checked:
        found.append(f"no cell is tagged {CHECKED}")
    for cell in code_cells(notebook):
        name = cell.source.split("\n")[0]
        printed = "".join(output.text for output in cell.outputs if output.get("name") == "stdout")
        if not is_checked(cell):
            if cell.outputs or cell.execution_count is not None:
                found.append(f"an output is stored that nothing compares: {name}")
            continue
        # nbval compares neither a cell that was never run nor one without outputs.
        if cell.execution_count is None:
            found.append(f"a checked cell was never executed: {name}")
        if not printed.strip():
            found.append(f"a checked cell prints nothing: {name}")
        if any(output.get("name") != "stdout" for output in cell.outputs):
            found.append(f"a checked cell has an output other than printed text: {name}")
    return found


def tags(notebook: NotebookNode, path: Path) -> list[str]:
    used = {tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])}
    # nbval also understands these words as a comment in the source.
    used |= {
        tag
        for cell in code_cells(notebook)
        for tag in SKIP_TAGS
        if re.search(rf"#\s*{tag}\b", cell.source, re.IGNORECASE)
        or re.search(rf"#\s*{tag.replace('-', '_')}\b", cell.source, re.IGNORECASE)
    }
    return [f"the tag {tag} switches a check off" for tag in sorted(used & SKIP_TAGS)]


def asserts(notebook: NotebookNode, path: Path) -> list[str]:
    return [
        f"no assert under '{title}'"
        for title in ("Same thing from the package", "Live experiment")
        if not any(re.search(r"^\s*assert\b", c.source, re.M) for c in section(notebook, title))
    ]


def exercises(notebook: NotebookNode, path: Path) -> list[str]:
    found = []
    cells = section(notebook, "Exercises")
    solutions = [cell for cell in cells if "solution" in cell.metadata.get("tags", [])]
    stubs = [cell for cell in cells if cell not in solutions and STUB.search(cell.source)]
    if len(solutions) < 2 or len(stubs) != len(solutions):
        found.append(f"{len(solutions)} solutions and {len(stubs)} stubs (answer = None)")
    for cell in code_cells(notebook):
        looks_like_one = cell.source.startswith("# @title Solution")
        if ("solution" in cell.metadata.get("tags", [])) != looks_like_one:
            found.append("a solution is tagged so, and starts with '# @title Solution'")
        elif looks_like_one and dict(cell.metadata) != SOLUTION:
            found.append(f"a solution's metadata must be {SOLUTION}; got {dict(cell.metadata)}")
    return found


def text_that_works_everywhere(notebook: NotebookNode, path: Path) -> list[str]:
    found = []
    for text in markdown(notebook):
        found += [f"MyST syntax: {match.group()!r}" for match in MYST.finditer(text)]
        for target in LINK.findall(text):
            sibling = re.fullmatch(r"(\d\d-[\w-]+\.ipynb)(#[\w-]+)?", target)
            if sibling and (path.parent / sibling.group(1)).is_file():
                continue
            if not target.startswith(("https://", "#")):
                found.append(f"a link that works only in one place: {target}")
    for cell in notebook.cells:
        if cell.cell_type == "code" and ".ipynb)" in cell.source:  # no build turns it into a page
            found.append("a cell prints a link that works only in one place")
        if re.search(r"!\[|<img", text):
            found.append("a linked image is lost offline: draw it in a cell")
    for cell in code_cells(notebook):
        found += [f"a path: {match.group()}" for match in LOCAL_PATH.finditer(cell.source)]
        if is_checked(cell) and cell.source.rstrip().endswith(";"):
            found.append("nbval does not compare a cell that ends with ';'")
    return found


def figures(notebook: NotebookNode, path: Path) -> list[str]:
    return [
        f"a figure without alt text (mystnb.image.alt): {cell.source.splitlines()[0]}"
        for cell in code_cells(notebook)
        if FIGURE.search(cell.source)
        and len(cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")) < 20
    ]
