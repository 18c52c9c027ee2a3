"""Every chapter follows the template; the rules are in tests/tools/policy.py."""

import nbformat
import pytest
from bootstrap import ROOT
from normalise_notebooks import is_checked, normal_form
from policy import problems

CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_there_are_chapters():
    assert CHAPTERS


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_follows_the_template(path):
    assert problems(path) == []


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_is_stored_in_normal_form(path):
    text = path.read_text()
    assert normal_form(nbformat.reads(text, as_version=4)) == text


def altered(tmp_path, change):
    """Return a copy of the first chapter after `change(notebook)`."""
    notebook = nbformat.read(CHAPTERS[0], as_version=4)
    change(notebook)
    path = tmp_path / CHAPTERS[0].name
    nbformat.write(notebook, path)
    return path


def first_checked(notebook):
    return next(cell for cell in notebook.cells if is_checked(cell))


def never_run(notebook):
    first_checked(notebook).execution_count = None


def without_output(notebook):
    first_checked(notebook).outputs = []


def skipped(notebook):
    first_checked(notebook).metadata.tags.append("nbval-skip")


def with_other_output(notebook):
    cell = next(c for c in notebook.cells if c.cell_type == "code" and not is_checked(c))
    cell.outputs = [nbformat.v4.new_output("stream", text="0.97\n")]


def with_other_bootstrap(notebook):
    cell = next(c for c in notebook.cells if c.cell_type == "code")
    cell.source += "\n"


def with_relative_path(notebook):
    notebook.cells[0].source += "\n[data](../data.csv)"


def with_printed_link(notebook):
    add_code(notebook, 'display("[chapter 2](02-what-to-prune.ipynb)")', "Live experiment")


def with_role(notebook):
    notebook.cells[0].source += "\n{cite}`frankle2019lth`"


def add_code(notebook, source, below, *after):
    """Add a code cell, and cells after it, below the first heading that starts so."""
    place = next(i for i, cell in enumerate(notebook.cells) if f"## {below}" in cell.source) + 1
    notebook.cells[place:place] = [nbformat.v4.new_code_cell(source), *after]


def with_plumbing(notebook):
    add_code(notebook, "\n".join(f"print({i})" for i in range(30)), "Live experiment")
    add_code(notebook, "\n".join(f"print({i})" for i in range(30)), "Full-scale result")


def with_the_answer(notebook):
    add_code(notebook, "assert rows", "Live experiment")


def with_a_card(notebook):
    add_code(notebook, 'lt.plotting.not_yet_run("mnist-lenet-imp")', "Full-scale result")


def without_caption(notebook):
    text = nbformat.v4.new_markdown_cell("And so on.")
    source = 'rows = lt.load_rows("mnist-lenet-imp")\nlt.plotting.accuracy_vs_density(rows)'
    add_code(notebook, source, "Full-scale result", text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (never_run, "never executed"),
        (without_output, "prints nothing"),
        (skipped, "switches a check off"),
        (with_other_output, "nothing compares"),
        (with_other_bootstrap, "bootstrap cell differs"),
        (with_relative_path, "works only in one place"),
        (with_printed_link, "a cell prints a link"),
        (with_role, "MyST syntax"),
        (with_plumbing, "are not the method"),
        (with_the_answer, "asserted above"),
        (with_a_card, "not yet run"),
        (without_caption, "has no caption"),
    ],
)
def test_the_rules_catch_a_chapter(change, message, tmp_path):
    assert any(message in line for line in problems(altered(tmp_path, change)))
