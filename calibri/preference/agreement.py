"""Whether raters agree with each other, with themselves and with what is plain to see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from calibri.errors import StudyError
from calibri.preference.rates import wilson
from calibri.preference.votes import NoData, Rate, Vote, codes

Metric = Literal["nominal", "ordinal", "interval", "ratio"]


def _rate(hits: Sequence[bool], method: str, why_none: str, level: float) -> Rate | NoData:
    if not hits:
        return NoData(why_none)
    share = sum(hits) / len(hits)
    return Rate(share, *wilson(share, len(hits), level), n=len(hits), method=method, level=level)


def gold_accuracy(votes: Sequence[Vote], level: float = 0.95) -> Rate | NoData:
    """How often the plainly better picture (x of a gold pair) wins. Skips do not count; a tie is a miss."""
    hits = [v.winner == "x" for v in votes if v.kind == "gold" and v.winner != "skip"]
    return _rate(hits, "Wilson, gold pairs", "no vote on a gold pair", level)


def repeat_consistency(votes: Sequence[Vote], level: float = 0.95) -> Rate | NoData:
    """How often a rater answers a pair shown again, sides swapped, as the first time. Skips do not count."""
    first = {
        (v.rater, v.pair, v.question): v.winner for v in votes if v.kind == "real" and v.winner != "skip"
    }
    hits = []
    for vote in votes:
        before = first.get((vote.rater, vote.pair, vote.question))
        if vote.kind == "repeat" and vote.winner != "skip" and before is not None:
            hits.append(vote.winner == before)
    return _rate(hits, "Wilson, repeated pairs", "no pair shown twice to one rater", level)


def krippendorff_alpha(values: np.ndarray, metric: Metric = "nominal") -> float | NoData:
    """Krippendorff's alpha (2011, "Computing Krippendorff's Alpha-Reliability").

    `values`: (raters, units) float64, NaN where a rater did not judge a unit. 1 is perfect agreement, 0 what
    chance gives. NoData where no unit has two values, or all values are the same (nothing could disagree).
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2:
        raise StudyError(f"alpha needs values of shape (raters, units), got {table.shape}")
    table = table[:, (~np.isnan(table)).sum(axis=0) >= 2]
    levels = np.unique(table[~np.isnan(table)])
    if levels.size < 2:
        return NoData("no unit with two values" if levels.size == 0 else "all values are the same")
    # counts[u, c]: how many raters gave unit u the value levels[c]
    counts = np.stack([(table == value).sum(axis=0) for value in levels], axis=1).astype(np.float64)
    pairable = counts.sum(axis=1)  # m_u
    weighted = counts / (pairable - 1)[:, None]
    coincidences = counts.T @ weighted - np.diag(weighted.sum(axis=0))  # o_ck
    totals = coincidences.sum(axis=1)  # n_c
    n = totals.sum()
    distance = _squared_difference(levels, totals, metric)
    observed = (coincidences * distance).sum() / n
    expected = (np.outer(totals, totals) * distance).sum() / (n * (n - 1))
    return float(1 - observed / expected)


def _squared_difference(levels: np.ndarray, totals: np.ndarray, metric: Metric) -> np.ndarray:
    """δ² of Krippendorff (2011), section E, for every two values. (c,), (c,) → (c, c)."""
    a, b = levels[:, None], levels[None, :]
    if metric == "nominal":
        return (a != b).astype(np.float64)
    if metric == "interval":
        return (a - b) ** 2
    if metric == "ratio":
        both = a + b
        return np.divide(a - b, both, out=np.zeros_like(both), where=both != 0) ** 2
    if metric != "ordinal":
        raise StudyError(f"unknown metric {metric!r}; known: nominal, ordinal, interval, ratio")
    upto = np.cumsum(totals)
    between = np.abs(upto[:, None] - upto[None, :])  # Σ n_g over (c, k], the smaller end left out
    low = np.minimum.outer(np.arange(levels.size), np.arange(levels.size))
    high = np.maximum.outer(np.arange(levels.size), np.arange(levels.size))
    distance = between + (totals[low] - totals[high]) / 2  # + half of each end instead
    np.fill_diagonal(distance, 0.0)
    return distance**2


def votes_alpha(votes: Sequence[Vote]) -> float | NoData:
    """Nominal alpha of raters on pairs and questions: x, y, tie and both-bad are values, a skip is missing.

    Only real pairs; x must be the same arm within a pair, which it is as pairs are stored.
    """
    judged = [v for v in votes if v.kind == "real" and v.winner != "skip"]
    if not judged:
        return NoData("no vote on a real pair")
    if any(not v.pair for v in judged):
        raise StudyError("alpha needs to know which pair each vote is on")
    raters, n_raters = codes([v.rater for v in judged])
    units, n_units = codes([(v.pair, v.question) for v in judged])
    answers = {"x": 0.0, "y": 1.0, "tie": 2.0, "both_bad": 3.0}
    table = np.full((n_raters, n_units), np.nan)
    table[raters, units] = [answers[v.winner] for v in judged]
    return krippendorff_alpha(table)
