"""Compare in a real browser."""

from __future__ import annotations

import pytest

from studio.firstvisit import FOLDER
from studio.host import Priority
from tests.browser.running import (
    SharedStudio,
    Studio,
    Watched,
    picture_bytes,
    wait_for_other_picture,
)

ARMS = ("base", "calibrated", "ensemble")


def open_page(page, studio: Studio | SharedStudio) -> None:
    page.goto(studio.url)
    page.wait_for_selector("#render")
    page.wait_for_selector("#model-bar .ready")


def ask(page, prompt: str) -> None:
    page.fill("#prompt textarea, #prompt input", prompt)
    page.click("#render")


def test_a_typed_prompt_gives_three_different_pictures(page, tiny_studio: Studio) -> None:
    open_page(page, tiny_studio)
    ask(page, "a red cube left of a big blue ball")
    pictures = [wait_for_other_picture(page, f"picture-{arm}", None) for arm in ARMS]
    assert len(set(pictures)) == 3
    assert "8 steps · 16 NFE" in page.inner_text("#caption-ensemble")


def test_another_prompt_gives_other_pictures(page, tiny_studio: Studio) -> None:
    open_page(page, tiny_studio)
    ask(page, "one green cone")
    before = wait_for_other_picture(page, "picture-calibrated", None)
    ask(page, "two black cubes and a ball")
    assert wait_for_other_picture(page, "picture-calibrated", before) != before


def test_control_and_enter_render_from_anywhere(page, tiny_studio: Studio) -> None:
    open_page(page, tiny_studio)
    page.focus("#seed input")
    page.keyboard.press("Control+Enter")
    wait_for_other_picture(page, "picture-base", None)


def test_an_empty_prompt_is_answered_with_a_sentence(page, watched: Watched, tiny_studio: Studio) -> None:
    open_page(page, tiny_studio)
    shown = page.locator("#picture-base img").count()  # 1 where a prepared picture opens the page
    ask(page, "   ")
    page.wait_for_selector("text=Type what the picture should show.")
    assert page.locator("#picture-base img").count() == shown
    assert watched.problems and all("422" in p for p in watched.problems)  # how Gradio refuses an input
    watched.problems.clear()


def test_history_keeps_the_session_also_after_a_reload(page, tiny_studio: Studio) -> None:
    open_page(page, tiny_studio)
    ask(page, "a cone to remember")
    wait_for_other_picture(page, "picture-base", None)
    page.reload()
    page.wait_for_selector("#history img", state="attached")
    assert page.locator("#history img").count() == 1


def test_a_visitor_waits_for_another_and_is_told_so(page, shared_studio: SharedStudio) -> None:
    with shared_studio.host.hold(Priority.INTERACTIVE, "3 pictures"):
        open_page(page, shared_studio)
        ask(page, "the second visitor waits")
        page.wait_for_selector("#pictures >> text=/busy with 3 pictures; you are next/")
        page.wait_for_selector("#model-bar >> text=/1 waiting/")
    wait_for_other_picture(page, "picture-base", None)


def test_stop_ends_the_wait(page, shared_studio: SharedStudio) -> None:
    with shared_studio.host.hold(Priority.INTERACTIVE, "a search"):
        open_page(page, shared_studio)
        ask(page, "a long one")
        page.wait_for_selector("#pictures >> text=/you are next/")
        page.click("#stop")
        page.wait_for_selector("text=Stopped.")
    assert page.locator("#picture-base img").count() == 0


def test_the_page_fits_a_phone(browser, tiny_studio: Studio) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    made = context.new_page()
    for path in ("/", "/scales"):
        made.goto(tiny_studio.url + path)
        made.wait_for_selector("#render")
        made.wait_for_timeout(500)
        assert made.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


@pytest.mark.skipif(not (FOLDER / "visit.json").exists(), reason="not made yet: python -m studio.firstvisit")
def test_a_newcomer_sees_three_pictures_without_a_click(page, tiny_studio: Studio) -> None:
    page.goto(tiny_studio.url)
    for arm in ARMS:
        page.wait_for_selector(f"#picture-{arm} img")
    assert len({picture_bytes(page, f"picture-{arm}") for arm in ARMS}) == 3
    assert "Nothing was trained" in page.inner_text("#lead")
    for button in ("#go-prompt", "#go-scales"):
        assert page.locator(button).is_visible()
