from __future__ import annotations

import numpy as np
import pytest

from calibri.errors import StudyError
from calibri.preference import NoData, consensus, inflation
from tests.calibri.preference.conftest import make


@pytest.mark.parametrize(
    "true, inflated, kept", [(0.55, 0.646, 0.2575), (0.60, 0.771, 0.28), (0.5, 0.5, 0.25)]
)
def test_unanimity_of_three_inflates_as_the_formula_says(true, inflated, kept):
    assert inflation(true, 3) == pytest.approx((inflated, kept), abs=6e-4)


def test_a_simulated_study_inflates_as_the_formula_says():
    generator = np.random.default_rng(3)
    votes = [
        make("x" if generator.random() < 0.6 else "y", rater=f"r{r}", prompt=f"p{p}")
        for p in range(4000)
        for r in range(3)
    ]
    result = consensus(votes, 3)
    assert result.rate.value == pytest.approx(0.771, abs=0.04)  # 4 standard errors of 1,120 pairs: 0.05
    assert result.unfiltered.value == pytest.approx(0.60, abs=0.02)
    assert result.share_kept == pytest.approx(0.28, abs=0.03)


def test_a_pair_with_too_few_votes_is_not_eligible(grid):
    result = consensus(grid("xx", "xx", "x-"), 3)
    assert (result.kept, result.eligible) == (1, 1)


def test_a_tie_breaks_unanimity_and_a_skip_is_no_vote(grid):
    assert consensus(grid("x", "x", "x", "t"), 3).kept == 0
    assert consensus(grid("x", "x", "x", "s"), 3).kept == 1


def test_no_agreement_is_no_data(grid):
    result = consensus(grid("x", "y", "x"), 3)
    assert isinstance(result.rate, NoData)
    assert result.share_kept == 0.0


def test_no_votes_keep_no_share():
    assert consensus([], 3).share_kept is None


def test_pairs_must_be_known(vote):
    with pytest.raises(StudyError, match="which pair"):
        consensus([vote("x", pair="")], 3)
