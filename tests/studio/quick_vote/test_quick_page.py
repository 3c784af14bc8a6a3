"""The page Quick vote: what its events answer."""

from __future__ import annotations

import dataclasses
from typing import Any

import gradio as gr
import pytest

from calibri.errors import CalibriError, StudyError
from studio.quick_vote import layout, page, runs, view
from studio.quick_vote.runs import LAST, OWN
from studio.rendering.arms import DESK, Arm
from studio.rendering.asks import Ask
from studio.rendering.places import SharedPlace
from studio.rendering.shots import Comparison, shoot_all
from studio.studies.studies import open_studies

PROMPTS = "a red cube\ntwo blue balls"


def quiet(*_: Any, **__: Any) -> None:
    """In the place of a progress bar."""


@pytest.fixture
def studies(stocked, tmp_path):
    made = open_studies(tmp_path / "data", stocked.host)
    yield made
    made.close()


@pytest.fixture
def do(stocked, studies) -> page.Handlers:
    return page.Handlers(stocked, studies)


def compared(core, visitor) -> Comparison:
    """What the page Compare leaves: the base at more steps, and a calibration."""
    ask = Ask("a red cube", 3, 2)
    found = next(e for e in core.calibrations.entries() if not e.calibration.is_ensemble)
    arms = [Arm("base", "Base"), Arm("calibrated", "Calibrated", found.calibration)]
    asks = [dataclasses.replace(ask, steps=3), ask]
    made = Comparison(ask, shoot_all(core, list(zip(arms, asks)), score=False))
    core.visitors.of(visitor).place(SharedPlace).history.appendleft(made)
    return made


def count_outputs(name: str) -> int:
    """How many components Page.<name> has."""
    with gr.Blocks(analytics_enabled=False):
        return len(getattr(layout.lay_out(), name))


def test_one_press_shows_two_pictures_and_each_vote_the_next_two(do, stocked, studies, visitor):
    answer = do.on_start(visitor, OWN, ["calibrated"], PROMPTS, 2, quiet)
    assert len(answer) == count_outputs("run") + count_outputs("pair")
    run_id, given, asked = answer[0], answer[5], answer[6]
    assert any(prompt in asked for prompt in PROMPTS.splitlines()) and "Bent" not in asked
    seen = set()
    for number in range(1, 5):
        seen.add(given["token"])
        done, told, bar, *buttons = do.vote("left")(visitor, run_id, given)
        assert done is None and "Base" in told and "Bent" in told
        assert f"{number} vote" in bar and not buttons[0].interactive
        do.on_ahead(visitor, run_id)
        shown = do.on_next(visitor, run_id, quiet)
        assert len(shown) == count_outputs("pair")
        given = shown[0]
    assert len(seen) == 4
    words, figure, board = do.on_score()
    assert "Bent" in words and len(figure["data"]) == 1 and "2 arms, 4 votes" in board
    assert studies.votes.count(given["study"]) == 4


def test_stop_ends_the_run_and_keeps_its_votes(do, stocked, studies, visitor):
    answer = do.on_start(visitor, OWN, ["calibrated"], PROMPTS, 2, quiet)
    run_id, given = answer[0], answer[5]
    do.vote("right")(visitor, run_id, given)
    told = do.on_stop(visitor, run_id)
    assert "Stopped after 1 vote" in told[3]
    do.on_ahead(visitor, run_id)
    with pytest.raises(StudyError, match="Press Start"):
        do.on_next(visitor, run_id, quiet)
    assert studies.votes.count(given["study"]) == 1


def test_the_arms_compared_last_meet_again_on_prompts_and_seeds_of_their_own(do, stocked, studies, visitor):
    last = compared(stocked, visitor)
    answer = do.on_start(visitor, LAST, [], "two blue balls", 8, quiet)
    run = runs.find_run(stocked, visitor, answer[0])
    assert {ask.steps for _, ask in run.arms} == {3, 2}
    told = runs.cast(studies, visitor, run, **answer[5], side="left")
    assert {told.left.rpartition(", ")[2], told.right.rpartition(", ")[2]} == {"3 steps", "2 steps"}
    assert run.votes == 1 and last.ask.prompt != "two blue balls"
    assert "Bent" in view.draw_score(stocked, studies)[0]


@pytest.mark.parametrize(
    "whose, picks, words",
    [
        (LAST, [], "page Compare"),
        (OWN, [], "at least one calibration"),
        (OWN, [DESK], "desk is empty"),
        (OWN, ["studio/bent", "calibrated"], "same"),
        (OWN, ["own/gone"], "no saved calibration"),
    ],
)
def test_what_cannot_be_voted_on_is_told_before_it_is_rendered(
    stocked, studies, visitor, whose, picks, words
):
    with pytest.raises(CalibriError, match=words):
        runs.start(stocked, studies, visitor, whose=whose, picks=picks, typed="", steps=2)


def test_a_vote_without_a_pair_is_a_sentence(do, visitor):
    with pytest.raises(gr.Error, match="Press Start first"):
        do.vote("left")(visitor, None, None)
    with pytest.raises(StudyError, match="Press Start"):
        do.on_next(visitor, "gone", quiet)


def test_a_page_that_opens_offers_what_fits(do, stocked, visitor):
    picks, whose, *_ = do.on_load(visitor, [])
    titles = [words for words, _ in picks.choices]
    assert any("Bent" in words for words in titles) and any("Pair" in words for words in titles)
    assert picks.value == ["studio/bent"] and whose.value == OWN
    again, *_ = do.on_load(visitor, ["studio/pair", "own/gone"])
    assert again.value == ["studio/pair"]
