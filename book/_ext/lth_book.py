"""What this book adds to Sphinx: formulas without JavaScript, the API listing, an offline page.

Seven small changes, each connected in `setup`:

1. Formulas become MathML while the book is built, so that a page needs neither network nor script.
2. The API page has a map of the rooms and lists whatever `lth_tutorial.__all__` holds, both as
   the code is on the day of the build.
3. The page of results has a section for every experiment there is on that day.
4. Scripts and page elements of the theme that reach for the network or fail an accessibility
   check are removed or repaired.
5. Chapters see `LTH_TUTORIAL_BUILD=1`, at which the package draws no progress bars and embeds
   no widget state.
6. The claims table gets the script that filters it, on its page alone.
7. Chapters note the verdicts that they compute, for the comparison with those that are kept.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import sys
import tomllib
from pathlib import Path
from types import GenericAlias

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.util.nodes import make_refnode

ASSETS = Path(__file__).parent.parent / "_assets"
API_PAGE = "book/api"
RESULTS_PAGE = "book/results"
RESULTS_MARKER = "<!-- the experiments -->"
CLAIMS_PAGE = "book/claims"
API_MARKER = "<!-- the public names -->"
MAP_MARKER = "<!-- the rooms -->"

logger = logging.getLogger(__name__)
converter = LatexToMathML(fancy_error=False)


# --- formulas ---------------------------------------------------------------------------------


def to_mathml(latex: str, node: nodes.Node, *, display: bool) -> str:
    # Sphinx numbers equations itself (over the whole book), so the starred environments are used.
    latex = re.sub(r"\\(begin|end)\{(align|gather|equation)\}", r"\\\1{\2*}", latex.strip())
    if display and r"\\" in latex and not latex.startswith(r"\begin"):
        latex = rf"\begin{{aligned}}{latex}\end{{aligned}}"
    try:
        return converter.convert_with_local_state(latex, displaystyle=display)
    except LatexError as error:
        logger.warning("formula not understood: %s (%s)", latex, error, location=node)
        return f"<code>{nodes.unescape(latex)}</code>"


def visit_inline_math(self, node: nodes.math) -> None:
    self.body.append(self.starttag(node, "span", "", CLASS="math notranslate nohighlight"))
    self.body.append(to_mathml(node.astext(), node, display=False) + "</span>")
    raise nodes.SkipNode


def visit_display_math(self, node: nodes.math_block) -> None:
    # A long formula scrolls on a narrow screen; the keyboard can only scroll what it can focus.
    self.body.append(self.starttag(node, "div", CLASS="math notranslate nohighlight", TABINDEX="0"))
    self.body.append(to_mathml(node.astext(), node, display=True))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append("</div>\n")
    raise nodes.SkipNode


# --- the API page -----------------------------------------------------------------------------


def rooms() -> list[str]:
    """Return the rooms of the package in the order in which to read them, as the guard has it."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    (contract,) = (
        each
        for each in tomllib.loads(text)["tool"]["importlinter"]["contracts"]
        if each["type"] == "layers"
    )
    return list(reversed(contract["layers"]))


def imported_rooms(room: str) -> set[str]:
    """Return the rooms that the code of a room imports."""
    import lth_tutorial

    package = Path(lth_tutorial.__file__).parent
    folder = package / room
    files = folder.rglob("*.py") if folder.is_dir() else [package / f"{room}.py"]
    found = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lth_tutorial"):
                parts = node.module.split(".")[1:]
                found |= {parts[0]} if parts else {alias.name for alias in node.names}
    return found - {room}


def room_map() -> str:
    """Return the table of rooms: what each is for, and what its code imports."""
    order = rooms()
    lines = ["| room | what it is for | imports |", "|---|---|---|"]
    for room in order:
        face = inspect.getdoc(importlib.import_module(f"lth_tutorial.{room}"))
        used = imported_rooms(room)
        below = ", ".join(f"`{each}`" for each in order if each in used) or "–"
        lines.append(f"| `{room}` | {' '.join(face.split(chr(10) * 2)[0].split())} | {below} |")
    return "\n".join(lines)


def readable_defaults(app, what, name, value, options, signature, returns):
    """Write `...` for a default without a name, such as `<factory>`.

    Sphinx cannot parse a signature with one, and then shows all of it as plain text with its own
    marks (`~collections.abc.Callable`) in it.
    """
    return re.sub(r" = <[^,)]*>", " = ...", signature or "") or None, returns


def api_listing() -> str:
    """Return Markdown with a section per room: all of `lth_tutorial.__all__`, in story order."""
    import lth_tutorial

    parts, listed = [], []
    for room in rooms():
        face = importlib.import_module(f"lth_tutorial.{room}")
        names = getattr(face, "__all__", [])
        if room == "experiments" or not names:  # a command line, and rooms without public names
            continue
        summary = " ".join(inspect.getdoc(face).split("\n\n")[0].split())
        path = {"exercises": "check.", "plotting": "plotting."}.get(room, "")
        entries = [(f"lth_tutorial.{path}{name}", name, face) for name in names]
        listed += ["check" if room == "exercises" else room] if path else names
        body = "\n".join(
            api_entry(full, home_of(name, getattr(face, name))) for full, name, face in entries
        )
        parts += [f"## `{room}`", summary, f"```{{eval-rst}}\n{body}\n```"]
    if sorted(listed) != sorted(lth_tutorial.__all__):
        odd = set(listed) ^ set(lth_tutorial.__all__)
        raise ValueError(f"the API page would not list the public names as they are: {odd}")
    return "\n\n".join(parts)


def analyzer_of(module: str) -> ModuleAnalyzer:
    analyzer = ModuleAnalyzer.for_module(module)
    analyzer.analyze()
    return analyzer


def home_of(name: str, value: object) -> str:
    """Return the module that defines a public name."""
    own = getattr(value, "__module__", None) or ""
    if own.startswith("lth_tutorial."):
        return own
    # Constants and the names of types do not know where they were written.
    for module in sorted(sys.modules):
        if module.startswith("lth_tutorial."):
            analyzer = analyzer_of(module)
            if ("", name) in analyzer.attr_docs or ("", name) in analyzer.annotations:
                return module
    raise ValueError(f"lth_tutorial.{name} needs a docstring after its definition")


def api_entry(name: str, module: str) -> str:
    """Return the reStructuredText that documents one public name."""
    import lth_tutorial

    value = lth_tutorial
    for part in name.split(".")[1:]:
        value = getattr(value, part)
    if inspect.isclass(value):
        return f".. autoclass:: {name}\n   :members:\n"
    if inspect.isroutine(value):
        return f".. autofunction:: {name}\n"
    # Not autodata: it would show the docstring of the value's type, say `dict`.
    header = f".. py:data:: {name}\n"
    if isinstance(value, GenericAlias):
        header += f"   :value: {value}\n".replace("torch.Tensor", "Tensor")
    text = analyzer_of(module).attr_docs.get(("", name.split(".")[-1]), [])
    doc = to_rst("\n".join(text)).splitlines()
    return "\n".join([header, *(f"   {line}" for line in doc), ""])


def to_rst(text: str) -> str:
    """Return a docstring with `code` as reStructuredText writes it, and no accidental markup."""

    def convert(match: re.Match) -> str:
        whole, code, emphasis, mark = match.group(0, 1, 2, 3)
        if code:
            return f"``{code}``"
        return whole if emphasis or not mark else "\\" + mark

    pattern = r"``[^`]+``|:[\w:]+:`[^`]+`|`([^`]+)`|(?<!\w)(\*\*?\w[^*\n]*\*\*?)(?!\w)|([*|])"
    return re.sub(pattern, convert, text)


def plain_docstrings(app: Sphinx, what, name, obj, options, lines: list[str]) -> None:
    text = to_rst("\n".join(lines))
    # In "a, b: what both are" Sphinx would take the first name for the type of the second, unless
    # no white space stands between them.
    text = re.sub(
        r"^ +\w+(, \w+)+: ", lambda names: names[0].replace(", ", ",\u200b"), text, flags=re.M
    )
    lines[:] = text.split("\n")


def fill_pages(app: Sphinx, docname: str, source: list[str]) -> None:
    if docname == API_PAGE:
        source[0] = source[0].replace(MAP_MARKER, room_map()).replace(API_MARKER, api_listing())
    if docname == RESULTS_PAGE:
        source[0] = source[0].replace(RESULTS_MARKER, results_listing())


def always_read_filled_pages(app: Sphinx, env, added, changed, removed) -> list[str]:
    # Their text depends on the package, which Sphinx does not watch.
    return sorted({API_PAGE, RESULTS_PAGE} & env.found_docs)


def resolve_public_name(app: Sphinx, env, node: addnodes.pending_xref, contnode: nodes.Element):
    """Find a name as annotations spell it (with its room and module) under the root."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py":
        return None
    objects = env.get_domain("py").objects
    public = "lth_tutorial." + target.rpartition(".")[2]
    if public not in objects:
        # A type that exists but is not public is named without a link; a slip of the pen is not.
        home, _, name = target.rpartition(".")
        return contnode if hasattr(sys.modules.get(home), name) else None
    found = objects[public]
    return make_refnode(
        app.builder, node.get("refdoc"), found.docname, found.node_id, contnode, public
    )


# --- the page of results ----------------------------------------------------------------------


def results_listing() -> str:
    """Return Markdown with a section per experiment: by chapter, those not yet run at the end."""
    from lth_tutorial.experiments import EXPERIMENTS
    from lth_tutorial.results.records import recorded

    done = set(recorded())
    measured = [each for each in EXPERIMENTS if each.name in done]
    parts = []
    for chapter in sorted({each.chapter for each in measured}):
        own = [result_section(each) for each in measured if each.chapter == chapter]
        parts += [f"## Chapter {chapter}", *own]
    waiting = [result_section(each) for each in EXPERIMENTS if each.name not in done]
    return "\n\n".join([*parts, "## Not yet run", *waiting] if waiting else parts)


def result_section(design) -> str:
    cell = f"```{{code-cell}} ipython3\n:tags: [remove-input]\n\nlt.gallery({design.name!r})\n```"
    return f"### {design.name}\n\n{design.question}\n\n{cell}"


# --- pages ------------------------------------------------------------------------------------


def drop_thebe(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    # The live-code script comes from a CDN and is emitted twice, although the button is off.
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "thebe" not in str(getattr(script, "filename", script))
        and "THEBE" not in str(getattr(script, "attributes", {}).get("body", ""))
    ]


def drop_thebe_config(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for node in list(doctree.findall(nodes.raw)):
        if "thebe" in node.astext() or "kernelName" in node.astext():
            node.parent.remove(node)


def let_figures_scroll(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    # On a narrow screen, as long formulas do: made as small as that, their labels are unreadable.
    for image in list(doctree.findall(nodes.image)):
        if "cell_output" in image.parent.get("classes", ()):
            opening, closing = '<div class="lth-figure" tabindex="0">', "</div>"
            around = [nodes.raw("", text, format="html") for text in (opening, closing)]
            image.replace_self([around[0], image.deepcopy(), around[1]])


# What a browser or an accessibility checker gets wrong about the pages, and what to write instead.
REPAIRS = (
    (
        r'<span class="math [^>]*>(?:(?!</span>).)*</span>[,.;:?!)]+',
        r'<span class="with-mark">\g<0></span>',
    ),
    # The title in the sidebar stands outside every landmark.
    (
        r'<div id="pst-primary-sidebar" class="bd-sidebar-primary bd-sidebar"',
        r'\g<0> role="complementary" aria-label="The book"',
    ),
    # The corner of a table of pandas heads nothing.
    (r"<th></th>", "<td></td>"),
    # A list may not have the back-reference links as children, nor a div this role.
    (r' role="list"(?= class="citation-list")| role="doc-biblioentry"', ""),
)


def repair_pages(app: Sphinx, error: Exception | None) -> None:
    if error or app.builder.format != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        for pattern, replacement in REPAIRS:
            page = re.sub(pattern, replacement, page)
        path.write_text(page, encoding="utf-8")


def add_claims_script(app: Sphinx, pagename: str, templatename, context: dict, doctree) -> None:
    if pagename == CLAIMS_PAGE:
        app.add_js_file("lth_claims.js", loading_method="defer")


def collect_verdicts(app: Sphinx) -> None:
    # Beside the pages; kernels inherit the variable (lth_tutorial/claims/live.py).
    folder = Path(app.outdir).parent / "verdicts"
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.jsonl"):
        path.unlink()
    os.environ["LTH_TUTORIAL_VERDICTS"] = str(folder)


def add_assets(app: Sphinx) -> None:
    app.config.html_static_path.append(str(ASSETS))
    app.add_css_file("lth_book.css", priority=900)


def setup(app: Sphinx) -> dict:
    os.environ["LTH_TUTORIAL_BUILD"] = "1"
    app.add_html_math_renderer(
        "mathml",
        inline_renderers=(visit_inline_math, None),
        block_renderers=(visit_display_math, None),
    )
    app.connect("builder-inited", add_assets)
    app.connect("builder-inited", collect_verdicts)
    app.connect("env-get-outdated", always_read_filled_pages)
    app.connect("source-read", fill_pages)
    # Before napoleon (500) reads the sections of a docstring.
    app.connect("autodoc-process-docstring", plain_docstrings, priority=400)
    app.connect("autodoc-process-signature", readable_defaults)
    app.connect("missing-reference", resolve_public_name)
    app.connect("doctree-resolved", drop_thebe_config, priority=900)
    app.connect("doctree-resolved", let_figures_scroll, priority=900)
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("html-page-context", add_claims_script)
    app.connect("build-finished", repair_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
