"""A study that is planned, and filled by people from a panel: the code and the way back at its end."""

from __future__ import annotations

from tests.browser.running import Studio, Watched, filled, unfold
from tests.browser.test_study import add_arm, begin, choose, ended, vote_by_keys

BACK = "https://panel.example/complete?cc=C0DE42"
RULES = """() => {
  const content = document.querySelector('#new-rules .cm-content');
  const known = content && (content.cmView || content.cmTile);
  return known && known.view.state.doc.toString().includes('panel.example/complete?cc=C0DE42"');
}"""


def test_a_study_is_planned_and_filled_from_a_panel(page, watched: Watched, tiny_studio: Studio) -> None:
    page.goto(f"{tiny_studio.url}/studies")
    filled(page)
    page.wait_for_selector("#model-bar .ready")
    page.fill("#new-name input, #new-name textarea", "From a panel")
    add_arm(page, "plain-one")
    choose(page, "new-arm", "Bent")
    add_arm(page, "bent-one")
    page.fill("#new-prompts textarea", "a red cube\na blue ball\ntwo cones")

    unfold(page, "#new-plan .label-wrap", "#new-plan-do")
    page.click("#new-plan-do")
    page.wait_for_selector("#new-plan-told >> text=3 prompts are not enough")
    assert page.locator("#new-plan-told >> text=Taken for granted").count() == 1

    unfold(page, "#new-panel .label-wrap", "#new-panel-on input")
    page.check("#new-panel-on input")
    page.fill("#new-panel-code input, #new-panel-code textarea", "C0DE42")
    page.fill("#new-panel-back input, #new-panel-back textarea", "http://panel.example")
    page.wait_for_selector("#new-panel >> text=Not taken yet")
    page.fill("#new-panel-back input, #new-panel-back textarea", BACK)
    page.get_by_text("All fields of the protocol").click()
    page.wait_for_function(RULES)
    page.click("#new-make")
    page.wait_for_selector("#study-card >> text=pairs have their pictures")
    page.wait_for_selector("#study-open:not([disabled])")
    page.click("#study-open")
    page.wait_for_selector("#study-card >> text=Send the link to your raters")
    link = page.input_value("#study-link textarea").splitlines()[-1]

    page.goto(link)
    page.wait_for_selector(".vote >> text=members of a panel")
    assert watched.problems and all("403" in problem for problem in watched.problems)
    watched.problems.clear()
    page.goto(f"{link}&PROLIFIC_PID=5f0c1a&STUDY_ID=st77")
    page.wait_for_selector(".vote >> text=kept apart from your answers")
    begin(page)
    assert page.locator("#vote-code").count() == 0
    while not ended(page):
        vote_by_keys(page, "1")
    for _ in range(2):
        assert page.inner_text("#vote-code") == "C0DE42"
        assert page.get_attribute("#vote-back", "href") == BACK
        page.reload()
        page.wait_for_selector("#vote-code")
