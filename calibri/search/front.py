"""A front: calibrations that trade one reward for another, read from the scores of one search.

The search itself is the one for a single calibration. At its end a quadratic is fitted to all its scores,
once for each weighting of the rewards, so that every picture serves all points. benchmarks/front.py measures
it beside several searches, an optimiser for each weighting, and COMO-CMA-ES.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from calibri.search.config import SearchConfig
from calibri.search.fitted import point_reached
from calibri.search.records import BaseRecord, GenerationRecord

APART = 0.6  # of a weighting; the rest is the same for all rewards, so that none is given up for another
TRUST = 0.75  # how far a point lies on the way from the tail average to the optimum of its fit


def weightings(rewards: int, count: int) -> np.ndarray:
    """Shares of `rewards` rewards, spread evenly, `count` of them or a few more: (K, rewards), rows sum to 1.

    All shares that are multiples of 1/H, for the smallest H that gives enough, and the equal ones. For three
    rewards and 7: each alone, each pair, all.
    """
    equal = np.full((1, rewards), 1 / rewards)
    for parts in itertools.count(1):
        # Stars and bars: where the bars stand between `parts` stars.
        bars = itertools.combinations(range(parts + rewards - 1), rewards - 1)
        edges = ((-1, *places, parts + rewards - 1) for places in bars)
        rows = np.array([np.diff(row) - 1 for row in edges], dtype=np.float64) / parts
        if not np.isclose(rows, equal).all(axis=1).any():
            rows = np.concatenate([rows, equal])
        if len(rows) >= count:
            return rows[np.lexsort(rows.T[::-1])[::-1]]
    raise AssertionError("unreachable")


def shares_of(config: SearchConfig) -> np.ndarray:
    """The weightings of a search for a front, (K, R), as shares of the rewards; (0, R) for others."""
    rewards = len(config.rewards)
    return weightings(rewards, config.front) if config.front else np.zeros((0, rewards))


def weights_of(config: SearchConfig, shares: np.ndarray) -> np.ndarray:
    """Shares (…, R) → weights of the rewards in units of their spread, (…, R). Equal shares are the config's
    own weights.
    """
    own = np.array([term.weight for term in config.rewards], dtype=np.float64)
    mixed = APART * shares * len(own) + (1 - APART)
    return np.asarray(mixed * own)


def judged_images(config: SearchConfig) -> int:
    """Pictures of the final judgement: the base, and the point that is kept or those of the front."""
    if not config.held_out_prompts:
        return 0
    return config.held_out_pairs * (1 + max(1, len(shares_of(config))))


def place_of_equal(shares: np.ndarray) -> int:
    """The row whose shares are all equal."""
    return int(np.argmin(np.abs(shares - 1 / shares.shape[1]).sum(axis=1)))


def front_points(
    config: SearchConfig,
    base: BaseRecord,
    generations: Sequence[GenerationRecord],
    start: np.ndarray,
    steps: np.ndarray,
    kept: np.ndarray,
) -> np.ndarray:
    """The points that a search for a front has reached, (K, n): one for each of its weightings.

    Each lies `TRUST` of the way from the tail average to the optimum of a fit; before there is a fit, on the
    tail average. That of equal shares is `kept`, (n,), what the run keeps.
    """
    names = [term.name for term in config.rewards]
    spread = np.array([base.spread[name] for name in names])
    gains = [np.array([record.rewards[name] for name in names]).T / spread for record in generations]
    shares = shares_of(config)
    equal = place_of_equal(shares)
    points = [
        point_reached(
            generations, config.tail, start, steps, trust=TRUST, objectives=[gain @ weights for gain in gains]
        )
        if place != equal
        else kept
        for place, weights in enumerate(weights_of(config, shares))
    ]
    return np.array(points)


def on_front(gains: np.ndarray) -> np.ndarray:
    """Which of K points are on the front, (K,) bool: gains (K, R), more is better, and no other point has at
    least as much of every reward and more of one. Of equal points all are.
    """
    import moocore

    return np.asarray(moocore.is_nondominated(gains, maximise=True, keep_weakly=True), dtype=bool)


def hypervolume(gains: np.ndarray) -> float:
    """Volume between the base (0, …, 0) and the points (K, R) that are better than it in every reward."""
    import moocore

    if not len(gains):
        return 0.0
    return float(moocore.hypervolume(gains, ref=np.zeros(gains.shape[1]), maximise=True))
