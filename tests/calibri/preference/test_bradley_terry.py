from __future__ import annotations

import numpy as np
import pytest

from calibri.errors import StudyError
from calibri.preference import NoData, Strengths, bradley_terry, find_groups
from tests.calibri.preference.conftest import make


def value(fit: Strengths) -> dict[str, float]:
    return {s.arm: s.value for s in fit.arms}


def test_simulated_strengths_are_recovered():
    generator = np.random.default_rng(7)
    true = {"a": -0.8, "b": 0.0, "c": 0.3, "d": 0.5}
    votes = []
    for i in range(6000):
        x, y = generator.choice(list(true), 2, replace=False)
        wins = generator.random() < 1 / (1 + np.exp(true[y] - true[x]))
        votes.append(make("x" if wins else "y", arm_x=x, arm_y=y, rater=f"r{i % 60}", prompt=f"p{i % 300}"))
    fit = bradley_terry(votes)
    assert value(fit) == pytest.approx(true, abs=0.12)
    assert all(s.low < true[s.arm] < s.high for s in fit.arms)


def test_undefeated_is_no_tie_and_finite():
    fit = bradley_terry([make("x", rater=f"r{i}", prompt=f"p{i}") for i in range(10)])
    assert fit.arms[0].arm == "a"
    assert fit.chance("a", "b") == pytest.approx(10.5 / 11, abs=1e-9)  # ten wins and half a virtual tie of 11


def test_two_arms_give_the_win_rate_with_its_virtual_tie(grid):
    fit = bradley_terry(grid("xxxy"))
    assert fit.chance("a", "b") == pytest.approx(3.5 / 5, abs=1e-9)


def test_no_votes_are_no_data():
    assert isinstance(bradley_terry([], arms=["a", "b", "c"]), NoData)
    assert isinstance(bradley_terry([make("skip")]), NoData)


def test_an_arm_without_votes_is_wide_open(grid):
    fit = bradley_terry(grid("xxxyxxyx", "xxyyxxxx"), arms=["a", "b", "c"])
    width = {s.arm: s.high - s.low for s in fit.arms}
    assert width["c"] > width["a"]


def test_an_arm_that_was_not_named_is_an_error(grid):
    with pytest.raises(StudyError, match="not named: b"):
        bradley_terry(grid("x"), arms=["a", "c"])


def test_agrees_with_another_implementation():
    evalica = pytest.importorskip("evalica")
    generator = np.random.default_rng(1)
    names = ["a", "b", "c"]
    votes = []
    for i in range(400):
        x, y = generator.choice(names, 2, replace=False)
        votes.append(make(str(generator.choice(["x", "y", "tie"])), arm_x=x, arm_y=y, prompt=f"p{i}"))
    winners = {"x": evalica.Winner.X, "y": evalica.Winner.Y, "tie": evalica.Winner.Draw}
    ties = [(x, y) for x in names for y in names if x < y]
    reference = evalica.bradley_terry(
        [v.arm_x for v in votes] + [x for x, _ in ties],
        [v.arm_y for v in votes] + [y for _, y in ties],
        [winners[v.winner] for v in votes] + [evalica.Winner.Draw] * len(ties),
        win_weight=1.0,
        tie_weight=0.5,
        tolerance=1e-12,
        limit=10_000,
    ).scores
    ours = value(bradley_terry(votes))
    theirs = np.log([reference[n] for n in names])
    assert [ours[n] for n in names] == pytest.approx(list(theirs - theirs.mean()), abs=1e-5)


def test_arms_that_never_met_say_nothing_of_each_other_in_a_chain_each_step_is_its_own_fit():
    """A reduction: where votes make a tree, the strengths along it are those of two arms each."""
    first = [make(w, prompt=f"p{i}") for i, w in enumerate("xxxy")]
    second = [make(w, arm_x="b", arm_y="c", prompt=f"q{i}") for i, w in enumerate("xxxxxy")]
    whole = value(bradley_terry([*first, *second], met_only=True))
    left, right = value(bradley_terry(first)), value(bradley_terry(second))
    assert whole["a"] - whole["b"] == pytest.approx(left["a"] - left["b"])
    assert whole["b"] - whole["c"] == pytest.approx(right["b"] - right["c"])
    usual = value(bradley_terry([*first, *second]))
    assert usual["a"] - usual["c"] < whole["a"] - whole["c"]  # its virtual tie between a and c pulls them in


def test_groups_without_a_vote_between_them_are_found_and_not_compared():
    given = [("a", "b", "x"), ("c", "d", "y"), ("b", "c", "skip"), ("d", "e", "tie")]
    apart = [make(word, arm_x=x, arm_y=y) for x, y, word in given]
    assert find_groups(apart) == [("c", "d", "e"), ("a", "b")]
    assert find_groups(apart, ["a", "b", "c", "d", "e", "z"])[-1] == ("z",)
    with pytest.raises(StudyError, match="connect"):
        bradley_terry(apart, met_only=True)
