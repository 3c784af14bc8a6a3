"""The page Search without a browser: forms, their cost, what is said, and who may."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from calibri.errors import CalibriError, SearchError
from calibri.interval import Interval
from calibri.search.records import ResultRecord
from studio.core import Services
from studio.rendering.arms import DESK
from studio.search import page
from studio.search.form import (
    BASE_START,
    Form,
    budget_of,
    config_of,
    cost_of,
    default_form,
    start_file,
    starts,
)
from studio.search.jobs import SearchJobs
from studio.search.status import JobStatus
from studio.search.view import card, settings_table, story, strip_html, table
from studio.ui import elements
from studio.ui.elements import read_beside
from tests.studio.search.runfolders import Writer, config, generation

PROMPTS = "\n".join(f"a red cube {i}" for i in range(20))
SMALL = Form(
    rewards=["tabletop-quality"],
    judges=[],
    steps=1,
    images=120,
    popsize=4,
    bucket=2,
    held_out_pairs=4,
    prompts=PROMPTS,
)


@pytest.fixture
def searching(stocked: Services, tmp_path: Path) -> Iterator[Services]:
    """Services with background searches."""
    stocked.jobs = SearchJobs(stocked.host, tmp_path / "runs", tmp_path / "assets")
    yield stocked
    stocked.jobs.close()


def with_(**values: Any) -> Form:
    return dataclasses.replace(SMALL, **values)


def test_the_default_form_is_the_recommended_search() -> None:
    form = default_form("tabletop")
    assert form.rewards == ("tabletop-align", "tabletop-quality", "tabletop-keep:2")
    assert (form.granularity, form.steps, form.images) == ("layer", 8, 1500)
    assert default_form("FLUX.1-dev").rewards == ()


def test_a_form_becomes_a_config_of_the_loaded_backbone(searching: Services, visitor: str) -> None:
    made = config_of(searching, visitor, with_(rewards=["tabletop-quality:2", "tabletop-keep"], seed=7))
    assert made.backbone == "tiny" and made.conditions == ("positive",) and made.seed == 7
    assert [term.text for term in made.rewards] == ["tabletop-quality:2", "tabletop-keep"]
    assert made.batch_size == searching.settings.batch_size and made.popsize == 4
    assert len({*made.prompts, *made.validation_prompts, *made.held_out_prompts}) == 20
    guided = config_of(searching, visitor, with_(members="guided", strength=2))
    assert guided.conditions == ("positive", "negative") and guided.weights == (2.0, -1.0)
    three = config_of(searching, visitor, with_(members="three"))
    assert three.conditions == ("positive", "positive", "negative") and three.weights == (1.0, 0.0, 0.0)


def test_a_search_starts_from_what_is_saved_or_on_the_desk(
    searching: Services, visitor: str, tmp_path: Path
) -> None:
    offered = dict((choice, words) for words, choice in starts(searching))
    assert {BASE_START, DESK, "studio/bent", "studio/pair"} <= set(offered)
    bent = config_of(searching, visitor, with_(start="studio/bent", bounds="0.5, 2"))
    assert bent.start_from == "Bent" and bent.start[0][1] == pytest.approx(0.7)
    pair = config_of(searching, visitor, with_(start="studio/pair", bounds="0, 2"))
    assert pair.conditions == ("positive", "negative") and pair.weights == (1.5, -0.5)
    file = tmp_path / "built-in" / "bent.json"
    assert "on your desk" in start_file(searching, visitor, file, "layer")
    desk = config_of(searching, visitor, with_(start=DESK, bounds="0.5, 2"))
    assert desk.start == bent.start


@pytest.mark.parametrize(
    "values, words",
    [
        ({"rewards": []}, "at least one reward"),
        ({"rewards": ["nothing"]}, "There is no reward 'nothing'"),
        ({"rewards": ["tabletop-quality", "tabletop-quality:2"]}, "chosen twice"),
        ({"rewards": ["tabletop-quality:x"]}, "written name or name:weight"),
        ({"steps": 0}, "Steps: expected a whole number from 1"),
        ({"seed": -1}, "The seed: expected"),
        ({"seed": None}, "The seed: expected"),
        ({"popsize": 2}, "popsize: expected a whole number from 4"),
        ({"sigma0": "wide"}, "sigma0"),
        ({"bounds": "0.5"}, "Bounds: expected two numbers"),
        ({"bounds": "2, 1"}, "bounds"),
        ({"prompts": ""}, "at least 10 prompts that suit tiny"),
        ({"prompts": "only one"}, "at least 10"),
        ({"members": "many"}, "what is searched"),
        ({"members": "guided", "strength": None}, "Guidance at the start"),
        ({"granularity": "pixel"}, "granularity"),
        ({"start": "own/nothing"}, "no saved calibration"),
    ],
)
def test_what_does_not_fit_is_a_sentence(
    searching: Services, visitor: str, values: dict[str, Any], words: str
) -> None:
    with pytest.raises(CalibriError, match=words):
        config_of(searching, visitor, with_(**values))
    assert words.split("'")[0] in page.estimate(searching, visitor, with_(**values)).replace("&#x27;", "'")


@pytest.mark.parametrize("values", [{"images": 0}, {"images": None}, {"minutes": -1}, {"minutes": "x"}])
def test_limits_are_checked(values: dict[str, Any]) -> None:
    with pytest.raises(SearchError, match=r"Images|Minutes"):
        budget_of(with_(**values))


def test_the_cost_is_known_before_the_start(searching: Services, visitor: str) -> None:
    backbone = searching.host.wait_ready()
    made = config_of(searching, visitor, with_(images=1000))
    cost = cost_of(searching.jobs, made, budget_of(with_(images=1000)), backbone)
    assert cost.images == 1000 and cost.judging == 8 and cost.numbers == len(backbone.layout("layer").names)
    assert made.estimate_images(cost.numbers, cost.generations) <= 1000
    assert made.estimate_images(cost.numbers, cost.generations + 1) > 1000
    assert cost.seconds is None
    assert "being measured" in page.estimate(searching, visitor, with_(images=1000))
    searching.jobs.pace.note("tiny", 1, 0.5)
    assert "about <b>8 min 24 s</b>" in page.estimate(searching, visitor, with_(images=1000))
    assert searching.jobs.pace.seconds("tiny", 3) == pytest.approx(1.5)


def test_a_page_that_is_open_measures_the_speed_once(searching: Services) -> None:
    page.want(searching, None)
    searching.jobs.pace._thread.join(120)
    measured = searching.jobs.pace.seconds("tiny", 2)
    assert measured and measured > 0
    thread = searching.jobs.pace._thread
    page.want(searching, None)
    assert searching.jobs.pace._thread is thread


def test_two_visitors_see_one_search_and_the_parts_that_changed(searching: Services, visitor: str) -> None:
    jobs = searching.jobs
    assert page.beats(searching, None, [])[0] == "none"
    run = page.start(searching, visitor, with_(title="Shared"), "ann")
    jobs.wait(run, 240)
    one = page.beats(searching, run, [])
    assert one == page.beats(searching, run, [])  # nothing happened: nothing is sent
    assert one[0] != page.beats(searching, "gone", [])[0]
    [pause, resume, stop, skip, scales, compare, save] = page.buttons(searching, run)
    assert not pause.interactive and not stop.interactive and not skip.visible
    assert resume.interactive and resume.value == "Go on"
    assert scales.interactive and compare.interactive and save.interactive
    figures = page.figures(searching, run, [])
    assert len(figures) == 4 and all(figure["data"] for figure in figures)
    before = jobs.status(run)
    page.more(searching, run, with_(images=30))
    after = jobs.wait(run, 240)
    assert after.images_limit == before.images + 30 and after.images > before.images
    assert jobs.all()[0].id == run


def test_the_strip_shows_the_point_reached_beside_the_base(searching: Services, visitor: str) -> None:
    jobs = searching.jobs
    run = page.start(searching, visitor, SMALL)
    jobs.wait(run, 240)
    page.want(searching, run)
    jobs.film._thread.join(240)
    strip = jobs.film.of(run)
    assert len(strip.prompts) == len(strip.base) == len(strip.now) > 1
    assert strip.images == jobs.store.get(run).images
    shown = strip_html(strip, jobs.store.get(run))
    assert shown.count("<img") == 2 * len(strip.prompts)
    thread = jobs.film._thread
    page.want(searching, run)  # it is fresh: nothing is rendered again
    assert jobs.film._thread is thread


def result(verdict: str) -> ResultRecord:
    low = {"better": 0.1, "worse": -0.9, "not told apart": -0.2}.get(verdict, 0.0)
    gain = Interval(mean=low + 0.2, low=low, high=low + 0.4, n=128)
    return ResultRecord(
        time="2026-01-02T03:04:05+00:00",
        reason="the budget of 1500 images is used",
        generation=2,
        images=1500,
        seconds=90.0,
        verdict=verdict,
        objective=gain,
        gains={"align": gain, "facts": gain},
        judges=["facts"],
        vector=[1.0] * 4,
        calibration=None,
        judgement_images=256,
        text="Not told apart from base: +0.00 spreads; the point reached is in tail.json.",
    )


@pytest.mark.parametrize(
    "verdict, words",
    [
        ("better", "Ended: the budget"),
        ("worse", "worse than the base on prompts"),
        ("not told apart", "no proof of being better"),
        ("not judged", "judgement was skipped"),
    ],
)
def test_the_end_is_told_in_words(searching: Services, tmp_path: Path, verdict: Any, words: str) -> None:
    writer = Writer(tmp_path / "runs" / "ended", scales=4)
    writer.generations(0, 2)
    writer.put(result(verdict))
    status = searching.jobs.status("ended")
    run = searching.jobs.store.get("ended")
    assert (status.state, status.verdict) == ("done", verdict)
    shown = card(status, run)
    assert words in shown and "facts (judge)" in shown and "tail.json" not in shown


def test_what_people_typed_is_escaped(searching: Services, tmp_path: Path) -> None:
    writer = Writer(tmp_path / "runs" / "odd", config(prompts=("<b>x</b>",), validation_prompts=()), scales=4)
    writer.put(generation(0, 4))
    run = searching.jobs.store.get("odd")
    status = JobStatus("odd", "<script>", "failed", error="<img>")
    for shown in (card(status, run), table(run), story(run), settings_table(run)):
        assert "<script>" not in shown and "<img>" not in shown
    assert "chart" in read_beside(elements.__file__, "chart.js")


def test_a_public_studio_lets_only_organisers_search(searching: Services) -> None:
    settings = searching.settings.model_copy(update={"demo": True})
    searching = dataclasses.replace(searching, settings=settings)
    with pytest.raises(CalibriError, match="only its organisers"):
        searching.rights.organisers_only(None)
    import gradio as gr
    from starlette.requests import Request

    with gr.Blocks() as app:
        page.build(searching)
    changing = {"on_start", "act", "on_save"}
    handlers = [fn.fn for fn in app.fns.values() if getattr(fn.fn, "__name__", "") in changing]
    assert len(handlers) == 6  # start, pause, resume, stop, skip, save
    stranger = gr.Request(Request({"type": "http", "headers": []}))
    for handler in handlers:
        arguments = {"on_start": (None, None, [], stranger), "act": ("x", [], stranger)}
        given = arguments.get(handler.__name__, ("x", stranger))
        with pytest.raises(gr.Error, match="organisers"):
            handler(*given)
