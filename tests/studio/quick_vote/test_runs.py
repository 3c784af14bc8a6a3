"""A run of quick votes: what is rendered ahead, for whom, and after whom."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from calibri.errors import CalibriError
from calibri.prompts import prompt_set
from studio.access.limits import LimitError, Limits
from studio.machine.queue import Priority
from studio.quick_vote import runs
from studio.quick_vote.runs import OWN, PATIENCE, QuickPlace, Run, list_run_prompts
from studio.settings import Settings
from studio.studies.studies import open_studies

PROMPTS = "a red cube\ntwo blue balls\na green cone"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def studies(stocked, tmp_path):
    made = open_studies(tmp_path / "data", stocked.host)
    yield made
    made.close()


@pytest.fixture
def run(stocked, studies, visitor) -> Run:
    return runs.start(stocked, studies, visitor, whose=OWN, picks=["calibrated"], typed=PROMPTS, steps=2)


def wait_for(true, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)


def preparing(core, studies, run) -> threading.Thread:
    thread = threading.Thread(target=runs.prepare, args=(core, studies, run), daemon=True)
    thread.start()
    return thread


def test_a_pair_that_is_ready_needs_no_turn_at_the_model(stocked, studies, run):
    runs.prepare(stocked, studies, run)
    assert run.size > 0
    with stocked.host.hold(Priority.INTERACTIVE, "somebody else"):
        ask, made = runs.show_next(stocked, studies, run)
    assert ask.prompt in PROMPTS.splitlines() and made.left.size == made.right.size
    assert run.size == 0


def test_one_pair_is_rendered_ahead_and_no_more(stocked, studies, run):
    runs.prepare(stocked, studies, run)
    first = run._ahead
    runs.prepare(stocked, studies, run)
    assert run._ahead is first
    assert studies.store.pairs(studies.store.all()[0].id) == []  # and nothing of it is stored


def test_what_only_waits_gives_way_to_the_person_who_waits(stocked, studies, run):
    shown: list[object] = []
    with stocked.host.hold(Priority.INTERACTIVE, "somebody else"):
        ahead = preparing(stocked, studies, run)
        wait_for(lambda: stocked.host.status.waiting == 1)
        person = threading.Thread(target=lambda: shown.append(runs.show_next(stocked, studies, run)))
        person.start()
        ahead.join(30)
        assert not ahead.is_alive() and not shown
    person.join(60)
    assert len(shown) == 1


def test_for_who_has_left_nothing_more_is_rendered(stocked, studies, run, visitor):
    clock = Clock()
    left = Run(visitor, run.backbone, run.loads, run.arms, PROMPTS.splitlines(), clock)
    with stocked.host.hold(Priority.INTERACTIVE, "somebody else"):
        ahead = preparing(stocked, studies, left)
        wait_for(lambda: stocked.host.status.waiting == 1)
        clock.now += PATIENCE + 1
        ahead.join(30)
        assert not ahead.is_alive()
    assert left.is_left and left.size == 0
    runs.prepare(stocked, studies, left)
    assert left.size == 0
    left.note_seen()
    assert not left.is_left


def test_people_come_before_what_is_rendered_ahead_and_searches_after(stocked):
    assert Priority.INTERACTIVE < Priority.AHEAD < Priority.STUDY < Priority.SEARCH


def test_what_is_rendered_ahead_is_out_of_the_visitors_allowance(stocked, studies, run):
    limits = Limits(Settings(demo=True, rate=1), lambda: "a visitor")
    object.__setattr__(stocked, "limits", limits)
    shown = 0
    with pytest.raises(LimitError):
        for _ in range(20):
            runs.show_next(stocked, studies, run)
            shown += 1
            runs.prepare(stocked, studies, run)
    assert shown == 6  # of two pictures each: 12 is what one may render at once


def test_another_backbone_ends_a_run_in_a_sentence(stocked, studies, run):
    run.loads -= 1
    with pytest.raises(CalibriError, match="Another backbone"):
        runs.show_next(stocked, studies, run)


def test_every_prompt_comes_once_before_one_comes_again_on_a_new_seed(run, stocked, studies):
    drawn = [run.draw_prompt() for _ in range(9)]
    for at in (0, 3, 6):
        assert sorted(drawn[at : at + 3]) == sorted(PROMPTS.splitlines())
    seeds = {runs.show_next(stocked, studies, run)[0].seed for _ in range(4)}
    assert len(seeds) == 4


def test_prompts_are_those_that_suit_the_backbone_and_that_no_search_has_seen():
    assert list_run_prompts("tabletop", "") == prompt_set("tabletop", "held-out")
    assert list_run_prompts("FLUX.1-dev", " \n") == prompt_set("general", "held-out")
    assert list_run_prompts("tabletop", "a\n\nb\n") == ("a", "b")


def test_all_chosen_calibrations_and_the_base_meet_equally_often(stocked, studies, visitor):
    picks = ["studio/bent", "studio/pair"]
    run = runs.start(stocked, studies, visitor, whose=OWN, picks=picks, typed=PROMPTS, steps=2)
    met: Counter[frozenset[str]] = Counter()
    for _ in range(6):
        _, made = runs.show_next(stocked, studies, run)
        runs.prepare(stocked, studies, run)  # knows of the pair on screen, which nobody has voted on yet
        told = runs.cast(studies, visitor, run, made.study, made.token, "tie")
        met[frozenset((told.left, told.right))] += 1
    assert set(met.values()) == {2} and len(met) == 3
    assert run.votes == 6 and run.answers["tie"] == 6 and not run.wins


def test_two_tabs_have_a_run_each_and_a_third_ends_the_oldest(stocked, studies, visitor):
    made = [
        runs.start(stocked, studies, visitor, whose=OWN, picks=["calibrated"], typed=PROMPTS, steps=2)
        for _ in range(3)
    ]
    place = stocked.visitors.of(visitor).place(QuickPlace)
    assert list(place.runs) == [made[1].id, made[2].id]
    assert made[0].is_left and runs.find_run(stocked, visitor, made[0].id) is None
    runs.prepare(stocked, studies, made[2])
    assert place.size == made[2].size > 0
