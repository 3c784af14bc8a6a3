"""The point that a search has reached, from all its scores: where a quadratic through them is highest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calibri.search.records import GenerationRecord
from calibri.search.stopping import tail_average

FOLDS = 5
HALF = 0.5
# Ridges, in units of the first steps: the fit takes those that predict generations best that it did not see.
# Between them lie slopes that only many scores can show, and curvatures from free to equal for all numbers.
SLOPES = (3.3, 11.0, 33.0, 110.0)
CURVATURES = (120.0, 1.2e3, 1.2e4, 1.2e6)
FLATTEST = 0.25  # of the mean curvature: a number without effect must not run to the edge


def point_reached(
    generations: Sequence[GenerationRecord],
    share: float,
    start: np.ndarray,
    steps: np.ndarray,
    *,
    trust: float = HALF,
    objectives: Sequence[np.ndarray] | None = None,
) -> np.ndarray:
    """Between the tail average over `share` of the images and the optimum of the fit, `trust` of the way
    (halfway); the tail average alone while there is no fit. (n,) `objectives`: as in `fitted_optimum`.

    The two err in different ways: the one forgets what the search scored early on, the other takes the
    rewards for a quadratic. Measured on tabletop in `benchmarks/efficiency.py`.
    """
    tail = tail_average(generations, share)
    optimum = fitted_optimum(generations, start, steps, objectives)
    if optimum is None:
        return tail
    return (tail + optimum) / 2 if trust == HALF else (1 - trust) * tail + trust * optimum


def fitted_optimum(
    generations: Sequence[GenerationRecord],
    start: np.ndarray,
    steps: np.ndarray,
    objectives: Sequence[np.ndarray] | None = None,
) -> np.ndarray | None:
    """Highest point, (n,), of y = b·z − Σ hᵢ zᵢ² with z = (x − start) / steps, inside the box of all
    candidates.

    Fitted by ridge regression to every candidate's objective, or to `objectives`, (popsize,) of each
    generation. Within a generation all candidates see the
    same pairs, so what is fitted are differences from its mean: luck with the pairs drops out. None before
    `FOLDS` generations, and where the fit has no maximum.
    """
    if len(generations) < FOLDS:
        return None
    n = len(start)
    candidates = [record.candidate_array() for record in generations]
    grams = np.zeros((FOLDS, 2 * n + 1, 2 * n + 1))
    products = np.zeros((FOLDS, 2 * n + 1))
    totals = np.zeros(FOLDS)
    for number, (record, x) in enumerate(zip(generations, candidates, strict=True)):
        fold = number % FOLDS
        terms = _terms((x - start) / steps)
        y = np.array(record.objective) if objectives is None else objectives[number]
        y = y - y.mean()
        grams[fold] += terms.T @ terms
        products[fold] += terms.T @ y
        totals[fold] += y @ y
    slope, curvature = min(
        ((s, c) for s in SLOPES for c in CURVATURES),
        key=lambda ridges: _unexplained(grams, products, totals, _ridge(n, *ridges)),
    )
    found = np.linalg.solve(grams.sum(axis=0) + _ridge(n, slope, curvature), products.sum(axis=0))
    common, own = -found[n], -found[n + 1 :]
    if common <= 0:
        return None
    bend = np.maximum(common + own - own.mean(), FLATTEST * common)
    seen = np.concatenate(candidates)
    return np.clip(start + steps * found[:n] / (2 * bend), seen.min(axis=0), seen.max(axis=0))


def _terms(z: np.ndarray) -> np.ndarray:
    """(popsize, 2n + 1): z, |z|², and each zᵢ² beside their mean, all less their mean over the
    generation.
    """
    squares = z**2
    terms = np.concatenate(
        [z, squares.sum(axis=1, keepdims=True), squares - squares.mean(axis=1, keepdims=True)], axis=1
    )
    return terms - terms.mean(axis=0)


def _ridge(n: int, slope: float, curvature: float) -> np.ndarray:
    return np.diag(np.concatenate([np.full(n, slope), [1e-6], np.full(n, curvature)]))


def _unexplained(grams: np.ndarray, products: np.ndarray, totals: np.ndarray, ridge: np.ndarray) -> float:
    """Squared error over all folds, each predicted from the others."""
    error = 0.0
    for fold in range(len(totals)):
        rest = np.arange(len(totals)) != fold
        c = np.linalg.solve(grams[rest].sum(axis=0) + ridge, products[rest].sum(axis=0))
        error += totals[fold] - 2 * c @ products[fold] + c @ grams[fold] @ c
    return float(error)
