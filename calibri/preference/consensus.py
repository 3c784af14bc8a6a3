"""Consensus-k: only pairs on which at least k raters all agree. It inflates, and this shows by how much."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from calibri.errors import StudyError
from calibri.preference.rates import one_pair_of_arms, wilson, win_rate
from calibri.preference.votes import NoData, Rate, Vote


@dataclass(frozen=True, slots=True)
class Consensus:
    """The rate among unanimous pairs, and beside it what was thrown away and the rate of all votes."""

    k: int
    rate: Rate | NoData
    unfiltered: Rate | NoData
    kept: int
    eligible: int

    @property
    def share_kept(self) -> float | None:
        """Unanimous pairs among those with at least k counted votes; None while there is none."""
        return self.kept / self.eligible if self.eligible else None


def inflation(true_rate: float, k: int) -> tuple[float, float]:
    """(rate among unanimous pairs, share of pairs kept) if k independent raters each prefer x with this rate.

    p^k / (p^k + q^k), and p^k + q^k.
    """
    if not 0 <= true_rate <= 1 or k < 1:
        raise StudyError(f"expected a rate in [0, 1] and k ≥ 1; got {true_rate} and {k}")
    p, q = true_rate**k, (1 - true_rate) ** k
    return p / (p + q), p + q


def consensus(votes: Sequence[Vote], k: int, level: float = 0.95) -> Consensus:
    """The share of pairs won by x among pairs with ≥ k counted votes that all prefer the same side.

    A tie breaks unanimity; both-bad and skip do not count. Raises StudyError for k < 1, or without pairs.
    """
    one_pair_of_arms(votes)
    if k < 1:
        raise StudyError(f"consensus needs k ≥ 1, got {k}")
    if any(not v.pair for v in votes):
        raise StudyError("consensus needs to know which pair each vote is on")
    scores: defaultdict[str, list[float]] = defaultdict(list)
    for vote in votes:
        if vote.score is not None:
            scores[vote.pair].append(vote.score)
    enough = [s for s in scores.values() if len(s) >= k]
    unanimous = [s[0] for s in enough if len(set(s)) == 1 and s[0] != 0.5]
    rate: Rate | NoData = NoData(f"no pair on which {k} raters agree")
    if unanimous:
        share = sum(unanimous) / len(unanimous)
        interval = wilson(share, len(unanimous), level)
        rate = Rate(
            share, *interval, n=len(unanimous), method=f"Wilson, unanimous pairs, k = {k}", level=level
        )
    return Consensus(k, rate, win_rate(votes, level), kept=len(unanimous), eligible=len(enough))
