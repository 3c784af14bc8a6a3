"""A grid of two settings, prompts that come back, and links, in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.running import Studio, filled, ready, unfold, wait_for_other_picture

SIZES = {"laptop": (1280, 800), "phone": (390, 844)}
PROMPT = "#prompt textarea, #prompt input"


@pytest.fixture(params=SIZES)
def sized(page, request):
    """A page of a laptop and of a phone."""
    width, height = SIZES[request.param]
    page.set_viewport_size({"width": width, "height": height})
    return page


def open_page(page, studio: Studio, query: str = "") -> None:
    page.goto(studio.url + "/" + query)
    filled(page)
    page.wait_for_selector("#render")
    page.wait_for_selector("#model-bar .ready")


def choose(page, elem_id: str, text: str) -> None:
    page.click(f"#{elem_id} input")
    page.get_by_role("option", name=text, exact=True).first.click()


def fits(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_grid_from_two_settings_to_its_sheet(sized, tiny_studio: Studio, tmp_path: Path) -> None:
    from calibri.sampling.png import read_settings

    page = sized
    open_page(page, tiny_studio)
    page.fill(PROMPT, "a cube in a grid")
    unfold(page, "#xy > button", "#xy-columns-values textarea, #xy-columns-values input")
    page.fill("#xy-columns-values textarea, #xy-columns-values input", "1, zwei")
    page.click("#xy-render")
    page.wait_for_selector("#xy-words [role=alert] >> text=/Steps: expected whole numbers/")
    page.fill("#xy-columns-values textarea, #xy-columns-values input", "1-3")
    choose(page, "xy-rows", "One scale")
    page.wait_for_selector("#xy-rows-scale input")
    page.fill("#xy-rows-scale input", "double.0.attn")
    page.keyboard.press("Enter")
    page.fill("#xy-rows-values textarea, #xy-rows-values input", "0, 1")
    page.click("#xy-render")
    page.wait_for_selector("#xy-grid table img")
    assert page.locator("#xy-grid td img").count() == 6
    assert page.locator("#xy-grid thead th").all_inner_texts() == ["Steps 1", "Steps 2", "Steps 3"]
    assert page.locator("#xy-grid tbody th").all_inner_texts() == ["double.0.attn 0.00", "double.0.attn 1.00"]
    assert not page.locator("#xy-words [role=alert]").count()
    assert len({image.get_attribute("src") for image in page.locator("#xy-grid td img").all()}) == 6
    with page.expect_download() as waiting:
        page.click("#xy-sheet")
    path = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(path)
    settings = read_settings(path)
    assert settings["prompt"] == "a cube in a grid" and settings["grid"]["columns"]["values"] == [1, 2, 3]
    assert fits(page)


def test_prompts_come_back_with_one_press_and_a_seed_is_new_each_time(sized, tiny_studio: Studio) -> None:
    page = sized
    open_page(page, tiny_studio)
    before = None
    for prompt in ("a first cone", "a second ball"):
        page.fill(PROMPT, prompt)
        page.click("#render")
        before = wait_for_other_picture(page, "picture-base", before)
        page.wait_for_selector(f"#past button >> text={prompt}")
    assert page.locator("#past button").all_inner_texts() == ["a second ball", "a first cone"]
    page.reload()
    filled(page)
    page.locator("#past button", has_text="a first cone").click()
    assert page.input_value(PROMPT) == "a first cone"
    seed = page.input_value("#seed input")
    page.get_by_label("New seed each time").check()
    page.click("#render")
    page.wait_for_function(f"document.querySelector('#seed input').value !== '{seed}'")
    page.wait_for_selector("#past button:first-of-type >> text=a first cone")
    page.get_by_label("New seed each time").uncheck()
    held, shown = page.input_value("#seed input"), wait_for_other_picture(page, "picture-base", None)
    page.click("#dice")  # renders at once
    wait_for_other_picture(page, "picture-base", shown)
    assert page.input_value("#seed input") != held and fits(page)


@pytest.mark.parametrize("clipboard", ["allowed", "refused"])
def test_a_copied_link_opens_the_comparison_for_somebody_else(
    page, browser, tiny_studio: Studio, clipboard: str
) -> None:
    if clipboard == "allowed":
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    else:
        page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined});")
    open_page(page, tiny_studio)
    page.fill(PROMPT, "a cone & a “ball”")
    page.fill("#seed input", "4611686018427387905")
    page.fill("#steps-1 input", "3")
    page.click("#render")
    page.wait_for_selector("#caption-base >> text=/3 steps/")
    page.click("#copy-link")
    page.wait_for_selector("#link-told >> text=Link copied")
    link = page.input_value("#link-told input")
    if clipboard == "allowed":
        assert page.evaluate("navigator.clipboard.readText()") == link
    assert link.startswith(f"{tiny_studio.url}/?prompt=") and "arm-2=studio%2F" not in link.split("arm-3")[1]

    context = browser.new_context(viewport={"width": 390, "height": 844})
    other = context.new_page()
    other.goto(link)
    filled(other)
    other.wait_for_selector("#remark >> text=/came with a link/")
    assert other.input_value(PROMPT) == "a cone & a “ball”"
    assert other.input_value("#seed input") == "4611686018427387905"
    assert other.input_value("#steps-1 input") == "3"
    assert other.input_value("#arm-2 input").startswith("Bent")
    other.wait_for_timeout(1_500)
    assert not other.locator("#history img").count()  # nothing renders without a press
    other.click("#render")
    other.wait_for_selector("#caption-base >> text=/3 steps/")
    other.wait_for_function("!location.search")
    context.close()


def test_a_link_that_does_not_fit_says_so_and_the_page_is_usual(page, tiny_studio: Studio) -> None:
    open_page(page, tiny_studio, "?prompt=a+cube&steps=5000&arm-1=own/nobody")
    page.wait_for_selector("#remark [role=alert] >> text=/expected a calibration of this studio/")
    assert page.input_value(PROMPT) != "a cube"


def test_a_study_has_a_link(page, tiny_studio: Studio) -> None:
    page.goto(f"{tiny_studio.url}/results")
    filled(page)
    page.wait_for_selector("#results-words")
    page.click("#copy-study")
    page.wait_for_selector("#link-told")
    assert page.inner_text("#link-told").startswith(("Link copied", "There is nothing here yet"))


def test_a_search_has_a_link(page, tiny_studio: Studio) -> None:
    page.goto(f"{tiny_studio.url}/search")
    filled(page)
    ready(page)
    page.wait_for_function("document.querySelector('#search-run input').value")
    page.click("#copy-run")
    page.wait_for_selector("#link-told >> text=Link copied")
    link = page.input_value("#link-told input")
    assert "/search?run=" in link
    page.goto(link)
    filled(page)
    page.wait_for_function("document.querySelector('#search-run input').value")
