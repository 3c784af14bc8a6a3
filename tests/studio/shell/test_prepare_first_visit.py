"""The opening pictures are those whose gains are nearest to the mean."""

from __future__ import annotations

import numpy as np

from studio.rendering.first_visit import read_visit
from studio.shell.prepare_first_visit import choose_typical


def test_the_typical_ask_is_nearest_to_the_mean() -> None:
    gains = np.array([[0.0, 5.0], [1.0, 2.0], [4.0, 0.5], [1.2, 2.4]])
    place, mean = choose_typical(gains)
    assert place == 3 and np.allclose(mean, [1.55, 2.475])


def test_an_ask_with_another_sign_than_the_mean_is_passed_over_where_another_one_has_it() -> None:
    gains = np.array([[-0.5, 2.0], [3.0, 2.1], [0.3, 1.9], [0.4, 8.0]])
    place, mean = choose_typical(gains)
    assert mean[0] > 0 and place != 0
    only = np.array([[-1.0, 1.0], [3.0, -0.5]])
    assert choose_typical(only)[0] in (0, 1)


def test_what_ships_gains_where_the_mean_gains() -> None:
    visit = read_visit()
    assert visit is not None and visit.typical is not None and visit.typical.of >= 12
    base, *others = visit.arms
    for arm in others:
        for name, mean in visit.typical.gains[arm.arm].items():
            gain = arm.rewards[name] - base.rewards[name]
            assert gain * mean > -0.05 * abs(mean), (arm.arm, name)
            assert abs(gain - mean) < 2.5 * max(abs(mean), 0.5), (arm.arm, name)
