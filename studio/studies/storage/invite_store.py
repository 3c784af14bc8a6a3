"""Named invites as the database stores them: a person, the number of their link, and how far they came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from calibri.errors import StudyError
from studio.studies.storage.database import Database, Transaction
from studio.studies.storage.study_store import NO_STUDY, now

FIRST_NAMED = 1_000_001  # numbers of links without a name are smaller
LONGEST_NAME = 80
MOST_NAMED = 1000  # of one study


@dataclass(frozen=True)
class Invite:
    """One link that was made for somebody. `rater`: the number under which their votes are kept."""

    study: str
    number: int
    name: str
    rater: int
    made: datetime
    opened: datetime | None = None
    finished: datetime | None = None
    taken_back: datetime | None = None


def read_names(text: str) -> list[str]:
    """Names from a pasted list, one on each line; each once. Raises StudyError for none, for a long one."""
    names = list(dict.fromkeys(" ".join(line.split()) for line in text.splitlines() if line.strip()))
    if not names:
        raise StudyError("Expected names, one on each line, got none.")
    long = next((name for name in names if len(name) > LONGEST_NAME), None)
    if long is not None:
        raise StudyError(f"A name has at most {LONGEST_NAME} characters, got {len(long)}: {long[:40]}…")
    return names


class InviteStore:
    """Reads and writes named invites."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def all(self, study: str) -> list[Invite]:
        """Of a study, in the order in which they were made; those that were taken back too."""
        rows = self._db.records("SELECT * FROM invites WHERE study = ? ORDER BY number", [study])
        return [Invite(**row) for row in rows]

    def find(self, study: str, number: int) -> Invite | None:
        rows = self._db.records("SELECT * FROM invites WHERE study = ? AND number = ?", [study, number])
        return Invite(**rows[0]) if rows else None

    def add(self, study: str, names: Sequence[str]) -> list[Invite]:
        """Invite people; who has a link already is skipped. Returns the new ones."""

        def work(t: Transaction) -> list[Invite]:
            if not t.read("SELECT 1 FROM studies WHERE id = ?", [study]):
                raise StudyError(NO_STUDY)
            known = {n for (n,) in t.read(f"SELECT name FROM invites WHERE {ALIVE}", [study])}
            fresh = [name for name in names if name not in known]
            [(count,)] = t.read("SELECT count(*) FROM invites WHERE study = ?", [study])
            if count + len(fresh) > MOST_NAMED:
                raise StudyError(f"Expected at most {MOST_NAMED} invites a study, got {count + len(fresh)}.")
            first, moment = _next_number(t, study), now()
            made = [Invite(study, first + i, name, first + i, moment) for i, name in enumerate(fresh)]
            t.insert("invites", [vars(invite) for invite in made])
            return made

        return self._db.write(work)

    def take_back(self, study: str, number: int) -> Invite:
        """End a link. Votes that came through it stay. Raises StudyError where there is none to end."""

        def work(t: Transaction) -> None:
            _take_back(t, study, number)

        self._db.write(work)
        found = self.find(study, number)
        assert found is not None
        return found

    def make_again(self, study: str, number: int) -> Invite:
        """A new link for the same person, who goes on where they stopped; the old one ends if it has not."""

        def work(t: Transaction) -> Invite:
            rows = t.records("SELECT * FROM invites WHERE study = ? AND number = ?", [study, number])
            if not rows:
                raise StudyError(NO_INVITE)
            old = Invite(**rows[0])
            if old.taken_back is None:
                _take_back(t, study, number)
            elif t.read(f"SELECT 1 FROM invites WHERE {ALIVE} AND rater = ?", [study, old.rater]):
                raise StudyError(f"{old.name} has a newer link already.")
            made = Invite(study, _next_number(t, study), old.name, old.rater, now())
            t.insert("invites", [vars(made)])
            return made

        return self._db.write(work)

    def note(self, study: str, number: int, **moments: datetime | None) -> None:
        """Write when something happened to a link: `opened`, `finished`."""
        fields: dict[str, Any] = {name: moments[name] for name in ("opened", "finished") if name in moments}
        marks = ", ".join(f"{name} = ?" for name in fields)
        asked = f"UPDATE invites SET {marks} WHERE study = ? AND number = ?"
        self._db.write(lambda t: t.run(asked, [*fields.values(), study, number]))

    def find_living(self, study: str, rater: int) -> Invite | None:
        """The link in force of whoever votes under this number."""
        rows = self._db.records(f"SELECT * FROM invites WHERE {ALIVE} AND rater = ?", [study, rater])
        return Invite(**rows[0]) if rows else None


ALIVE = "study = ? AND taken_back IS NULL"
NO_INVITE = "There is no such invite."


def _next_number(t: Transaction, study: str) -> int:
    [(last,)] = t.read("SELECT max(number) FROM invites WHERE study = ?", [study])
    return FIRST_NAMED if last is None else int(last) + 1


def _take_back(t: Transaction, study: str, number: int) -> None:
    rows = t.read("SELECT taken_back FROM invites WHERE study = ? AND number = ?", [study, number])
    if not rows:
        raise StudyError(NO_INVITE)
    if rows[0][0] is not None:
        raise StudyError("This link was taken back already.")
    asked = "UPDATE invites SET taken_back = ? WHERE study = ? AND number = ?"
    t.run(asked, [now(), study, number])
