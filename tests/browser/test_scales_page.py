"""The mixing desk in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.contrast import TOO_FAINT
from tests.browser.running import Studio, filled, picture_bytes, ready, unfold, wait_for_other_picture

SLIDERS = "#desk input[type=range]"


def open_page(page, studio: Studio) -> bytes:
    """Open the desk and wait for its first picture."""
    page.goto(studio.url + "/scales")
    ready(page)
    page.wait_for_selector(SLIDERS)
    return wait_for_other_picture(page, "picture-calibrated", None)


def values(page) -> list[str]:
    return page.eval_on_selector_all("#desk output", "all => all.map(o => o.textContent)")


def wait_for_text(page, part: str) -> None:
    page.wait_for_function(
        "part => document.querySelector('#vector-text textarea').value.includes(part)", arg=part
    )


def change_and_name(page, studio: Studio, title: str) -> None:
    """Open the desk, raise its second scale to 1.2 and write a title for it."""
    open_page(page, studio)
    page.locator(SLIDERS).nth(1).focus()
    page.keyboard.press("PageUp")
    wait_for_text(page, "double.0.mlp = 1.2")
    unfold(page, page.get_by_role("tab", name="Files"), "#title input, #title textarea")
    page.fill("#title input, #title textarea", title)


def test_moving_a_slider_gives_another_picture_and_leaves_the_base(page, tiny_studio: Studio) -> None:
    before = open_page(page, tiny_studio)
    base = picture_bytes(page, "picture-base")
    page.locator(SLIDERS).nth(2).focus()
    page.keyboard.press("PageUp")
    assert wait_for_other_picture(page, "picture-calibrated", before) != before
    assert picture_bytes(page, "picture-base") == base
    wait_for_text(page, "double.1.attn = 1.2")


def test_the_mouse_moves_a_slider_and_a_double_click_resets_it(page, tiny_studio: Studio) -> None:
    open_page(page, tiny_studio)
    box = page.locator(SLIDERS).nth(5).bounding_box()
    x = box["x"] + box["width"] / 2
    page.mouse.move(x, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(x, box["y"] + 12, steps=4)
    page.mouse.up()
    wait_for_text(page, "double.2.mlp = 1.")
    page.mouse.dblclick(x, box["y"] + 12)
    wait_for_text(page, "# all scales are 1")
    assert set(values(page)) == {"1.00"}


def test_shift_and_drag_draws_a_curve_over_neighbours(page, tiny_studio: Studio) -> None:
    open_page(page, tiny_studio)
    first, last = (page.locator(SLIDERS).nth(i).bounding_box() for i in (4, 8))
    page.keyboard.down("Shift")
    page.mouse.move(first["x"] + first["width"] / 2, first["y"] + 20)
    page.mouse.down()
    page.mouse.move(last["x"] + last["width"] / 2, last["y"] + last["height"] - 20, steps=6)
    page.mouse.up()
    page.keyboard.up("Shift")
    wait_for_text(page, "single.0.fused")
    numbers = [float(v) for v in values(page)]
    drawn = numbers[4:9]
    assert drawn == sorted(drawn, reverse=True) and drawn[0] > 1.3 and drawn[-1] < 0.7
    assert numbers[:4] == [1.0] * 4 and numbers[9:] == [1.0] * 7


def test_the_text_moves_the_sliders_and_bad_text_is_a_sentence(page, tiny_studio: Studio) -> None:
    before = open_page(page, tiny_studio)
    page.fill("#vector-text textarea", "double[0-3].attn = 1.25")
    page.click("#apply-text")
    wait_for_other_picture(page, "picture-calibrated", before)
    assert values(page)[:8] == ["1.25", "1.00"] * 4
    page.fill("#vector-text textarea", "double.0.attn = very much")
    page.click("#apply-text")
    page.wait_for_selector("text=expected a number, got")
    assert values(page)[:8] == ["1.25", "1.00"] * 4


def test_undo_redo_reset_and_a_group(page, tiny_studio: Studio) -> None:
    open_page(page, tiny_studio)
    page.fill("#vector-text textarea", "* = 1.1")
    page.click("#apply-text")
    page.wait_for_function("document.querySelector('#desk output').textContent === '1.10'")
    page.click("#desk button[data-act=reset][data-group='double.0']")
    page.wait_for_selector("#undo:not([disabled])")
    assert values(page)[:3] == ["1.00", "1.00", "1.10"]
    wait_for_text(page, "double[1-3].attn")
    page.click("#undo")
    page.wait_for_function("document.querySelector('#desk output').textContent === '1.10'")
    page.click("#redo")
    page.wait_for_function("document.querySelector('#desk output').textContent === '1.00'")
    page.click("#reset")
    wait_for_text(page, "# all scales are 1")


def test_the_desk_outlives_a_reload(page, tiny_studio: Studio) -> None:
    open_page(page, tiny_studio)
    page.locator(SLIDERS).nth(0).focus()
    page.keyboard.press("PageDown")
    wait_for_text(page, "double.0.attn = 0.8")
    page.reload()
    ready(page)
    page.wait_for_function("document.querySelector('#desk output')?.textContent === '0.80'")


def test_granularity_carries_the_values_over(page, tiny_studio: Studio) -> None:
    open_page(page, tiny_studio)
    page.locator(SLIDERS).nth(0).focus()
    page.keyboard.press("PageUp")
    wait_for_text(page, "double.0.attn = 1.2")
    page.get_by_label("Gate").click()
    page.wait_for_function("document.querySelectorAll('#desk input[type=range]').length === 24")
    assert values(page)[:4] == ["1.20", "1.00", "1.20", "1.00"]


def test_the_plain_sliders_are_the_same_desk(page, tiny_studio: Studio) -> None:
    before = open_page(page, tiny_studio)
    page.get_by_role("tab", name="Sliders").click()
    page.locator("#show-plain input").check()
    slider = page.locator("#plain-sliders input[type=range]").nth(3)
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.5 * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.75 * box["width"], y, steps=4)
    page.mouse.up()
    wait_for_other_picture(page, "picture-calibrated", before)
    assert 1.3 < float(values(page)[3]) < 1.7


def test_a_file_goes_out_and_comes_back(page, tiny_studio: Studio, tmp_path: Path) -> None:
    change_and_name(page, tiny_studio, "From the test")
    with page.expect_download() as waiting:
        page.click("#download")
    path = tmp_path / "calibration.json"
    waiting.value.save_as(path)
    assert '"granularity": "layer"' in path.read_text(encoding="utf-8")
    page.click("#reset")
    page.wait_for_function("document.querySelectorAll('#desk output')[1].textContent === '1.00'")
    page.locator("#upload").locator("xpath=..").locator("input[type=file]").first.set_input_files(path)
    page.wait_for_function("document.querySelectorAll('#desk output')[1].textContent === '1.20'")


def test_bars_show_the_vector(page, tiny_studio: Studio) -> None:
    open_page(page, tiny_studio)
    page.get_by_role("tab", name="Bars").click()
    page.wait_for_selector("#bars .js-plotly-plot .bars path", state="attached")
    assert page.locator("#bars .bars path").count() == 16


def test_members_are_tabs_with_weights(page, tiny_studio: Studio) -> None:
    before = open_page(page, tiny_studio)
    assert not page.locator("#weight").is_visible()  # one plain vector needs none
    page.locator(SLIDERS).nth(0).focus()
    page.keyboard.press("PageUp")
    before = wait_for_other_picture(page, "picture-calibrated", before)
    page.click("#add-member")
    page.wait_for_function("document.querySelectorAll('#members label').length === 2")
    page.wait_for_selector("#caption-calibrated >> text=4 NFE")
    page.click("#desk button[data-act=skip][data-group='double.0']")
    wait_for_text(page, "double.0.attn = 0")  # its answer fills the weight's field anew
    page.fill("#weight input", "-0.5")
    page.keyboard.press("Enter")
    page.wait_for_selector("#members >> text=2: positive × −0.50")
    assert values(page)[:3] == ["0.00", "0.00", "1.00"]
    page.locator("#members input").nth(0).check()
    page.wait_for_function("document.querySelector('#desk output').textContent === '1.20'")
    page.wait_for_function("document.querySelector('#weight input').value === '1'")
    page.fill("#weight input", "1.5")
    page.keyboard.press("Enter")
    page.wait_for_selector("#together >> text=Weights add up to 1.00")
    page.reload()
    ready(page)
    page.wait_for_function("document.querySelectorAll('#members label').length === 2")
    page.click("#remove-member")
    page.wait_for_function("document.querySelectorAll('#members label').length === 1")
    page.wait_for_function("document.querySelector('#desk output').textContent === '0.00'")


def test_a_preset_adds_a_member_that_guides(page, tiny_studio: Studio) -> None:
    before = open_page(page, tiny_studio)
    page.get_by_text("Add member ▸ preset").click()
    page.click("#preset input")
    page.get_by_role("option", name="Skip-layer guidance").click()
    page.wait_for_function("document.querySelector('#preset-stop input').value === '0.2'")
    page.fill("#preset-of input, #preset-of textarea", "double.1")
    page.fill("#preset-stop input", "1")
    page.click("#add-preset")
    page.wait_for_selector("#members >> text=2: positive × −2.80, 1–100 % of the steps, balanced")
    page.wait_for_selector("#about >> text=/added skip-layer guidance, which counts at/")
    assert wait_for_other_picture(page, "picture-calibrated", before) != before


def test_an_ensemble_opens_and_is_saved_with_all_its_members(page, tiny_studio: Studio) -> None:
    import json

    before = open_page(page, tiny_studio)
    unfold(page, page.get_by_role("tab", name="Files"), "#title input, #title textarea")
    page.click("#saved input")
    page.get_by_role("option", name="Pair (2 members)").click()
    page.click("#open-saved")
    wait_for_other_picture(page, "picture-calibrated", before)
    labels = page.locator("#members label").all_inner_texts()
    assert [t.strip() for t in labels] == ["1: positive × 1.50", "2: negative × −0.50"]
    page.fill("#title input, #title textarea", "Pair kept whole")
    page.click("#save")
    page.wait_for_selector("text=Saved as")
    path = tiny_studio.log.parent / "data" / "calibrations" / "pair-kept-whole.json"
    members = json.loads(path.read_text(encoding="utf-8"))["members"]
    assert [(m["weight"], m["condition"]) for m in members] == [(1.5, "positive"), (-0.5, "negative")]


def test_blend_and_comparison_with_another_calibration(page, tiny_studio: Studio) -> None:
    open_page(page, tiny_studio)
    page.get_by_role("tab", name="Bars").click()
    page.wait_for_selector("#bars .js-plotly-plot .bars path", state="attached")
    page.click("#beside input")
    page.get_by_role("option", name="Bent", exact=True).click()
    page.wait_for_selector("#bars .scatterlayer path", state="attached")
    slider = page.locator("#share input[type=range]")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2)
    page.wait_for_function("document.querySelector('#desk output').textContent === '0.70'")
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_function("document.querySelector('#desk output').textContent === '0.85'")
    page.click("#undo")
    page.wait_for_function("document.querySelector('#desk output').textContent === '1.00'")


def test_the_keyboard_reaches_every_scale_with_a_ring_one_can_see(page, tiny_studio: Studio) -> None:
    open_page(page, tiny_studio)
    page.locator(SLIDERS).nth(0).focus()
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    assert "neighbour" in page.inner_text("#desk .desk-readout")
    page.keyboard.press("ArrowUp")
    page.wait_for_function("document.querySelectorAll('#desk output')[2].textContent === '1.01'")
    assert page.evaluate("document.activeElement.dataset.i") == "2"
    ring = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert float(ring.removesuffix("px")) >= 2
    page.keyboard.press("Delete")
    wait_for_text(page, "# all scales are 1")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/scales", "/"])
def test_every_word_has_enough_contrast(browser, tiny_studio: Studio, scheme: str, path: str) -> None:
    """WCAG AA: 4.5 to 1, 3 to 1 for large text."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme=scheme)
    made = context.new_page()
    made.goto(tiny_studio.url + path)
    filled(made)
    made.wait_for_selector("#model-bar .ready")
    made.wait_for_selector(SLIDERS if path == "/scales" else "#render")
    made.wait_for_timeout(1500)
    assert made.evaluate("document.body.classList.contains('dark')") == (scheme == "dark")
    assert made.evaluate(TOO_FAINT) == []
    context.close()
