from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from calibri.errors import StudyError
from calibri.preference import (
    NoData,
    Rate,
    between,
    left_rate,
    pair_table,
    sign_test,
    strict_rate,
    tally,
    two_way_interval,
    wilson,
    win_rate,
)
from calibri.preference.rates import binomial_p
from tests.calibri.preference.conftest import make


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_equals_scipy(case):
    k, n = case
    expected = binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert wilson(k / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_exact_sign_test_equals_scipy(case):
    k, n = case
    assert binomial_p(k, n) == pytest.approx(binomtest(k, n, 0.5).pvalue, rel=1e-9)


def test_a_tie_counts_half_and_both_bad_and_skip_do_not_count(grid):
    rate = win_rate(grid("xxtybs"))
    assert isinstance(rate, Rate)
    assert (rate.value, rate.n) == (2.5 / 4, 4)


def test_the_strict_rate_leaves_ties_out(grid):
    rate = strict_rate(grid("xxtybs"))
    assert (rate.value, rate.n) == (2 / 3, 3)


def test_everything_is_counted_once(grid):
    count = tally(grid("xxtybs", "x-----"))
    assert (count.wins, count.losses, count.ties, count.both_bad, count.skips) == (3, 1, 1, 1, 1)
    assert (count.raters, count.prompts, count.counted, count.total) == (2, 6, 5, 7)


@pytest.mark.parametrize("statistic", [win_rate, strict_rate, sign_test, left_rate, two_way_interval])
@pytest.mark.parametrize("row", ["", "ss", "bbs"])
def test_nothing_counted_is_no_data_and_has_no_value(grid, statistic, row):
    answer = statistic(grid(row) if row else [])
    assert isinstance(answer, NoData)
    assert not answer
    assert answer.reason
    assert str(answer) == "no data"
    with pytest.raises(AttributeError):
        _ = answer.value


def test_only_ties_is_one_half_and_no_strict_rate(grid):
    assert win_rate(grid("ttt")).value == 0.5
    assert isinstance(strict_rate(grid("ttt")), NoData)


def test_votes_on_different_arms_are_never_pooled(vote):
    with pytest.raises(StudyError, match="one pair of arms"):
        win_rate([vote("x"), vote("x", arm_y="c")])


def test_turning_a_vote_keeps_who_won_and_who_stood_left(vote):
    turned = between([vote("x", left_is_x=True)], "b", "a")[0]
    assert (turned.arm_x, turned.winner, turned.left_is_x) == ("b", "y", False)


def test_the_left_rate_is_blind_to_arms(vote):
    votes = [vote("x", left_is_x=True), vote("y", left_is_x=False), vote("y", left_is_x=True), vote("tie")]
    assert left_rate(votes).value == pytest.approx(2 / 3)


def test_a_prompt_speaks_once_in_the_sign_test(grid):
    # p0: three for x; p1: two to one for y; p2: even
    answer = sign_test(grid("xyx", "xyy", "xxt"))
    assert (answer.for_x, answer.for_y, answer.even) == (1, 1, 1)
    assert answer.p == 1.0


def test_an_unknown_answer_is_refused(vote):
    with pytest.raises(StudyError, match="left"):
        vote("left")


@given(st.lists(st.sampled_from(["x", "y", "tie", "both_bad", "skip"]), min_size=1, max_size=40))
def test_swapping_the_arms_mirrors_every_rate(words):
    votes = [make(w, rater=f"r{i % 5}", prompt=f"p{i}") for i, w in enumerate(words)]
    for statistic in (win_rate, strict_rate):
        one, other = statistic(votes), statistic([v.swapped() for v in votes])
        assert isinstance(one, NoData) == isinstance(other, NoData)
        if isinstance(one, Rate):
            assert (one.value, one.low) == pytest.approx((1 - other.value, 1 - other.high))


def test_gold_and_repeats_are_no_part_of_the_result(grid):
    votes = grid("xx") + grid("yyyy", kind="gold") + grid("yy", kind="repeat")
    assert pair_table(votes, "q", "a", "b").tally.total == 2


def test_categories_are_told_apart(grid):
    table = pair_table(grid("xx", category="one solid") + grid("yy", category="a row"), "q", "a", "b")
    assert [(name, rate.value, n) for name, rate, n in table.categories] == [
        ("a row", 0.0, 2),
        ("one solid", 1.0, 2),
    ]
