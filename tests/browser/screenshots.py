"""The README's pictures of the pages: `python -m tests.browser.screenshots [--only PAGE]`.

A studio over tabletop runs a short search and a sweep, renders a study and takes some votes; then every page
is photographed in the light and the dark theme.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.running import CHROMIUM_ARGUMENTS, ROOT, Studio, chromium, filled, running_studio

PAGES = ("compare", "scales", "search", "diagnose", "library", "quick", "studies", "vote", "results")
HEIGHTS = {"compare": 1060, "scales": 1000, "search": 1500, "diagnose": 1300, "results": 1400}
SETTLE_MS = 5_000  # charts and pictures have faded in
LONG_MS = 900_000


def search(studio: Studio, images: int) -> None:
    """A short search, finished."""
    from gradio_client import Client

    client = Client(studio.url, verbose=False)
    run_id = client.predict(images=images, title="First search", api_name="/start_search")
    while True:
        status = client.predict(run_id, api_name="/search_status")
        if status["state"] in ("done", "failed"):
            break
        time.sleep(2)
    print(f"search: {status['state']}", flush=True)


def sweep(page, studio: Studio) -> None:
    """A small sweep, finished."""
    page.goto(f"{studio.url}/diagnose")
    filled(page)
    page.wait_for_selector("#model-bar .ready")
    field = page.locator("#sweep-pairs input[type=number]")
    field.fill("4")
    field.press("Tab")
    page.wait_for_timeout(1_000)
    page.click("#sweep-start")
    page.wait_for_selector("#sweep-words >> text=/Done:/", timeout=LONG_MS)


def study(page, studio: Studio) -> tuple[str, str]:
    """A study with one rater's votes, closed, and a second one that is open; the address of the open one and
    the id of the closed one."""

    def calibri(*words: str) -> str:
        program = str(Path(sys.executable).with_name("calibri"))
        place = ("--url", studio.url, "--data", str(studio.log.parent / "data"))
        return subprocess.run(
            [program, "study", *place, *words], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout

    def open_when_rendered(name: str) -> None:
        while True:
            try:
                calibri("open", name)
                return
            except subprocess.CalledProcessError as refused:
                if "picture" not in refused.stderr:
                    raise
                time.sleep(2)

    link = closed = ""
    for name in ("First round", "Second round"):
        arms = ("--arm", "base", "--arm", f"layer scales={ROOT / 'assets/calibrations/tabletop-layer.json'}")
        calibri("create", "--name", name, *arms, "--prompts", "held-out:8", "--preset", "side-by-side")
        calibri("render", name)
        open_when_rendered(name)
        page.goto(f"{studio.url}/studies")
        filled(page)
        page.wait_for_selector("#study-link textarea", state="attached")
        page.wait_for_timeout(2_000)
        link = page.input_value("#study-link textarea").splitlines()[0]
        if name == "First round":
            vote(page, link)
            calibri("close", name)
            closed = link.partition("study=")[2].strip()
    return link, closed


def begin(page, link: str) -> None:
    """Past the consent line, to the first pair."""
    page.goto(link)
    page.click("#vote-start")
    page.wait_for_selector(".vote .answers button:not([disabled])")


def vote(page, link: str) -> None:
    """Votes until the study has no more pairs."""
    begin(page, link)
    while True:
        page.wait_for_function(
            "() => document.querySelector('.vote .card h1')?.textContent === 'Thank you' || "
            "document.querySelector('.vote .answers button:not([disabled])')"
        )
        if page.locator(".vote .card h1").count():
            return
        page.wait_for_timeout(900)
        page.keyboard.press("2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=PAGES, help="these pages alone; repeatable")
    parser.add_argument("--images", type=int, default=500, help="of the search that is shown")
    parser.add_argument("--out", type=Path, default=ROOT / "assets" / "screenshots")
    args = parser.parse_args()
    wanted = tuple(args.only or PAGES)
    args.out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as data,
        running_studio(Path(data)) as studio,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_ARGUMENTS))
        helper = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
        helper.set_default_timeout(LONG_MS)
        helper.goto(studio.url)
        filled(helper)
        helper.wait_for_selector("#model-bar .ready")
        if "search" in wanted:
            search(studio, args.images)
        if "diagnose" in wanted:
            sweep(helper, studio)
        asked = {"vote", "results", "studies"} & set(wanted)
        link, closed = study(helper, studio) if asked else ("", "")
        for scheme in ("light", "dark"):
            for name in wanted:
                size = {"width": 1280, "height": HEIGHTS.get(name, 1000)}
                context = browser.new_context(viewport=size, color_scheme=scheme)
                page = context.new_page()
                page.set_default_timeout(120_000)
                if name == "vote":
                    begin(page, link)
                elif name == "results":
                    page.goto(f"{studio.url}/results?study={closed}")
                    page.wait_for_selector("#results-forest .main-svg")
                else:
                    page.goto(f"{studio.url}/{'' if name == 'compare' else name}", wait_until="load")
                    filled(page)
                    page.wait_for_selector("#model-bar .ready")
                if name == "library":
                    page.wait_for_function("!document.body.innerText.includes('is being rendered')")
                page.wait_for_timeout(SETTLE_MS)
                page.screenshot(path=str(args.out / f"{name}-{scheme}.png"))
                context.close()
                print(f"{name}, {scheme}", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
