"""How many votes tell two arms apart: the power of the headline interval, worked out before anybody votes.

The votes of one rater resemble each other, and so do votes on one prompt. Intra-class correlations say how
much: the share of a vote's variance that its prompt, or its rater, explains. A study of n votes on P prompts
by R raters then has the variance of the mean share (Kish 1965, for each of the two ways)

    V = p(1 − p)/n · (1 + (n/P − 1)·ρ_prompts + (n/R − 1)·ρ_raters).

The interval is that of `two_way_interval`: Wilson's, with the effective number of votes p(1 − p)/V and
Student's t. It excludes one half exactly where the share is further from it than t·√(V·¼/p(1 − p)).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from calibri.errors import StudyError
from calibri.preference.rates import one_pair_of_arms
from calibri.preference.votes import NoData, Vote, codes

MOST_PROMPTS = 100_000
MOST_RATERS_A_PAIR = 1000
QUANTILES = 20  # at which an estimated variance is looked at, in each of the two ways
LIKEST = 0.95  # a correlation that is estimated is this at most


@dataclass(frozen=True, slots=True)
class Likeness:
    """Intra-class correlations, in [0, 1): of votes on one prompt, and of votes of one rater.

    The defaults are between those of simulated votes whose log odds differ by 0.4 to 0.8 (standard
    deviation) between prompts and between raters: benchmarks/coverage.py.
    """

    prompts: float = 0.1
    raters: float = 0.05

    def __post_init__(self) -> None:
        if min(self.prompts, self.raters) < 0 or self.prompts + self.raters >= 1:
            raise StudyError(
                "expected correlations of 0 or more that are less than 1 together, got "
                f"{self.prompts:g} for prompts and {self.raters:g} for raters"
            )


@dataclass(frozen=True, slots=True)
class Design:
    """The votes on one pair of arms: how many, on how many prompts, by how many raters."""

    votes: int
    prompts: int
    raters: int


def find_power(share: float, design: Design, likeness: Likeness, level: float = 0.95) -> float:
    """The chance that the interval lies above one half, where the true share is `share`, in (0.5, 1)."""
    n, p = design.votes, share
    if not 0.5 < p < 1:
        raise StudyError(f"expected a share above 0.5 and below 1, got {p:g}")
    if min(n, design.prompts, design.raters) < 1:
        raise StudyError(f"expected at least one vote, prompt and rater, got {design}")
    single = p * (1 - p) / n
    by_prompt = max(0.0, n / design.prompts - 1) * likeness.prompts
    by_rater = max(0.0, n / design.raters - 1) * likeness.raters
    true = single * (1 + by_prompt + by_rater)
    limits = _draw_limits(single, (single * (1 + by_prompt), single * (1 + by_rater)), design, level)
    from scipy.special import ndtr

    return float(ndtr((p - 0.5 - np.sqrt(0.25 / (p * (1 - p))) * limits) / math.sqrt(true)).mean())


def _draw_limits(single: float, ways: tuple[float, float], design: Design, level: float) -> np.ndarray:
    """t·√V as `two_way_interval` finds them, over quantiles of what it estimates: with few prompts or raters
    their variances are rough, which widens the interval more often than not. Infinite where it finds none.

    `single`: variance of the mean of independent votes; `ways`: with votes alike on prompts, and of raters.
    """
    from scipy.special import gammaincinv, stdtrit

    quantiles = (np.arange(QUANTILES) + 0.5) / QUANTILES
    drawn, spread = [], np.zeros((QUANTILES, QUANTILES))
    for axis, (variance, size) in enumerate(zip(ways, (design.prompts, design.raters))):
        if size > 1:
            half = (size - 1) / 2
            found = variance * np.expand_dims(gammaincinv(half, quantiles) / half, 1 - axis)
            drawn.append(found + np.zeros_like(spread))
            spread = spread + found**2 / (size - 1)
    if not drawn:
        return np.full((1, 1), math.inf)
    total = sum(drawn[1:], drawn[0])
    df = np.maximum(1.0, total**2 / spread)  # Satterthwaite
    whole = total - single if len(drawn) == 2 else total
    variance = np.maximum(np.maximum.reduce([whole, *drawn]), single)
    limits: np.ndarray = stdtrit(df, 0.5 + level / 2) * np.sqrt(variance)
    return limits


@dataclass(frozen=True, slots=True)
class VotePlan:
    """What tells this share from one half. `votes`: on one pair of arms; `all_votes`: on all of them."""

    share: float
    power: float
    prompts: int
    raters_a_pair: int
    raters: int
    votes: int
    all_votes: int


def plan_votes(
    share: float,
    likeness: Likeness,
    *,
    power: float = 0.8,
    raters_a_pair: int = 5,
    pairs_a_rater: int = 28,
    contests: int = 1,
    seeds: int = 1,
    prompts: int | None = None,
    level: float = 0.95,
) -> VotePlan | NoData:
    """The smallest study that has this power. NoData says why there is none.

    Without `prompts`, each pair of pictures gets `raters_a_pair` votes and prompts are added until it is
    enough. With `prompts`, raters are added to each pair instead, `raters_a_pair` being left aside: what
    prompts have in common is not averaged away by more raters, so that there may be no such study. A rater
    sees `pairs_a_rater` pairs at most, spread over the `contests`, pairs of arms that are compared.
    """
    if not 0 < power < 1:
        raise StudyError(f"expected a power above 0 and below 1, got {power:g}")
    if min(raters_a_pair, pairs_a_rater, contests, seeds, prompts or 1) < 1:
        raise StudyError("expected numbers of raters, pairs, contests, seeds and prompts of 1 or more")

    def make(prompt_count: int, each: int) -> VotePlan:
        votes = prompt_count * seeds * each
        seen = min(pairs_a_rater, prompt_count * seeds * contests)
        raters = max(each, math.ceil(votes * contests / seen))
        reached = find_power(share, Design(votes, prompt_count, raters), likeness, level)
        return VotePlan(share, reached, prompt_count, each, raters, votes, votes * contests)

    if prompts is None:
        plan = _find_first(lambda count: make(count, raters_a_pair), 2, MOST_PROMPTS, power)
        return plan or NoData(f"not even {MOST_PROMPTS} prompts are enough")
    plan = _find_first(lambda each: make(prompts, each), 1, MOST_RATERS_A_PAIR, power)
    if plan is not None:
        return plan
    more = _find_first(lambda count: make(count, raters_a_pair), 2, MOST_PROMPTS, power)
    enough = f"; {more.prompts} prompts are, with {raters_a_pair} raters a pair" if more else ""
    return NoData(f"{prompts} prompts are not enough, however many people vote{enough}")


def _find_first(make: Callable[[int], VotePlan], low: int, most: int, power: float) -> VotePlan | None:
    """The plan with the smallest number from `low` to `most` that reaches `power`, which grows with it."""
    if make(most).power < power:
        return None
    high = low
    while make(high).power < power:
        low, high = high + 1, min(most, 2 * high)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if make(middle).power >= power else (middle + 1, high)
    return make(low)


def estimate_likeness(votes: Sequence[Vote]) -> tuple[Likeness, int] | NoData:
    """Both correlations from votes on one question and one pair of arms, and the votes they stand on.

    Products of two votes' deviations are averaged over pairs of votes that share their prompt alone, their
    rater alone, and neither. The last mean is that of what all votes have in common, the estimated share's
    own error, and is taken off the others (the U-statistics of a two-way random-effects model). NoData where
    there are no such pairs, or all votes are the same.
    """
    one_pair_of_arms(votes)
    counted = [v for v in votes if v.score is not None]
    if len(counted) < 2:
        return NoData("fewer than two votes that prefer a side or call a tie")
    y = np.array([v.score for v in counted], dtype=np.float64)  # (n,)
    y -= y.mean()
    prompts, _ = codes([v.prompt for v in counted])
    raters, _ = codes([v.rater for v in counted])
    cells, _ = codes(list(zip(prompts, raters)))
    own, n = float(y @ y), len(y)
    in_cells, cell_pairs = _sum_products(y, cells, own, n)
    in_prompts, prompt_pairs = _sum_products(y, prompts, own, n)
    in_raters, rater_pairs = _sum_products(y, raters, own, n)
    by_prompt, by_rater = prompt_pairs - cell_pairs, rater_pairs - cell_pairs
    apart = n * (n - 1) - prompt_pairs - rater_pairs + cell_pairs
    if min(by_prompt, by_rater, apart) <= 0:
        return NoData("the votes are of one rater or on one prompt, or nobody shared a prompt")
    # all products together are (Σy)² − Σy² = −Σy²
    common = (-own - in_prompts - in_raters + in_cells) / apart
    variance = own / n - common
    if variance <= 1e-12:
        return NoData("all votes are the same")
    shares = [
        min(LIKEST, max(0.0, (together / pairs - common) / variance))
        for together, pairs in ((in_prompts - in_cells, by_prompt), (in_raters - in_cells, by_rater))
    ]
    scale = min(1.0, LIKEST / max(sum(shares), 1e-12))
    return Likeness(shares[0] * scale, shares[1] * scale), n


def _sum_products(y: np.ndarray, groups: Sequence[int], own: float, n: int) -> tuple[float, int]:
    """(sum of products, number) of all ordered pairs of different votes within a group. y: (n,)."""
    sums, sizes = np.bincount(groups, weights=y), np.bincount(groups)
    return float(sums @ sums) - own, int(sizes @ sizes) - n
