"""How often a score tells which picture people choose."""

from __future__ import annotations

import numpy as np
import pytest

from calibri.errors import StudyError
from calibri.preference import NoData, count_undecided, predicted_share, two_way_interval

UP, DOWN, EVEN = (1.0, 0.0), (0.0, 1.0), (0.5, 0.5)


def test_a_score_that_is_what_people_choose_is_always_right(grid):
    votes = grid("xyxy", "xyxy")
    scores = {f"p{i}": UP if i % 2 == 0 else DOWN for i in range(4)}
    assert predicted_share(votes, scores).value == 1
    assert predicted_share(votes, {pair: (y, x) for pair, (x, y) in scores.items()}).value == 0


def test_where_all_pairs_score_x_higher_it_is_the_win_rate_of_x(grid):
    """The interval, too, is that of the study."""
    votes = grid("xxyx", "xyyx", "xxxy")
    found = predicted_share(votes, {f"p{i}": UP for i in range(4)})
    known = two_way_interval(votes)
    assert (found.value, found.low, found.high, found.n) == (known.value, known.low, known.high, 12)
    assert found.method == "two-way cluster bootstrap over 4 prompts and 3 raters"


def test_equal_scores_are_half_a_hit_and_are_counted(grid):
    votes = grid("xyxy")
    scores = {"p0": UP, "p1": EVEN, "p2": EVEN, "p3": EVEN}
    assert predicted_share(votes, scores).value == (1 + 3 / 2) / 4
    assert count_undecided(votes, scores) == 3


def test_only_choices_on_real_pairs_that_have_scores_count(grid, vote):
    votes = grid("xytbs")  # x, y, a tie, both bad, a skip
    more = [vote("y", pair="p0", kind="gold", rater="g"), vote("y", pair="p0", kind="repeat", rater="g")]
    scores = {f"p{i}": UP for i in range(5)}
    found = predicted_share([*votes, *more], scores)
    assert (found.value, found.n) == (1 / 2, 2)
    assert predicted_share(votes, {"p0": UP, "other": DOWN}) == NoData(
        "one rater on one pair: nothing to resample"
    )
    assert isinstance(predicted_share(votes, {}), NoData) and isinstance(predicted_share([], scores), NoData)


def test_votes_on_several_arms_may_be_pooled_and_several_questions_may_not(vote):
    votes = [vote("x", pair=f"p{i}", prompt=f"p{i}", arm_x=f"arm {i}") for i in range(6)]
    scores = {f"p{i}": UP for i in range(6)}
    assert predicted_share(votes, scores).n == 6
    with pytest.raises(StudyError, match="one question"):
        predicted_share([*votes, vote("x", pair="p0", question="other")], scores)


def test_a_score_that_says_nothing_is_not_told_apart_from_a_coin(vote):
    """Random scores on the votes of 20 raters: the interval holds one half nearly always."""
    outside = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        votes = [
            vote("x" if generator.random() < 0.7 else "y", rater=f"r{i % 20}", prompt=f"p{i % 30}")
            for i in range(200)
        ]
        scores = {f"p{i}": UP if generator.random() < 0.5 else DOWN for i in range(30)}
        outside += predicted_share(votes, scores).verdict != "not told apart"
    assert outside <= 7  # 3 expected
