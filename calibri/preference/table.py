"""All that is said of two arms on one question, in one frozen record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from calibri.preference.bootstrap import two_way_interval
from calibri.preference.consensus import Consensus, consensus
from calibri.preference.rates import SignTest, Tally, left_rate, sign_test, strict_rate, tally, win_rate
from calibri.preference.votes import NoData, Rate, Vote, between


@dataclass(frozen=True, slots=True)
class PairTable:
    """`arm` against `other`. `headline`: the two-way cluster bootstrap; `plain`: Wilson on the same votes."""

    question: str
    arm: str
    other: str
    tally: Tally
    headline: Rate | NoData
    plain: Rate | NoData
    strict: Rate | NoData
    sign: SignTest | NoData
    left: Rate | NoData
    consensus: Consensus | None
    categories: tuple[tuple[str, Rate | NoData, int], ...]
    """(category, headline rate, number of votes), where prompts have categories."""


def pair_table(
    votes: Sequence[Vote],
    question: str,
    arm: str,
    other: str,
    *,
    consensus_k: int | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> PairTable:
    """The record for one question and pair of arms. Only real pairs count."""
    chosen = [v for v in votes if v.question == question and v.kind == "real"]
    mine = between(chosen, arm, other)
    names = sorted({v.category for v in mine if v.category})
    groups = [(name, [v for v in mine if v.category == name]) for name in names]
    return PairTable(
        question=question,
        arm=arm,
        other=other,
        tally=tally(mine),
        headline=two_way_interval(mine, level, seed=seed),
        plain=win_rate(mine, level),
        strict=strict_rate(mine, level),
        sign=sign_test(mine),
        left=left_rate(mine, level),
        consensus=consensus(mine, consensus_k, level) if consensus_k else None,
        categories=tuple((name, two_way_interval(vs, level, seed=seed), len(vs)) for name, vs in groups),
    )
