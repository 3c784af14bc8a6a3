"""Quick vote in a real browser: one press on Start, then twenty votes by keys alone."""

from __future__ import annotations

from tests.browser.running import Studio, filled, wait_for_other_picture

KEYS = ("ArrowLeft", "ArrowRight", "ArrowDown")


def test_twenty_votes_by_keys(tiny_studio: Studio, page) -> None:
    page.goto(f"{tiny_studio.url}/quick")
    filled(page)
    page.wait_for_selector("#model-bar .ready")
    page.keyboard.press("ArrowLeft")  # nothing is there to vote on
    page.click("#quick-start")
    page.wait_for_selector("#quick-vote-left:not([disabled])")
    prompts, before = set(), None
    for number in range(1, 21):
        before = wait_for_other_picture(page, "quick-a", before)
        prompts.add(page.inner_text("#quick-asked b"))
        assert "Bent" not in page.inner_text("#quick-asked")
        page.keyboard.press(KEYS[number % 3])
        page.wait_for_selector(f"#quick-bar >> text=/^{number} votes?,/")
        page.wait_for_selector("#quick-vote-left:not([disabled])")
        assert "Just now A was" in page.inner_text("#quick-told")
    assert len(prompts) == 20  # shuffled, none twice
    page.wait_for_selector("#quick-board >> text=/2 arms, .* votes/")
    page.click("#quick-stop")
    page.wait_for_selector("#quick-told >> text=Stopped after 20 votes")
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(500)
    assert page.locator("#quick-vote-left").is_disabled()
