"""A search in a real browser: started, watched, reloaded, paused, resumed, stopped, opened, and killed."""

from __future__ import annotations

from pathlib import Path

from calibri.search.journal import read_journal
from calibri.search.records import GenerationRecord, SessionRecord
from tests.browser.running import Studio, Watched, filled, ready, running_studio, unfold

PROMPTS = "\n".join(f"a red cube {number}" for number in range(20))
POINTS = """() => { const plot = document.querySelector('#chart-reward .chart');
  const trace = plot && plot.data && plot.data.find(t => t.name === 'mean of candidates');
  return trace ? trace.x.length : 0; }"""


def open_page(page, studio: Studio) -> None:
    page.goto(studio.url + "/search")
    filled(page)
    ready(page)
    page.wait_for_selector("#estimate .hint")


def fill_form(page, images: int) -> None:
    """Small generations for a tiny backbone."""
    rewards = page.locator("#search-rewards input")
    rewards.click()
    rewards.fill("tabletop-quality")
    rewards.press("Enter")
    rewards.press("Escape")
    page.locator("#search-images input").fill(str(images))
    unfold(page, "#search-more button", "#search-prompts textarea")
    page.get_by_label("Candidates").fill("4")
    page.get_by_label("Pairs a generation").fill("2")
    page.get_by_label("Held-out pairs to judge on").fill("4")
    page.locator("#search-prompts textarea").fill(PROMPTS)
    page.locator("#search-prompts textarea").blur()
    page.wait_for_selector("#estimate:has-text('generations')")


def wait_for_points(page, count: int) -> int:
    page.wait_for_function(f"({POINTS})() >= {count}")
    return page.evaluate(POINTS)


def state(page, words: str) -> None:
    page.wait_for_selector(f"#search-state .run-state:has-text('{words}')")


def test_a_search_from_start_to_scales(page, tiny_studio: Studio) -> None:
    open_page(page, tiny_studio)
    page.wait_for_selector("#start-search:not([disabled])")
    page.click("#start-search")
    page.wait_for_selector("text=expected at least one reward")  # a sentence, not a search
    fill_form(page, 1_000_000)
    page.fill("#search-title textarea, #search-title input", "From the browser")
    page.click("#start-search")
    state(page, "searching")
    first = wait_for_points(page, 3)
    page.wait_for_selector("#model-bar:has-text('searching: From the browser')")

    page.reload()
    ready(page)
    page.wait_for_selector("#search-state .run-title:has-text('From the browser')")
    state(page, "searching")
    wait_for_points(page, first + 1)

    page.click("#pause")
    state(page, "paused")
    page.wait_for_timeout(2500)
    halted = page.evaluate(POINTS)
    page.wait_for_timeout(4000)
    assert page.evaluate(POINTS) == halted
    page.click("#resume")
    state(page, "searching")
    wait_for_points(page, halted + 1)
    page.wait_for_selector("#search-film img.arm-calibrated")
    assert page.locator("#search-table tr").count() > 3

    page.click("#stop-search")
    state(page, "stopped")
    page.wait_for_selector("#search-state .hint:has-text('held-out pairs')")
    page.click("#save-search")
    page.wait_for_selector("text=Saved as “From the browser”")
    page.click("#open-in-scales")
    page.wait_for_url("**/scales")
    page.wait_for_selector("#desk input[type=range]")
    page.wait_for_function("document.querySelector('#vector-text textarea')?.value.includes('.attn')")

    page.goto(tiny_studio.url + "/search")
    ready(page)
    page.wait_for_selector("#compare-with-base:not([disabled])")
    page.click("#compare-with-base")
    page.wait_for_url(tiny_studio.url + "/")
    page.wait_for_function(
        "document.querySelector('#prompt textarea, #prompt input')?.value.startsWith('a red cube')"
    )
    assert "Traceback" not in tiny_studio.text() and " ERROR " not in tiny_studio.text()


def test_a_front_is_searched_and_one_of_its_points_opened(page, tiny_studio: Studio) -> None:
    open_page(page, tiny_studio)
    page.wait_for_selector("#start-search:not([disabled])")
    fill_form(page, 300)
    rewards = page.locator("#search-rewards input")
    rewards.click()
    rewards.fill("tabletop-align")
    rewards.press("Enter")
    rewards.press("Escape")
    page.locator("#search-front label", has_text="A front").click()
    page.wait_for_selector("#estimate:has-text('32 more to judge')")  # the base and seven points, four pairs
    page.fill("#search-title textarea, #search-title input", "A front")
    page.click("#start-search")
    state(page, "finished")
    page.wait_for_selector("#search-state .hint:has-text('of 7 points are on the front')")
    page.locator("#chart-front").scroll_into_view_if_needed()  # charts are drawn when they are seen
    page.wait_for_selector("#chart-front .points path")
    chosen = "document.querySelector('#search-point input').value"
    page.wait_for_function(f"{chosen} !== ''")
    # Points may lie on one another: the one that is farthest from the others is clicked.
    x, y, number = page.locator("#chart-front .chart").evaluate(
        """plot => { const box = plot.getBoundingClientRect(), {xaxis, yaxis} = plot._fullLayout;
          const kept = document.querySelector('#search-point input').value;
          const all = plot.data.filter(t => t.customdata).flatMap(t => t.customdata.map((n, i) => [
            box.x + xaxis._offset + xaxis.d2p(t.x[i]), box.y + yaxis._offset + yaxis.d2p(t.y[i]), n]));
          const apart = (p, q) => Math.hypot(p[0] - q[0], p[1] - q[1]);
          const room = p => Math.min(...all.filter(q => q !== p).map(q => apart(p, q)));
          return all.filter(p => !kept.startsWith(p[2] + ' ')).sort((p, q) => room(q) - room(p))[0]; }"""
    )
    page.mouse.click(x, y)
    page.wait_for_function(f"{chosen}.startsWith('{number} ·')")
    page.click("#save-search")
    page.wait_for_selector("text=Saved as “A front, tabletop-")
    page.click("#open-in-scales")
    page.wait_for_url("**/scales")
    page.wait_for_function("document.querySelector('#vector-text textarea')?.value.includes('.attn')")


def test_an_idle_page_asks_for_little(page, tiny_studio: Studio) -> None:
    open_page(page, tiny_studio)
    page.wait_for_timeout(4000)
    sizes: list[int] = []
    page.on("response", lambda r: sizes.append(len(r.body())) if "/run/" in r.url else None)
    page.wait_for_timeout(7000)
    assert sizes and max(sizes) <= 1024, sizes


def test_killed_during_a_search_the_studio_resumes_it_with_one_click(
    page, watched: Watched, tmp_path: Path
) -> None:
    from tests.tiny import tiny_flux

    tiny_flux(tmp_path / "tiny", doubles=1, singles=1)
    with running_studio(tmp_path, "--backbone", str(tmp_path / "tiny")) as studio:
        open_page(page, studio)
        fill_form(page, 1_000_000)
        page.click("#start-search")
        state(page, "searching")  # until then the example is shown
        wait_for_points(page, 2)
        known = len(watched.problems)
        studio.process.kill()
        studio.process.wait(20)
        page.goto("about:blank")
        page.wait_for_timeout(300)
        del watched.problems[known:]  # the open page asked for news that nobody could give
    runs = tmp_path / "data" / "runs"
    [folder] = [path for path in runs.iterdir() if path.is_dir()]
    before = sum(isinstance(r, GenerationRecord) for r in read_journal(folder))
    assert before >= 2
    with running_studio(tmp_path, "--backbone", str(tmp_path / "tiny")) as studio:
        page.goto(studio.url + "/search")
        ready(page)
        state(page, "interrupted")
        page.wait_for_selector("#model-bar .ready")
        assert page.evaluate(POINTS) in (0, before) and wait_for_points(page, before) == before
        page.click("#resume")
        wait_for_points(page, before + 2)
        page.click("#stop-search")
        state(page, "stopped")
        page.goto("about:blank")
        assert "Traceback" not in studio.text() and " ERROR " not in studio.text()
    records = read_journal(folder)  # every line follows from the one before
    numbers = [r.generation for r in records if isinstance(r, GenerationRecord)]
    assert numbers == list(range(len(numbers))) and len(numbers) >= before + 2
    assert sum(isinstance(r, SessionRecord) for r in records) == 2
