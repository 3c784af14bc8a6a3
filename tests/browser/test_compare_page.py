"""Compare in a real browser."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from studio.machine.queue import Priority
from studio.rendering.first_visit import FOLDER
from tests.browser.running import SharedStudio, Studio, filled, picture_bytes, unfold, wait_for_other_picture

SEEDS = "#seeds textarea, #seeds input"
ARMS = ("base", "calibrated", "ensemble")


def open_page(page, studio: Studio | SharedStudio) -> None:
    page.goto(studio.url)
    filled(page)
    page.wait_for_selector("#render")
    page.wait_for_selector("#model-bar .ready")


def ask(page, prompt: str) -> None:
    page.fill("#prompt textarea, #prompt input", prompt)
    page.click("#render")


@contextmanager
def waiting(page, studio: SharedStudio, other: str, prompt: str) -> Iterator[None]:
    """The page has asked for pictures of `prompt` and waits while `other` renders."""
    with studio.host.hold(Priority.INTERACTIVE, other):
        open_page(page, studio)
        ask(page, prompt)
        page.wait_for_selector("#pictures >> text=/you are next/")
        yield


def test_a_typed_prompt_gives_three_different_pictures(page, tiny_studio: Studio) -> None:
    open_page(page, tiny_studio)
    ask(page, "a red cube left of a big blue ball")
    pictures = [wait_for_other_picture(page, f"picture-{arm}", None) for arm in ARMS]
    assert len(set(pictures)) == 3
    assert "2 steps · 4 NFE" in page.inner_text("#caption-ensemble")


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


def test_an_empty_prompt_is_answered_with_a_sentence_and_its_field_is_marked(
    page, tiny_studio: Studio
) -> None:
    open_page(page, tiny_studio)
    shown = page.locator("#picture-base img").count()  # 1 where a prepared picture opens the page
    ask(page, "   ")
    page.wait_for_selector("#remark [role=alert] >> text=/Prompt: expected/")
    page.wait_for_selector("#prompt.wrong")
    assert page.locator("#picture-base img").count() == shown
    ask(page, "a green cone")
    page.wait_for_selector("#prompt:not(.wrong)")
    page.wait_for_selector("#remark [role=alert]", state="detached")


def test_a_reload_brings_back_the_last_pictures_and_all_settings(page, tiny_studio: Studio) -> None:
    """The prepared pictures that open the page must not win over what the visitor saw last."""
    open_page(page, tiny_studio)
    prepared = picture_bytes(page, "picture-base") if page.locator("#picture-base img").count() else None
    page.fill("#steps-1 input", "3")
    page.fill("#seed input", "11")
    ask(page, "a cone to remember")
    last = [wait_for_other_picture(page, "picture-base", prepared)]
    last += [picture_bytes(page, f"picture-{arm}") for arm in ARMS[1:]]
    words = page.inner_text("#caption-base")
    for _ in range(2):
        page.reload()
        filled(page)
        page.wait_for_selector("#history img", state="attached")
        page.wait_for_function(
            "document.querySelector('#prompt textarea, #prompt input').value.includes('remember')"
        )
        assert [picture_bytes(page, f"picture-{arm}") for arm in ARMS] == last
        assert page.inner_text("#caption-base") == words and "3 steps" in words
        assert page.input_value("#seed input") == "11" and page.input_value("#steps-1 input") == "3"
        assert page.locator("#history img").count() == 1


def test_one_click_compares_base_at_many_steps_with_calibrated_at_few(page, tiny_studio: Studio) -> None:
    open_page(page, tiny_studio)
    page.fill("#prompt textarea, #prompt input", "a blue cube")
    page.click("#preset-against")
    page.wait_for_function("document.querySelector('#caption-base').innerText.includes('30 steps · 30 NFE')")
    assert "8 steps · 8 NFE" in page.inner_text("#caption-calibrated")
    assert page.input_value("#steps-1 input") == "30" and page.input_value("#arm-3 input") == "Base"


def test_a_grid_of_seeds_shows_one_row_large_and_means(page, tiny_studio: Studio) -> None:
    open_page(page, tiny_studio)
    unfold(page, "#several button", SEEDS)
    page.fill(SEEDS, "21, 22")
    page.wait_for_selector("#count >> text=1 prompt × 3 seeds × 3 arms = 9 pictures")
    ask(page, "a grid of cubes")
    page.wait_for_selector("#grid img")
    page.wait_for_selector("#means table")
    assert page.locator("#grid button img, #grid .thumbnail-item img").count() == 9
    first = picture_bytes(page, "picture-ensemble")
    page.locator("#grid .thumbnail-item").nth(6).click()
    assert wait_for_other_picture(page, "picture-ensemble", first) != first


def test_the_difference_map_has_a_legend_in_words(page, tiny_studio: Studio) -> None:
    open_page(page, tiny_studio)
    ask(page, "one small cylinder")
    page.wait_for_function("document.querySelector('#legend').innerText.includes('Right of it: Calibrated')")
    page.get_by_label("Difference map").check()
    page.wait_for_selector("#difference img", state="attached")
    page.locator("#difference").scroll_into_view_if_needed()  # a picture out of sight may not be fetched yet
    page.wait_for_selector("#difference img")
    assert "Absolute difference" in page.inner_text("#legend")
    assert "levels" in page.inner_text("#legend") and not page.locator("#slider").is_visible()
    before = picture_bytes(page, "difference")
    ask(page, "two large spheres")
    wait_for_other_picture(page, "difference", before)


def test_a_png_goes_out_with_its_settings_and_brings_them_back(
    page, tiny_studio: Studio, tmp_path: Path
) -> None:
    from calibri.sampling.png import read_settings, save_png

    open_page(page, tiny_studio)
    page.fill("#steps-2 input", "4")
    page.fill("#seed input", "77")
    ask(page, "a cube to keep")
    page.wait_for_function("document.querySelector('#caption-calibrated').innerText.includes('4 steps')")
    with page.expect_download() as waiting:
        page.click("#get-2")
    path = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(path)
    settings = read_settings(path)
    assert (settings["prompt"], settings["seed"], settings["steps"]) == ("a cube to keep", 77, 4)
    assert str(tiny_studio.log.parent) not in path.read_bytes().decode("latin-1")
    with page.expect_download() as waiting:
        page.click("#get-all")
    assert waiting.value.suggested_filename == "comparison.zip"

    page.fill("#prompt textarea, #prompt input", "something else")
    page.fill("#seed input", "1")
    upload = page.locator("#open-png").locator("xpath=..").locator("input[type=file]").first
    upload.set_input_files(path)
    page.wait_for_selector("#remark >> text=Settings from")
    assert page.input_value("#prompt textarea, #prompt input") == "a cube to keep"
    assert page.input_value("#seed input") == "77" and page.input_value("#arm-2 input") == "Bent (layer)"
    from PIL import Image

    bare = tmp_path / "bare.png"
    save_png(Image.new("RGB", (8, 8)), bare, {"prompt": "a", "seed": 1, "steps": 2, "backbone": "SD3-medium"})
    upload.set_input_files(bare)
    page.wait_for_selector("text=was made on 'SD3-medium'")


def test_a_picture_goes_to_the_desk_and_a_comparison_to_a_study(page, tiny_studio: Studio) -> None:
    open_page(page, tiny_studio)
    shown = page.locator("#picture-ensemble img").count()
    before = picture_bytes(page, "picture-ensemble") if shown else None
    ask(page, "a pair to send")
    wait_for_other_picture(page, "picture-ensemble", before)
    assert page.locator("#send-1").is_disabled()  # the base has no scales of its own
    page.click("#to-study")
    page.wait_for_url("**/studies")
    page.wait_for_function("document.querySelector('#new-prompts textarea')?.value === 'a pair to send'")
    assert "Bent, 2 steps" in page.inner_text("#new-arms")
    page.goto(tiny_studio.url)
    filled(page)
    page.wait_for_function("document.querySelector('#caption-ensemble')?.innerText.includes('NFE')")
    page.wait_for_selector("#send-3:not([disabled])")
    page.click("#send-3")
    page.wait_for_url("**/scales")
    page.wait_for_function("document.querySelectorAll('#members label').length === 2")
    page.wait_for_function(
        "document.querySelector('#prompt textarea, #prompt input').value === 'a pair to send'"
    )


def test_a_map_chosen_while_it_renders_stays(page, shared_studio: SharedStudio) -> None:
    with waiting(page, shared_studio, "the test", "a map, please"):
        page.get_by_label("Difference map").check()
        page.wait_for_selector("#slider", state="hidden")
    wait_for_other_picture(page, "picture-base", None)
    page.wait_for_timeout(500)
    assert page.get_by_label("Difference map").is_checked()
    assert page.locator("#difference").count() and not page.locator("#slider").is_visible()


def test_a_visitor_waits_for_another_and_is_told_so(page, shared_studio: SharedStudio) -> None:
    with waiting(page, shared_studio, "3 pictures", "the second visitor waits"):
        page.wait_for_selector("#pictures >> text=/busy with 3 pictures; you are next/")
        page.wait_for_selector("#model-bar >> text=/1 waiting/")
    wait_for_other_picture(page, "picture-base", None)


def test_stop_ends_the_wait(page, shared_studio: SharedStudio) -> None:
    with waiting(page, shared_studio, "a search", "a long one"):
        page.click("#stop")
        page.wait_for_selector("text=Stopped.")
    assert page.locator("#picture-base img").count() == 0


def test_a_second_press_with_other_settings_is_not_lost(page, shared_studio: SharedStudio) -> None:
    with waiting(page, shared_studio, "the test", "two green cones"):
        for steps in ("5", "4", "3"):  # none of the presses is dropped: the last one counts
            page.fill("#steps input[type=number]", steps)
            page.keyboard.press("Tab")
            page.click("#render")
    page.wait_for_selector("#caption-base >> text=/3 steps/")
    assert not page.locator(".toast-body").count()  # nobody stopped anything
    assert page.locator("#history img").count() == 1


def test_a_stop_and_what_is_refused_leave_the_pictures_in_sight(page, shared_studio: SharedStudio) -> None:
    open_page(page, shared_studio)
    ask(page, "a red cube to stay")
    before = wait_for_other_picture(page, "picture-base", None)
    with shared_studio.host.hold(Priority.INTERACTIVE, "a search"):
        page.click("#render")
        page.wait_for_selector("#pictures >> text=/you are next/")
        page.click("#stop")
        page.locator(".toast-body.info").filter(has_text="Stopped.").wait_for()
        page.wait_for_function("!document.querySelector('#pictures').innerText.includes('you are next')")
        assert picture_bytes(page, "picture-base") == before
        assert page.locator("#picture-base img").first.is_visible()
    page.fill("#prompt textarea, #prompt input", "")
    page.click("#render")
    page.wait_for_selector("#remark [role=alert]")
    page.fill("#prompt textarea, #prompt input", "a red cube")
    page.fill("#seed input", "-3")
    page.click("#render")
    page.wait_for_selector("#remark [role=alert] >> text=/eed: expected/")
    assert picture_bytes(page, "picture-base") == before
    assert not any(
        badge.is_visible() for badge in page.locator("[data-testid=status-tracker] > .error").all()
    )
    assert not page.locator(".toast-body.error").count()


def test_stop_ends_a_render_under_way(page, shared_studio: SharedStudio) -> None:
    open_page(page, shared_studio)
    transformer = shared_studio.host.wait_ready().transformer
    slow = transformer.register_forward_pre_hook(lambda *_: time.sleep(0.5))  # as a large model is
    try:
        page.fill("#steps-1 input", "1000")
        ask(page, "a render that is not wanted any more")
        page.wait_for_function("/step \\d+ of \\d+/.test(document.querySelector('#pictures').innerText)")
        page.click("#stop")
        # its message goes away by itself, sooner than a busy machine looks
        page.wait_for_function("!/step \\d+ of/.test(document.querySelector('#pictures').innerText)")
        page.wait_for_timeout(1_000)
        assert page.locator("#history img").count() == 0
    finally:
        slow.remove()


def test_the_page_fits_a_phone(browser, tiny_studio: Studio) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    made = context.new_page()
    for path in ("/", "/scales"):
        made.goto(tiny_studio.url + path)
        filled(made)
        made.wait_for_selector("#render")
        made.wait_for_timeout(500)
        assert made.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


@pytest.mark.skipif(
    not (FOLDER / "visit.json").exists(), reason="not made yet: python -m studio.shell.prepare_first_visit"
)
def test_a_newcomer_sees_three_pictures_without_a_click(page, tiny_studio: Studio) -> None:
    page.goto(tiny_studio.url)
    filled(page)
    for arm in ARMS:
        page.wait_for_selector(f"#picture-{arm} img")
    assert len({picture_bytes(page, f"picture-{arm}") for arm in ARMS}) == 3
    assert "Nothing was trained" in page.inner_text("#lead")
    for button in ("#go-prompt", "#go-scales"):
        assert page.locator(button).is_visible()


def test_the_halves_of_the_slider_lie_on_each_other_on_one_grey(page, tiny_studio: Studio) -> None:
    open_page(page, tiny_studio)
    ask(page, "a red cube")
    wait_for_other_picture(page, "picture-ensemble", None)
    page.wait_for_selector("#slider img.fixed")
    left, right = (page.locator(f"#slider .content > img{kind}") for kind in (":not(.fixed)", ".fixed"))
    assert left.bounding_box() == right.bounding_box()
    grey = "e => getComputedStyle(e).backgroundColor"
    assert right.evaluate(grey) == page.locator("#slider .slider-wrap").evaluate(grey)


def test_no_choice_runs_beneath_the_arrow_of_its_list(page, tiny_studio: Studio) -> None:
    open_page(page, tiny_studio)
    edges = page.locator(".secondary-wrap:has(> .icon-wrap):visible").evaluate_all(
        """lists => lists.map(list => [list.querySelector('input').getBoundingClientRect().right,
                                       list.querySelector('.icon-wrap').getBoundingClientRect().left])"""
    )
    assert len(edges) >= 5
    assert all(text <= arrow for text, arrow in edges)
