"""How fast the studio answers a person, measured in a real browser: `python -m benchmarks.studio`.

Prints JSON.

start: seconds from the start of the process to a served page, and to a loaded backbone. page: seconds from
opening an address to a usable page. slider: seconds from the release of a slider to the new picture's bytes
at 8 steps. tick: bytes of one poll of an idle page. wide: the desk of a tiny random FLUX with 240 scales at
gate granularity. slider_searching: the same as slider while a search runs. long_search: the page Search of an
idle studio on a run of 10,000 generations of 76 scales, and short_search on one of 20, the reference: seconds
until its curves are drawn, bytes received for it, and the most points of a curve.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.processes import settle
from tests.browser.running import (
    CHROMIUM_ARGUMENTS,
    PATIENCE,
    Studio,
    chromium,
    filled,
    picture_bytes,
    running_studio,
    wait_for_other_picture,
)

MOVES = 10
IDLE_SECONDS = 6.5
GENERATIONS = 10_000
CURVES = "(document.querySelector('#chart-reward .chart')?.data || []).map(t => (t.x || []).length)"
SLIDERS = "#desk input[type=range]"


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile (the largest of few) and number of measurements."""
    ordered = sorted(seconds)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
    return {"median": round(statistics.median(ordered), 3), "p95": round(p95, 3), "n": len(ordered)}


def usable(page, address: str, selector: str) -> float:
    began = time.perf_counter()
    page.goto(address)
    filled(page)
    page.wait_for_selector(selector)
    return time.perf_counter() - began


def slider_moves(page) -> list[float]:
    """Seconds from each release to the bytes of another picture."""
    seconds = []
    shown = wait_for_other_picture(page, "picture-calibrated", None)
    page.wait_for_timeout(1500)
    shown = picture_bytes(page, "picture-calibrated")
    for move in range(MOVES):
        page.locator(SLIDERS).nth(move).focus()
        began = time.perf_counter()
        page.keyboard.press("PageUp")
        shown = wait_for_other_picture(page, "picture-calibrated", shown)
        seconds.append(time.perf_counter() - began)
    return seconds


def idle_bytes(page) -> dict[str, float]:
    """Answers to the polls of a page where nothing happens."""
    sizes: list[int] = []

    def count(response) -> None:
        if "/run/" in response.url or "/queue/" in response.url:
            sizes.append(len(response.body()))

    page.wait_for_timeout(2000)
    page.on("response", count)
    page.wait_for_timeout(IDLE_SECONDS * 1000)
    page.remove_listener("response", count)
    return {"largest": max(sizes, default=0), "polls": len(sizes)}


def measure(studio: Studio, browser, *, ready_selector: str = "#model-bar .ready") -> dict[str, Any]:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(PATIENCE * 1000)
    began = time.perf_counter()
    found: dict[str, Any] = {"start": {"page_served": round(studio.seconds_to_page, 2)}}
    found["page"] = {"compare_first": round(usable(page, studio.url, "#render"), 2)}
    page.wait_for_selector(ready_selector)
    found["start"]["backbone_ready"] = round(studio.seconds_to_page + time.perf_counter() - began, 2)
    found["page"]["compare"] = summary([usable(page, studio.url, "#render") for _ in range(3)])
    found["tick"] = idle_bytes(page)
    found["page"]["scales"] = summary([usable(page, f"{studio.url}/scales", SLIDERS) for _ in range(3)])
    found["slider"] = summary(slider_moves(page))
    page.close()
    return found


def opened_search(studio: Studio, browser, generations: int) -> dict[str, Any]:
    """Open the page Search on the one run there is: `generations` long."""
    settle(studio.process.pid)
    found: dict[str, Any] = {"generations": generations}
    for name in ("first", "again"):
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(PATIENCE * 1000)
        answers: list[Any] = []
        page.on("response", lambda r, kept=answers: kept.append(r) if "/run/" in r.url else None)
        began = time.perf_counter()
        page.goto(f"{studio.url}/search")
        filled(page)
        page.wait_for_function(f"Math.max(0, ...{CURVES}) > 1")
        seconds = time.perf_counter() - began
        settle(studio.process.pid)
        found[name] = {
            "seconds": round(seconds, 2),
            "bytes": sum(len(answer.body()) for answer in answers),
            "points": page.evaluate(f"Math.max(...{CURVES})"),
        }
        page.close()
    return found


def slider_while_searching(studio: Studio, browser) -> dict[str, float]:
    """The desk while a search with the page's own settings holds the model between people."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(PATIENCE * 1000)
    page.goto(f"{studio.url}/search")
    filled(page)
    page.wait_for_selector("#model-bar .ready")
    page.wait_for_selector("#estimate:has-text('generations')")
    page.locator("#search-images input").fill("1000000")
    page.click("#start-search")
    page.wait_for_selector("#search-state .run-running")
    page.wait_for_selector("#model-bar:has-text('images')")
    desk = browser.new_page(viewport={"width": 1280, "height": 800})
    desk.set_default_timeout(PATIENCE * 1000)
    desk.goto(f"{studio.url}/scales")
    filled(desk)
    desk.wait_for_selector(SLIDERS)
    seconds = slider_moves(desk)
    desk.close()
    page.click("#stop-search")
    page.click("#skip-judgement")
    page.wait_for_selector("#search-state .run-done")
    page.close()
    return summary(seconds)


def measure_wide(studio: Studio, browser) -> dict[str, Any]:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(PATIENCE * 1000)
    page.goto(f"{studio.url}/scales")
    filled(page)
    page.wait_for_selector(SLIDERS)
    began = time.perf_counter()
    page.get_by_label("Gate").check()
    page.wait_for_function(f"document.querySelectorAll('{SLIDERS}').length === 240")
    drawn = time.perf_counter() - began
    page.wait_for_timeout(1500)
    redraw = page.evaluate(
        """() => { const all = [...document.querySelectorAll('#desk input[type=range]')], t =
        performance.now(); for (const [i, s] of all.entries()) { s.value = 1 + 0.001 * i;
        s.dispatchEvent(new Event('input', {bubbles: true})); }
        document.querySelector('#desk').getBoundingClientRect(); return performance.now() - t; }"""
    )
    seconds = slider_moves(page)
    page.close()
    return {
        "scales": 240,
        "layout_switch": round(drawn, 2),
        "move_all_ms": round(redraw, 1),
        "slider": summary(seconds),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studio", description=__doc__)
    parser.add_argument("--backbone", default="tabletop")
    parser.add_argument("--no-wide", action="store_true", help="leave the 240 scales out")
    parser.add_argument("--no-search", action="store_true", help="leave the searches out")
    parser.add_argument("--generations", type=int, default=GENERATIONS, help="of the long search")
    given = parser.parse_args(arguments)
    path = chromium()
    if path is None:
        print("No Chromium on this machine: nothing can be measured.", file=sys.stderr)
        return 1
    from playwright.sync_api import sync_playwright

    found: dict[str, Any] = {"backbone": given.backbone}
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as scratch:
        browser = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_ARGUMENTS))
        folder = Path(scratch)
        (folder / "one").mkdir()
        with running_studio(folder / "one", "--backbone", given.backbone) as studio:
            found |= measure(studio, browser)
            if not given.no_search:
                found["slider_searching"] = slider_while_searching(studio, browser)
        if not given.no_search:
            from tests.studio.search.runfolders import Writer

            for name, generations in (("long_search", given.generations), ("short_search", 20)):
                writer = Writer(folder / name / "data" / "runs" / "one", scales=76)
                writer.generations(0, generations)
                with running_studio(folder / name, "--backbone", given.backbone) as studio:
                    found[name] = opened_search(studio, browser, generations)
        if not given.no_wide:
            from tests.tiny import tiny_flux

            tiny_flux(folder / "wide", doubles=45, singles=60)  # 45 × 4 + 60 gates
            (folder / "two").mkdir()
            with running_studio(folder / "two", "--backbone", str(folder / "wide")) as studio:
                found["wide"] = measure_wide(studio, browser)
        browser.close()
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
