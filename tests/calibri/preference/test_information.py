"""What one more vote is expected to tell about a ranking."""

from __future__ import annotations

import numpy as np
import pytest

from calibri.preference import bradley_terry, expected_information, fit_posterior, rank_doubt
from tests.calibri.preference.conftest import make


def table(**won: tuple[float, float]) -> np.ndarray:
    """table(ab=(3, 1)): a won 3 times over b, b once over a; arms a, b, c."""
    wins = np.zeros((3, 3))
    for name, (one, other) in won.items():
        i, j = ("abc".index(letter) for letter in name)
        wins[i, j], wins[j, i] = one, other
    return wins


def test_the_mean_is_the_fit_that_reports_show():
    votes = [make("x", arm_x="a", arm_y="b")] * 7 + [make("y", arm_x="a", arm_y="b")] * 2
    votes += [make("x", arm_x="b", arm_y="c")] * 4 + [make("tie", arm_x="a", arm_y="c")] * 3
    found = fit_posterior(table(ab=(7, 2), bc=(4, 0), ac=(1.5, 1.5)))
    fit = {s.arm: s.value for s in bradley_terry(votes).arms}
    assert found.mean == pytest.approx([fit["a"], fit["b"], fit["c"]], abs=1e-8)
    assert found.mean.sum() == pytest.approx(0)


def test_without_votes_every_pair_of_arms_tells_the_same():
    found = fit_posterior(np.zeros((3, 3)))
    told = [expected_information(found, i, j) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert told[0] > 0 and told == pytest.approx([told[0]] * 3)
    assert rank_doubt(found.mean, found.covariance) == pytest.approx(3 * np.log(2))


def test_arms_that_are_told_apart_are_worth_less_than_close_ones():
    found = fit_posterior(table(ab=(10, 10), ac=(19, 1), bc=(19, 1)))
    close = expected_information(found, 0, 1)
    assert close > 3 * max(expected_information(found, 0, 2), expected_information(found, 1, 2))


def test_the_order_of_two_arms_changes_nothing():
    found = fit_posterior(table(ab=(5, 9), ac=(2, 1)))
    assert expected_information(found, 0, 2) == pytest.approx(expected_information(found, 2, 0))


def test_votes_on_their_way_make_one_more_of_them_worth_less():
    wins, open_votes = table(ab=(4, 4), ac=(4, 4), bc=(4, 4)), np.zeros((3, 3))
    open_votes[0, 1] = open_votes[1, 0] = 5
    found = fit_posterior(wins, open_votes)
    assert expected_information(found, 0, 1) < expected_information(found, 0, 2)
    assert found.mean == pytest.approx(fit_posterior(wins).mean)


def test_what_is_expected_is_what_votes_tell_on_average():
    """Over many outcomes drawn from the posterior's mean, the fit after one more vote has that much less
    doubt: the rank-one step against a whole new fit."""
    wins = table(ab=(30, 26), ac=(40, 22), bc=(33, 25))
    found = fit_posterior(wins)
    before = rank_doubt(found.mean, found.covariance)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        left = 0.0
        for one, other, share in ((i, j, found.chance(i, j)), (j, i, found.chance(j, i))):
            more = wins.copy()
            more[one, other] += 1
            after = fit_posterior(more)
            left += share * rank_doubt(after.mean, after.covariance)
        assert expected_information(found, i, j) == pytest.approx(before - left, abs=0.003)
