"""Whether two scores put pictures in the same order: Spearman's rank correlation, resampled by prompt.

Pictures of one prompt resemble each other, so an interval that takes them as independent is too narrow: whole
prompts are drawn with replacement (the cluster bootstrap, Field and Welsh 2007).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibri.errors import StudyError
from calibri.preference.votes import NoData

DRAWS = 1000
LEAST = 3  # pictures


@dataclass(frozen=True, slots=True)
class Correlation:
    """Spearman's rank correlation in [−1, 1], its interval at `level`, the pictures (n) and prompts that it
    stands on, and how it was made.
    """

    value: float
    low: float
    high: float
    n: int
    prompts: int
    method: str
    level: float = 0.95

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]".replace("-", "−")


def rank_correlation(
    a: Sequence[float] | np.ndarray,
    b: Sequence[float] | np.ndarray,
    prompts: Sequence[str],
    *,
    within: bool = False,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> Correlation | NoData:
    """Spearman's correlation of two scores of the same pictures, each (n,) and finite, with its interval.

    `within`: of what is left when each prompt's mean is taken off, over prompts with two pictures or more:
    whether the scores agree on pictures of one prompt, which is all that a search asks of them. The order in
    which the pictures are given changes nothing. `seed` fixes the resampling. With one prompt pictures are
    resampled, and the interval holds for that prompt alone.

    NoData for fewer than three pictures, or where one score is the same for all. Raises StudyError for scores
    of another number or that are not finite.
    """
    scores = np.array([a, b], dtype=np.float64)  # (2, n)
    if scores.shape != (2, len(prompts)):
        raise StudyError(f"expected two scores of {len(prompts)} pictures, got shape {scores.shape}")
    if not np.isfinite(scores).all():
        raise StudyError(f"expected finite scores, got {scores[~np.isfinite(scores)][0]}")
    names = np.array(prompts, dtype=object)
    if within:
        scores, names = _take_off_means(scores, names)
    n = len(names)
    if n < LEAST:
        return NoData(f"fewer than {LEAST} pictures{' of prompts with several' if within else ''}")
    places = [np.unique(row, return_inverse=True)[1] for row in scores]
    value = _spearman(places, np.ones(n))
    if value is None:
        return NoData("one of the two scores is the same for all pictures")
    different, groups = np.unique(names.astype(str), return_inverse=True)
    count = len(different)
    if count == 1:  # the pictures, in an order of their own
        groups = np.empty(n, dtype=np.int64)
        groups[np.lexsort(scores)] = np.arange(n)
    clusters = count if count > 1 else n
    drawn = np.random.default_rng(seed).multinomial(clusters, np.full(clusters, 1 / clusters), size=draws)
    again = [_spearman(places, row[groups].astype(np.float64)) for row in drawn]
    low, high = np.quantile(
        [r for r in again if r is not None] or [value], [0.5 - level / 2, 0.5 + level / 2]
    )
    words = f"cluster bootstrap over {count} prompts" if count > 1 else "bootstrap over pictures (one prompt)"
    return Correlation(value, float(min(low, value)), float(max(high, value)), n, count, words, level)


def _take_off_means(scores: np.ndarray, names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(2, n), (n,) → the same for prompts with several pictures, each prompt's mean taken off."""
    _, groups, sizes = np.unique(names.astype(str), return_inverse=True, return_counts=True)
    means = np.array([np.bincount(groups, weights=row, minlength=len(sizes)) / sizes for row in scores])
    scale = np.abs(scores).max(axis=1, initial=0, keepdims=True)
    left = (scores - means[:, groups]) / np.where(scale > 0, scale, 1)
    kept = sizes[groups] > 1
    return np.round(left[:, kept], 12), names[kept]  # rounded: equal scores must leave equal rests


def _spearman(places: Sequence[np.ndarray], weights: np.ndarray) -> float | None:
    """Correlation of the mid-ranks of pictures that count `weights` times each; None where one has no order.

    places: for each score, (n,) the number of its value among the different values, from the lowest.
    """
    total = weights.sum()
    centred = []
    for place in places:
        sums = np.bincount(place, weights=weights)
        middle = np.cumsum(sums) - sums / 2 - total / 2  # mid-ranks, their mean taken off
        centred.append(middle[place])
    x, y = centred
    squares = (weights @ (x * x)) * (weights @ (y * y))
    # The least that x·x can be with two values: a half where one picture differs.
    if (weights @ (x * x)) < 0.25 or (weights @ (y * y)) < 0.25:
        return None
    return float(np.clip((weights @ (x * y)) / np.sqrt(squares), -1.0, 1.0))
