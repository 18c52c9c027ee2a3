"""Find results that are typed by hand.

    python tests/tools/sentences.py [how the names of chapters or pages begin, such as 04 ...]

A number in prose is either quoted from a paper, or a setting that the code holds, or compared
with an output; anything else is a result that nobody keeps right, and is listed. So are words
that stand for a measured number ("nearly every seed", "about half"). The rules:

- *Quoted*: the sentence links to a paper, or names the paper's authors as the references do.
- *Setting*: the number stands in the code of the same chapter, or follows from its configuration
  (densities of its rounds, sizes of its data, layers of its networks). Settings are exact, so a
  number after "about" or "more than" is no setting; neither are points, factors and times.
- *Criterion*: points that are a declared threshold, in a sentence about the criterion.
- *Compared*: the number stands in a stored output of the chapter, with the same unit; nbval
  compares that with a run.
- *Formula*: what stands in a formula with an operator is arithmetic.
- *Running time*: a sentence that begins "Running everything" is written by normalise_notebooks.py.

The texts in code (captions, sentences) and the alternative texts of figures are read like those of
the prose, what they compute left out. So what is measured is best written by a cell: `lt.answers`
and `lt.told` work in the book, in JupyterLab and in Colab alike.
"""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nbformat
from bootstrap import ROOT

WORDS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}
WORDS |= {"nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "sixteen": 16, "twenty": 20}
WORDS |= {"thirty": 30, "forty": 40, "fifty": 50, "hundred": 100}
SHARES = {
    "two thirds": 2 / 3,
    "three quarters": 3 / 4,
    "half": 1 / 2,
    "a third": 1 / 3,
    "quarter": 1 / 4,
    "fifth": 1 / 5,
    "eighth": 1 / 8,
    "tenth": 1 / 10,
    "hundredth": 1 / 100,
}
FACTORS = {"twice": 2, "threefold": 3, "tenfold": 10, "thrice": 3}

NUMBER = r"[−+-]?\d[\d,]*(?:\.\d+)?"
WORD = "|".join(WORDS)
HEDGE = (
    r"(?:(?:about|roughly|nearly|almost|around|barely|hardly|more than|less than|fewer than|"
    r"no more than|up to|only|well (?:over|under)) "
    r"(?:an? (?=half|quarter|fifth|eighth|tenth|hundredth))?)"
)
TIME = r"(?:milliseconds?|ms|seconds?|s|minutes?|min|hours?|h)\b"
COMPARED = r"(?:as|more|fewer|faster|slower|smaller|larger|the)\b"
REPLICATES = rf"(?:{NUMBER}|{WORD}|seeds|networks|replicates|runs)"
VERBS = r"(?:agree|are|is|do|does|shows?|loses?|gains?)\b"
# What a quantity looks like: its kind, and the groups "number", "word" or "bare".
QUANTITIES = {
    "points": rf"(?P<number>{NUMBER}|\b(?:{WORD}|half|quarter|tenth|tenths|fraction))"
    r"(?: of)?(?: a| an)?(?: percentage)?[ -]points?\b",
    "time": rf"(?P<number>{NUMBER}|\b(?:{WORD}|half))(?: a| an)? {TIME}",
    "factor": rf"(?P<number>{NUMBER}) ?(?:×(?! ?\d)|[- ]?times\b|-?fold\b)|"
    rf"(?P<word>\b(?:{WORD})) times {COMPARED}|(?P<bare>\b(?:{'|'.join(FACTORS)})\b)(?= as)",
    "count": rf"(?P<number>{NUMBER}|\b(?:{WORD}|all|none|most|every)) "
    rf"(?:of (?:the |its |our |all )?{REPLICATES}|seeds? {VERBS})",
    "percent": rf"(?P<number>{NUMBER}) ?%",
    "share": rf"(?P<number>\b(?:{'|'.join(SHARES)})\b)(?! arm| copy| from|,)",
    "number": rf"(?P<number>(?<![\w.]){NUMBER})(?![\w])",
}
# Words that stand for a measured number; only an output or a cell can know them.
SEEDS = r"(?: of the)? seeds?\b"
VAGUE = re.compile(
    r"\b(?:(?:near|close to|at|around) chance\b|by points\b|by far\b|a fraction of a point|"
    r"(?:nearly|almost) (?:every|all|none|no|unnoticed|half)\b|"
    r"a few (?:tenths|points|percent)\b|"
    rf"(?:all|every|each|none|most|no){SEEDS}(?= (?:agree|show|are|is|do|los|gain|reach|beat))|"
    rf"(?:in|for|on) (?:all|every|most|no){SEEDS})",
    re.I,
)
UNIT_IN_LINE = {"points": r"points", "time": TIME, "factor": r"×|times|x\b", "count": r" of "}
EXACT_ONLY = ("points", "time", "factor", "count")
CRITERION = re.compile(
    r"\b(?:margin|threshold|criteri|declared|claim|holds|verdict|question|below −)"
)
PAPER = re.compile(
    r"\b(?:the|this|that|their|original|first|second|same) papers?\b|\bpapers?['’]|"
    r"\bpapers? (?:says?|claims?|reports?)|\bauthors?\b|\babstract\b|\bappendix\b",
    re.I,
)
LINK = re.compile(
    r"https?://(?:arxiv|papers|proceedings|openreview|doi|aclanthology|jmlr|www\.jmlr)|\{cite", re.I
)


RUNNING_TIME = "Running everything "
# What figures answer is the place where sentences and outputs part: it is written by a cell.
ANSWERS = re.compile(r"<summary>[^<]*\b(?:answers?|tables?|figures?|shows?|shown|found)\b", re.I)


@dataclass(frozen=True)
class Hit:
    """A result typed by hand: where, which words, and their sentence."""

    page: str
    cell: int
    words: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.page} [{self.cell}] “{self.words}”: {self.sentence}"


# --- from a page to sentences -----------------------------------------------------------------


def sentences(markdown: str) -> list[str]:
    """Return the sentences of a cell as a reader sees them, links kept as ⟦address⟧."""
    text = re.sub(
        r"```.*?```|\$\$.*?\$\$|<style.*?</style>|<svg.*?</svg>|<!--.*?-->",
        " ",
        markdown,
        flags=re.S,
    )
    text = re.sub(r"^\s*#+ .*$|^\s*\|[ :|-]+\|\s*$", "", text, flags=re.M)
    text = re.sub(r"<div class=\"admonition.*?</div>", quoted, text, flags=re.S)
    text = re.sub(r"`[^`]*`", "code", text)
    text = re.sub(r"\\,|\\ |~", " ", text)
    text = re.sub(r"\$([^$]*)\$", formula, text)
    text = re.sub(
        r"(\d)((?:, \d[\d.,]*)*(?:,? (?:and|or|to) )\d[\d.,]* (?:%|points))", unit_of_each, text
    )
    text = re.sub(r"!?\[([^\]]*)\]\(([^)]*)\)", r"\1⟦\2⟧", text)
    text = re.sub(r"<a href=\"([^\"]*)\">(.*?)</a>", r"\2⟦\1⟧", text, flags=re.S)
    text = re.sub(
        r"<(?:p|li|tr|summary|details|div|/p|/li|/tr|/summary|/details)[^>]*>", "\n\n", text
    )
    text = re.sub(r"<[^>]*>|\*\*|(?<!\w)[*_]|[*_](?!\w)", "", text)
    blocks = re.split(r"\n\s*\n|\n(?=\s*(?:[-*|]|\d+\.) )", text)
    found = []
    for block in blocks:
        block = re.sub(r"^\s*(?:[-*]|\d+\.) ", "", " ".join(block.split()))
        parts = re.split(r"(?<=[.!?…:;)])(?:⟦[^⟧]*⟧)? (?=[A-ZÄ“\"(*⟦])", block)
        found += [part for part in parts if re.search(r"\w", part)]
    return found


def quoted(box: re.Match) -> str:
    """Return nothing for a box whose title cites a paper: all of it is the paper's."""
    return "" if re.search(r"admonition-title\">[^<]*\(\d{4}", box[0]) else box[0]


def formula(match: re.Match) -> str:
    """Return X for a formula; a number dressed up as one stays a number."""
    return match[1] if re.fullmatch(r"[−+-]?[\d.,]+ ?\\?%?", match[1]) else "X"


def unit_of_each(match: re.Match) -> str:
    """Return "50 %, 25 % and 12.5 %" for "50, 25 and 12.5 %"."""
    unit = match[0].rpartition(" ")[2]
    return re.sub(r"(\d)(?=,? (?:and |or |to )?\d)", rf"\1 {unit}", match[0])


NUMBERED = (
    "chapter|exercise|section|question|equation|table|figure|answer|step|seed|layer|round|epoch|"
    "part|appendix|act|arm|block|column|row|version|python|pytorch|torch|theorem|corollary|claim|"
    "algorithm|panel|rule"
)


def without_names(sentence: str) -> str:
    """Return the sentence without numbers that name something: years, sections, networks."""
    text = re.sub(r"⟦[^⟧]*⟧", " ", sentence)
    listed = rf"\b(?:{NUMBERED})s? \d[\d.]*(?:(?:,| and| or| to|–|-) ?\d+)*"
    text = re.sub(listed, "X", text, flags=re.I)
    text = re.sub(r"\b(?:1[89]|20)\d\d\b|\bCC BY \d\.\d", "X", text)
    text = re.sub(r"\b[A-Za-z]+[-‑]?\d+(?:[-‑]\d+)*\b", "X", text)
    text = re.sub(r"\b\d+(?:[-‑]\d+)+\b", "X", text)  # layer sizes: 100-50
    text = re.sub(r"\d+ ?× ?\d+(?: ?× ?\d+)*", "X", text)  # shapes
    return re.sub(r"\b9[05] ?%[- ](?:confidence )?intervals?|9[05] % interval", "interval", text)


# --- what the code holds ----------------------------------------------------------------------


def constants(code: str) -> set[float]:
    """Return the numbers in a chapter's code, and in the names and texts of its settings."""
    found: set[float] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            found.add(float(abs(node.value)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 30:
            found |= {float(part) for part in re.findall(r"\d+(?:\.\d+)?", node.value)}
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):  # "two networks", "five densities"
            found.add(float(len(node.elts)))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "range":
            ends = [arithmetic(end) for end in node.args]
            if len(ends) == 2 and None not in ends:  # sixteen seeds: range(400, 416)
                found.add(ends[1] - ends[0])
        if isinstance(node, ast.BinOp):
            value = arithmetic(node)
            found |= set() if value is None else {abs(value)}
    return found


def arithmetic(node: ast.AST) -> float | None:
    """Return the value of an expression of numbers alone."""
    if all(isinstance(each, (ast.BinOp, ast.Constant, ast.operator, ast.UnaryOp, ast.unaryop))
           for each in ast.walk(node)):  # fmt: skip
        try:
            return float(eval(compile(ast.Expression(node), "setting", "eval")))
        except (TypeError, ValueError, ZeroDivisionError, OverflowError):
            return None
    return None


@cache
def facts() -> frozenset[float]:
    """Return sizes that no chapter's code spells out: of the data, the networks, the defaults."""
    import lth_tutorial as lt

    digits = lt.load_dataset("digits")
    parts = [len(digits.x_train), len(digits.x_val), len(digits.x_test)]
    mnist = [60_000, 55_000, 10_000, 5_000, 28, 784]
    found = {*parts, sum(parts), parts[0] + parts[1], *mnist, 64, 8, 10}
    for name in ("mlp_100_50", "lenet_300_100"):
        sizes = [
            p.numel() for p in lt.build_model(name, seed=0, data=digits).parameters() if p.ndim > 1
        ]
        found |= {sum(sizes), *sizes}
    found |= {v for v in vars(lt.TrainConfig()).values() if isinstance(v, (int, float))}
    return frozenset(map(float, found))


@dataclass(frozen=True)
class Known:
    """What a page may say in numbers: its settings, its outputs, its thresholds, its authors."""

    settings: frozenset[float] = frozenset()
    printed: str = ""
    thresholds: frozenset[float] = frozenset()
    authors: frozenset[str] = frozenset()

    def is_setting(self, value: float, percent: bool) -> bool:
        value = abs(value)
        near = {value / 100, 1 - value / 100} if percent else {value}
        return any(
            abs(n - s) <= (0.00051 if percent else 1e-9) for n in near for s in self.settings
        )

    def is_printed(self, text: str, kind: str) -> bool:
        """Return whether an output holds this number, rounded at most, with its unit."""
        places, value = len(text.partition(".")[2]), abs(as_number(text))
        # "Two points" are no rounded end of an interval.
        printed = self.printed if places else re.sub(r"\[[^\]]*\]", "", self.printed)
        for line in printed.splitlines():
            if kind in UNIT_IN_LINE and not re.search(UNIT_IN_LINE[kind], line):
                continue
            for found, mark in re.findall(r"(\d[\d,]*(?:\.\d+)?)(%?)", line):
                exact = len(found.partition(".")[2]) >= places
                if bool(mark) == (kind in ("percent", "share")) and exact:
                    if abs(as_number(found) - value) <= 0.5001 * 10**-places:
                        return True
        return False


def as_number(text: str) -> float:
    plain = text.lower().replace(",", "").replace("−", "-")
    return float({**WORDS, **SHARES, **FACTORS}.get(plain, None) or _float(plain))


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def known_of(notebook: nbformat.NotebookNode, chapter: int) -> Known:
    from lth_tutorial.claims import CLAIMS

    code = "\n".join(c.source for c in notebook.cells[3:] if c.cell_type == "code")
    settings = constants(code)
    shares = {s for s in settings if 0 < s < 1}
    settings |= {(1 - s) ** r for s in shares for r in range(1, 21)} | set(facts())
    settings |= recorded_settings(code)
    own = [claim for claim in CLAIMS if claim.chapter == chapter]
    effects = [e for claim in own for setting in claim.settings for e in setting.effects]
    printed = "\n".join(
        output.get("text", "") for c in notebook.cells for output in c.get("outputs", [])
    )
    references = next((c.source for c in notebook.cells if "## References" in c.source), "")
    names = re.findall(
        r"\b(?:[A-Z]\.[ -]?)+ ([A-Z][\w’'-]+)", references.partition("## References")[2]
    )
    return Known(
        frozenset(settings),
        printed,
        frozenset(abs(e.threshold) for e in effects),
        frozenset(names),
    )


def recorded_settings(code: str) -> set[float]:
    """Return densities, counts and training settings of the records that a chapter loads."""
    import lth_tutorial as lt

    found: set[float] = set()
    for name in set(re.findall(r"[\"']([a-z]+-[a-z0-9-]+)[\"']", code)) & set(lt.recorded()):
        rows = lt.load_rows(name)
        found |= {float(d) for d in rows["density"].dropna().unique()}
        found |= {float(s) for s in rows["step"].dropna().unique()} if "step" in rows else set()
        found |= {float(rows["seed"].nunique()), float(rows["round"].max())}
        for part in lt.load_provenance(name).get("parts", []):
            config = part.get("train", {})
            found |= {float(config[key]) for key in ("steps", "batch_size", "lr") if key in config}
    return found


# --- the rules --------------------------------------------------------------------------------


def findings(sentence: str, known: Known, given: bool = False) -> list[str]:
    """Return the words of a sentence that state a result nobody compares.

    A question states nothing, and `given` numbers are those of an exercise.
    """
    names = any(re.search(rf"\b{re.escape(name)}\b", sentence) for name in known.authors)
    if LINK.search(sentence) or PAPER.search(sentence) or names or sentence.endswith("?"):
        return []
    text = without_names(sentence)
    found = [match[0] for match in VAGUE.finditer(text)]
    text = VAGUE.sub("X", text)
    for kind, pattern in QUANTITIES.items():
        if given and kind not in ("points", "time"):
            continue
        for match in re.finditer(rf"(?P<hedge>{HEDGE})?(?:{pattern})", text, flags=re.I):
            if not allowed(kind, match, text, known):
                found.append(match[0])
        text = re.sub(pattern, "X", text, flags=re.I)
    return found


def allowed(kind: str, match: re.Match, text: str, known: Known) -> bool:
    groups = match.groupdict()
    number = groups["number"] or groups.get("word") or groups.get("bare")
    percent = kind in ("percent", "share")
    value = as_number(number)
    if kind == "number" and not groups["hedge"] and value in (0, 1, 2):
        return True  # "0 or 1", "2 × …": the numbers of logic, not of a result
    if kind == "share":
        value *= 100
    if value == value and known.is_printed(f"{value:.6g}", kind):
        return True
    if kind == "points":
        image = re.search(r"\bone (?:test )?image\b", text, re.I) and number == "0.2"  # 1 of 497
        criterion = any(abs(abs(value) / 100 - t) < 1e-9 for t in known.thresholds)
        return bool(image or (criterion and CRITERION.search(text)))
    if kind == "number" and CRITERION.search(text):  # "declared as a correlation of 0.6"
        if any(abs(abs(value) - t) < 1e-9 for t in known.thresholds):
            return True
    if kind in EXACT_ONLY or groups["hedge"]:
        return False
    if kind == "number" and re.match(r" (?:steps|networks|trainings)", text[match.end() :]):
        products = {a * b for a in known.settings for b in known.settings if a == int(a) < 100}
        return value in products or known.is_setting(value, percent)
    return known.is_setting(value, percent)


def report(path: Path) -> list[Hit]:
    """Return what is typed by hand on a page or in a chapter."""
    if path.suffix == ".md":
        text = re.sub(r"\A---.*?---", "", path.read_text(), flags=re.S)
        text = re.split(r"^## Teaching", text, flags=re.M)[0]  # a plan: minutes, no results
        return [
            Hit(path.stem, 0, words, sentence)
            for sentence in sentences(text)
            for words in findings(sentence, Known(settings=facts()))
        ]
    notebook = nbformat.read(path, as_version=4)
    known = known_of(notebook, int(path.stem[:2]))
    hits, given = [], False
    for index, cell in enumerate(notebook.cells):
        given = "## Exercises" in cell.source or (given and "## Summary" not in cell.source)
        text = cell.source.partition("## References")[0]
        said = sentences(text) if cell.cell_type == "markdown" else texts(text)
        said += sentences(cell.metadata.get("mystnb", {}).get("image", {}).get("alt", ""))
        hits += [
            Hit(path.stem, index, words, sentence)
            for sentence in said
            if not sentence.startswith(RUNNING_TIME)
            for words in findings(sentence, known, given)
        ]
        if ANSWERS.search(text):
            hits.append(Hit(path.stem, index, "<details>", "answers about figures: lt.answers"))
    return hits


def texts(code: str) -> list[str]:
    """Return the sentences in the strings of a cell, with X for what is computed."""
    found, tree = [], ast.parse(code)
    inner = {
        id(v) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for v in node.values
    }
    for node in ast.walk(tree):
        text = ""
        if isinstance(node, ast.JoinedStr):
            text = "".join(v.value if isinstance(v, ast.Constant) else "X" for v in node.values)
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner
        ):
            text = node.value
        found += sentences(text) if text.count(" ") >= 4 else []
    return found


PAGES = [*sorted((ROOT / "notebooks").glob("*.ipynb")), *sorted((ROOT / "book").glob("*.md"))]


def main() -> int:
    wanted = [
        page for page in PAGES if not sys.argv[1:] or page.stem.startswith(tuple(sys.argv[1:]))
    ]
    hits = [hit for path in wanted for hit in report(path)]
    print(*hits, sep="\n")
    print(f"{len(hits)} results typed by hand in {len({hit.page for hit in hits})} pages")
    return bool(hits)


if __name__ == "__main__":
    sys.exit(main())
