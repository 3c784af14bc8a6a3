"""A newcomer's first minutes with the embedded world: words, examples, and a search with one press."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.running import Studio, filled, running_studio


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with running_studio(tmp_path_factory.mktemp("first")) as made:
        yield made
        assert "Traceback" not in made.text(), made.text()


def test_words_say_their_meaning_to_pointer_and_keyboard(page, studio: Studio) -> None:
    page.goto(studio.url)
    filled(page)
    term = page.locator("#caption-base .term").first
    term.hover()
    page.wait_for_selector("#term-tip:has-text('evaluations of the transformer')")
    page.keyboard.press("Escape")
    page.wait_for_selector("#term-tip", state="hidden")
    page.locator("#caption-base td .term").first.focus()
    page.wait_for_selector("#term-tip:has-text('reward')")


def test_search_diagnose_and_results_are_full_and_say_that_these_are_examples(page, studio: Studio) -> None:
    page.goto(studio.url + "/search")
    filled(page)
    page.wait_for_selector("#runs tr[data-run] .tag:has-text('example')")
    assert page.locator("#runs tr[data-run]").count() == 3
    page.wait_for_function("document.querySelector('#chart-reward .chart').data?.length > 1")
    page.click("#run-delete")
    page.wait_for_function("document.querySelectorAll('#runs tr[data-run]').length === 2")
    page.click("#run-undo:not([disabled])")
    page.wait_for_function("document.querySelectorAll('#runs tr[data-run]').length === 3")
    page.goto(studio.url + "/diagnose")
    filled(page)
    page.wait_for_selector("#sweep-words:has-text('Done')")
    page.wait_for_selector("#sweep-example:has-text('Put this example away')")
    page.goto(studio.url + "/results")
    filled(page)
    page.wait_for_selector("#results-words:has-text('nobody voted')")


def test_one_press_finds_a_calibration_and_ends_in_compare(page, studio: Studio) -> None:
    page.goto(studio.url)
    filled(page)
    page.click("#go-find")
    page.wait_for_url("**/find")
    page.wait_for_selector("#find-card .run-card")
    page.wait_for_selector("#find-growth .growth img.arm-calibrated")
    page.click("#find-stop")
    page.wait_for_url(studio.url + "/")
    filled(page)
    page.wait_for_selector("#caption-calibrated:has-text('Found in two minutes')")
    assert page.locator("#picture-calibrated img").count() == 1
