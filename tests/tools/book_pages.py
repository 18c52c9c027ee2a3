"""Where the pages of the book are, and a browser that has no network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from bootstrap import ROOT

HTML = ROOT / "_build" / "html"
LOOKS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "narrow": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
    "narrow-dark": {"color_scheme": "dark", "viewport": {"width": 390, "height": 844}},
}


def table_of_contents() -> list[str]:
    """Return the pages of _toc.yml in reading order, e.g. "book/index"."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [toc["root"], *chapters]


def page_path(name: str) -> Path:
    return HTML / f"{name}.html"


def chromium() -> str:
    """Return the path of the system's Chromium; playwright's own download needs the network."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if path := shutil.which(name):
            return path
    raise FileNotFoundError("no Chromium found: apt-get install chromium")


@contextmanager
def offline_browser() -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            # A container's root user has no sandbox, and often only a small /dev/shm.
            executable_path=chromium(),
            args=["--no-sandbox", "--disable-dev-shm-usage"],
        )
        yield browser
        browser.close()
