"""The headline interval: two-way cluster bootstrap over prompts and raters.

Votes of one rater resemble each other, and so do votes on one prompt; an interval that takes them as
independent is too narrow. Resampling prompts and raters at once (the pigeonhole bootstrap, Owen 2007) counts
the noise of the single vote three times and came out √3 too wide in our simulation. So prompts and raters are
resampled apart and the variances put together by inclusion and exclusion (Cameron, Gelbach and Miller 2011,
eq. 2.10): V = V_prompts + V_raters − V_votes. benchmarks/coverage.py measures what it covers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calibri.preference.rates import one_pair_of_arms, wilson
from calibri.preference.votes import NoData, Rate, Vote, codes

DRAWS = 2000


def two_way_interval(
    votes: Sequence[Vote], level: float = 0.95, *, draws: int = DRAWS, seed: int = 0
) -> Rate | NoData:
    """The win rate of x (ties half) with an interval that holds for other prompts and other raters.

    `seed` fixes the resampling, so that a report says the same twice. With one rater only, or one prompt, the
    interval speaks of the other alone; with one of both it speaks of other pictures of that prompt for that
    rater. `method` says so. One rater on one pair is NoData.
    """
    one_pair_of_arms(votes)
    counted = [v for v in votes if v.score is not None]
    if not counted:
        return NoData("no vote that prefers a side or calls a tie")
    scores = np.array([v.score for v in counted], dtype=np.float64)  # (n,)
    prompts, n_prompts = codes([v.prompt for v in counted])
    raters, n_raters = codes([v.rater for v in counted])
    ways = [(groups, size) for groups, size in ((prompts, n_prompts), (raters, n_raters)) if size >= 2]
    if not ways:
        pairs, n_pairs = codes([v.pair for v in counted])
        if n_pairs < 2:
            return NoData("one rater on one pair: nothing to resample")
        ways = [(pairs, n_pairs)]
    cells, n_cells = codes(list(zip(prompts, raters)))
    n, share = scores.size, float(scores.mean())
    generator = np.random.default_rng(seed)

    parts: list[tuple[float, int]] = []  # (variance, clusters) for each way with at least two clusters
    for groups, size in ways:
        parts.append((_cluster_variance(scores, np.array(groups), size, generator, draws), size))
    within = _residual_variance(scores, np.array(cells), n_cells, share)
    total = sum(v for v, _ in parts)
    variance = max(total - within if len(parts) == 2 else total, within, *(v for v, _ in parts))

    fewest = min(size for _, size in parts)
    # Kish's effective number of votes, and Satterthwaite's degrees of freedom for a sum of two variances.
    effective = min(share * (1 - share) / variance, n) if variance > 0 else float(fewest)
    spread = sum(v * v / (size - 1) for v, size in parts)
    df = max(1.0, total * total / spread) if spread > 0 else float(fewest - 1)
    low, high = wilson(share, max(effective, 1e-9), level, df)
    return Rate(share, low, high, n=n, method=_words(n_prompts, n_raters), level=level)


def _words(n_prompts: int, n_raters: int) -> str:
    if n_raters < 2 and n_prompts < 2:
        return "bootstrap over pairs (one rater, one prompt)"
    if n_raters < 2:
        return f"cluster bootstrap over {n_prompts} prompts (one rater)"
    if n_prompts < 2:
        return f"cluster bootstrap over {n_raters} raters (one prompt)"
    return f"two-way cluster bootstrap over {n_prompts} prompts and {n_raters} raters"


def _cluster_variance(
    scores: np.ndarray, groups: np.ndarray, size: int, generator: np.random.Generator, draws: int
) -> float:
    """Variance of the mean score when `size` clusters are drawn with replacement. (n,), (n,) → float."""
    sums = np.bincount(groups, weights=scores, minlength=size)
    counts = np.bincount(groups, minlength=size).astype(np.float64)
    weights = generator.multinomial(size, np.full(size, 1 / size), size=draws).astype(np.float64)
    means = (weights @ sums) / (weights @ counts)  # every cluster has a vote, so no division by zero
    return float(means.var()) * size / (size - 1)  # the bootstrap's own bias for few clusters


def _residual_variance(scores: np.ndarray, groups: np.ndarray, size: int, share: float) -> float:
    """Variance of the mean score if only the votes of one rater on one prompt hang together."""
    residuals = np.bincount(groups, weights=scores - share, minlength=size)
    return float((residuals**2).sum()) / scores.size**2
