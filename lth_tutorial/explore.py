"""The figure that moves: a slider over ready frames in the book, over fresh ones in a notebook.

A static page has no Python behind it, and widgets are dead there. So an `Explorer` shows itself in
two ways at once. Its HTML holds one picture per slider value and a few lines of script; it needs no
network and no kernel. Where a kernel runs, a widget takes its place and draws each value anew.
"""

from __future__ import annotations

import hashlib
import html
import io
import re
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lth_tutorial.plotting.card import png_uri
from lth_tutorial.runtime import in_book_build, in_notebook
from lth_tutorial.safety.arguments import checked

if TYPE_CHECKING:
    import ipywidgets
    from matplotlib.figure import Figure

__all__ = ["explore", "Explorer"]

LIMIT = 200_000  # bytes of HTML per explorer, so that a page of them still opens at once

_STYLE = """
.lth-explorer{margin:1rem 0;color:inherit;text-align:left}
.lth-explorer .lth-controls{display:flex;flex-wrap:wrap;align-items:center;gap:.25rem 1rem}
.lth-explorer label{display:flex;flex:1 1 16rem;flex-wrap:wrap;align-items:center;gap:.25rem .75rem}
.lth-explorer input{flex:1 1 10rem;min-width:8rem;height:1.75rem;margin:0;accent-color:#0072b2}
.lth-explorer output{min-width:6rem;font-weight:bold;font-variant-numeric:tabular-nums}
.lth-explorer .lth-frames{overflow:auto hidden}
.lth-explorer img{display:block;max-width:max(100%,26rem);height:auto;margin:.5rem auto}
.lth-explorer img{background:#fff;border-radius:4px}
.lth-explorer [hidden]{display:none!important}
.lth-explorer figcaption{color:inherit}
""".replace("\n", "")

# Every copy of an explorer brings this script. It looks for all figures of its own content that no
# earlier copy has set up, so the same explorer may stand twice on a page. The mark is a property,
# not an attribute: a page saved by the browser must not carry it along. A figure that is too wide
# for the screen scrolls in its box, and the keyboard can only scroll what it can focus.
_SCRIPT = """
(()=>{for(const figure of document.querySelectorAll('figure[data-lth-explorer="%s"]')){
if(figure.lthReady)continue;figure.lthReady=true;figure.querySelector("p").hidden=true;
const slider=figure.querySelector("input"),output=figure.querySelector("output"),
frames=figure.querySelectorAll("img"),show=()=>{const shown=Number(slider.value);
frames.forEach((frame,i)=>{frame.hidden=i!==shown});
const text=frames[shown].dataset.value;output.textContent=text;
slider.setAttribute("aria-valuetext",text)};
slider.addEventListener("input",show);show();
const box=figure.querySelector(".lth-frames");new ResizeObserver(()=>{
box.tabIndex=box.scrollWidth>box.clientWidth?0:-1}).observe(box)}})()
""".replace("\n", "")


@dataclass(frozen=True)
class Explorer:
    """One figure per value of a slider, for the static book and for a live notebook.

    Make one with `explore`. The last expression of a cell shows it.
    """

    draw: Callable[[Any], Figure]
    values: tuple[Any, ...]
    label: str
    caption: str
    alt: str | Callable[[Any], str]
    start: Any
    format: Callable[[Any], str]
    live_values: tuple[Any, ...]

    @cached_property
    def html(self) -> str:
        """The static view: one self-contained HTML figure.

        Raises:
            ValueError: if it is larger than a page should bear.
        """
        first = self.values.index(self.start)
        size, uris = self._frames()
        images = "".join(
            f'<img src="{uri}" alt="{html.escape(self._alt_text(value))}" '
            f'data-value="{html.escape(self.format(value))}" width="{size[0]}" height="{size[1]}" '
            f'class="dark-light"{"" if i == first else " hidden"}>'
            for i, (value, uri) in enumerate(zip(self.values, uris, strict=True))
        )
        text = html.escape(self.format(self.start))
        inside = (
            f'<div class="lth-controls"><label><span>{html.escape(self.label)}</span>'
            f'<input type="range" min="0" max="{len(self.values) - 1}" step="1" value="{first}" '
            f'autocomplete="off" aria-valuetext="{text}"></label>'
            f'<output aria-live="off">{text}</output></div>'
            f'<div class="lth-frames">{images}</div>'
            f"<p>The slider needs JavaScript; shown is {text}.</p>"
            f"<figcaption>{html.escape(self.caption)}</figcaption>"
        )
        key = hashlib.sha256(inside.encode()).hexdigest()[:16]
        page = (
            f'<figure class="lth-explorer" data-lth-explorer="{key}"><style>{_STYLE}</style>'
            f"{inside}</figure>"
            f"<script>{_SCRIPT % key}</script>"
        )
        if len(page.encode()) > LIMIT:
            raise ValueError(
                f"this explorer takes {len(page.encode()) / 1000:.0f} kB, at most "
                f"{LIMIT / 1000:.0f} kB are allowed: {len(self.values)} frames of about "
                f"{len(images) / 1000 / len(self.values):.0f} kB. Fewer values, a smaller figure "
                f"or fewer drawn points help; live_values may stay finer than values"
            )
        return page

    def widget(self) -> ipywidgets.VBox:
        """Return the live view: a slider that calls `draw` whenever it moves."""
        import ipywidgets

        slider = ipywidgets.SelectionSlider(
            options=[(self.format(value), value) for value in self.live_values],
            value=self.start,
            description=self.label,
            continuous_update=False,
            style={"description_width": "initial"},
            layout={"width": "100%", "max_width": "40rem"},
        )
        picture = ipywidgets.HTML(self._live_picture(self.start))
        caption = ipywidgets.HTML(html.escape(self.caption))

        def redraw(change: dict) -> None:
            picture.value = self._live_picture(change["new"])

        slider.observe(redraw, names="value")
        return ipywidgets.VBox([slider, picture, caption])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle: dict[str, Any] = {
            "text/plain": f"{self.label}: {self.format(self.start)} (a figure with a slider)",
            "text/html": self.html,
        }
        if in_notebook() and not in_book_build():
            try:
                view = self.widget()
            except ImportError:
                return bundle
            bundle["application/vnd.jupyter.widget-view+json"] = {
                "version_major": 2,
                "version_minor": 0,
                "model_id": view.model_id,
            }
        return bundle

    def _alt_text(self, value: Any) -> str:
        if callable(self.alt):
            return self.alt(value)
        return f"{self.alt} {self.label}: {self.format(value)}."

    def _frames(self) -> tuple[tuple[int, int], list[str]]:
        """Draw every value; return the size in CSS pixels and a data URI per frame.

        All frames are of the same kind, the one that is smaller in total: text would look
        different from frame to frame otherwise.
        """
        figures = [_drawn(self.draw, value) for value in self.values]
        sizes = {tuple(round(96 * inches) for inches in f.get_size_inches()) for f in figures}
        if len(sizes) > 1:
            raise ValueError(f"all frames need the same size; got {sorted(sizes)} pixels")
        svg, png = [_svg_uri(f) for f in figures], [png_uri(f) for f in figures]
        return sizes.pop(), min(svg, png, key=lambda uris: sum(map(len, uris)))

    def _live_picture(self, value: Any) -> str:
        figure = _drawn(self.draw, value)
        width = round(96 * figure.get_size_inches()[0])
        return (
            f'<img src="{png_uri(figure)}" alt="{html.escape(self._alt_text(value))}" '
            f'width="{width}" style="max-width:100%;height:auto;background:#fff">'
        )


@checked
def explore(
    draw: Callable[[Any], Figure],
    values: Sequence[Any],
    *,
    label: str,
    caption: str,
    alt: str | Callable[[Any], str],
    start: Any = None,
    format: Callable[[Any], str] = str,
    live_values: Sequence[Any] | None = None,
) -> Explorer:
    """Return a figure with a slider that works in the static book and live in a notebook.

    All frames of the static view are drawn here, so that an error stops the cell that caused it.

    Args:
        draw: from a value to a matplotlib figure; all figures have the same size. It is closed
            after it has been drawn.
        values: the slider's positions, in order, at least two. Each costs one frame on the page.
        label: what the slider changes, in words; it stands beside the slider.
        caption: plain text that says what to look for.
        alt: what the picture shows, for those who do not see it: a sentence to which the value is
            added, or a function from the value to the whole text.
        start: the value shown first, and the only one without JavaScript; default the first.
        format: from a value to its text, e.g. `"{:.0%}".format`.
        live_values: positions of the live slider, where they may be finer; `start` is among them.

    Raises:
        ValueError: for fewer than two values, a start that is not among them, values with the same
            text, missing label, caption or alt text, or more than 200 kB of HTML.
        TypeError: if `draw` returns something else than a figure.
    """
    values = tuple(values)
    live = values if live_values is None else tuple(live_values)
    if len(values) < 2:
        raise ValueError(f"a slider needs at least two values; got {values!r}")
    start = values[0] if start is None else start
    for name, known in (("values", values), ("live_values", live)):
        if start not in known:
            raise ValueError(f"start={start!r} is not among the {name}: {_listed(known)}")
        texts = [format(value) for value in known]
        repeated = next((text for text in texts if texts.count(text) > 1), None)
        if repeated is not None:
            raise ValueError(
                f"two of the {name} read {repeated!r}: give a format that tells them apart"
            )
    for name, text in (("label", label), ("caption", caption), ("alt", alt)):
        if not callable(text) and not str(text).strip():
            raise ValueError(f"{name} is empty; a reader who cannot see the figure needs it")
    explorer = Explorer(draw, values, label, caption, alt, start, format, live)
    _ = explorer.html
    return explorer


def _listed(values: Sequence[Any]) -> str:
    shown = ", ".join(repr(value) for value in values[:8])
    return f"{shown}, …" if len(values) > 8 else shown


def _drawn(draw: Callable[[Any], Figure], value: Any) -> Figure:
    """Return `draw(value)`, released by pyplot."""
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    figure = draw(value)
    if not isinstance(figure, Figure):
        raise TypeError(
            f"draw returns a matplotlib figure; draw({value!r}) gave {type(figure).__name__}"
        )
    plt.close(figure)
    return figure


def _svg_uri(figure: Figure) -> str:
    """Return the figure as a data URI: the same bytes for the same figure, text kept as text."""
    import matplotlib

    buffer = io.StringIO()
    # Every text names the whole list of fallback fonts: keep it short.
    fonts = {"font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"], "svg.fonttype": "none"}
    with matplotlib.rc_context({"svg.hashsalt": "lth-tutorial", **fonts}):
        figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None})
    return "data:image/svg+xml," + urllib.parse.quote(_compact(buffer.getvalue()), safe=_SAFE)


# What may stand unescaped in a data URI inside a double-quoted HTML attribute.
_SAFE = " '/:;=,()!*@$[]-_.~?+|{}"


def _compact(svg: str) -> str:
    """Return the same drawing in fewer bytes: a tenth of a point is finer than any screen shows."""

    def shorter(attribute: re.Match) -> str:
        rounded = re.sub(r"(\.\d)\d+", r"\1", " ".join(attribute[2].split()))
        packed = re.sub(r" ?([A-Za-z]) ?", r"\1", rounded)
        return f'{attribute[1]}="{packed}"'

    svg = re.sub(r'\b(d|x|y)="([^"]*)"', shorter, svg[svg.index("<svg") :])
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    return re.sub(r"> <", "><", " ".join(svg.split()))
