"""The README's pictures of the pages: `python -m tests.browser.screenshots`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.running import CHROMIUM_ARGUMENTS, ROOT, chromium, running_studio

PAGES = {"compare": "", "scales": "scales"}


def main() -> None:
    folder = ROOT / "assets" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as data,
        running_studio(Path(data)) as studio,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_ARGUMENTS))
        for scheme in ("light", "dark"):
            context = browser.new_context(viewport={"width": 1280, "height": 1000}, color_scheme=scheme)
            page = context.new_page()
            for name, path in PAGES.items():
                page.goto(f"{studio.url}/{path}", wait_until="load")
                page.get_by_text("ready").first.wait_for(timeout=60_000)
                page.wait_for_timeout(4_000)  # charts and pictures have faded in
                page.screenshot(path=str(folder / f"{name}-{scheme}.png"))
        browser.close()


if __name__ == "__main__":
    main()
