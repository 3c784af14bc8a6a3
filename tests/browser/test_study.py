"""A whole study in real browsers: made, rendered, voted on by keys and by touch, closed, reported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Error

from tests.browser.running import PATIENCE, Studio, Watched, filled

ALPHA, BETA = "arm-alpha-secret", "arm-beta-secret"
PROMPTS = ["a red cube", "a blue ball", "<img src=x onerror=document.title='broken'>", "two green cones"]


def choose(page, elem_id: str, text: str) -> None:
    """Pick an entry of a Gradio dropdown."""
    page.click(f"#{elem_id} input")
    page.get_by_role("option", name=text).first.click()


def add_arm(page, label: str) -> None:
    page.fill("#new-label input, #new-label textarea", label)
    page.click("#new-add")
    page.wait_for_selector(f"#new-arms >> text={label}")


@pytest.fixture(scope="module")
def study(browser, tiny_studio: Studio) -> str:
    """A study made and opened on the organiser's page; its id."""
    watched = Watched()
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    context.set_default_timeout(PATIENCE * 1000)
    page = context.new_page()
    watched.watch(page)
    page.goto(f"{tiny_studio.url}/studies")
    filled(page)
    page.wait_for_selector("#model-bar .ready")
    page.fill("#new-name input, #new-name textarea", "Whole study")
    add_arm(page, ALPHA)
    page.reload()  # the list of arms is the page's own: nothing half-made is kept
    filled(page)
    page.wait_for_selector("#new-arms >> text=Add at least two arms.")
    page.fill("#new-name input, #new-name textarea", "Whole study")
    add_arm(page, ALPHA)
    choose(page, "new-arm", "Bent")
    add_arm(page, BETA)
    page.fill("#new-prompts textarea", "\n".join(PROMPTS))
    page.click("#new-make")
    page.wait_for_selector("#study-card >> text=7 of 7 pairs have their pictures")
    page.click("#study-open")
    page.wait_for_selector("#study-card >> text=Send the link to your raters")
    link = page.input_value("#study-link textarea").splitlines()[0]
    assert link.startswith(tiny_studio.url)
    context.close()
    assert watched.problems == []
    return link.partition("study=")[2].strip()


#: What Gradio's events bring arrives in streams that a route cannot read: the page keeps it instead.
LISTEN = """
window.__events = [];
const asked = window.fetch;
window.fetch = async (...given) => {
  const answer = await asked(...given), body = answer.clone().body;
  if (body) (async () => {
    const reader = body.getReader(), text = new TextDecoder();
    for (;;) {
      const {done, value} = await reader.read();
      if (done) break;
      window.__events.push(text.decode(value));
    }
  })().catch(() => {});
  return answer;
};
"""


@pytest.fixture
def visitor(browser) -> Iterator[object]:
    """A function that opens a new browser and keeps every body that it receives."""
    made = []

    def visit(address: str, **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(PATIENCE * 1000)
        page = context.new_page()
        page.bodies = []
        page.add_init_script(LISTEN)
        page.problems = Watched()
        page.problems.watch(page)

        def keep(route) -> None:
            answer = route.fetch()
            page.bodies.append((route.request.url, answer.body()))
            try:
                route.fulfill(response=answer)
            except Error as error:  # the page was left meanwhile
                assert "disposed" in str(error) or "closed" in str(error), error

        # everything but Gradio's own static files and its open-ended streams
        page.route(
            lambda url: not any(s in url for s in ("/assets/", "/static/", "heartbeat", "/queue/")), keep
        )
        page.goto(address)
        made.append((context, page))
        return page

    yield visit
    for context, page in made:
        assert page.problems.problems == []
        context.close()


def ready(page) -> None:
    """A pair is on screen and its answers are open, or the end is reached."""
    page.wait_for_function(
        "() => document.querySelector('.vote .card h1')?.textContent === 'Thank you' || "
        "document.querySelector('.vote .answers button:not([disabled])')"
    )


def ended(page) -> bool:
    return page.locator(".vote .card >> text=Thank you").count() > 0


def begin(page) -> None:
    page.click("#vote-start")
    ready(page)


def token(page) -> str:
    return page.locator(".vote .frame img").first.get_attribute("src")


def vote_by_keys(page, key: str) -> None:
    before = token(page)
    page.keyboard.press(key)
    page.keyboard.press(key)  # two questions
    page.wait_for_function(
        "before => !document.querySelector('.vote .frame img') || "
        "document.querySelector('.vote .frame img').getAttribute('src') !== before",
        arg=before,
    )
    ready(page)


def test_who_presses_keys_before_both_pictures_are_there_has_not_voted(
    tiny_studio: Studio, study: str, visitor
):
    early = visitor(f"{tiny_studio.url}/ballot?study={study}")
    early.route("**/ballot/picture/*/right", lambda route: None)  # never answered
    early.click("#vote-start")
    early.wait_for_selector(".vote >> text=Loading both pictures")
    early.wait_for_timeout(1500)
    for _ in range(4):
        early.keyboard.press("1")
    assert early.locator(".vote button.chosen").count() == 0
    assert early.locator(".vote .answers button:not([disabled])").count() == 0
    early.close()


def score_the_study(page) -> None:
    """What a reward says of the same pictures, scored while the page stays usable."""
    page.click("#results-rewards .label-wrap")
    page.fill("#results-rewards-names input", "tabletop-quality")
    page.keyboard.press("Enter")
    page.click("#results-rewards-start")
    page.wait_for_selector("#results-rewards-shown td >> text=tabletop-quality")


def test_three_raters_vote_and_the_report_says_how(
    browser, tiny_studio: Studio, study: str, visitor, tmp_path: Path
):
    # one by keys, on the page inside Gradio: with a zoom, an undo and a reload on the way
    one = visitor(f"{tiny_studio.url}/vote?study={study}")
    begin(one)
    one.keyboard.press("z")
    assert one.locator(".vote .pair.zoomed").count() == 1
    first = one.inner_text(".vote .prompt")
    vote_by_keys(one, "1")
    one.keyboard.press("u")
    one.wait_for_selector(".vote >> text=1 of")
    ready(one)
    assert one.inner_text(".vote .prompt") == first
    vote_by_keys(one, "ArrowRight")
    second = one.inner_text(".vote .prompt")
    one.reload()
    ready(one)
    assert one.inner_text(".vote .prompt") == second
    while not ended(one):
        vote_by_keys(one, "2")
    assert one.title() != "broken"

    # one by touch, on a phone, on the page without Gradio
    phone = visitor(
        f"{tiny_studio.url}/ballot?study={study}",
        viewport={"width": 390, "height": 780},
        has_touch=True,
        is_mobile=True,
    )
    begin(phone)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    while not ended(phone):
        before = token(phone)
        for row in phone.locator(".vote fieldset").all():
            row.locator("[data-answer=left]").tap()
        phone.wait_for_function(
            "before => !document.querySelector('.vote .frame img') || "
            "document.querySelector('.vote .frame img').getAttribute('src') !== before",
            arg=before,
        )
        ready(phone)

    # one who ties
    three = visitor(f"{tiny_studio.url}/ballot?study={study}")
    begin(three)
    while not ended(three):
        vote_by_keys(three, "3")

    # nothing that any of them received names an arm
    for rater in (one, phone, three):
        assert len(rater.bodies) > 10
        rater.bodies.append(("events", "".join(rater.evaluate("window.__events")).encode()))
        for url, data in rater.bodies:
            assert ALPHA.encode() not in data and BETA.encode() not in data, url
            assert ALPHA not in url and BETA not in url

    # close, results, report
    page = visitor(f"{tiny_studio.url}/studies")
    page.wait_for_selector("#study-card >> text=3 raters")
    page.click("#study-close")
    page.wait_for_selector("#study-card >> text=See the page Results")
    page.goto(f"{tiny_studio.url}/results?study={study}")
    page.wait_for_selector(f"#results-words >> text={BETA}")
    page.wait_for_selector("#results-forest .main-svg")
    page.click("#results-make")
    link = page.wait_for_selector("#results-file a[href*='.html']")
    report = page.request.get(link.get_attribute("href")).text()
    assert "Which picture do you like better?" in report
    assert f"<td>{BETA}</td><td>{ALPHA}</td><td>" in report and f">over {ALPHA}<" in report

    score_the_study(page)

    # who comes back finds the door closed, and no vote is lost
    one.reload()
    one.wait_for_selector(".vote >> text=This study is closed")
