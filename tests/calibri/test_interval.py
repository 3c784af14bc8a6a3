"""Intervals of paired differences."""

import numpy as np
import pytest
from scipy import stats

from calibri.errors import CalibriError
from calibri.interval import Interval, paired_interval


def test_the_interval_is_students():
    values = np.random.default_rng(0).normal(0.3, 1, 25)
    low, high = stats.t.interval(0.95, 24, loc=values.mean(), scale=stats.sem(values))
    interval = paired_interval(values)
    np.testing.assert_allclose((interval.low, interval.high), (low, high))
    assert interval.n == 25


def test_it_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    intervals = [paired_interval(rng.normal(0.5, 2, 12)) for _ in range(2000)]
    assert 0.935 < np.mean([i.low <= 0.5 <= i.high for i in intervals]) < 0.965


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.1, 0.3, "better"), (-0.3, -0.1, "worse"), (-0.1, 0.3, "not told apart")]
)
def test_an_interval_that_holds_zero_tells_nothing_apart(low, high, verdict):
    assert Interval(mean=(low + high) / 2, low=low, high=high, n=9).verdict == verdict


@pytest.mark.parametrize("values", [[], [1.0], [1.0, np.nan], [[1.0, 2.0]]])
def test_what_has_no_interval_is_refused(values):
    with pytest.raises(CalibriError):
        paired_interval(values)
