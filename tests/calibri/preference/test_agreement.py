"""Krippendorff's alpha against the worked examples of K. Krippendorff, "Computing Krippendorff's
Alpha-Reliability" (2011), https://repository.upenn.edu/asc_papers/43, sections A, B, C and E."""

from __future__ import annotations

import numpy as np
import pytest

from calibri.preference import NoData, gold_accuracy, krippendorff_alpha, repeat_consistency, votes_alpha


def numbers(*rows: str) -> np.ndarray:
    return np.array([[np.nan if c == "." else float(c) for c in row.replace(" ", "")] for row in rows])


BINARY = numbers("0100000010", "1110010000")  # section A
MANY = numbers("12332141 2...", "123322412 5.3", ".3332342251.", "12332441251.")  # sections C and E


def test_two_raters_binary_data():
    assert krippendorff_alpha(BINARY) == pytest.approx(0.095, abs=5e-4)


def test_two_raters_nominal_data():
    ben, gerry = "aabbdcccedda", "babbbcccEddd".lower()
    table = np.array([[ord(c) for c in ben], [ord(c) for c in gerry]], dtype=float)
    assert krippendorff_alpha(table) == pytest.approx(0.692, abs=5e-4)


@pytest.mark.parametrize(
    "metric, expected", [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849), ("ratio", 0.797)]
)
def test_four_raters_with_missing_values(metric, expected):
    assert krippendorff_alpha(MANY, metric) == pytest.approx(expected, abs=5e-4)


def test_perfect_agreement_is_one():
    assert krippendorff_alpha(numbers("0101", "0101")) == pytest.approx(1.0)


def test_what_cannot_disagree_is_no_data():
    assert isinstance(krippendorff_alpha(numbers("111", "111")), NoData)
    assert isinstance(krippendorff_alpha(numbers("1..", ".0.")), NoData)


def test_alpha_of_votes_leaves_skips_out(grid):
    assert votes_alpha(grid("xyxy", "xyxs")) == pytest.approx(votes_alpha(grid("xyxy", "xyx-")))


def test_alpha_of_no_votes_is_no_data():
    assert isinstance(votes_alpha([]), NoData)


def test_gold_counts_the_plainly_better_side(grid):
    rate = gold_accuracy(grid("xxyts", kind="gold"))
    assert (rate.value, rate.n) == (0.5, 4)


def test_a_repeat_is_compared_with_the_first_answer_of_the_same_rater(vote):
    votes = [
        vote("x", rater="r1", prompt="p1"),
        vote("y", rater="r2", prompt="p1"),
        vote("x", rater="r1", prompt="p1", kind="repeat"),
        vote("x", rater="r2", prompt="p1", kind="repeat"),
        vote("x", rater="r3", prompt="p1", kind="repeat"),
    ]
    rate = repeat_consistency(votes)
    assert (rate.value, rate.n) == (0.5, 2)
