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
from studio.core import Core
from studio.diagnose.sweeps import Sweeps
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
from studio.search.jobs import Searches
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
def searches(stocked: Core, tmp_path: Path) -> Iterator[Searches]:
    made = Searches(stocked.host, tmp_path / "runs", tmp_path / "assets")
    yield made
    made.close()


@pytest.fixture
def sweeps(stocked: Core, searches: Searches, tmp_path: Path) -> Iterator[Sweeps]:
    made = Sweeps(tmp_path / "sweeps", stocked.host, pace=searches.pace)
    yield made
    made.close()


def with_(**values: Any) -> Form:
    return dataclasses.replace(SMALL, **values)


def test_the_default_form_is_the_recommended_search() -> None:
    form = default_form("tabletop")
    assert form.rewards == ("tabletop-align", "tabletop-quality", "tabletop-keep:2")
    assert (form.granularity, form.steps, form.images) == ("layer", 8, 1500)
    assert default_form("FLUX.1-dev").rewards == ()


def test_a_form_becomes_a_config_of_the_loaded_backbone(stocked: Core, sweeps: Sweeps, visitor: str) -> None:
    made = config_of(stocked, sweeps, visitor, with_(rewards=["tabletop-quality:2", "tabletop-keep"], seed=7))
    assert made.backbone == "tiny" and made.conditions == ("positive",) and made.seed == 7
    assert [term.text for term in made.rewards] == ["tabletop-quality:2", "tabletop-keep"]
    assert made.batch_size == stocked.settings.batch_size and made.popsize == 4
    assert len({*made.prompts, *made.validation_prompts, *made.held_out_prompts}) == 20
    guided = config_of(stocked, sweeps, visitor, with_(members="guided", strength=2))
    assert guided.conditions == ("positive", "negative") and guided.weights == (2.0, -1.0)
    three = config_of(stocked, sweeps, visitor, with_(members="three"))
    assert three.conditions == ("positive", "positive", "negative") and three.weights == (1.0, 0.0, 0.0)


def test_a_search_starts_from_what_is_saved_or_on_the_desk(
    stocked: Core, sweeps: Sweeps, visitor: str, tmp_path: Path
) -> None:
    offered = dict((choice, words) for words, choice in starts(stocked, sweeps))
    assert {BASE_START, DESK, "studio/bent", "studio/pair"} <= set(offered)
    bent = config_of(stocked, sweeps, visitor, with_(start="studio/bent", bounds="0.5, 2"))
    assert bent.start_from == "Bent" and bent.start[0][1] == pytest.approx(0.7)
    pair = config_of(stocked, sweeps, visitor, with_(start="studio/pair", bounds="0, 2"))
    assert pair.conditions == ("positive", "negative") and pair.weights == (1.5, -0.5)
    file = tmp_path / "built-in" / "bent.json"
    assert "on your desk" in start_file(stocked, visitor, file, "layer")
    desk = config_of(stocked, sweeps, visitor, with_(start=DESK, bounds="0.5, 2"))
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
    stocked: Core, searches: Searches, sweeps: Sweeps, visitor: str, values: dict[str, Any], words: str
) -> None:
    with pytest.raises(CalibriError, match=words):
        config_of(stocked, sweeps, visitor, with_(**values))
    assert words.split("'")[0] in page.estimate(stocked, searches, sweeps, visitor, with_(**values)).replace(
        "&#x27;", "'"
    )


@pytest.mark.parametrize("values", [{"images": 0}, {"images": None}, {"minutes": -1}, {"minutes": "x"}])
def test_limits_are_checked(values: dict[str, Any]) -> None:
    with pytest.raises(SearchError, match=r"Images|Minutes"):
        budget_of(with_(**values))


def test_the_cost_is_known_before_the_start(
    stocked: Core, searches: Searches, sweeps: Sweeps, visitor: str
) -> None:
    backbone = stocked.host.wait_ready()
    made = config_of(stocked, sweeps, visitor, with_(images=1000))
    cost = cost_of(searches, made, budget_of(with_(images=1000)), backbone)
    assert cost.images == 1000 and cost.judging == 8 and cost.numbers == len(backbone.layout("layer").names)
    assert made.estimate_images(cost.numbers, cost.generations) <= 1000
    assert made.estimate_images(cost.numbers, cost.generations + 1) > 1000
    assert cost.seconds is None
    assert "being measured" in page.estimate(stocked, searches, sweeps, visitor, with_(images=1000))
    searches.pace.note("tiny", 1, 0.5)
    assert "about <b>8 min 24 s</b>" in page.estimate(stocked, searches, sweeps, visitor, with_(images=1000))
    assert searches.pace.seconds("tiny", 3) == pytest.approx(1.5)


def test_a_page_that_is_open_measures_the_speed_once(stocked: Core, searches: Searches) -> None:
    page.want(stocked, searches, None)
    searches.pace.wait(120)
    measured = searches.pace.seconds("tiny", 2)
    assert measured and measured > 0
    revision = searches.pace.revision
    page.want(stocked, searches, None)
    searches.pace.wait(120)
    assert searches.pace.revision == revision


def test_two_visitors_see_one_search_and_the_parts_that_changed(
    stocked: Core, searches: Searches, sweeps: Sweeps, visitor: str
) -> None:
    assert page.beats(searches, None, [])[0] == "none"
    run = page.start(stocked, searches, sweeps, visitor, with_(title="Shared"), "ann")
    searches.wait(run, 240)
    one = page.beats(searches, run, [])
    assert one == page.beats(searches, run, [])  # nothing happened: nothing is sent
    assert one[0] != page.beats(searches, "gone", [])[0]
    [pause, resume, stop, skip, scales, compare, save] = page.buttons(searches, run)
    assert not pause.interactive and not stop.interactive and not skip.visible
    assert resume.interactive and resume.value == "Go on"
    assert scales.interactive and compare.interactive and save.interactive
    figures = page.figures(searches, run, [])
    assert len(figures) == 4 and all(figure["data"] for figure in figures)
    before = searches.status(run)
    page.more(searches, run, with_(images=30))
    after = searches.wait(run, 240)
    assert after.images_limit == before.images + 30 and after.images > before.images
    assert searches.all()[0].id == run


def test_the_strip_shows_the_point_reached_beside_the_base(
    stocked: Core, searches: Searches, sweeps: Sweeps, visitor: str
) -> None:
    run = page.start(stocked, searches, sweeps, visitor, SMALL)
    searches.wait(run, 240)
    page.want(stocked, searches, run)
    searches.film._thread.join(240)
    strip = searches.film.of(run)
    assert len(strip.prompts) == len(strip.base) == len(strip.now) > 1
    assert strip.images == searches.store.get(run).images
    shown = strip_html(strip, searches.store.get(run))
    assert shown.count("<img") == 2 * len(strip.prompts)
    thread = searches.film._thread
    page.want(stocked, searches, run)  # it is fresh: nothing is rendered again
    assert searches.film._thread is thread


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
def test_the_end_is_told_in_words(searches: Searches, tmp_path: Path, verdict: Any, words: str) -> None:
    writer = Writer(tmp_path / "runs" / "ended", scales=4)
    writer.generations(0, 2)
    writer.put(result(verdict))
    status = searches.status("ended")
    run = searches.store.get("ended")
    assert (status.state, status.verdict) == ("done", verdict)
    shown = card(status, run)
    assert words in shown and "facts (judge)" in shown and "tail.json" not in shown


def test_what_people_typed_is_escaped(searches: Searches, tmp_path: Path) -> None:
    writer = Writer(tmp_path / "runs" / "odd", config(prompts=("<b>x</b>",), validation_prompts=()), scales=4)
    writer.put(generation(0, 4))
    run = searches.store.get("odd")
    status = JobStatus("odd", "<script>", "failed", error="<img>")
    for shown in (card(status, run), table(run), story(run), settings_table(run)):
        assert "<script>" not in shown and "<img>" not in shown
    assert "chart" in read_beside(elements.__file__, "chart.js")


def test_a_public_studio_lets_only_organisers_search(
    stocked: Core, searches: Searches, sweeps: Sweeps
) -> None:
    settings = stocked.settings.model_copy(update={"demo": True})
    public = dataclasses.replace(stocked, settings=settings)
    with pytest.raises(CalibriError, match="only its organisers"):
        public.rights.organisers_only(None)
    import gradio as gr
    from starlette.requests import Request

    with gr.Blocks() as app:
        page.build(public, searches, sweeps)
    changing = {"on_start", "act", "on_save"}
    handlers = [fn.fn for fn in app.fns.values() if getattr(fn.fn, "__name__", "") in changing]
    assert len(handlers) == 6  # start, pause, resume, stop, skip, save
    stranger = gr.Request(Request({"type": "http", "headers": []}))
    for handler in handlers:
        arguments = {"on_start": (None, None, [], stranger), "act": ("x", [], stranger)}
        given = arguments.get(handler.__name__, ("x", stranger))
        with pytest.raises(gr.Error, match="organisers"):
            handler(*given)
