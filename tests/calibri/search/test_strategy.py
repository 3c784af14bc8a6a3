"""The optimisers: reproducible, private, bounded, and good at a known function."""

import numpy as np
import pytest

from calibri.errors import SearchError
from calibri.search.strategy import StrategySettings, make_strategy

NAMES = ("cma", "mirrored-adam")


def settings(n=6, seed=0, **changes):
    values = {
        "start": np.ones(n),
        "lower": np.full(n, 0.5),
        "upper": np.full(n, 1.5),
        "steps": np.full(n, 0.1),
        "seed": seed,
    }
    return StrategySettings(**{**values, **changes})


def hill(candidates, top=1.2):
    return -((np.asarray(candidates) - top) ** 2).sum(axis=1)


def trajectory(name, generations=6, **changes):
    strategy = make_strategy(name, settings(**changes))
    asked = []
    for _ in range(generations):
        candidates = strategy.ask()
        asked.append(candidates)
        strategy.tell(hill(candidates))
    return np.array(asked)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1])
def test_the_same_seed_gives_bitwise_the_same_candidates(name, seed):
    assert (trajectory(name, seed=seed) == trajectory(name, seed=seed)).all()


@pytest.mark.parametrize("name", NAMES)
def test_seed_zero_is_a_seed_like_any_other(name):
    assert not np.allclose(trajectory(name, seed=0), trajectory(name, seed=1))


@pytest.mark.parametrize("name", NAMES)
def test_global_random_state_is_neither_read_nor_written(name):
    before = np.random.get_state()  # noqa: NPY002
    first = trajectory(name)
    after = np.random.get_state()  # noqa: NPY002
    assert before[2] == after[2] and (before[1] == after[1]).all()
    np.random.random(100)  # noqa: NPY002
    assert (trajectory(name) == first).all()


@pytest.mark.parametrize("name", NAMES)
def test_replaying_the_scores_gives_bitwise_the_next_candidates(name):
    first = make_strategy(name, settings())
    told = []
    for _ in range(5):
        scores = hill(first.ask())
        told.append(scores.tolist())
        first.tell(scores)
    again = make_strategy(name, settings())
    for scores in told:
        again.ask()
        again.tell(scores)
    assert (first.ask() == again.ask()).all()
    assert (first.mean == again.mean).all()


def test_cma_climbs_a_known_hill():
    strategy = make_strategy("cma", settings(n=16, mean_rate="constant"))
    for _ in range(60):
        strategy.tell(hill(strategy.ask()))
    assert np.abs(strategy.mean - 1.2).max() < 0.01


@pytest.mark.parametrize("name", NAMES)
def test_the_mean_improves_under_noise(name):
    rng = np.random.default_rng(3)
    strategy = make_strategy(name, settings(n=16))
    for _ in range(80):
        candidates = strategy.ask()
        strategy.tell(hill(candidates) + rng.normal(0, 0.1, len(candidates)))
    assert hill(strategy.mean[None])[0] > 0.4 * hill(np.ones((1, 16)))[0]


def test_limited_steps_shrink_under_noise_where_free_ones_drift():
    rng = np.random.default_rng(5)
    steps = np.array([0.3] * 12 + [0.1] * 4)
    limited = make_strategy("cma", settings(n=16, steps=steps, step_limit="decay"))
    free = make_strategy("cma", settings(n=16, steps=steps))
    for _ in range(100):
        for strategy in (limited, free):
            strategy.tell(rng.normal(size=len(strategy.ask())))  # nothing but noise
        assert (limited.spread <= steps * limited.step_limit * (1 + 1e-9)).all()
    assert limited.step_limit == pytest.approx(1 / np.sqrt(1 + 100 / 8))
    assert (free.spread / steps).max() > 2 * (limited.spread / steps).max()


def test_the_start_is_the_first_candidate():
    start = np.array([0.9, 1.0, 1.1, 1.2])
    strategy = make_strategy("cma", settings(n=4, start=start))
    np.testing.assert_allclose(strategy.ask()[0], start, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_candidates_and_mean_stay_within_the_bounds(name):
    strategy = make_strategy(name, settings(n=5, steps=np.full(5, 0.6)))
    for _ in range(25):
        candidates = strategy.ask()
        assert candidates.min() >= 0.5 and candidates.max() <= 1.5
        strategy.tell(hill(candidates, top=3.0))
        assert strategy.mean.min() >= 0.5 and strategy.mean.max() <= 1.5


def test_each_number_has_its_own_first_step():
    steps = np.array([0.01] * 4 + [0.2] * 2)
    strategy = make_strategy("cma", settings(n=6, steps=steps, popsize=200))
    spread = strategy.ask()[1:].std(axis=0)
    np.testing.assert_allclose(spread, steps, rtol=0.25)


def test_mirrors_lie_opposite_the_worst_candidates_of_the_generation_before():
    strategy = make_strategy("cma", settings(n=8, popsize=12))
    first = strategy.ask()
    scores = hill(first)
    before = np.ones(8)
    strategy.tell(scores)
    worst = first[np.argmin(scores)] - before
    directions = strategy.ask()[:3] - strategy.mean
    cosines = directions @ worst / np.linalg.norm(directions, axis=1) / np.linalg.norm(worst)
    assert cosines.min() < -0.999


def test_no_mirrors_and_a_constant_rate_is_plain_pycma():
    import cma

    class Normal:
        def __init__(self):
            self.rng = np.random.Generator(np.random.PCG64(7))

        def __call__(self, *shape):
            return self.rng.standard_normal(shape)

    plain = cma.CMAEvolutionStrategy(
        [1.0] * 6,
        0.1,
        {
            "randn": Normal(),
            "seed": np.nan,
            "bounds": [0.5, 1.5],
            "verbose": -9,
            "verb_log": 0,
            "CMA_mirrors": 0,
            "signals_filename": None,
        },
    )
    plain.inject([np.ones(6)], force=True)
    ours = make_strategy("cma", settings(seed=7, mirrors=0.0, mean_rate="constant"))
    for _ in range(8):
        theirs = plain.ask()
        np.testing.assert_array_equal(ours.ask(), np.array(theirs))
        plain.tell(theirs, (-hill(theirs)).tolist())
        ours.tell(hill(theirs))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", NAMES)
def test_scores_that_are_not_finite_are_refused_and_change_nothing(name, bad):
    strategy = make_strategy(name, settings())
    scores = hill(strategy.ask())
    spoiled = scores.copy()
    spoiled[2] = bad
    with pytest.raises(SearchError, match="candidate 2"):
        strategy.tell(spoiled)
    strategy.tell(scores)
    clean = make_strategy(name, settings())
    clean.tell(hill(clean.ask()))
    assert (strategy.ask() == clean.ask()).all()


def test_a_wrong_number_of_scores_is_refused():
    strategy = make_strategy("cma", settings())
    strategy.ask()
    with pytest.raises(SearchError, match="one for each candidate"):
        strategy.tell([1.0, 2.0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"start": np.full(6, 1.6)}, "outside its bounds"),
        ({"steps": np.zeros(6)}, "step"),
        ({"start": np.array([1, 1, np.nan, 1, 1, 1])}, "finite"),
        ({"upper": np.full(6, 0.4)}, "lower bound"),
        ({"upper": np.full(5, 1.5)}, "shape"),
        ({"seed": -1}, "seed"),
        ({"popsize": 3}, "at least 4"),
        ({"mirrors": 0.5}, "mirrors"),
        ({"mean_rate": "fast"}, "mean_rate"),
        ({"step_limit": "some"}, "step_limit"),
    ],
)
def test_settings_that_cannot_work_say_why(changes, words):
    with pytest.raises(SearchError, match=words):
        settings(**changes)


def test_an_unknown_optimiser_is_named_with_the_known_ones():
    with pytest.raises(SearchError, match="cma, mirrored-adam"):
        make_strategy("adam", settings())
