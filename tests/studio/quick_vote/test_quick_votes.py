"""Quick votes: one person, blind, on what was just rendered."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from calibri.calibration.artifact import Calibration
from calibri.errors import StudyError
from calibri.preference import Rate
from studio.quick_vote.votes import Contender, analyse_votes, offer, open_quick_study, vote
from studio.studies.protocol import QUICK
from studio.studies.storage.study_store import Study, now
from studio.studies.voting.ballots import Refused
from tests.studio.studies.conftest import calibration, picture

VISITOR = "ab" * 16


def contenders(seed: int) -> list[Contender]:
    made = [Contender.of(picture(3 * seed), label="Base", kind="base", steps=8)]
    for number, (label, kind) in enumerate((("Mine", "calibrated"), ("Many", "ensemble")), 1):
        found = Calibration.from_json(calibration(1 + number / 10))
        known = {"calibration": found.to_json(), "calibration_hash": found.hash}
        made.append(Contender.of(picture(3 * seed + number), label=label, kind=kind, steps=8, **known))
    return made


def play(world, count: int, prefers: str, of: int = 2):
    for seed in range(count):
        made = offer(world.studies, VISITOR, "tabletop", "a red cube", seed, contenders(seed)[:of])
        pictures = {c.arm.label: c.image.tobytes() for c in contenders(seed)}
        side = "left" if made.left.tobytes() == pictures[prefers] else "right"
        reveal = vote(world.studies, VISITOR, made.study, made.token, side)
        yield side, reveal


def test_a_few_votes_give_a_win_rate(world):
    for side, reveal in play(world, 6, "Mine"):
        assert (reveal.left if side == "left" else reveal.right).startswith("Mine")
        assert reveal.winner.startswith("Mine")
    [table] = analyse_votes(world.studies, "tabletop").tables["preference"]
    assert isinstance(table.headline, Rate)
    assert table.headline.value == 1.0
    assert "one rater, one prompt" in table.headline.method


def test_sides_are_tossed(world):
    sides = Counter(side for side, _ in play(world, 24, "Mine"))
    assert min(sides["left"], sides["right"]) >= 5


def test_of_three_arms_those_that_met_least_meet(world):
    met = Counter(frozenset((r.left, r.right)) for _, r in play(world, 6, "Mine", of=3))
    assert set(met.values()) == {2}


def test_before_the_first_vote_there_is_nothing(world):
    assert analyse_votes(world.studies, "tabletop") is None


def test_a_token_is_good_for_one_vote_and_one_visitor(world):
    made = offer(world.studies, VISITOR, "tabletop", "a red cube", 1, contenders(1))
    with pytest.raises(Refused):
        vote(world.studies, "cd" * 16, made.study, made.token, "left")
    vote(world.studies, VISITOR, made.study, made.token, "left")
    with pytest.raises(Refused):
        vote(world.studies, VISITOR, made.study, made.token, "right")


def test_what_cannot_be_voted_on(world):
    one = contenders(1)
    with pytest.raises(StudyError, match="two pictures"):
        offer(world.studies, VISITOR, "tabletop", "p", 1, one[:1])
    with pytest.raises(StudyError, match="the same"):
        offer(world.studies, VISITOR, "tabletop", "p", 1, [one[0], one[0]])
    with pytest.raises(StudyError, match="sizes"):
        offer(world.studies, VISITOR, "tabletop", "p", 1, [one[0], replace(one[1], image=picture(9, 32))])


def test_quick_votes_are_offered_to_no_rater_and_survive_a_restart(world):
    list(play(world, 2, "Base"))
    world.reopen()
    list(play(world, 1, "Base"))
    assert analyse_votes(world.studies, "tabletop").total == 3


def test_a_quick_study_that_was_closed_opens_again_and_one_put_away_is_followed_by_another(world):
    list(play(world, 1, "Base"))
    [first] = world.studies.store.all()
    world.studies.set_status(first.id, "closed")
    assert analyse_votes(world.studies, "tabletop").total == 1
    list(play(world, 1, "Base"))
    assert analyse_votes(world.studies, "tabletop").total == 2
    world.studies.set_status(first.id, "closed")
    world.studies.set_status(first.id, "archived")
    assert analyse_votes(world.studies, "tabletop") is None
    list(play(world, 1, "Base"))
    assert analyse_votes(world.studies, "tabletop").total == 1
    assert {s.status for s in world.studies.store.all()} == {"open", "archived"}


def test_a_quick_study_with_an_id_of_an_earlier_version_is_found(world):
    name = "a" * 39 + " b"  # was cut behind its hyphen once
    old = Study(f"quick-{'a' * 39}--1", "Quick votes of old", QUICK, 1, "draft", now())
    world.studies.store.add(old, [], [])
    assert open_quick_study(world.studies, name).id == old.id
