"""Which scales mattered to the rewards of searches: permutation importance on what their candidates scored.

A ridge regression predicts a candidate's score from its scales and their squares, each generation centred by
itself, since every generation is scored on other prompts. In each of FOLDS parts that the fit has not
seen, one scale's values are shuffled: how much worse the prediction gets, in shares of the scores'
variance, is that scale's importance (Breiman 2001, Random Forests, section 10; Fisher, Rudin and Dominici
2019, eq. 3.1). For independent scales and an additive reward Σ f_j this is 2·Var(f_j)/Var(score).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibri.errors import SearchError
from calibri.search.journal import read_journal
from calibri.search.records import GenerationRecord

FOLDS, SHUFFLES = 5, 20
FEWEST = 40  # scored candidates
MOST = 20_000  # of the newest
PENALTIES = tuple(10.0**e for e in range(-3, 4))  # of the ridge, times the number of candidates


@dataclass(frozen=True)
class Importance:
    """Of each scale, in shares of the scores' variance within generations: `mean`, and `low`, `high`, the
    range of the middle 90 % of its shuffles in all parts, each (n,). `explained`: share of that variance
    that the fit predicts in parts it has not seen; near 0 or below, nothing can be said. `count`:
    candidates."""

    labels: tuple[str, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    explained: float
    count: int


def read_candidates(folders: Sequence[Path]) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray]:
    """Labels (n), scales (m, n), scores (m,) and generation (m,) of all candidates of these runs, the
    newest MOST of them. Raises SearchError where the runs do not search the same scales, JournalError."""
    found: list[tuple[str, ...]] = []
    rows: list[np.ndarray] = []
    scores: list[np.ndarray] = []
    groups: list[np.ndarray] = []
    for folder in folders:
        records = read_journal(folder)
        labels = next((tuple(r.labels) for r in records if r.kind == "session" and r.labels), ())
        found.append(labels)
        for record in records:
            if isinstance(record, GenerationRecord):
                rows.append(record.candidate_array())
                scores.append(np.asarray(record.scores, dtype=np.float64))
                groups.append(np.full(len(record.scores), len(groups)))
    if len(set(found)) > 1:
        raise SearchError("These searches do not search the same scales. Choose some that do.")
    if not rows:
        return (found[0] if found else ()), np.zeros((0, 0)), np.zeros(0), np.zeros(0, dtype=int)
    return found[0], np.vstack(rows)[-MOST:], np.concatenate(scores)[-MOST:], np.concatenate(groups)[-MOST:]


def find_importance(
    labels: Sequence[str], scales: np.ndarray, scores: np.ndarray, groups: np.ndarray, seed: int = 0
) -> Importance:
    """The importance of each column of `scales`, (m, n), for `scores`, (m,), centred within `groups`, (m,).

    Raises SearchError for fewer than FEWEST candidates, and where all of them scored the same.
    """
    count = len(scores)
    if count < FEWEST:
        raise SearchError(f"Expected at least {FEWEST} scored candidates, got {count}. Let the search go on.")
    target = _centre(np.asarray(scores, dtype=np.float64), groups)
    variance = float(target.var())
    if not np.isfinite(variance) or variance <= 1e-18:
        raise SearchError("All candidates scored the same: no scale can be told apart.")
    random = np.random.default_rng(seed)
    x = np.asarray(scales, dtype=np.float64)
    part = random.permutation(count) % FOLDS
    penalty = min(PENALTIES, key=lambda p: sum(_squares(x, target, groups, part, p)))
    lost = sum(_squares(x, target, groups, part, penalty)) / count
    worse = np.concatenate([*_shuffle_all(x, target, groups, part, penalty, random)]) / variance
    low, high = np.quantile(worse, [0.05, 0.95], axis=0)
    return Importance(
        tuple(labels),
        tuple(worse.mean(axis=0).tolist()),
        tuple(low.tolist()),
        tuple(high.tolist()),
        1 - lost / variance,
        count,
    )


def _centre(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Values, (m,) or (m, k), less the mean of their group."""
    _, where, counts = np.unique(groups, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), *values.shape[1:]))
    np.add.at(sums, where, values)
    return values - (sums / counts.reshape(-1, *[1] * (values.ndim - 1)))[where]


def _features(x: np.ndarray) -> np.ndarray:
    return np.hstack([x, (x - 1) ** 2])


@dataclass(frozen=True)
class _Fit:
    """A ridge regression on one part's complement. `rest`: the part, (k,)."""

    weights: np.ndarray
    rest: np.ndarray


def _fits(
    x: np.ndarray, y: np.ndarray, groups: np.ndarray, part: np.ndarray, penalty: float
) -> Iterator[_Fit]:
    features = _centre(_features(x), groups)
    sizes = features.std(axis=0)
    features = features / np.where(sizes > 1e-12, sizes, np.inf)
    back = np.where(sizes > 1e-12, 1 / np.where(sizes > 1e-12, sizes, 1), 0)
    for number in range(FOLDS):
        seen = part != number
        a = features[seen]
        gram = a.T @ a + penalty * len(a) * np.eye(a.shape[1])
        yield _Fit(np.linalg.solve(gram, a.T @ y[seen]) * back, np.flatnonzero(~seen))


def _squares(
    x: np.ndarray, y: np.ndarray, groups: np.ndarray, part: np.ndarray, penalty: float
) -> Iterator[float]:
    """The sum of squared errors in each part."""
    features = _centre(_features(x), groups)
    for fit in _fits(x, y, groups, part, penalty):
        yield float(((y[fit.rest] - features[fit.rest] @ fit.weights) ** 2).sum())


def _shuffle_all(
    x: np.ndarray,
    y: np.ndarray,
    groups: np.ndarray,
    part: np.ndarray,
    penalty: float,
    random: np.random.Generator,
) -> Iterator[np.ndarray]:
    """Of each part: how much the mean squared error grows when a column is shuffled, (SHUFFLES, n)."""
    n = x.shape[1]
    features = _centre(_features(x), groups)
    for fit in _fits(x, y, groups, part, penalty):
        mine, goal = features[fit.rest], y[fit.rest]
        miss = goal - mine @ fit.weights
        before = float((miss**2).mean())
        worse = np.empty((SHUFFLES, n))
        for column in range(n):
            pair = [column, n + column]
            share = mine[:, pair] @ fit.weights[pair]
            for k in range(SHUFFLES):
                moved = miss + share - share[random.permutation(len(share))]
                worse[k, column] = float((moved**2).mean()) - before
        yield worse
