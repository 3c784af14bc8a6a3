"""Spearman's correlation of two scores, with intervals that resample prompts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from calibri.errors import StudyError
from calibri.preference import Correlation, NoData, rank_correlation


def draw(n: int, prompts: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Two scores that share half of their variance, rounded so that some are equal."""
    generator = np.random.default_rng(seed)
    a = generator.normal(size=n).round(1)
    return a, (a + generator.normal(size=n)).round(1), [f"prompt {i % prompts}" for i in range(n)]


@pytest.mark.parametrize("seed", range(5))
def test_it_is_spearmans_also_where_scores_are_equal(seed):
    a, b, prompts = draw(60, 12, seed)
    assert rank_correlation(a, b, prompts).value == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)


def test_the_order_of_the_pictures_changes_nothing():
    a, b, prompts = draw(60, 12)
    again = np.random.default_rng(1).permutation(60)
    for within in (False, True):
        one = rank_correlation(a, b, prompts, within=within)
        other = rank_correlation(a[again], b[again], [prompts[i] for i in again], within=within)
        assert (other.value, other.low, other.high) == pytest.approx((one.value, one.low, one.high))
        assert one.low < one.value < one.high and one.prompts == 12


def test_any_growing_function_of_a_score_is_the_same_order():
    a, b, prompts = draw(60, 12)
    assert rank_correlation(np.exp(a), 3 * b - 7, prompts) == rank_correlation(a, b, prompts)
    assert rank_correlation(a, a, prompts).value == 1
    turned = rank_correlation(a, -a, prompts)
    assert (turned.low, turned.value, turned.high) == (-1, -1, -1)
    assert str(turned) == "−1.00 [−1.00, −1.00]"


def test_more_pictures_of_the_same_prompts_teach_little():
    """Ten copies of each picture leave the interval as wide as it was: the prompts are what is resampled."""
    a, b, prompts = draw(24, 12)
    few = rank_correlation(a, b, prompts)
    many = rank_correlation(np.tile(a, 10), np.tile(b, 10), prompts * 10)
    assert many.value == pytest.approx(few.value)
    assert many.high - many.low == pytest.approx(few.high - few.low, rel=0.05)
    alone = rank_correlation(np.tile(a, 10), np.tile(b, 10), [str(i) for i in range(240)])
    assert alone.high - alone.low < 0.5 * (many.high - many.low)


def test_the_interval_covers():
    """Of 100 samples of 40 prompts × 3 from one population, some 95 intervals hold its correlation."""
    covered = 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        prompt = np.repeat(generator.normal(size=40), 3)
        a, b = (prompt + generator.normal(size=120) for _ in range(2))
        found = rank_correlation(a, b, [str(i // 3) for i in range(120)], draws=200)
        covered += found.low <= 6 / np.pi * np.arcsin(0.5 / 2) <= found.high  # of a Pearson correlation of .5
    assert covered >= 88


def test_within_prompts_what_prompts_have_in_common_does_not_count():
    """Both scores are high on the same prompts and disagree on every picture of one."""
    generator = np.random.default_rng(0)
    level, own = np.repeat(np.arange(30.0), 4), generator.normal(size=120) / 10
    prompts = [str(i // 4) for i in range(120)]
    assert rank_correlation(level + own, level - own, prompts).value > 0.95
    within = rank_correlation(level + own, level - own, prompts, within=True)
    assert within.value == pytest.approx(-1, abs=1e-9) and within.n == 120


def test_within_prompts_a_prompt_with_one_picture_says_nothing():
    a, b, prompts = draw(40, 10)
    more = rank_correlation([*a, 100.0], [*b, -100.0], [*prompts, "alone"], within=True)
    assert more == rank_correlation(a, b, prompts, within=True)
    assert rank_correlation(a[:9], b[:9], [str(i) for i in range(9)], within=True).reason == (
        "fewer than 3 pictures of prompts with several"
    )


def test_equal_scores_leave_equal_rests():
    """0.1 + 0.1 + 0.1 is not 0.3: a constant within prompts must not become an order."""
    constant = np.repeat([0.1, 0.7, 1e9 / 3], 3)
    found = rank_correlation(constant, np.arange(9.0), [str(i // 3) for i in range(9)], within=True)
    assert isinstance(found, NoData) and "same for all" in found.reason


def test_one_prompt_is_named_as_such():
    a, b, _ = draw(20, 1)
    found = rank_correlation(a, b, ["one"] * 20)
    assert isinstance(found, Correlation) and found.method == "bootstrap over pictures (one prompt)"
    again = np.random.default_rng(1).permutation(20)
    assert rank_correlation(a[again], b[again], ["one"] * 20).low == pytest.approx(found.low)


def test_there_may_be_nothing_to_tell():
    assert rank_correlation([1, 2], [1, 2], ["a", "b"]).reason == "fewer than 3 pictures"
    assert "same for all" in rank_correlation([1, 1, 1], [1, 2, 3], ["a", "b", "c"]).reason
    with pytest.raises(StudyError, match="two scores of 2 pictures"):
        rank_correlation([1, 2, 3], [1, 2, 3], ["a", "b"])
    with pytest.raises(StudyError, match="finite scores, got nan"):
        rank_correlation([1, 2, np.nan], [1, 2, 3], ["a", "b", "c"])
