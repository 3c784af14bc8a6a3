"""Library in a real browser: saved, renamed, copied, deleted, brought back, moved out and in, compared."""

from __future__ import annotations

import json
from pathlib import Path

from tests.browser.running import Studio, picture_bytes, ready, wait_for_other_picture
from tests.browser.test_scales_page import SLIDERS, change_and_name, wait_for_text


def open_library(page, studio: Studio) -> bytes:
    """Open it and wait for the pictures of the first calibration."""
    page.goto(studio.url + "/library")
    ready(page)
    page.wait_for_selector("#library-cards .card")
    return wait_for_other_picture(page, "library-left", None)


def names(page) -> list[str]:
    return page.eval_on_selector_all("#library-cards .card .name", "all => all.map(n => n.textContent)")


def choose(page, title: str) -> None:
    """Click on a card and wait until it is described."""
    page.locator("#library-cards .card").filter(has=page.get_by_text(title, exact=True)).click()
    page.wait_for_function(
        "title => document.querySelector('#library-about .title')?.textContent === title", arg=title
    )


def wait_for_names(page, *present: str, absent: tuple[str, ...] = ()) -> None:
    page.wait_for_function(
        """([present, absent]) => {
          const now = [...document.querySelectorAll('#library-cards .card .name')].map(n => n.textContent);
          return present.every(t => now.includes(t)) && !absent.some(t => now.includes(t));
        }""",
        arg=[list(present), list(absent)],
    )


def title_field(page):
    return page.locator("#library-title input, #library-title textarea")


def test_saved_in_scales_it_is_kept_renamed_copied_deleted_and_back(page, tiny_studio: Studio) -> None:
    change_and_name(page, tiny_studio, "From the desk")
    page.click("#save")
    page.wait_for_function("document.querySelector('#saved input').value === 'From the desk'")

    open_library(page, tiny_studio)
    wait_for_names(page, "From the desk")
    choose(page, "From the desk")
    assert title_field(page).input_value() == "From the desk"
    title_field(page).fill("Kept by the test")
    page.click("#library-rename")
    wait_for_names(page, "Kept by the test", absent=("From the desk",))
    title_field(page).fill("Bent")
    page.click("#library-rename")
    page.locator(".toast-body").filter(has_text="already a calibration called “Bent”").wait_for()

    page.click("#library-duplicate")
    wait_for_names(page, "Kept by the test", "Kept by the test copy")
    page.wait_for_selector("#library-about .title >> text=Kept by the test copy")
    page.click("#library-delete")
    wait_for_names(page, "Kept by the test", absent=("Kept by the test copy",))
    page.wait_for_selector("#library-about >> text=Choose a calibration above")
    page.click("#library-undo")
    wait_for_names(page, "Kept by the test copy")
    page.wait_for_selector("#library-about .title >> text=Kept by the test copy")
    page.reload()
    ready(page)
    wait_for_names(page, "Kept by the test", "Kept by the test copy")
    page.wait_for_function(
        """() => {
          const tiny = [...document.querySelectorAll('#library-cards .card')]
            .filter(c => c.textContent.includes('tiny ·'));
          return tiny.length >= 4 && tiny.every(c => c.querySelector('img'));
        }"""
    )


def test_out_as_a_file_and_in_again_with_a_bad_one(page, tiny_studio: Studio, tmp_path: Path) -> None:
    open_library(page, tiny_studio)
    choose(page, "Bent")
    with page.expect_download() as waiting:
        page.click("#library-export")
    path = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(path)
    made = json.loads(path.read_text(encoding="utf-8"))
    assert (path.name, made["title"]) == ("bent.json", "Bent")
    made["title"], made["members"][0]["scales"][0] = "Came in", 1.9
    (tmp_path / "in.json").write_text(json.dumps(made), encoding="utf-8")
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    field = page.locator("#library-import").locator("xpath=..").locator("input[type=file]").first
    field.set_input_files([tmp_path / "in.json", tmp_path / "bad.json"])
    page.wait_for_selector("#library-told >> text=Imported “Came in”")
    told = page.inner_text("#library-told")
    assert "bad.json was not imported: not valid JSON" in told and str(tmp_path) not in told
    wait_for_names(page, "Came in")
    page.wait_for_selector("#library-about .title >> text=Came in")


def test_two_side_by_side_and_on_to_the_other_pages(page, tiny_studio: Studio) -> None:
    open_library(page, tiny_studio)
    choose(page, "Bent")
    page.wait_for_selector("#library-left-words >> text=Bent")
    left, base = picture_bytes(page, "library-left"), picture_bytes(page, "library-right")
    assert left != base
    page.click("#library-beside input")
    page.get_by_role("option", name="Pair", exact=True).click()
    assert wait_for_other_picture(page, "library-right", base) != left
    page.wait_for_selector("#library-right-words >> text=Pair")
    page.wait_for_selector("#library-note >> text=2 members; the chart shows its first positive one")
    page.wait_for_function("document.querySelector('#library-bars .chart').data?.length === 2")
    page.fill("#prompt textarea, #prompt input", "something else")
    page.click("#render")
    assert wait_for_other_picture(page, "library-left", left) != left

    page.click("#library-compare")
    page.wait_for_url(lambda url: url.rstrip("/") == tiny_studio.url)
    page.wait_for_selector("text=Bent")
    page.goto(tiny_studio.url + "/library")
    ready(page)
    page.wait_for_selector("#library-cards .card")
    choose(page, "Bent")
    page.click("#library-open")
    page.wait_for_url("**/scales")
    page.wait_for_selector(SLIDERS)
    wait_for_text(page, "double.0.attn = 0.7")


def test_what_another_visitor_deleted_meanwhile_is_a_sentence(page, tiny_studio: Studio) -> None:
    open_library(page, tiny_studio)
    choose(page, "Bent")
    page.click("#library-duplicate")
    page.wait_for_selector("#library-about .title >> text=Bent copy")
    folder = tiny_studio.log.parent / "data" / "calibrations"
    (folder / "bent-copy.json").unlink()
    page.click("#library-duplicate")
    page.locator(".toast-body").filter(has_text="There is no saved calibration").wait_for()


def test_the_keyboard_reaches_every_card(page, tiny_studio: Studio) -> None:
    open_library(page, tiny_studio)
    page.locator("#library-cards .card").first.focus()
    page.keyboard.press("Tab")
    second = page.evaluate("document.activeElement.querySelector('.name').textContent")
    page.keyboard.press("Enter")
    page.wait_for_function(
        "title => document.querySelector('#library-about .title')?.textContent === title", arg=second
    )
    assert page.locator("#library-cards .card[aria-pressed=true]").count() == 1
