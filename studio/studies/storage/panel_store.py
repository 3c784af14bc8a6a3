"""Raters who come from a panel: the ids of their links, and who reached the end. Apart from votes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from studio.studies.protocol import Panel
from studio.studies.storage.database import Database, Transaction

MOST_IDS = 32  # of one rater: several visits may bring several sessions


def note_ids(t: Transaction, study: str, rater: str, ids: Sequence[tuple[str, str]]) -> None:
    """Keep the ids of a rater who has agreed to take part, those of every visit."""
    if not ids or not t.read("SELECT 1 FROM raters WHERE id = ?", [rater]):
        return
    known = set(t.read("SELECT name, value FROM panel_ids WHERE rater = ?", [rater]))
    new = [(name, value) for name, value in ids if (name, value) not in known][: MOST_IDS - len(known)]
    t.insert("panel_ids", [{"rater": rater, "study": study, "name": n, "value": v} for n, v in new])


def thank(
    t: Transaction, panel: Panel | None, study: str, rater: str, finished: datetime | None = None
) -> dict[str, str]:
    """The completion code and the way back to the panel, for who has voted on all their pairs: `finished`
    now, which is remembered, or at an earlier visit. Empty for everybody else."""
    if panel is None:
        return {}
    if not t.read("SELECT 1 FROM completions WHERE rater = ?", [rater]):
        if finished is None:
            return {}
        t.insert("completions", [{"rater": rater, "study": study, "time": finished}])
    return {"code": panel.code, "return_to": panel.return_to}


def list_participants(db: Database, study: str) -> tuple[list[str], list[list[Any]]]:
    """(columns, rows): who takes part with which ids, how many pairs they answered and how many of those they
    skipped, and since when they are done. No vote is told."""
    ids: dict[str, dict[str, str]] = {}
    for rater, name, values in db.read(
        "SELECT rater, name, string_agg(value, ' ' ORDER BY value) FROM panel_ids WHERE study = ? "
        "GROUP BY rater, name",
        [study],
    ):
        ids.setdefault(rater, {})[name] = values
    names = sorted({name for found in ids.values() for name in found})
    people = db.read(
        "SELECT r.id, r.consented, count(DISTINCT v.token), "
        "count(DISTINCT v.token) FILTER (WHERE v.winner = 'skip'), any_value(c.time) FROM raters r "
        "LEFT JOIN votes v ON v.rater = r.id AND v.study = r.study LEFT JOIN completions c ON c.rater = r.id "
        "WHERE r.study = ? GROUP BY r.id, r.consented ORDER BY r.consented, r.id",
        [study],
    )
    rows = [
        [rater, *(ids.get(rater, {}).get(name, "") for name in names), consented, *numbers]
        for rater, consented, *numbers in people
    ]
    return ["rater", *names, "consented", "pairs", "skipped", "completed"], rows
