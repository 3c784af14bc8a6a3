from __future__ import annotations

import numpy as np
import pytest

from benchmarks.coverage import Scenario, measure
from calibri.preference import NoData, Rate, two_way_interval, win_rate


def test_the_interval_covers_where_the_plain_one_does_not():
    """A small version of benchmarks/coverage.py: prompts and raters differ as in a study of 200 votes."""
    covered = measure(Scenario(prompts=40, raters=20, per_prompt=5), runs=300, draws=200)
    assert covered["two-way"] >= 0.925  # nominal 0.95, binomial standard error 0.013
    assert covered["plain"] < 0.88


def test_without_clusters_it_is_hardly_wider_than_the_plain_interval():
    generator = np.random.default_rng(0)
    from tests.calibri.preference.conftest import make

    votes = [
        make("x" if generator.random() < 0.6 else "y", rater=f"r{i}", prompt=f"p{i}") for i in range(150)
    ]
    two_way, plain = two_way_interval(votes), win_rate(votes)
    assert 0.95 < (two_way.high - two_way.low) / (plain.high - plain.low) < 1.2


def test_more_votes_of_the_same_raters_on_the_same_prompts_teach_little(grid):
    few = two_way_interval(grid("xxyx", "xyyx", "xxxy"))
    many = two_way_interval([v for _ in range(20) for v in grid("xxyx", "xyyx", "xxxy")])
    assert many.high - many.low > 0.8 * (few.high - few.low)


def test_all_wins_are_no_certainty(grid):
    rate = two_way_interval(grid("xxxxx", "xxxxx", "xxxxx"))
    assert (rate.value, rate.high) == (1.0, 1.0)
    assert rate.low < 0.75


def test_one_rater_is_named_as_such(grid):
    rate = two_way_interval(grid("xxyxxyxx"))
    assert isinstance(rate, Rate)
    assert "one rater" in rate.method


def test_one_rater_on_one_pair_has_no_interval(grid):
    assert isinstance(two_way_interval(grid("x")), NoData)


def test_one_rater_on_pictures_of_one_prompt_is_named_as_such(vote):
    rate = two_way_interval([vote(word, pair=f"seed {i}") for i, word in enumerate(["x", "x", "y", "x"])])
    assert rate.method == "bootstrap over pairs (one rater, one prompt)"
    assert rate.low < 0.5 < 0.75 == rate.value


def test_the_same_votes_give_the_same_interval(grid):
    votes = grid("xxyxxyxx", "xyyxxxtx")
    assert two_way_interval(votes) == two_way_interval(votes)


@pytest.mark.parametrize("words", ["xxxx", "yyyy", "tttt", "xyxy"])
def test_the_interval_holds_the_rate_and_stays_in_bounds(grid, words):
    rate = two_way_interval(grid(words, words))
    assert 0 <= rate.low <= rate.value <= rate.high <= 1
