"""Write pictures of every page to _build/screenshots: light, dark, narrow."""

from __future__ import annotations

from book_pages import HTML, LOOKS, offline_browser, page_path, table_of_contents

folder = HTML.parent / "screenshots"
folder.mkdir(exist_ok=True)
with offline_browser() as browser:
    for look, settings in LOOKS.items():
        context = browser.new_context(**settings, offline=True)
        page = context.new_page()
        for name in table_of_contents():
            page.goto(page_path(name).as_uri())
            page.screenshot(path=folder / f"{name.replace('/', '-')}-{look}.png", full_page=True)
        context.close()
print(folder)
