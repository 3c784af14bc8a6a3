"""A tiny FLUX with tiny HPSv3 and PickScore in a real browser: loaded, searched with, compared, unloaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.running import ROOT, Studio, filled, ready, running_studio, unfold
from tests.browser.test_search_page import state, wait_for_points

GOLDEN = ROOT / "tests" / "golden" / "rewards"


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    from tests.tiny import tiny_flux

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    tiny_flux(tmp_path / "tiny")
    named = [f"--reward-source={name}={GOLDEN / name}" for name in ("hpsv3", "pickscore")]
    with running_studio(tmp_path, "--backbone", str(tmp_path / "tiny"), *named) as made:
        yield made
        for word in ("Traceback", " ERROR ", "Loading weights"):
            assert word not in made.text(), made.text()


def choose(page, field: str, name: str) -> None:
    page.click(f"{field} input")
    page.locator(f"[role=option]:has-text('{name}')").first.click()


def test_a_search_with_both_rewards_from_the_form_to_compare(studio: Studio, page, tmp_path: Path) -> None:
    page.goto(studio.url + "/search")
    ready(page)
    page.wait_for_selector("#model-bar .ready")
    page.wait_for_selector("#estimate:has-text('hpsv3: weights are here')")
    chosen = page.locator("#search-rewards .token").all_inner_texts()
    assert [words.strip() for words in chosen] == ["hpsv3", "pickscore"]
    page.click("#search-rewards input")
    offered = page.locator("[role=option]").all_inner_texts()
    assert any("clipscore" in words and "to download" in words for words in offered)
    assert not any("tabletop" in words for words in offered)
    page.keyboard.press("Escape")
    assert page.input_value("#search-steps input[type=number]") == "2"  # the backbone's own
    page.locator("#search-images input").fill("1000000")
    unfold(page, "#search-more button", "#search-prompts textarea")
    page.get_by_label("Candidates").fill("4")
    page.get_by_label("Pairs a generation").fill("2")
    page.get_by_label("Held-out pairs to judge on").fill("4")
    prompts = tmp_path / "mine.csv"
    prompts.write_text("prompt,category\n" + "".join(f"a red cube {i},x\n" for i in range(20)))
    upload = page.locator("#search-prompt-file").locator("xpath=..").locator("input[type=file]").first
    upload.set_input_files(prompts)
    page.wait_for_selector("#estimate:has-text('20 prompts of your own')")
    page.click("#start-search")
    state(page, "searching")
    page.wait_for_selector("#model-bar:has-text('rewards: hpsv3, pickscore')")

    page.click("#open-rewards")
    page.wait_for_selector("#reward-table td:has-text('used by the search')")
    choose(page, "#reward-name", "hpsv3")
    wait_for_points(page, 1)
    page.click("#reward-unload")
    page.wait_for_selector("text=/hpsv3 cannot be unloaded while the search/")
    page.click("#stop-search")
    state(page, "stopped")
    page.wait_for_selector("#search-state .hint:has-text('held-out pairs')")

    choose(page, "#reward-name", "hpsv2")
    page.fill("#reward-source textarea, #reward-source input", str(GOLDEN / "hpsv2"))
    page.click("#reward-load")
    page.wait_for_selector("#model-bar:has-text('rewards: hpsv3, pickscore, hpsv2')")
    page.wait_for_selector("#reward-table td:has-text('weights of hpsv2: memory')")
    assert str(GOLDEN) not in page.inner_text("#reward-table")
    choose(page, "#reward-name", "pickscore")
    page.click("#reward-unload")
    page.wait_for_selector("#reward-told:has-text('pickscore is unloaded: memory')")
    page.wait_for_selector("#model-bar:has-text('rewards: hpsv3, hpsv2')")

    page.click("#compare-with-base")
    page.wait_for_url(studio.url + "/")
    filled(page)
    page.wait_for_selector("#caption-calibrated td:has-text('hpsv3')")
    assert "hpsv2" in page.inner_text("#caption-base")
    assert page.input_value("#prompt textarea, #prompt input").startswith("a red cube")
