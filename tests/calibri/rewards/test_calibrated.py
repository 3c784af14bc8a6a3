"""Calibrated rewards: numbers worked out by hand, what they reduce to, and what always adds up."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibri.errors import RewardError
from calibri.rewards.calibrated import beats, calibrate, expected_wins
from calibri.rewards.catalog import CATALOG

scores = st.lists(st.floats(-50, 50), min_size=2, max_size=8)
shares = st.lists(st.floats(0, 1), min_size=2, max_size=8)


def test_one_picture_of_the_reference_gives_the_sigmoid_of_the_difference():
    found = expected_wins(np.array([2.0]), np.array([1.0]), "bt")
    np.testing.assert_allclose(found, [0.7310585786300049], rtol=1e-15)  # σ(1)


def test_the_expected_win_rate_is_the_mean_over_the_reference():
    found = expected_wins(np.array([1.0, 0.0]), np.array([0.0, 1.0, 3.0]), "bt")
    # (σ(1) + σ(0) + σ(−2)) / 3 and (σ(0) + σ(−1) + σ(−3)) / 3
    np.testing.assert_allclose(found, [0.45008716, 0.27212243], atol=1e-8)


def test_a_temperature_turns_units_into_log_odds():
    hpsv2 = CATALOG["hpsv2"].temperature
    found = beats(np.array(0.29), np.array(0.28), "bt", hpsv2)  # cosines: one unit of log odds apart
    np.testing.assert_allclose(found, 0.7310585786300049, rtol=1e-12)
    assert beats(np.array(0.29), np.array(0.28), "bt") < 0.503  # what it would be without


def test_probabilities_follow_equation_28():
    assert beats(np.array(0.9), np.array(0.3), "probability") == pytest.approx(0.75)
    assert beats(np.array(0.9), np.array(0.3), "probability", alpha=2) == pytest.approx(0.9)
    np.testing.assert_allclose(
        expected_wins(np.array([0.6]), np.array([0.2, 0.6]), "probability"), [(0.75 + 0.5) / 2]
    )


def test_two_pictures_without_any_probability_are_even():
    assert beats(np.array(0.0), np.array(0.0), "probability") == 0.5
    assert beats(np.array(1e-300), np.array(1e-300), "probability", alpha=5) == 0.5
    assert beats(np.array(0.1), np.array(0.0), "probability") == 1


@pytest.mark.parametrize("kind", ["bt", "probability"])
def test_equal_pictures_are_even(kind):
    np.testing.assert_array_equal(expected_wins(np.full(3, 0.7), np.full(5, 0.7), kind), np.full(3, 0.5))
    np.testing.assert_array_equal(calibrate(np.full(4, 0.7), kind), np.full(4, 0.5))


def test_the_picture_itself_is_left_out_of_its_reference():
    found = calibrate(np.array([0.0, 1.0, 3.0]), "bt")
    others = expected_wins(np.array([1.0]), np.array([0.0, 3.0]), "bt")
    np.testing.assert_allclose(found[1], others[0], rtol=1e-15)


@given(scores, st.floats(0.01, 10))
@settings(deadline=None)
def test_calibrated_scores_of_a_prompt_add_up_to_half_their_number(values, temperature):
    found = calibrate(np.array(values), "bt", temperature)
    assert found.sum() == pytest.approx(len(values) / 2)
    order = np.argsort(values, kind="stable")
    assert (np.diff(found[order]) >= -1e-12).all()


@given(shares, st.floats(0.2, 6))
@settings(deadline=None)
def test_so_do_those_of_probabilities(values, alpha):
    found = calibrate(np.array(values), "probability", alpha=alpha)
    assert found.sum() == pytest.approx(len(values) / 2)


def test_prompts_are_calibrated_side_by_side():
    rows = np.array([[0.0, 1.0, 3.0], [2.0, 2.0, -1.0]])
    np.testing.assert_array_equal(calibrate(rows, "bt")[1], calibrate(rows[1], "bt"))
    assert expected_wins(rows, rows[:, :2], "bt").shape == (2, 3)


def test_large_differences_do_not_overflow():
    np.testing.assert_array_equal(beats(np.array([1e300, -1e300]), np.zeros(2), "bt", 1e-3), [1, 0])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: beats(np.array(1.0), np.array(0.0), "bt", 0), "temperature above 0, got 0"),
        (lambda: beats(np.array(0.5), np.array(0.5), "probability", alpha=-1), "alpha above 0, got -1"),
        (lambda: beats(np.array(3.0), np.array(0.5), "probability"), r"\[0, 1\], got values from 3 to 3"),
        (lambda: expected_wins(np.zeros(2), np.zeros(0), "bt"), "at least one picture of the reference"),
        (lambda: calibrate(np.zeros(1), "bt"), "at least 2 pictures of a prompt"),
    ],
)
def test_what_cannot_be_is_said(call, words):
    with pytest.raises(RewardError, match=words):
        call()


def test_every_temperature_has_a_source_and_probabilities_have_none():
    for spec in CATALOG.values():
        assert spec.temperature is None or spec.temperature_source, spec.name
        assert spec.kind == "bt" or spec.temperature is None, spec.name
