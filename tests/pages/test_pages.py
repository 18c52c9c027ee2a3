"""The built book as a reader without a network meets it: every page, light, dark and narrow."""

import re
from urllib.parse import unquote, urljoin, urlsplit

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from book_pages import HTML, LOOKS, offline_browser, page_path, table_of_contents
from bootstrap import ROOT

import lth_tutorial as lt
from lth_tutorial.experiments import EXPERIMENTS

pytestmark = pytest.mark.pages

CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
# Without preloading, which reads style sheets in a way that file:// pages may not.
AXE = {"resultTypes": ["violations"], "preload": False}
PAGES = table_of_contents()
# Pages that Sphinx makes by itself.
EXTRA_PAGES = ["search", "genindex"]


@pytest.fixture(scope="session")
def browser():
    with offline_browser() as browser:
        yield browser


class Visit:
    """One open page and what went wrong on it."""

    def __init__(self, browser, look):
        self.requests, self.errors = [], []
        self.context = browser.new_context(**LOOKS[look])
        # Not `offline=True` alone: a request that is refused must also be counted.
        self.context.route("**/*", self.let_files_through)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self.note_console)

    def let_files_through(self, route):
        url = route.request.url
        if url.startswith(("file:", "data:", "blob:")):
            route.continue_()
        else:
            self.requests.append(url)
            route.abort()

    def note_console(self, message):
        if message.type == "error":
            self.errors.append(message.text)

    def open(self, name, query=""):
        self.page.goto(page_path(name).as_uri() + query)
        self.page.wait_for_load_state("load")
        return self.page


@pytest.fixture
def visit(browser):
    visits = []

    def start(look="light"):
        visits.append(Visit(browser, look))
        return visits[-1]

    yield start
    for one in visits:
        one.context.close()


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", PAGES + EXTRA_PAGES)
def test_a_page_opens_offline_without_errors_and_is_accessible(name, look, visit):
    assert page_path(name).is_file()
    one = visit(look)
    page = one.open(name)
    # Collapsed answers and solutions are part of the page; they fade in.
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.evaluate("Promise.all(document.getAnimations().map(a => a.finished))")
    violations = [
        f"{found['id']}: {node['html']} {node['any'] and node['any'][0]['message']}"
        for found in Axe().run(page, options=AXE).response["violations"]
        for node in found["nodes"]
    ]
    assert violations == []
    # Measured in the page's own words: a wider document scrolls sideways as a whole.
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) <= 0
    assert one.requests == []
    assert one.errors == []


WORDS_SHOWN = """all => all.map(element => {
    const copy = element.cloneNode(true);
    copy.querySelectorAll('code, style, script').forEach(part => part.remove());
    return element.alt || copy.textContent;
})"""


@pytest.mark.parametrize("name", [name for name in PAGES if name != "book/api"])
def test_tables_and_captions_hold_names_and_no_keys(name, visit):
    page = visit().open(name)
    shown = page.eval_on_selector_all("table, caption, figcaption, img", WORDS_SHOWN)
    keys = {key for text in shown for key in re.findall(r"\b[a-z]\w*_\w+", text)}
    assert not keys, f"a reader sees {sorted(keys)}"


SIZES = """all => all.filter(image => image.checkVisibility()).map(image => [
    image.getBoundingClientRect().width, image.naturalWidth, image.alt
])"""


@pytest.mark.parametrize("name", PAGES)
def test_figures_stay_legible_on_a_narrow_screen(name, visit):
    """They scroll in a box of their own: the smallest type is 9 px at its natural size."""
    page = visit("narrow").open(name)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.evaluate("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
    for width, natural, alt in page.eval_on_selector_all(".cell_output img", SIZES):
        assert width >= 0.6 * natural or width >= 540, alt


@pytest.mark.parametrize("name", PAGES)
def test_every_image_has_a_real_alt_text(name, visit):
    page = visit().open(name)
    for alt in page.eval_on_selector_all("img", "all => all.map(i => i.getAttribute('alt'))"):
        # Sphinx falls back on the file name, which no checker minds and no reader understands.
        assert alt and not re.search(r"\.(png|svg|jpe?g|gif|webp)$", alt), alt


def test_every_explorer_moves(visit):
    one, count = visit(), 0
    shown = "f => [...f.querySelectorAll('img')].map(i => i.hidden)"
    for name in PAGES:
        for figure in one.open(name).query_selector_all("figure.lth-explorer"):
            count += 1
            slider = figure.query_selector("input[type=range]")
            label = figure.query_selector("output")
            states = set()
            slider.focus()
            slider.press("Home")
            for _ in range(int(slider.get_attribute("max")) + 1):
                hidden = tuple(figure.evaluate(shown))
                assert hidden.count(False) == 1, f"{name}: {hidden}"
                states.add((hidden, label.inner_text()))
                slider.press("ArrowRight")
            frames = len(figure.query_selector_all("img"))
            assert len({hidden for hidden, _ in states}) == frames > 1, name
            assert len({text for _, text in states}) == frames, name
    assert one.errors == []
    assert count, "no page has an explorer"


@pytest.mark.parametrize("name", PAGES + EXTRA_PAGES)
def test_links_between_pages_lead_somewhere(name, visit):
    page = visit().open(name)
    links = page.eval_on_selector_all("a[href]", "all => all.map(a => a.getAttribute('href'))")
    assert links
    for link in links:
        target = urlsplit(urljoin(page_path(name).as_uri(), link))
        if target.scheme != "file":
            continue
        path = HTML.parent.joinpath(unquote(target.path))
        assert path.is_file(), link
        if target.fragment and path.suffix == ".html":
            anchor = re.escape(unquote(target.fragment))
            assert re.search(rf"""id=["']{anchor}["']""", path.read_text()), link


@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith("notebooks/")])
def test_launch_buttons_open_the_chapter(name, visit):
    assert (ROOT / f"{name}.ipynb").is_file()
    repository = CONFIG["repository"]
    place = repository["url"].removeprefix("https://github.com/")
    branch = repository["branch"]
    launch = CONFIG["launch_buttons"]
    page = visit().open(name)
    links = page.eval_on_selector_all("a[href]", "all => all.map(a => a.getAttribute('href'))")
    assert f"{launch['colab_url']}/github/{place}/blob/{branch}/{name}.ipynb" in links
    binder = f"{launch['binderhub_url']}/v2/gh/{place}/{branch}?urlpath=lab/tree/{name}.ipynb"
    assert binder in [unquote(link) for link in links]


def test_the_start_page_leads_to_the_first_page(visit):
    one = visit()
    one.page.goto((HTML / "index.html").as_uri())
    one.page.wait_for_url(f"**/{PAGES[0]}.html")


def test_search_works_offline(visit):
    one = visit()
    page = one.open("search", "?q=ticket")
    page.wait_for_selector("#search-results li a")
    assert any(
        "glossary" in link
        for link in page.eval_on_selector_all(
            "#search-results li a", "all => all.map(a => a.getAttribute('href'))"
        )
    )
    assert one.requests == []
    assert one.errors == []


def test_no_page_loads_a_script_for_formulas():
    for name in PAGES:
        scripts = re.findall(r"<script[^>]*>[^<]*", page_path(name).read_text())
        assert not [s for s in scripts if re.search("mathjax|thebe", s, re.IGNORECASE)], name


@pytest.fixture(scope="module")
def claims():
    table = lt.claims(live=True)
    return table.assign(kind=table["verdict"].str.replace("only if .*", "only if …", regex=True))


@pytest.mark.parametrize("look", ["light", "narrow"])
def test_claims_are_filtered_by_chapter_and_verdict(look, visit, claims):
    one = visit(look)
    page = one.open("book/claims")
    shown = page.locator(".lth-claims tbody tr:visible")
    assert shown.count() == len(claims)  # those that fail or were not run, too
    common = claims.groupby(["chapter", "kind", "measured"]).size().idxmax()
    left = claims
    for column, name, value in zip(
        ("chapter", "kind", "measured"), ("Chapter", "Verdict", "Level"), common, strict=True
    ):
        page.get_by_label(name, exact=True).select_option(str(value))
        left = left[left[column] == value]
        assert shown.count() == len(left) > 0
        count = page.locator(".lth-filter output").inner_text()
        assert count == f"{len(left)} of {len(claims)} verdicts"
    texts = shown.all_inner_texts()
    for text, statement in zip(texts, left["claim"], strict=True):
        assert statement in text
    page.get_by_role("button", name="Show all").click()
    page.wait_for_function("!document.querySelector('.lth-claims tr[hidden]')")
    assert shown.count() == len(claims)
    assert one.errors == []


def test_claims_are_filtered_with_the_keyboard(visit, claims):
    page = visit().open("book/claims")
    page.get_by_label("Chapter", exact=True).focus()
    page.keyboard.press("ArrowDown")
    first = claims["chapter"].min()
    assert page.locator(".lth-claims tbody tr:visible").count() == sum(claims["chapter"] == first)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "verdict"


def test_without_script_every_claim_shows(browser, claims):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_path("book/claims").as_uri())
    assert page.locator(".lth-claims tbody tr:visible").count() == len(claims)
    assert not page.locator(".lth-filter").is_visible()
    context.close()


def test_every_experiment_is_among_the_results(visit):
    page = visit().open("book/results")
    for design in EXPERIMENTS:
        section = page.locator(f"section#{design.name}")
        assert f"run {design.name}" in section.inner_text()
        if design.name in lt.recorded():
            assert section.locator("figure img").count() > 0
            verdicts = section.locator(".lth-claims tbody tr").count()
            assert verdicts == sum(claim.record == design.name for claim in lt.CLAIMS)
        else:
            assert "Not yet run" in section.inner_text()


def test_signatures_on_the_api_page_are_understood(visit):
    # What Sphinx cannot parse it shows as plain text, with the marks of its own notation in it.
    page = visit().open("book/api")
    signatures = page.eval_on_selector_all("dt.sig", "all => all.map(s => s.textContent)")
    assert len(signatures) > 140
    assert [each for each in signatures if "~" in each or "<" in each] == []


@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith("notebooks/")])
def test_terms_of_the_glossary_are_linked_once_and_tell_their_meaning(name, visit):
    page = visit().open(name)
    links = page.locator("a.lth-term")
    targets = [link.get_attribute("href") for link in links.all()]
    assert len(targets) >= 5 and len(set(targets)) == len(targets)
    assert page.locator(":is(h1, h2, h3, pre, code, table, a a) a.lth-term").count() == 0
    first, tip = links.first, page.locator(".tippy-box")
    meaning = first.get_attribute("data-meaning")
    first.hover()
    tip.wait_for()
    assert tip.inner_text() == meaning
    page.keyboard.press("Escape")
    tip.wait_for(state="detached")
    page.mouse.move(0, 0)
    first.focus()
    tip.wait_for()
    described_by = first.get_attribute("aria-describedby")
    assert page.locator(f"#{described_by}").inner_text() == meaning


@pytest.mark.parametrize("look", LOOKS)
def test_an_open_tip_is_accessible_and_fits(look, visit):
    one = visit(look)
    page = one.open("notebooks/12-multi-prize-tickets")
    page.locator("a.lth-term").first.focus()
    page.locator(".tippy-box").wait_for()
    page.evaluate("Promise.all(document.getAnimations().map(a => a.finished))")
    assert Axe().run(page, options=AXE).response["violations"] == []
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) <= 0
    assert one.requests == one.errors == []
