"""Rater quality: what each rater did, and which thresholds of the protocol it crosses. Nobody is deleted."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby

from pydantic import BaseModel, ConfigDict, Field

from calibri.preference.agreement import gold_accuracy, repeat_consistency
from calibri.preference.rates import binomial_p, left_rate
from calibri.preference.votes import NoData, Rate, Vote


class Thresholds(BaseModel):
    """When a rater is flagged. Part of a study's protocol, so that nobody can choose them after the votes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    side_p: float = Field(0.001, gt=0, lt=1)
    """A side is favoured: exact two-sided binomial p below this."""
    side_least: int = Field(12, ge=1)
    """…tested from this many votes on that prefer a side."""
    streak: int = Field(12, ge=2)
    """This many times the same side without a break."""
    gold_rate: float = Field(0.7, ge=0, le=1)
    gold_least: int = Field(3, ge=1)
    repeat_rate: float = Field(0.5, ge=0, le=1)
    repeat_least: int = Field(3, ge=1)
    fast_ms: int = Field(700, ge=0)
    """The median answer comes sooner than this after both pictures were shown."""
    fast_least: int = Field(5, ge=1)


class RaterReport(BaseModel):
    """One rater. `flags`: sentences; empty is good."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    rater: str
    votes: int
    median_ms: float | None
    left: Rate | NoData
    gold: Rate | NoData
    repeats: Rate | NoData
    longest_streak: int
    flags: tuple[str, ...]


def rater_reports(votes: Sequence[Vote], thresholds: Thresholds | None = None) -> list[RaterReport]:
    """A report for each rater, by name. `votes` of all kinds and questions, with `order` growing in time."""
    limits = thresholds or Thresholds()
    by_rater: defaultdict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        by_rater[vote.rater].append(vote)
    return [_report(name, sorted(by_rater[name], key=lambda v: v.order), limits) for name in sorted(by_rater)]


def _hits(rate: Rate) -> str:
    return f"{round(rate.value * rate.n)} of {rate.n}"


def _report(name: str, votes: list[Vote], limits: Thresholds) -> RaterReport:
    # One showing may have several questions, answered together: sides are tested on the first question alone.
    first = [v for v in votes if v.question == votes[0].question]
    left, gold, repeats = left_rate(first), gold_accuracy(first), repeat_consistency(votes)
    sides = [(v.winner == "x") == v.left_is_x for v in first if v.winner in "xy" and v.left_is_x is not None]
    longest = max((len(list(run)) for _, run in groupby(sides)), default=0)
    times = [v.response_ms for v in first if v.response_ms is not None]
    median = float(statistics.median(times)) if times else None

    flags = []
    if len(sides) >= limits.side_least and binomial_p(sum(sides), len(sides)) < limits.side_p:
        side = "left" if 2 * sum(sides) > len(sides) else "right"
        flags.append(f"favours the {side} side ({max(sum(sides), len(sides) - sum(sides))} of {len(sides)})")
    if longest >= limits.streak:
        flags.append(f"chose the same side {longest} times in a row")
    if isinstance(gold, Rate) and gold.n >= limits.gold_least and gold.value < limits.gold_rate:
        flags.append(f"missed plain pairs ({_hits(gold)} right)")
    if isinstance(repeats, Rate) and repeats.n >= limits.repeat_least and repeats.value < limits.repeat_rate:
        flags.append(
            f"answers repeats differently ({round(repeats.value * repeats.n)} of {repeats.n} the same)"
        )
    if median is not None and len(times) >= limits.fast_least and median < limits.fast_ms:
        flags.append(f"answers in {median:.0f} ms (median)")
    return RaterReport(
        rater=name,
        votes=len(votes),
        median_ms=median,
        left=left,
        gold=gold,
        repeats=repeats,
        longest_streak=longest,
        flags=tuple(flags),
    )
