"""Votes as the database stores them, and as the statistics take them."""

from __future__ import annotations

import json
import secrets
from datetime import datetime
from typing import Any

from calibri.errors import StudyError
from calibri.preference import Vote
from studio.studies.storage.database import Database, Transaction
from studio.studies.storage.study_store import now

#: One row a vote with arms resolved, for exports and reports. A repeat counts under the pair that it repeats.
#: `valid` is false for votes that an organiser has invalidated.
RESOLVED = """
SELECT v.id, v.study, v.question, p.prompt, p.seed, p.category, p.kind,
       coalesce(p.repeat_of, v.pair) AS pair,
       x.label AS arm_x, y.label AS arm_y, v.left_is_x, v.side, v.winner,
       CASE v.winner WHEN 'x' THEN x.label WHEN 'y' THEN y.label END AS winning_arm,
       p.image_x, p.image_y, v.rater, v.response_ms, v.shown_ms, v.server_ms, v.comment, v.time, v.number,
       NOT EXISTS (SELECT 1 FROM vote_events e WHERE e.vote = v.id AND e.kind = 'invalidate') AS valid
FROM (SELECT v.*, a.left_is_x FROM votes v JOIN assignments a USING (token) WHERE v.study = {study}) v
JOIN pairs p ON p.id = v.pair
JOIN arms x ON x.id = p.arm_x
JOIN arms y ON y.id = p.arm_y
ORDER BY v.number, v.time, v.id
"""


class VoteStore:
    """Reads votes and writes events about them. The votes themselves are written by studies/voting."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def rows(self, study: str) -> list[dict[str, Any]]:
        """One dictionary a vote, arms resolved, in order of time."""
        return self.db.records(RESOLVED.format(study="?"), [study])

    def count(self, study: str) -> int:
        [(n,)] = self.db.read("SELECT count(*) FROM votes WHERE study = ?", [study])
        return n

    def events(self, study: str) -> list[dict[str, Any]]:
        """Undos, invalidations, unblindings, openings and closings, in order of time."""
        return self.db.records("SELECT * FROM vote_events WHERE study = ? ORDER BY time, id", [study])

    def invalidate(self, vote: str, reason: str) -> None:
        """Leave a vote out of the results, with a reason that is kept. The vote itself stays.

        Raises StudyError without a reason, for an unknown vote and for one that is left out already.
        """
        if not reason.strip():
            raise StudyError("Say why this vote is to be left out.")

        def work(t: Transaction) -> None:
            rows = t.read("SELECT study FROM votes WHERE id = ?", [vote])
            if not rows:
                raise StudyError("There is no such vote.")
            if t.read("SELECT 1 FROM vote_events WHERE vote = ? AND kind = 'invalidate'", [vote]):
                raise StudyError("This vote is left out already.")
            add_event(t, rows[0][0], "invalidate", {"reason": reason.strip()}, vote)

        self.db.write(work)

    def note(self, study: str, kind: str, detail: dict[str, Any]) -> None:
        """Record an event of the whole study, such as opening, closing or unblinding."""
        self.db.write(lambda t: add_event(t, study, kind, detail))


def add_event(
    t: Transaction,
    study: str,
    kind: str,
    detail: dict[str, Any],
    vote: str | None = None,
    time: datetime | None = None,
) -> None:
    """Append one event inside a transaction."""
    words = json.dumps(detail, default=str, ensure_ascii=False, sort_keys=True)
    row = {"id": secrets.token_hex(16), "study": study, "vote": vote, "kind": kind}
    t.insert("vote_events", [{**row, "detail": words, "time": time or now()}])


def as_vote(row: dict[str, Any]) -> Vote:
    """A resolved row as the statistics take it.

    The response time is the browser's, but never more than the server measured since the pair was shown or
    the rater last voted, so a script cannot claim a long look.
    """
    times = [ms for ms in (row["response_ms"], row["server_ms"]) if ms is not None]
    same = ("question", "arm_x", "arm_y", "prompt", "rater", "winner", "pair", "left_is_x", "kind")
    return Vote(
        **{name: row[name] for name in same},
        category=row["category"] or "",
        response_ms=min(times, default=None),
        order=float(row["number"]),
    )
