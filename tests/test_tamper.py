"""nbval does fail when a stored number is wrong: otherwise its green means nothing."""

import os
import re
import subprocess
import sys

import nbformat
import pytest
from bootstrap import ROOT
from nbformat.v4 import new_code_cell, new_notebook
from normalise_notebooks import CHECKED, execute, is_checked, normal_form

CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def nbval(path) -> subprocess.CompletedProcess:
    """Run a notebook as far as the first cell that differs from what is stored."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "--exitfirst"]
        + ["--nbval-cell-timeout=300", "-p", "no:cacheprovider", "-rf", "-q", path.name],
        cwd=path.parent,
        capture_output=True,
        text=True,
        env=os.environ | {"LTH_TUTORIAL_BUILD": "1"},
    )


def with_one_digit_altered(text: str) -> tuple[str, int]:
    """Increase the last digit of a notebook's first checked output.

    Returns:
        the notebook's text, and the number of the cell among those of code.
    """
    notebook = nbformat.reads(text, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    number, output = next(
        (number, output)
        for number, cell in enumerate(code)
        if is_checked(cell)
        for output in cell.outputs
        if re.search(r"\d", output.text)
    )
    where = [match.start() for match in re.finditer(r"\d", output.text)][-1]
    digit = (int(output.text[where]) + 1) % 10
    output.text = output.text[:where] + str(digit) + output.text[where + 1 :]
    return nbformat.writes(notebook), number


def tiny_notebook() -> str:
    notebook = new_notebook(
        cells=[
            new_code_cell("total = sum(range(10))"),
            new_code_cell("print(f'{total / 7:.3f}')", metadata={"tags": [CHECKED]}),
        ]
    )
    execute(notebook)
    return normal_form(notebook)


def test_an_altered_digit_fails(tmp_path):
    text = tiny_notebook()
    assert "6.429" in text
    path = tmp_path / "tiny.ipynb"
    path.write_text(text)
    unaltered = nbval(path)
    assert unaltered.returncode == 0, unaltered.stdout

    altered, number = with_one_digit_altered(text)
    path.write_text(altered)
    result = nbval(path)
    assert result.returncode == 1, result.stdout
    assert number == 1
    assert "1 failed, 1 passed" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_an_altered_digit_fails_in_a_chapter(chapter, tmp_path):
    path = tmp_path / chapter.name
    altered, number = with_one_digit_altered(chapter.read_text())
    path.write_text(altered)
    result = nbval(path)
    assert result.returncode == 1, result.stdout
    assert f"FAILED {path.name}::Cell {number} " in result.stdout, result.stdout
