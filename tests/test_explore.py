"""The figure that moves: in a static page without kernel or network, and live with one."""

import re
import sys
from html import unescape
from html.parser import HTMLParser

import matplotlib
import pytest
from axe_playwright_python.sync_playwright import Axe
from book_pages import offline_browser

from lth_tutorial.explore import LIMIT, Explorer, explore

matplotlib.use("Agg")
import matplotlib.pyplot as plt

VALUES = (1.0, 0.51, 0.26)
WIDGET = "application/vnd.jupyter.widget-view+json"


def draw(value, text="<accuracy> & 'loss'"):
    figure, axes = plt.subplots(figsize=(4, 2.5))
    axes.plot([0, 1, 2], [0, value, 1], label=f'"{value:.3f}"')
    axes.set_xlabel(text)
    axes.legend()
    return figure


def make(**changes):
    settings = {
        "draw": draw,
        "values": VALUES,
        "label": "Weights remaining",
        "caption": "Watch the middle point.",
        "alt": "A line with three points.",
        "format": "{:.0%}".format,
    }
    return explore(**settings | changes)


class Elements(HTMLParser):
    """All start tags of a page, as (tag, attributes)."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def test_two_builds_give_the_same_bytes():
    assert make().html == make().html


def test_other_content_has_another_identity():
    keys = {Elements(make(caption=c).html).all("figure")[0]["data-lth-explorer"] for c in "ab"}
    assert len(keys) == 2


def test_there_is_one_frame_per_value_and_one_is_visible():
    images = Elements(make().html).all("img")
    assert [image["data-value"] for image in images] == ["100%", "51%", "26%"]
    assert [("hidden" in image) for image in images] == [False, True, True]
    assert len({image["src"] for image in images}) == 3


def test_the_start_value_is_the_visible_one():
    page = make(start=0.26)
    elements = Elements(page.html)
    assert [("hidden" in image) for image in elements.all("img")] == [True, True, False]
    assert elements.all("input")[0]["value"] == "2"
    assert re.search(r"<output[^>]*>26%</output>", page.html)


def test_every_frame_has_its_own_alt_text():
    alts = [image["alt"] for image in Elements(make().html).all("img")]
    assert alts[1] == "A line with three points. Weights remaining: 51%."
    assert len(set(alts)) == 3
    own = Elements(make(alt=lambda value: f'middle at "{value}"').html).all("img")
    assert own[2]["alt"] == 'middle at "0.26"'


def test_the_page_needs_nothing_from_elsewhere():
    elements = Elements(make().html)
    links = [
        attributes[key]
        for _, attributes in elements.found
        for key in ("src", "href", "srcset")
        if key in attributes
    ]
    assert links and all(link.startswith("data:") for link in links)
    assert not any("id" in attributes for _, attributes in elements.found)


def test_text_in_frames_and_captions_survives_escaping():
    from urllib.parse import unquote
    from xml.etree import ElementTree

    page = make(caption="a < b & c").html
    source = Elements(page).all("img")[0]["src"]
    assert source.startswith("data:image/svg+xml,")
    svg = ElementTree.fromstring(unquote(source.split(",", 1)[1]))
    assert {"<accuracy> & 'loss'", '"1.000"'} <= {text.strip() for text in svg.itertext()}
    assert "a < b & c" in unescape(page)


def test_a_frame_with_too_much_detail_for_svg_becomes_png():
    def busy(value):
        figure, axes = plt.subplots(figsize=(3, 2))
        axes.plot([i % 7 * value for i in range(4000)], rasterized=False)
        axes.scatter(range(3000), [i * value % 11 for i in range(3000)], s=1)
        return figure

    images = Elements(make(draw=busy, values=(1, 2), format=str).html).all("img")
    assert all(image["src"].startswith("data:image/png;base64,") for image in images)


def test_an_explorer_too_large_for_a_page_names_its_size_and_what_helps():
    values = [i / 40 for i in range(1, 40)]
    with pytest.raises(ValueError, match=rf"kB, at most {LIMIT // 1000} kB.*39 frames.*[Ff]ewer"):
        make(values=values, format=str)


def test_figures_are_closed():
    plt.close("all")
    make().widget()
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"values": [1]}, ValueError, "at least two values"),
        ({"start": 0.5}, ValueError, r"start=0.5 is not among the values: 1.0, 0.51, 0.26"),
        ({"live_values": (0.9, 0.8)}, ValueError, "start=1.0 is not among the live_values"),
        ({"values": (0.511, 0.512)}, ValueError, "two of the values read '51%'"),
        ({"alt": " "}, ValueError, "alt is empty"),
        ({"caption": ""}, ValueError, "caption is empty"),
        ({"label": ""}, ValueError, "label is empty"),
        ({"draw": lambda value: None}, TypeError, r"draw\(1.0\) gave NoneType"),
        (
            {"draw": lambda value: plt.figure(figsize=(2 + value, 2))},
            ValueError,
            "all frames need the same size",
        ),
    ],
)
def test_bad_input_is_an_error_where_the_explorer_is_made(changes, error, message):
    with pytest.raises(error, match=message):
        make(**changes)
    plt.close("all")


def test_without_a_kernel_there_is_only_the_static_view():
    bundle = make()._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert "Weights remaining: 100%" in bundle["text/plain"]


@pytest.fixture
def kernel(monkeypatch):
    pytest.importorskip("ipywidgets")
    monkeypatch.delenv("LTH_TUTORIAL_BUILD", raising=False)
    monkeypatch.setattr(sys.modules["lth_tutorial.explore"], "in_notebook", lambda: True)


def test_with_a_kernel_the_live_view_is_offered_beside_the_static_one(kernel):
    bundle = make()._repr_mimebundle_()
    assert bundle[WIDGET]["model_id"] and bundle[WIDGET]["version_major"] == 2
    assert bundle["text/html"] == make().html


def test_the_book_build_embeds_no_widget(kernel, monkeypatch):
    monkeypatch.setenv("LTH_TUTORIAL_BUILD", "1")
    assert WIDGET not in make()._repr_mimebundle_()


def test_without_ipywidgets_the_static_view_remains(kernel, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert set(make()._repr_mimebundle_()) == {"text/plain", "text/html"}


def test_moving_the_live_slider_draws_anew():
    pytest.importorskip("ipywidgets")
    drawn = []

    def recorded(value):
        drawn.append(value)
        return draw(value)

    slider, picture, caption = make(draw=recorded, live_values=(1.0, 0.8, 0.3)).widget().children
    before = picture.value
    slider.value = 0.8
    assert drawn[-1] == 0.8
    assert picture.value != before
    assert "Weights remaining: 80%" in picture.value and "data:image/png" in picture.value
    assert "Watch the middle point." in caption.value
    assert [text for text, _ in slider.options] == ["100%", "80%", "30%"]


def test_an_explorer_is_frozen():
    with pytest.raises(AttributeError):
        make().label = "other"
    assert isinstance(make(), Explorer)


# The colours are those of the book's theme.
PAGE = """<!doctype html><html lang="en" data-theme="{theme}"><head><meta charset="utf-8">
<title>Explorers</title><style>html[data-theme=dark]{{background:#14181e;color:#ced6dd}}
html[data-theme=light]{{background:#fff;color:#222832}}</style></head>
<body><main><h1>Explorers</h1>{body}</main></body></html>"""


@pytest.fixture(scope="module")
def browser():
    with offline_browser() as browser:
        yield browser


@pytest.fixture
def open_page(browser, tmp_path):
    contexts = []

    def start(body, theme="light", **settings):
        contexts.append(browser.new_context(**settings))
        page = contexts[-1].new_page()
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("console", lambda m: m.type == "error" and page.problems.append(m.text))
        page.on(
            "request",
            lambda r: r.url.startswith(("file:", "data:")) or page.problems.append(r.url),
        )
        path = tmp_path / "page.html"
        path.write_text(PAGE.format(theme=theme, body=body))
        page.goto(path.as_uri())
        return page

    yield start
    for context in contexts:
        context.close()


def seen(figure):
    """Return the alt texts of the visible frames, and the text beside the slider."""
    frames = [image for image in figure.locator("img").all() if image.is_visible()]
    assert all(image.evaluate("i => i.complete && i.naturalWidth > 100") for image in frames)
    return [image.get_attribute("alt")[-4:-1] for image in frames], figure.locator(
        "output"
    ).inner_text()


def test_two_equal_explorers_move_by_keyboard_each_for_itself(open_page):
    html = make(start=0.51).html
    page = open_page(html + html)
    first, second = page.locator("figure.lth-explorer").all()
    assert seen(first) == seen(second) == (["51%"], "51%")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert seen(first) == (["26%"], "26%")
    assert first.locator("input").get_attribute("aria-valuetext") == "26%"
    assert seen(second) == (["51%"], "51%")
    page.keyboard.press("Tab")
    page.keyboard.press("Home")
    assert seen(second)[1] == "100%"
    assert seen(first) == (["26%"], "26%")
    assert page.problems == []


def test_the_slider_is_found_by_its_label(open_page):
    page = open_page(make().html)
    assert page.get_by_label("Weights remaining").get_attribute("type") == "range"


def test_the_script_leaves_no_globals(open_page):
    names = "JSON.stringify(Object.getOwnPropertyNames(window).sort())"
    assert open_page(make().html).evaluate(names) == open_page("").evaluate(names)


def test_without_javascript_the_start_frame_is_shown(open_page):
    page = open_page(make(start=0.51).html, java_script_enabled=False)
    visible = [image for image in page.locator("img").all() if image.is_visible()]
    assert [image.get_attribute("data-value") for image in visible] == ["51%"]
    assert page.get_by_text("The slider needs JavaScript; shown is 51%.").is_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_an_explorer_is_accessible_and_fits(open_page, theme, width):
    html = make().html
    page = open_page(html + html, theme, viewport={"width": width, "height": 800})
    violations = [v["id"] for v in Axe().run(page).response["violations"]]
    assert violations == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    color = "getComputedStyle(document.querySelector('.lth-explorer {}')).color"
    body = page.evaluate("getComputedStyle(document.querySelector('main')).color")
    for part in ("label", "output", "figcaption"):
        assert page.evaluate(color.format(part)) == body
