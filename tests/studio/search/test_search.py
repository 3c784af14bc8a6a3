"""The page Search without a browser: forms, their cost, what is said, and who may."""

from __future__ import annotations

import dataclasses
import html
import re
from pathlib import Path
from typing import Any

import pytest

from calibri.backbones.catalog import resolve
from calibri.errors import CalibriError, SearchError
from calibri.interval import Interval
from calibri.prompts import SPLITS, prompt_set
from calibri.search.journal import RunFolder
from calibri.search.records import ResultRecord
from studio.core import Core
from studio.diagnose.sweeps import Sweeps
from studio.rendering.arms import DESK
from studio.search import page
from studio.search.estimate import estimate
from studio.search.form import (
    BASE_START,
    cost_of,
    open_start,
    preset_steps,
    read_budget,
    read_page,
    starts,
    usual_values,
)
from studio.search.jobs import Searches
from studio.search.status import JobStatus
from studio.search.view import card, generation_table, log_list, settings_table, strip_html
from studio.ui import elements
from studio.ui.elements import read_beside
from tests.studio.search.runfolders import Writer, config, generation

GOLDEN = Path(__file__).parents[2] / "golden" / "rewards"
PROMPTS = "\n".join(f"a red cube {i}" for i in range(20))
SMALL = usual_values("tiny") | {
    "rewards": ["tabletop-quality"],
    "steps": 1,
    "images": 120,
    "popsize": 4,
    "bucket": 2,
    "held_out_pairs": 4,
    "prompts": PROMPTS,
}


def with_(**values: Any) -> dict[str, Any]:
    return SMALL | values


def start(core: Core, searches: Searches, sweeps: Sweeps, visitor: str, **values: Any) -> str:
    """Run id of a search that ended."""
    run = searches.start(*read_page(core, sweeps, visitor, with_(**values)))
    searches.wait(run, 240)
    return run


def test_the_usual_values_are_the_recommended_search() -> None:
    form = usual_values("tabletop")
    assert form["rewards"] == ["tabletop-align", "tabletop-quality", "tabletop-keep:2"]
    assert (form["granularity"], form["steps"], form["images"]) == ("layer", 8, 1500)
    assert usual_values("FLUX.1-dev")["rewards"] == []


def test_a_form_becomes_a_config_of_the_loaded_backbone(stocked: Core, sweeps: Sweeps, visitor: str) -> None:
    made = read_page(
        stocked, sweeps, visitor, with_(rewards=["tabletop-quality:2", "tabletop-keep"], seed=7)
    ).config
    assert made.backbone == "tiny" and made.conditions == ("positive",) and made.seed == 7
    assert [term.text for term in made.rewards] == ["tabletop-quality:2", "tabletop-keep"]
    assert made.batch_size == stocked.settings.batch_size and made.popsize == 4
    assert len({*made.prompts, *made.validation_prompts, *made.held_out_prompts}) == 20
    guided = read_page(stocked, sweeps, visitor, with_(members="guided", strength=2)).config
    assert guided.conditions == ("positive", "negative") and guided.weights == (2.0, -1.0)
    three = read_page(stocked, sweeps, visitor, with_(members="three")).config
    assert three.conditions == ("positive", "positive", "negative") and three.weights == (1.0, 0.0, 0.0)


def test_a_search_starts_from_what_is_saved_or_on_the_desk(
    stocked: Core, sweeps: Sweeps, visitor: str, tmp_path: Path
) -> None:
    offered = dict((choice, words) for words, choice in starts(stocked, sweeps))
    assert {BASE_START, DESK, "studio/bent", "studio/pair"} <= set(offered)
    bent = read_page(stocked, sweeps, visitor, with_(start="studio/bent", bounds="0.5, 2")).config
    assert bent.start_from == "Bent" and bent.start[0][1] == pytest.approx(0.7)
    pair = read_page(stocked, sweeps, visitor, with_(start="studio/pair", bounds="0, 2")).config
    assert pair.conditions == ("positive", "negative") and pair.weights == (1.5, -0.5)
    file = tmp_path / "built-in" / "bent.json"
    assert "on your desk" in open_start(stocked, visitor, file, "layer")
    desk = read_page(stocked, sweeps, visitor, with_(start=DESK, bounds="0.5, 2")).config
    assert desk.start == bent.start


def test_a_form_without_prompts_takes_those_that_suit_the_backbone(
    stocked: Core, sweeps: Sweeps, visitor: str
) -> None:
    made = read_page(stocked, sweeps, visitor, with_(prompts=" \n")).config
    found = (made.prompts, made.validation_prompts, made.held_out_prompts)
    assert found == tuple(prompt_set("general", split) for split in SPLITS)


@pytest.mark.parametrize(
    "values, words",
    [
        ({"rewards": []}, "at least one reward"),
        ({"rewards": ["nothing"]}, "Rewards: expected some of .*got 'nothing'"),
        ({"rewards": ["tabletop-quality", "tabletop-quality:2"]}, "named twice"),
        ({"rewards": ["tabletop-quality:x"]}, "written name or name:weight"),
        ({"steps": 0}, "Steps: expected a whole number from 1"),
        ({"seed": -1}, "Seed: expected"),
        ({"seed": None}, "Seed: expected"),
        ({"popsize": 2}, "Candidates: expected a whole number from 4"),
        ({"sigma0": "wide"}, "First step: expected"),
        ({"bounds": "0.5"}, "Bounds: expected two numbers"),
        ({"bounds": "2, 1"}, "bounds"),
        ({"prompts": '["a cube",\n'}, "Prompts.*broken JSON"),
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
        read_page(stocked, sweeps, visitor, with_(**values))
    hint = estimate(stocked, searches, sweeps, visitor, with_(**values))
    assert re.search(words, html.unescape(hint))


@pytest.mark.parametrize("values", [{"images": 0}, {"images": None}, {"minutes": -1}, {"minutes": "x"}])
def test_limits_are_checked(values: dict[str, Any]) -> None:
    with pytest.raises(SearchError, match=r"Images|Minutes"):
        read_budget(with_(**values))


def test_the_cost_is_known_before_the_start(
    stocked: Core, searches: Searches, sweeps: Sweeps, visitor: str
) -> None:
    backbone = stocked.host.wait_ready()
    order = read_page(stocked, sweeps, visitor, with_(images=1000))
    made, cost = order.config, cost_of(searches.pace, order, backbone)
    assert cost.images == 1000 and cost.judging == 8 and cost.numbers == len(backbone.layout("layer").names)
    assert made.estimate_images(cost.numbers, cost.generations) <= 1000
    assert made.estimate_images(cost.numbers, cost.generations + 1) > 1000
    assert cost.seconds is None
    assert "being measured" in estimate(stocked, searches, sweeps, visitor, with_(images=1000))
    searches.pace.note("tiny", 1, 0.5)
    assert "about <b>8 min 24 s</b>" in estimate(stocked, searches, sweeps, visitor, with_(images=1000))
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
    assert page.beats(searches, searches.survey(), None, [])[0] == "none"
    run = start(stocked, searches, sweeps, visitor, title="Shared")
    one = page.beats(searches, searches.survey(), run, [])
    assert one == page.beats(searches, searches.survey(), run, [])  # nothing happened: nothing is sent
    assert one[0] != page.beats(searches, searches.survey(), "gone", [])[0]
    [pause, resume, stop, skip, scales, compare, save] = page.buttons(searches.see(run))
    assert not pause.interactive and not stop.interactive and not skip.visible
    assert resume.interactive and resume.value == "Go on"
    assert scales.interactive and compare.interactive and save.interactive
    figures = page.figures(searches, run, [])
    assert len(figures) == 4 and all(figure["data"] for figure in figures)
    before = searches.status(run)
    page.resume(searches, run, with_(images=30))
    after = searches.wait(run, 240)
    assert after.images_limit == before.images_limit + 30 and after.images > before.images
    assert searches.all()[0].id == run


def test_the_strip_shows_the_point_reached_beside_the_base(
    stocked: Core, searches: Searches, sweeps: Sweeps, visitor: str
) -> None:
    run = start(stocked, searches, sweeps, visitor)
    page.want(stocked, searches, searches.see(run))
    assert searches.film.wait(240)
    strip = searches.film.find(run)
    assert len(strip.prompts) == len(strip.base) == len(strip.now) > 1
    assert strip.images == searches.store.get(run).images
    shown = strip_html(strip, searches.store.get(run))
    assert shown.count("<img") == 2 * len(strip.prompts)
    page.want(stocked, searches, searches.see(run))  # it is fresh: nothing is rendered again
    assert not searches.film.busy and searches.film.find(run) is strip


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
    read = re.sub(r"<[^>]*>", "", shown)  # words of the glossary are marked
    assert words in read and "facts (judge)" in read and "tail.json" not in read


def test_what_people_typed_is_escaped(searches: Searches, tmp_path: Path) -> None:
    writer = Writer(tmp_path / "runs" / "odd", config(prompts=("<b>x</b>",), validation_prompts=()), scales=4)
    writer.put(generation(0, 4))
    run = searches.store.get("odd")
    status = JobStatus("odd", "<script>", "failed", error="<img>")
    for shown in (card(status, run), generation_table(run), log_list(run), settings_table(run)):
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
    changing = {"on_start", "on_resume", "on_act", "on_save"}
    changing |= {"on_note", "on_delete", "on_undo", "on_examples", "export", "weigh"}
    handlers = [fn.fn for fn in app.fns.values() if getattr(fn.fn, "__name__", "") in changing]
    assert len(handlers) == 12  # start, resume, pause, stop, skip, save, and those of the table
    stranger = gr.Request(Request({"type": "http", "headers": []}))
    for handler in handlers:
        given = {"on_start": (None, stranger), "on_save": ("x", "", stranger)}
        given |= {"on_note": ("x", [], "t", "", stranger), "on_undo": ([], stranger)}
        with pytest.raises(gr.Error, match="organisers"):
            handler(*given.get(handler.__name__, ("x", [], stranger)))


def test_an_empty_page_says_each_sentence_once(stocked: Core, searches: Searches, sweeps: Sweeps) -> None:
    import gradio as gr

    with gr.Blocks() as app:
        page.build(stocked, searches, sweeps)
    by_name = {fn.fn.__name__: fn.fn for fn in app.fns.values() if fn.fn is not None}
    shown = [*by_name["on_card"](None)[:1], *by_name["on_log"](None), by_name["on_film"](None)]
    sentences = [part for part in re.split(r"<[^>]*>|(?<=[.])", "".join(shown)) if part.strip()]
    assert "Your searches will appear here" in sentences[0] and len(set(sentences)) == len(sentences)


def test_a_page_opens_with_what_was_looked_at_then_what_runs_then_the_newest(
    searches: Searches, tmp_path: Path
) -> None:
    assert page.choose_shown(searches.survey(), None) == (None, [])
    for name in ("one", "two", "three"):
        Writer(tmp_path / "runs" / name, scales=4)
    searches.store.refresh(now=True)
    survey = searches.survey()
    newest = next(iter(survey))
    assert page.choose_shown(survey, ["gone", "one"]) == page.choose_shown(survey, []) == (newest, [])
    assert page.choose_shown(survey, ["one", "two", "gone", "two"]) == ("one", ["two"])
    with RunFolder(tmp_path / "runs" / "two", config()):
        searches.store.refresh(now=True)
        assert page.choose_shown(searches.survey(), None) == ("two", [])


def test_a_preset_fills_in_its_steps_and_leaves_those_that_somebody_chose():
    flux, tabletop = resolve("FLUX.1-dev"), resolve("tabletop")
    assert preset_steps("paper", 28, flux) == preset_steps("paper", 8, flux) == 15
    assert preset_steps("paper", 20, flux) == 20
    assert preset_steps("default", 15, flux) == 28 and preset_steps("race", 8, flux) == 8
    assert preset_steps("paper", 8, tabletop) == 8 and preset_steps("default", 15, tabletop) == 15
