"""From the votes of a study to all that its results show. Pure: rows in, frozen records out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from calibri.preference import (
    NoData,
    PairTable,
    Rate,
    RaterReport,
    Strengths,
    Vote,
    bradley_terry,
    gold_accuracy,
    left_rate,
    pair_table,
    rater_reports,
    repeat_consistency,
    votes_alpha,
)
from studio.studies.storage.study_store import Study, StudyArm
from studio.studies.storage.vote_store import as_vote


@dataclass(frozen=True)
class Filter:
    """Which votes are read; empty fields mean all. `consensus`: pairs on which so many raters all agree."""

    question: str = ""
    category: str = ""
    without_flagged: bool = False
    consensus: int | None = None

    @property
    def words(self) -> str:
        """The filter in words; empty where all votes are read."""
        parts = []
        if self.question:
            parts.append(f"question {self.question}")
        if self.category:
            parts.append(f"category {self.category}")
        if self.without_flagged:
            parts.append("without flagged raters")
        if self.consensus:
            parts.append(f"only pairs on which at least {self.consensus} raters all agree")
        return ", ".join(parts)


ALL = Filter()


@dataclass(frozen=True)
class Analysis:
    """The results of a study under one filter, which reads `kept` of `total` real, valid votes."""

    study: Study
    arms: tuple[StudyArm, ...]
    filter: Filter
    total: int
    kept: int
    tables: dict[str, tuple[PairTable, ...]]
    strengths: dict[str, Strengths | NoData]
    raters: tuple[RaterReport, ...]
    alpha: float | NoData
    left: Rate | NoData
    gold: Rate | NoData
    repeats: Rate | NoData
    categories: tuple[str, ...]
    undone: int
    invalid: int
    looks: tuple[dict[str, Any], ...]
    """Events of looks at the results while the study was open."""

    @property
    def share_kept(self) -> float | None:
        return self.kept / self.total if self.total else None

    @property
    def flagged(self) -> tuple[RaterReport, ...]:
        return tuple(r for r in self.raters if r.flags)

    def kind_of(self, label: str) -> str:
        """base, calibrated or ensemble: decides the arm's colour."""
        return next((a.kind for a in self.arms if a.label == label), "base")


def analyse(
    study: Study,
    arms: Sequence[StudyArm],
    rows: Sequence[dict[str, Any]],
    events: Sequence[dict[str, Any]] = (),
    filter: Filter = ALL,
) -> Analysis:
    """Analyse the rows of `VoteStore.rows`. Win rates are of the later arm of each pair of arms."""
    shown = tuple(a for a in arms if a.kind != "gold")
    votes = [as_vote(row) for row in rows if row["valid"]]
    reports = rater_reports(votes, study.protocol.thresholds)
    real = [v for v in votes if v.kind == "real"]
    chosen = _choose(votes, reports, filter)
    kept = [v for v in chosen if v.kind == "real"]
    questions = [q.id for q in study.protocol.questions if filter.question in ("", q.id)]
    pairs = [(late.label, early.label) for early, late in combinations(shown, 2)]
    tables = {
        q: tuple(
            pair_table(kept, q, arm, other, consensus_k=study.protocol.consensus_k, seed=study.seed)
            for arm, other in pairs
        )
        for q in questions
    }
    strengths: dict[str, Strengths | NoData] = {}
    if len(shown) > 2:
        for q in questions:
            strengths[q] = bradley_terry([v for v in kept if v.question == q], [a.label for a in shown])
    kinds = Counter(event["kind"] for event in events)
    return Analysis(
        study=study,
        arms=shown,
        filter=filter,
        total=len(real),
        kept=len(kept),
        tables=tables,
        strengths=strengths,
        raters=tuple(reports),
        alpha=votes_alpha(kept),
        left=left_rate(kept),
        gold=gold_accuracy([v for v in chosen if v.question == study.protocol.questions[0].id]),
        repeats=repeat_consistency(chosen),
        categories=tuple(sorted({v.category for v in real if v.category})),
        undone=kinds["undo"],
        invalid=sum(not row["valid"] for row in rows),
        looks=tuple(e for e in events if e["kind"] == "unblind"),
    )


def read_votes(study: Study, rows: Sequence[dict[str, Any]], filter: Filter = ALL) -> list[Vote]:
    """The valid votes among the rows of `VoteStore.rows` that a filter leaves."""
    votes = [as_vote(row) for row in rows if row["valid"]]
    return _choose(votes, rater_reports(votes, study.protocol.thresholds), filter)


def _choose(votes: Sequence[Vote], reports: Sequence[RaterReport], filter: Filter) -> list[Vote]:
    """The votes that a filter leaves. Checks stay under a filter of consensus."""
    flagged = {r.rater for r in reports if r.flags} if filter.without_flagged else set()
    chosen = [
        v
        for v in votes
        if filter.question in ("", v.question)
        and filter.category in ("", v.category)
        and v.rater not in flagged
    ]
    if not filter.consensus:
        return chosen
    scores: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for vote in chosen:
        if vote.kind == "real" and vote.score is not None:
            scores[vote.pair, vote.question].append(vote.score)
    agreed = {
        key
        for key, given in scores.items()
        if len(given) >= filter.consensus and len(set(given)) == 1 and given[0] != 0.5
    }
    return [v for v in chosen if v.kind != "real" or ((v.pair, v.question) in agreed and v.score is not None)]


def headline(table: PairTable) -> str:
    """The result of two arms in one sentence."""
    rate = table.headline
    if isinstance(rate, NoData):
        return f"{table.arm} against {table.other}: no data ({rate.reason})."
    verdict = {
        "preferred": f"{table.arm} is preferred to {table.other}",
        "not preferred": f"{table.other} is preferred to {table.arm}",
        "not told apart": f"{table.arm} and {table.other} are not told apart",
    }[rate.verdict]
    return f"{verdict}: {table.arm} wins {rate} of {rate.n} votes."
