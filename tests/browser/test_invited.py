"""A study with three people who are invited by name: one votes, one looks, one's link is taken back."""

from __future__ import annotations

import re

from tests.browser.running import PATIENCE, Studio, Watched, filled, unfold
from tests.browser.test_study import add_arm, begin, choose, ended, ready, token

PEOPLE = "Ann Example\nBen\nCleo"


def make_the_study(page) -> None:
    page.click("#new-make")  # nothing is filled in yet: the answer stands beside the button
    page.wait_for_selector("#new-made >> text=Not made.")
    page.fill("#new-name input, #new-name textarea", "By invitation")
    add_arm(page, "plain")
    choose(page, "new-arm", "Bent")
    add_arm(page, "other")
    page.fill("#new-prompts textarea", "a red cube\na blue ball")
    unfold(page, "#new-texts .label-wrap", "#new-questions textarea")
    page.fill("#new-questions textarea", "")
    page.wait_for_selector("#new-checked >> text=questions")
    page.fill("#new-questions textarea", "Which one is sharper?")
    page.wait_for_selector("#new-checked >> text=1 question")
    page.wait_for_selector("#new-preview >> text=Which one is sharper?")
    page.check("#new-invited input")
    page.click("#new-make")
    page.wait_for_selector("#new-made >> text=“By invitation” is made")
    page.wait_for_selector("#study-card >> text=/([0-9]+) of \\1 pairs have their pictures/")


def vote_all(page) -> None:
    begin(page)
    while not ended(page):
        before = token(page)
        page.keyboard.press("1")
        page.wait_for_function(
            "before => !document.querySelector('.vote .frame img') || "
            "document.querySelector('.vote .frame img').getAttribute('src') !== before",
            arg=before,
        )
        ready(page)


def test_three_invited_raters(browser, tiny_studio: Studio, page) -> None:
    page.goto(f"{tiny_studio.url}/studies")
    filled(page)
    page.wait_for_selector("#model-bar .ready")
    make_the_study(page)

    with page.context.expect_page() as opened:
        page.click("#study-card >> text=See what a rater will see")
    preview = opened.value
    preview.wait_for_selector(".vote-preview >> text=Preview: nothing is counted")
    begin(preview)
    preview.wait_for_selector(".vote legend >> text=Which one is sharper?")
    assert preview.locator(".vote-preview").is_visible()
    preview.close()

    page.click("#study-open")
    page.wait_for_selector("#study-card >> text=Send the link to your raters")
    unfold(page, "#study-invited .label-wrap", "#invite-names textarea")
    page.fill("#invite-names textarea", PEOPLE)
    page.click("#invite-people")
    page.wait_for_selector("#invite-told >> text=3 links made")
    page.wait_for_function("document.querySelector('#invite-texts textarea').value.includes('Cleo')")
    links = re.findall(r"http\S+", page.input_value("#invite-texts textarea"))
    assert len(set(links)) == 3

    watched = Watched()
    context = browser.new_context()
    context.set_default_timeout(PATIENCE * 1000)
    raters = [context.new_page() for _ in links]
    for rater in raters[:2]:
        watched.watch(rater)
    ann, ben, cleo = raters
    ann.goto(links[0])
    vote_all(ann)
    ben.goto(links[1])
    ben.wait_for_selector("#vote-start")
    page.wait_for_selector("#study-invited td >> text=finished")
    page.wait_for_selector("#study-invited td >> text=opened")

    choose(page, "invite-who", "Cleo")
    page.wait_for_function("document.querySelector('#invite-text textarea').value.startsWith('Cleo, please')")
    page.click("#invite-back")
    page.wait_for_selector("#invite-told >> text=The link of Cleo has ended")
    cleo.goto(links[2])
    cleo.wait_for_selector(".vote >> text=This invite link was taken back")

    page.reload()  # the list is kept
    filled(page)
    unfold(page, "#study-invited .label-wrap", "#invite-names textarea")
    for state in ("finished", "opened", "taken back"):
        page.wait_for_selector(f"#study-invited td >> text={state}")
    context.close()
    assert watched.problems == []
