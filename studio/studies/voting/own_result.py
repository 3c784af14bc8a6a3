"""What a rater is told of their own answers at the end: sides, times, repeats. Nothing that tells an arm.

No agreement with others and no checks: with invented identities, those would tell pictures apart.
"""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import Any

from calibri.words import count
from studio.studies.protocol import Protocol
from studio.studies.storage.database import Transaction

CALLED = {
    "left": "A",
    "right": "B",
    "tie": "no difference",
    "both_bad": "both bad",
    "skip": "skipped",
}


def tell_own_result(t: Transaction, study: str, rater: str, protocol: Protocol) -> tuple[str, ...]:
    """One sentence a question, the median time, and how many pairs that came twice were answered alike."""
    rows = t.records(
        "SELECT v.question, v.side, v.winner, v.response_ms, v.token, v.pair, p.repeat_of FROM votes v "
        "JOIN pairs p ON p.id = v.pair WHERE v.study = ? AND v.rater = ? ORDER BY v.number",
        [study, rater],
    )
    said = []
    for question in protocol.questions:
        sides = Counter(row["side"] for row in rows if row["question"] == question.id)
        parts = [f"{CALLED[side]} {count(sides[side], 'time')}" for side in CALLED if sides[side]]
        said.append(f"{question.text} You answered: {', '.join(parts)}.")
    times = {row["token"]: row["response_ms"] for row in rows if row["response_ms"] is not None}
    if times:
        said.append(f"Half of your answers took less than {median(times.values()) / 1000:.1f} s.")
    return (*said, *_tell_repeats(rows))


def _tell_repeats(rows: list[dict[str, Any]]) -> list[str]:
    answers = {(row["pair"], row["question"]): row["winner"] for row in rows}
    again = [row for row in rows if row["repeat_of"] and (row["repeat_of"], row["question"]) in answers]
    if not again:
        return []
    alike = sum(answers[row["repeat_of"], row["question"]] == row["winner"] for row in again)
    return [f"Some pairs came twice: {alike} of {count(len(again), 'answer')} were the same again."]
