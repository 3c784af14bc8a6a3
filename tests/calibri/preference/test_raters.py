from __future__ import annotations

import numpy as np
import pytest

from calibri.preference import Thresholds, rater_reports
from tests.calibri.preference.conftest import make


def session(rater: str, choices: list[str], lefts: list[bool], **more: object):
    return [
        make(word, rater=rater, prompt=f"p{i}", left_is_x=left, order=float(i), response_ms=2500.0, **more)
        for i, (word, left) in enumerate(zip(choices, lefts))
    ]


@pytest.fixture
def sides():
    return list(np.random.default_rng(5).random(40) < 0.5)


def test_who_always_presses_left_is_flagged(sides):
    votes = session("lefty", ["x" if left else "y" for left in sides], sides)
    report = rater_reports(votes)[0]
    assert any("favours the left side (40 of 40)" in flag for flag in report.flags)
    assert report.longest_streak == 40


def test_who_looks_is_not_flagged(sides):
    generator = np.random.default_rng(6)
    votes = session("careful", ["x" if generator.random() < 0.65 else "y" for _ in sides], sides)
    assert rater_reports(votes)[0].flags == ()


def test_honest_raters_are_rarely_flagged_for_sides():
    generator = np.random.default_rng(8)
    flagged = 0
    for r in range(200):
        lefts = list(generator.random(28) < 0.5)
        flagged += any(
            "favours" in f
            for f in rater_reports(session(f"r{r}", list(generator.choice(["x", "y"], 28)), lefts))[0].flags
        )
    assert flagged <= 2  # p < 0.001 each


def test_who_misses_plain_pairs_is_flagged(sides):
    votes = session("careless", ["y", "x", "y", "y"], sides[:4], kind="gold")
    assert "missed plain pairs (1 of 4 right)" in rater_reports(votes)[0].flags


def test_who_answers_at_once_is_flagged():
    votes = [make("x", prompt=f"p{i}", response_ms=200.0, order=float(i)) for i in range(6)]
    assert "answers in 200 ms (median)" in rater_reports(votes)[0].flags


def test_thresholds_are_the_protocol_s():
    votes = [make("x", prompt=f"p{i}", response_ms=200.0, order=float(i)) for i in range(6)]
    assert rater_reports(votes, Thresholds(fast_ms=100))[0].flags == ()


def test_few_votes_raise_no_flag():
    assert rater_reports([make("y", kind="gold"), make("y", kind="gold", prompt="q")])[0].flags == ()
