"""The sampling `informative`: it asks where the ranking is in doubt, and unblinds no more than even."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from benchmarks.adaptive import SCENARIOS, compare, find_truth
from studio.studies.protocol import PRESETS
from studio.studies.voting.contests import FLOOR, choose_contest
from tests.studio.studies.conftest import rows
from tests.studio.studies.voting.test_dealing import Table, joined, table

AB, AC, BC = ("a", "b"), ("a", "c"), ("b", "c")


def test_it_asks_about_the_arms_that_are_not_told_apart():
    score = {AB: (10.0, 20.0), AC: (18.0, 20.0), BC: (18.0, 20.0)}
    assert choose_contest({AB, AC, BC}, score, dict.fromkeys(score, 20)) == AB


def test_every_pair_of_arms_keeps_its_floor():
    score = {AB: (30.0, 60.0), AC: (19.0, 20.0), BC: (1.0, 1.0)}
    assert choose_contest({AB, AC, BC}, score, {AB: 60, AC: 20, BC: 1}) == BC
    assert choose_contest({AB, AC}, score, {AB: 60, AC: 20, BC: 1}) == AB  # BC is not offered to this rater


def test_arms_that_nobody_can_judge_are_not_asked_about_for_ever():
    score = {AB: (0.0, 0.0), AC: (6.0, 10.0), BC: (6.0, 10.0)}
    assert choose_contest({AB, AC, BC}, score, {AB: 200, AC: 10, BC: 10}) != AB


def test_raters_who_come_at_once_are_not_all_asked_the_same():
    deal = table(prompts=40, arms=3, sampling="informative")
    for number in range(30):
        deal.take(f"r{number}")
    met = Counter((s.pair.arm_x, s.pair.arm_y) for s in deal.shown)
    assert sorted(met.values()) == [10, 10, 10]


def test_close_arms_meet_most_and_all_meet_at_least_half_as_often_as_in_turns():
    deal, random = table(prompts=200, arms=3, sampling="informative"), Random(2)
    for number in range(400):
        showing = deal.take(f"r{number % 10}")
        with_base = showing.pair.arm_x.endswith(":0")
        chance = 0.1 if with_base else 0.5  # the base loses, the two others are alike
        deal.book.settle(showing, "voted", "x" if random.random() < chance else "y")
    met = Counter((s.pair.arm_x, s.pair.arm_y) for s in deal.shown)
    assert min(met.values()) >= FLOOR * 400 / 3 - 2
    [(arms, most)] = met.most_common(1)
    assert not arms[0].endswith(":0") and most > 230


def test_two_arms_are_dealt_as_ever():
    even, deal = table(prompts=12), table(prompts=12, sampling="informative")
    for each in (even, deal):
        each.crowd(3)
    assert [(s.pair.prompt, s.left_is_x) for s in even.shown] == [
        (s.pair.prompt, s.left_is_x) for s in deal.shown
    ]


# blindness


@pytest.mark.parametrize("raters", [1, 7, 100])
def test_whoever_knows_all_earlier_sides_guesses_the_next_at_most_six_times_in_ten(raters):
    right = total = 0
    for seed in range(8):
        deal = Table(table(prompts=60, arms=3, sampling="informative").book, Random(seed))
        lean: Counter[tuple[str, str]] = Counter()
        for number in range(150 if raters == 1 else 300):
            showing = deal.vote(f"r{number % raters}", "x" if number % 3 else "y")
            arms = (showing.pair.arm_x, showing.pair.arm_y)
            guess = lean[arms] < 0 if lean[arms] else number % 2 == 0
            right, total = right + (guess == showing.left_is_x), total + 1
            lean[arms] += 1 if showing.left_is_x else -1
    assert right / total <= 0.6


def test_a_hundred_identities_that_join_what_they_see_learn_no_arm():
    shares = []
    for seed in range(12):
        deal = Table(table(prompts=20, arms=3, sampling="informative").book, Random(seed))
        shown = [deal.take(f"r{i // 2}") for i in range(200)]
        pairs = sorted({s.pair.id for s in shown})
        shares.append(joined([(s.pair.id, s.left_is_x) for s in shown], pairs))
    count = len(pairs)
    coins = [(r := Random(seed)) and sum(r.random() < 0.5 for _ in range(count)) for seed in range(400)]
    chance = [max(c, count - c) / count for c in coins]
    assert np.mean(shares) <= np.mean(chance) + 3 * np.std(chance) / len(shares) ** 0.5


# the whole


def test_the_preset_is_dealt_and_survives_a_restart(world):
    study = world.study(
        prompts=4, arms=3, **PRESETS["most-informative"].model_dump(exclude={"least_view_ms"})
    )
    world.rater(study, 0).join().vote_all("left")
    before = dict(world.studies.voting._books[study.id].meetings)
    world.reopen()
    world.rater(study, 1).join().vote_all()
    after = world.studies.voting._books[study.id].meetings
    assert len(before) == 3 and sum(after.values()) > sum(before.values())
    assert all(after[arms] >= met for arms, met in before.items())
    assert {v["kind"] for v in world.studies.votes.rows(study.id)} == {"real", "gold", "repeat"}
    assert len(rows(world)) == len({(v["rater"], v["pair"]) for v in rows(world)})


def test_fewer_votes_are_needed_and_the_intervals_hold():
    """A small version of benchmarks/adaptive.py."""
    row = compare(replace(SCENARIOS[1], votes=600), runs=12, certain=0.9)
    assert row["informative"]["votes to be certain"] < row["even"]["votes to be certain"]
    assert row["informative"]["coverage"] >= 0.8  # nominal 0.95 of 36 intervals, three of each run together


def test_the_truth_of_the_simulation_is_its_strengths_where_nothing_else_differs():
    truth = find_truth(SCENARIOS[0])
    assert truth - truth[0] == pytest.approx([0.0, 0.5, 1.0], abs=1e-6)
