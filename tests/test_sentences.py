"""No result in the book is typed by hand; the rules are in tests/tools/sentences.py."""

import nbformat
import pytest
from bootstrap import ROOT
from sentences import PAGES, Known, findings, report, sentences, without_names

# Still to be mended; the list only shrinks.
TO_MEND: list[str] = []


@pytest.mark.parametrize(
    "path", [p for p in PAGES if p.stem not in TO_MEND], ids=lambda path: path.stem
)
def test_no_result_is_typed_by_hand(path):
    assert report(path) == []


KNOWN = Known(
    settings=frozenset({0.5, 600.0, 8.0, 0.25, 11_900.0}),
    printed="97.3% of 12,034 images\n+1.22 points [−0.03, +2.48]\nit took 34 s\n7 of 8 seeds",
    thresholds=frozenset({0.005}),
    authors=frozenset({"Frankle"}),
)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("Iterating wins by two points.", "two points"),
        ("It reaches 93.1 % of the digits.", "93.1 %"),
        ("It keeps 97.4 % of them.", "97.4 %"),
        ("It costs 1.23 points.", "1.23 points"),
        ("OBD needs about half as many weights.", "about half"),
        ("It needs a third of the weights.", "a third"),
        ("It is four times faster.", "four times faster"),
        ("It is 1.28 × as fast.", "1.28 ×"),
        ("It runs in 20 seconds.", "20 seconds"),
        ("Half a minute is enough.", "Half a minute"),
        ("It wins in 6 of 8 seeds.", "6 of 8"),
        ("Nearly every seed agrees.", "Nearly every"),
        ("All seeds agree.", "All seeds"),
        ("A random mask is near chance.", "near chance"),
        ("It costs a few tenths of a point.", "a few tenths"),
        ("It keeps nearly all of its accuracy.", "nearly all"),
        ("The correlation is 0.99.", "0.99"),
        ("The network has 12,035 weights.", "12,035"),
        ("It loses more than 0.5 points.", "more than 0.5 points"),
        ("Formally, it gains $1.4$ points.", "1.4 points"),
        ("It was declared as a correlation of 0.7.", "0.7"),
        ("The correlation is 0.005.", "0.005"),
    ],
)
def test_a_result_that_nothing_compares_is_found(wrong, words):
    (sentence,) = sentences(wrong)
    assert any(words in found for found in findings(sentence, KNOWN)), findings(sentence, KNOWN)


@pytest.mark.parametrize(
    "right",
    [
        "Frankle finds tickets of 21.2 % of the weights.",
        "[A study](https://arxiv.org/abs/1803.03635) gains 2.5 points.",
        "The paper reports 34.9 %.",
        "It trains for 600 steps on 8 seeds, and prunes half of the weights, 25 %.",
        "It reaches 97.3 %, or 97 %.",
        "The difference is 1.2 points.",
        "The run took 34 s.",
        "It wins in 7 of 8 seeds.",
        "The margin of the claim is 0.5 points.",
        "It was declared as a correlation of at least 0.005.",
        "Text is under CC BY 4.0.",
        "One image is 0.2 points.",
        "After two rounds $0.8^2 = 0.64$ of them are left.",
        "See section 3.2, chapter 12, exercise 4 and figure 7 of 1990.",
        "ResNet-20 and LeNet-300-100 read CIFAR-10 in 3 × 3 patches.",
        "Bands are 95 % intervals.",
        "Will it lose 20 points?",
        "`train(steps=123)` runs.",
    ],
)
def test_quotations_settings_and_compared_numbers_pass(right):
    assert [f for s in sentences(right) for f in findings(s, KNOWN)] == []


def planted(tmp_path, change):
    """Return what is found in a copy of the first chapter that passes, after `change(cell)`."""
    notebook = nbformat.read(PAGES[0], as_version=4)
    before = len(report(PAGES[0]))
    change(notebook)
    path = tmp_path / PAGES[0].name
    nbformat.write(notebook, path)
    return len(report(path)) - before


@pytest.mark.parametrize(
    "change",
    [
        lambda nb: nb.cells.insert(5, nbformat.v4.new_markdown_cell("Rounds win by 2.1 points.")),
        lambda nb: nb.cells.insert(5, nbformat.v4.new_markdown_cell("Nearly every seed agrees.")),
        lambda nb: nb.cells.insert(
            5, nbformat.v4.new_code_cell('"It reaches 91.7 % of the digits"')
        ),
        lambda nb: nb.cells[4].metadata.update(
            mystnb={"image": {"alt": "Grids. Random masks lose 2.1 points."}}
        ),
        lambda nb: nb.cells.insert(
            5, nbformat.v4.new_markdown_cell("<details>\n<summary>What the figure shows</summary>")
        ),
    ],
    ids=("number", "words", "text in code", "alternative text", "answers"),
)
def test_a_planted_sentence_is_found_in_a_chapter(change, tmp_path):
    assert planted(tmp_path, change) == 1


def test_names_are_no_numbers():
    text = "7 of ResNet-20, 100-50, 3 × 3, in 2019, chapter 4 and 5 in section 2.1"
    assert without_names(text) == "7 of X, X, X, in X, X in X"


def test_chapters_and_pages_are_read():
    stems = [path.stem for path in PAGES]
    assert len(stems) == len(set(stems)) > 20 and set(TO_MEND) <= set(stems)
    assert (ROOT / "notebooks" / f"{stems[0]}.ipynb").is_file()
