"""The point reached, from all scores: exact where the reward is a quadratic, careful where it is not."""

import numpy as np
import pytest

from calibri.search.fitted import FOLDS, fitted_optimum, point_reached
from calibri.search.records import pack
from calibri.search.stopping import kept_point, tail_average

START, STEPS = np.ones(3), np.full(3, 0.3)
OPTIMUM = np.array([0.8, 1.25, 1.1])


@pytest.fixture
def generations(make_generation):
    def make(count, reward, luck=0.0, popsize=12):
        """`count` generations of candidates around the start; `luck`: of a generation's pairs, for all."""
        made, rng = [], np.random.default_rng(5)
        for number in range(count):
            x = rng.normal(START, STEPS, (popsize, 3))
            y = np.array([reward(row) for row in x]) + luck * rng.normal()
            made.append(
                make_generation(
                    number,
                    candidates=pack(x),
                    scores=y.tolist(),
                    objective=y.tolist(),
                    mean=rng.normal(1, 0.1, 3).tolist(),
                )
            )
        return made

    return make


def peak(x, heights=(4.0, 4.0, 4.0)):
    return -float(np.sum(np.array(heights) * (x - OPTIMUM) ** 2))


@pytest.mark.parametrize("heights", [(4.0, 4.0, 4.0), (8.0, 3.0, 5.0)])
def test_the_optimum_of_a_quadratic_is_found(generations, heights):
    found = fitted_optimum(generations(40, lambda x: peak(x, heights)), START, STEPS)
    np.testing.assert_allclose(found, OPTIMUM, atol=0.03)


def test_luck_with_the_pairs_of_a_generation_drops_out(generations):
    plain = fitted_optimum(generations(10, peak), START, STEPS)
    lucky = fitted_optimum(generations(10, peak, luck=100.0), START, STEPS)
    np.testing.assert_allclose(lucky, plain, atol=1e-6)


def test_it_does_not_depend_on_units(generations):
    """Rewards times a thousand, and numbers that are searched in steps ten times as wide."""
    plain = fitted_optimum(generations(10, peak), START, STEPS)
    loud = fitted_optimum(generations(10, lambda x: 1000 * peak(x)), START, STEPS)
    np.testing.assert_allclose(loud, plain, atol=1e-6)
    made = generations(10, peak)
    wide = [
        record.model_copy(update={"candidates": pack(START + 10 * (record.candidate_array() - START))})
        for record in made
    ]
    np.testing.assert_allclose(
        fitted_optimum(wide, START, 10 * STEPS), START + 10 * (plain - START), atol=1e-6
    )


def test_a_number_without_effect_stays_and_none_leaves_what_was_tried(generations):
    rng = np.random.default_rng(0)
    made = generations(10, lambda x: 3 * x[0] - 2 * x[1] ** 2 + rng.normal(0, 0.1))
    found = fitted_optimum(made, START, STEPS)
    seen = np.concatenate([record.candidate_array() for record in made])
    assert (found >= seen.min(axis=0)).all() and (found <= seen.max(axis=0)).all()
    assert found[0] > 1.3 and abs(found[2] - 1) < 0.1


def test_without_a_maximum_or_with_few_generations_there_is_no_fit(generations):
    assert fitted_optimum(generations(FOLDS - 1, peak), START, STEPS) is None
    assert fitted_optimum(generations(12, lambda x: -peak(x)), START, STEPS) is None
    few = generations(FOLDS - 1, peak)
    np.testing.assert_array_equal(point_reached(few, 0.5, START, STEPS), tail_average(few, 0.5))


def test_the_point_reached_lies_halfway_to_the_optimum(generations):
    made = generations(12, peak)
    expected = (tail_average(made, 0.5) + fitted_optimum(made, START, STEPS)) / 2
    np.testing.assert_array_equal(point_reached(made, 0.5, START, STEPS), expected)


def test_with_noise_it_lies_nearer_to_the_optimum_than_the_tail_average(generations):
    rng = np.random.default_rng(1)
    made = generations(30, lambda x: peak(x) + rng.normal(0, 0.5))
    reached = point_reached(made, 0.5, START, STEPS)
    assert np.linalg.norm(reached - OPTIMUM) < 0.7 * np.linalg.norm(tail_average(made, 0.5) - OPTIMUM)


def test_what_a_generation_says_is_kept_and_else_the_tail_average(generations):
    made = generations(6, peak)
    np.testing.assert_array_equal(kept_point(made, 0.5), tail_average(made, 0.5))
    said = [*made[:-1], made[-1].model_copy(update={"point": [0.9, 1.0, 1.2]})]
    np.testing.assert_array_equal(kept_point(said, 0.5), [0.9, 1.0, 1.2])
