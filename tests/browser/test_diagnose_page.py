"""Diagnose in a real browser: a sweep fills the map, a cell shows pictures, the best goes to Scales."""

from __future__ import annotations

import json
from pathlib import Path

from tests.browser.running import (
    PATIENCE,
    Studio,
    filled,
    picture_bytes,
    ready,
    unfold,
    wait_for_other_picture,
)

MS = PATIENCE * 1000
WORDS = "#sweep-words [role=status]"


def choose_rewards(page, *names: str) -> None:
    """Only these in the field for rewards."""
    while page.locator("#sweep-rewards .token-remove:visible").count():
        page.locator("#sweep-rewards .token-remove:visible").last.click()
    for name in names:  # typed: rewards of tabletop are not offered for other backbones
        page.click("#sweep-rewards input")
        page.fill("#sweep-rewards input", name)
        page.keyboard.press("Enter")
    page.keyboard.press("Escape")


def set_number(page, elem_id: str, value: int) -> None:
    field = page.locator(f"#{elem_id} input[type=number]")
    field.fill(str(value))
    field.press("Tab")


def fill_form(page, values: str = "0, 1.5") -> None:
    ready(page)
    assert page.input_value("#sweep-steps input[type=number]") == "2"
    choose_rewards(page, "tabletop-quality")
    set_number(page, "sweep-pairs", 2)
    unfold(page, page.get_by_role("button", name="More settings"), "#sweep-prompts textarea")
    page.fill("#sweep-values input, #sweep-values textarea", values)
    page.fill("#sweep-prompts textarea", "a red cube\na blue ball")
    page.wait_for_selector("#sweep-cost >> text=12 scales × 2 values = 24 cells, each on 2 prompts")


def cells_shown(page) -> int:
    return page.evaluate(
        "document.querySelector('#heat .chart').data[0].z.flat().filter(v => v !== null).length"
    )


def test_a_sweep_from_start_to_scales(page, tiny_studio: Studio) -> None:
    page.goto(tiny_studio.url + "/diagnose")
    filled(page)
    page.wait_for_selector("#sweep-words >> text=No sweep yet")
    fill_form(page)
    assert "50 pictures" in page.inner_text("#sweep-cost")
    page.click("#sweep-start")
    page.wait_for_selector(f"{WORDS} >> text=/Measuring|Done/")
    page.wait_for_selector(f"{WORDS} >> text=Done: 24 cells, each on 2 prompts.", timeout=2 * MS)
    page.wait_for_selector("#heat .js-plotly-plot .hm", state="attached")
    page.wait_for_function("document.querySelector('#heat .chart').data[0].z.flat().every(v => v !== null)")
    assert "24 of 24 cells measured" in page.get_attribute("#heat .chart", "aria-label")

    # a cell, by a click on the map
    page.locator("#heat .chart").scroll_into_view_if_needed()
    box = page.locator("#heat .nsewdrag").first.bounding_box()
    page.mouse.click(box["x"] + 2.5 * box["width"] / 12, box["y"] + 0.25 * box["height"])
    page.wait_for_selector("#sweep-about >> text=double block 2")
    assert "at 1.50" in page.inner_text("#sweep-about") and "n = 2" in page.inner_text("#sweep-about")
    mine = wait_for_other_picture(page, "cell-mine-1", None)
    assert mine != picture_bytes(page, "cell-base-1")
    assert picture_bytes(page, "cell-base-1") != picture_bytes(page, "cell-base-2")
    assert "a red cube" in page.inner_text("#cell-words-1")
    assert page.locator("#cell-base-3 img").count() == 0  # two prompts, two columns

    # the same by the list, for keyboards
    page.click("#sweep-cell input")
    page.get_by_role("option").filter(has_text="single.7 × 0.00").click()
    page.wait_for_selector("#sweep-about >> text=single block 7")
    assert wait_for_other_picture(page, "cell-mine-1", mine) != mine

    # the map is there again after a reload
    page.reload()
    ready(page)
    page.wait_for_selector(f"{WORDS} >> text=Done: 24 cells")
    page.wait_for_function("document.querySelector('#heat .chart').data?.[0].z.flat().every(v => v !== null)")


def test_what_is_chosen_before_the_backbone_is_there_stays(page, tiny_studio: Studio) -> None:
    """Answers are late, as on a slow line: the page must not send back what it read before the choice."""
    page.add_init_script(
        "const real = window.fetch; window.fetch = async (...asked) => { const answer = await real(...asked);"
        " await new Promise(done => setTimeout(done, 600)); return answer; };"
    )
    page.goto(tiny_studio.url + "/diagnose")
    filled(page)
    choose_rewards(page, "clipscore")
    ready(page)
    page.wait_for_timeout(1500)  # a later answer would come now
    [chosen] = page.locator("#sweep-rewards .token").all_inner_texts()
    assert chosen.startswith("clipscore")


def test_the_best_of_each_block_goes_to_the_desk(page, tiny_studio: Studio) -> None:
    folder = next(Path(tiny_studio.log).parent.glob("data/sweeps/*"))
    path = folder / "sweep.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    made = []
    for line in map(json.loads, lines[1:]):  # double.2 at 1.5 is surely better, everything else surely worse
        good = (line["name"], line["value"]) == ("double.2", 1.5)
        ends = (0.2, 0.4) if good else (-0.4, -0.2)
        line["objective"] = {"mean": sum(ends) / 2, "low": ends[0], "high": ends[1], "n": 2}
        made.append(json.dumps(line))
    path.write_text("\n".join([lines[0], *made]) + "\n", encoding="utf-8")
    page.goto(tiny_studio.url + "/diagnose")
    ready(page)
    page.wait_for_selector("#sweep-best:not([disabled])")
    page.click("#sweep-best")
    page.wait_for_url("**/scales")
    page.wait_for_selector("#desk input[type=range]")
    page.wait_for_function("document.querySelector('#vector-text textarea').value.includes('double.2 = 1.5')")
    outputs = page.eval_on_selector_all("#desk output", "all => all.map(o => o.textContent)")
    assert outputs == ["1.00", "1.00", "1.50", *["1.00"] * 9]


def test_what_does_not_fit_is_a_sentence(page, tiny_studio: Studio) -> None:
    page.goto(tiny_studio.url + "/diagnose")
    filled(page)
    page.wait_for_selector("#model-bar .ready")
    page.wait_for_selector(
        "#sweep-cost >> text=expected at least one"
    )  # no reward is usual for this backbone
    choose_rewards(page, "tabletop-quality")
    page.wait_for_selector("#sweep-cost >> text=/each on \\d+ prompts/")
    unfold(page, page.get_by_role("button", name="More settings"), "#sweep-prompts textarea")
    page.fill("#sweep-prompts textarea", "a red cube")
    page.fill("#sweep-values input, #sweep-values textarea", "0, 1")
    page.wait_for_selector("#sweep-cost >> text=leave it out")
    page.fill("#sweep-values input, #sweep-values textarea", "many")
    page.wait_for_selector("#sweep-cost >> text=numbers with commas between")
    page.click("#sweep-start")
    page.locator(".toast-body").filter(has_text="numbers with commas between").wait_for()


def test_stopped_and_resumed_after_a_reload(page, tiny_studio: Studio) -> None:
    page.goto(tiny_studio.url + "/diagnose")
    filled(page)
    fill_form(page)
    set_number(page, "sweep-pairs", 64)
    page.wait_for_selector("#sweep-cost >> text=each on 64 prompts")
    page.click("#sweep-start")
    page.wait_for_selector(f"{WORDS} >> text=/Measuring: .* pictures/", timeout=2 * MS)
    page.reload()
    ready(page)
    page.wait_for_selector(f"{WORDS} >> text=/Measuring/")
    page.click("#sweep-stop")
    page.wait_for_selector(f"{WORDS} >> text=Stopped after", timeout=2 * MS)
    page.click("#sweep-resume")
    page.wait_for_selector(f"{WORDS} >> text=/Measuring: .* pictures/", timeout=2 * MS)
    page.click("#sweep-stop")
    page.wait_for_selector(f"{WORDS} >> text=Stopped after", timeout=2 * MS)
    assert cells_shown(page) < 24
