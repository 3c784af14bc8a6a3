"""The studio on a phone: nothing scrolls sideways, the pages are at the foot, charts can be read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.running import PATIENCE, Studio, Watched, filled

PAGES = ("", "scales", "search", "find", "diagnose", "library", "quick", "studies", "results")
CHARTS = {"search": "chart-reward", "diagnose": "heat", "results": "results-forest"}
#: Words of a chart that lie outside of it.
CUT = """id => {
  const chart = document.querySelector('#' + id + ' .chart'), edge = chart.getBoundingClientRect();
  const inside = box => box.left >= edge.left - 1 && box.right <= edge.right + 1
    && box.top >= edge.top - 1 && box.bottom <= edge.bottom + 1;
  const texts = [...chart.querySelectorAll('svg text')];
  const boxed = texts.map(text => [text.textContent, text.getBoundingClientRect()]);
  return boxed.filter(([words, box]) => words.trim() && box.width && !inside(box)).map(([words]) => words);
}"""
#: How many labels of the x axis begin where the one before them does.
LAID_OVER = """id => {
  const chart = document.querySelector('#' + id + ' .chart');
  const texts = [...chart.querySelectorAll('.xaxislayer-above .xtick text')];
  const labels = texts.map(text => text.getBoundingClientRect()).filter(box => box.width);
  return labels.filter((box, at) => at && box.left < labels[at - 1].left + 8).length;
}"""


@pytest.fixture(params=["light", "dark"])
def phone(browser, request) -> Iterator[object]:
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, color_scheme=request.param
    )
    context.set_default_timeout(PATIENCE * 1000)
    made, watched = context.new_page(), Watched()
    watched.watch(made)
    yield made
    context.close()
    assert watched.problems == []


def test_every_page_fits_and_has_its_tabs_at_the_foot(phone, tiny_studio: Studio) -> None:
    for place in PAGES:
        phone.goto(f"{tiny_studio.url}/{place}")
        filled(phone)
        phone.wait_for_selector("#tab-bar a")
        phone.wait_for_timeout(1_000)
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390, place
        box = phone.locator("#tab-bar").bounding_box()
        assert round(box["y"] + box["height"]) == 844 and round(box["width"]) == 390, place
        assert not phone.locator(".nav-holder").is_visible()
    assert phone.locator("#tab-bar summary").inner_text() == "Results"  # the page that is open
    phone.locator("#tab-bar summary").click()
    phone.locator("#tab-bar details a", has_text="Library").click()
    phone.wait_for_url("**/library")
    phone.locator("#tab-bar > * a", has_text="Scales").first.click()
    phone.wait_for_url("**/scales")


def test_charts_can_be_read(phone, tiny_studio: Studio) -> None:
    for place, chart in CHARTS.items():
        phone.goto(f"{tiny_studio.url}/{place}")
        filled(phone)
        phone.wait_for_selector(f"#{chart}", state="attached")
        phone.locator(f"#{chart}").scroll_into_view_if_needed()
        phone.wait_for_selector(f"#{chart} .main-svg")
        phone.wait_for_timeout(1_500)
        assert phone.evaluate(CUT, chart) == [], place
        assert phone.evaluate(LAID_OVER, chart) == 0, place
        assert not phone.locator(f"#{chart} .modebar-btn").count(), place


def test_a_rater_sees_no_navigation(phone, tiny_studio: Studio) -> None:
    phone.goto(f"{tiny_studio.url}/vote")
    phone.wait_for_selector(".vote")
    phone.wait_for_timeout(500)
    assert not phone.locator("#tab-bar").count() and not phone.locator(".nav-holder").is_visible()
    assert not phone.locator("footer").is_visible()
