"""Planned power against the interval that reports use, on simulated votes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from calibri.errors import StudyError
from calibri.preference import (
    Design,
    Likeness,
    NoData,
    Rate,
    Vote,
    VotePlan,
    estimate_likeness,
    find_power,
    pair_table,
    plan_votes,
    two_way_interval,
)


def simulate(share: float, design: Design, likeness: Likeness, generator: np.random.Generator) -> list[Vote]:
    """A study whose votes have exactly this likeness, up to chances beyond 0 and 1: each prompt and rater
    shifts the chance that x wins."""
    each = design.votes // design.prompts
    variance = share * (1 - share)
    by_prompt = generator.normal(0, math.sqrt(likeness.prompts * variance), design.prompts)
    by_rater = generator.normal(0, math.sqrt(likeness.raters * variance), design.raters)
    rounds = -(-design.votes // design.raters)
    raters = np.concatenate([generator.permutation(design.raters) for _ in range(rounds)])[: design.votes]
    prompts = np.repeat(np.arange(design.prompts), each)
    chance = share + by_prompt[prompts] + by_rater[raters]
    wins = generator.random(design.votes) < chance
    return [
        Vote("q", "a", "b", str(p), str(r), "x" if won else "y", pair=str(p))
        for p, r, won in zip(prompts, raters, wins)
    ]


def design_of(plan: VotePlan) -> Design:
    return Design(plan.votes, plan.prompts, plan.raters)


@pytest.mark.parametrize(
    "share, likeness, more",
    [
        (0.60, Likeness(), {}),
        (0.65, Likeness(0, 0), {"raters_a_pair": 1}),
        (0.65, Likeness(0.1, 0.02), {"prompts": 40}),
        (0.62, Likeness(0.05, 0.08), {"power": 0.5, "pairs_a_rater": 20}),
    ],
)
def test_a_planned_study_finds_the_better_arm_as_often_as_was_planned(share, likeness, more):
    plan = plan_votes(share, likeness, **more)
    assert isinstance(plan, VotePlan) and plan.power >= more.get("power", 0.8)
    generator = np.random.default_rng(3)
    runs, found = 300, 0
    for run in range(runs):
        rate = two_way_interval(simulate(share, design_of(plan), likeness, generator), draws=150, seed=run)
        assert isinstance(rate, Rate)
        found += rate.verdict == "preferred"
    assert found / runs == pytest.approx(plan.power, abs=0.06)  # standard error 0.023 to 0.029


def test_the_table_of_a_report_has_the_same_power():
    plan = plan_votes(0.7, Likeness(0.1, 0.05), power=0.7)
    generator, runs = np.random.default_rng(5), 120
    tables = [
        pair_table(simulate(0.7, design_of(plan), Likeness(0.1, 0.05), generator), "q", "a", "b", seed=run)
        for run in range(runs)
    ]
    assert sum(t.headline.verdict == "preferred" for t in tables) / runs == pytest.approx(
        plan.power, abs=0.12
    )


def test_independent_votes_need_what_the_textbook_says():
    """One vote of each rater on each prompt: n = ((z₀.₉₇₅/2 + z₀.₈·√(pq)) / (p − ½))², and a little more."""
    plan = plan_votes(0.55, Likeness(0, 0), raters_a_pair=1, pairs_a_rater=1)
    textbook = ((1.959964 * 0.5 + 0.841621 * math.sqrt(0.55 * 0.45)) / 0.05) ** 2
    assert plan.votes == pytest.approx(textbook, rel=0.05)


def test_power_grows_with_votes_prompts_and_raters_and_falls_with_likeness():
    base = find_power(0.6, Design(300, 60, 20), Likeness())
    assert base < find_power(0.6, Design(300, 100, 20), Likeness())
    assert base < find_power(0.6, Design(300, 60, 40), Likeness())
    assert base < find_power(0.6, Design(600, 60, 20), Likeness()) < 1
    assert base > find_power(0.6, Design(300, 60, 20), Likeness(0.2, 0.05))
    assert base > find_power(0.6, Design(300, 60, 20), Likeness(0.1, 0.1))


def test_the_plan_is_the_smallest_that_is_enough():
    plan = plan_votes(0.58, Likeness())
    smaller = Design(plan.votes - 5, plan.prompts - 1, math.ceil((plan.votes - 5) / 28))
    assert plan.power >= 0.8 > find_power(0.58, smaller, Likeness())


def test_few_prompts_are_never_enough_and_it_says_how_many_are():
    answer = plan_votes(0.55, Likeness(0.2, 0.02), prompts=10)
    assert isinstance(answer, NoData)
    words = str(answer.reason)
    assert words.startswith("10 prompts are not enough")
    enough = int(words.split(";")[1].split()[0])
    assert enough == plan_votes(0.55, Likeness(0.2, 0.02)).prompts


def test_three_arms_have_three_contests_and_no_rater_is_asked_for_more_pairs():
    one, three = plan_votes(0.6, Likeness(0.1, 0.0)), plan_votes(0.6, Likeness(0.1, 0.0), contests=3)
    assert three.votes == pytest.approx(one.votes, rel=0.05) and three.all_votes == 3 * three.votes
    assert math.ceil(three.all_votes / three.raters) <= 28


def test_what_votes_have_in_common_is_found_again():
    true, generator = Likeness(0.12, 0.06), np.random.default_rng(1)
    made = [estimate_likeness(simulate(0.58, Design(1200, 120, 40), true, generator)) for _ in range(40)]
    assert all(n == 1200 for _, n in made)
    assert np.mean([each.prompts for each, _ in made]) == pytest.approx(true.prompts, abs=0.015)
    assert np.mean([each.raters for each, _ in made]) == pytest.approx(true.raters, abs=0.015)


def test_votes_that_have_nothing_in_common_look_so():
    generator = np.random.default_rng(2)
    made = [
        estimate_likeness(simulate(0.58, Design(600, 60, 20), Likeness(0, 0), generator))[0]
        for _ in range(20)
    ]
    assert np.mean([each.prompts for each in made]) < 0.03
    assert np.mean([each.raters for each in made]) < 0.03


@pytest.mark.parametrize("rows", [("xxxx", "xxxx"), ("xyxy",), ("x", "y")])
def test_votes_that_tell_nothing_of_it(grid, rows):
    assert isinstance(estimate_likeness(grid(*rows)), NoData)


@pytest.mark.parametrize("wrong", [(-0.1, 0), (0.5, 0.5), (0, 1.2)])
def test_correlations_that_cannot_be(wrong):
    with pytest.raises(StudyError, match="expected correlations"):
        Likeness(*wrong)


@pytest.mark.parametrize("share", [0.5, 0.4, 1.0])
def test_a_share_that_no_study_can_find(share):
    with pytest.raises(StudyError, match=r"above 0\.5"):
        plan_votes(share, Likeness())
