"""Copies of the votes: Parquet snapshots while people vote, live backups, restoring without duplicates."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import duckdb

from calibri.errors import StudyError
from studio.studies.storage.database import Database, Transaction, migrations
from studio.studies.storage.study_store import now

log = logging.getLogger(__name__)

#: In the order in which they are restored: events before votes, as they say which votes were taken back.
TABLES = ("studies", "arms", "images", "renders", "pairs", "raters", "assignments", "vote_events", "votes")
KEPT = 5  # automatic snapshots; those of a closing are never removed


class Snapshots:
    """Writes a folder of Parquet files every `every` votes and at each close. Off the voters' path."""

    def __init__(self, db: Database, folder: Path, every: int = 200) -> None:
        self.db, self.folder, self.every = db, folder, every
        self._since = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def voted(self) -> None:
        """A vote was acknowledged; the snapshot that may follow is written by a thread of its own."""
        with self._lock:
            self._since += 1
            if self._since < self.every or (self._thread is not None and self._thread.is_alive()):
                return
            self._since = 0
            self._thread = threading.Thread(target=self._quietly, name="snapshot", daemon=True)
            self._thread.start()

    def _quietly(self) -> None:
        try:
            self.take("auto")
        except (OSError, duckdb.Error, StudyError) as error:
            log.error("the automatic snapshot failed; votes are not affected: %s", error)

    def take(self, why: str) -> Path:
        """Write all tables now; the folder appears whole or not at all. `why` becomes part of its name."""
        name = f"{now():%Y%m%d-%H%M%S-%f}-{why}"
        part = self.folder / f".{name}.part"
        part.mkdir(parents=True)
        # One transaction, so that a vote and its showing are both in or both out.
        copies = [
            f"COPY {table} TO {_quoted(part / f'{table}.parquet')} (FORMAT parquet)" for table in TABLES
        ]
        self.db.run_outside("BEGIN TRANSACTION READ ONLY", *copies, "COMMIT")
        whole = self.folder / name
        os.replace(part, whole)
        for old in sorted(self.folder.glob("*-auto"))[:-KEPT]:
            shutil.rmtree(old)
        return whole

    def latest(self) -> Path | None:
        """The newest whole snapshot."""
        found = sorted(p for p in self.folder.glob("*") if p.is_dir() and not p.name.startswith("."))
        return found[-1] if found else None

    def close(self) -> None:
        """Wait for the snapshot under way."""
        if self._thread is not None:
            self._thread.join(30)


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def backup(db: Database, path: Path) -> Path:
    """A consistent copy of the whole database while people vote. Raises StudyError where `path` exists."""
    if path.exists():
        raise StudyError(f"{path.name} exists already; choose another name for the backup.")
    path.parent.mkdir(parents=True, exist_ok=True)
    alias = f"backup_{secrets.token_hex(4)}"
    [(source,)] = db.read("SELECT current_database()")
    db.run_outside(
        f"ATTACH {_quoted(path)} AS {alias}",
        f'COPY FROM DATABASE "{source}" TO {alias}',
        f"DETACH {alias}",
    )
    return path


def restore(db: Database, folder: Path) -> dict[str, int]:
    """Bring back from a snapshot what is not there. Returns how many rows of each table were new.

    Idempotent: rows are known by their keys, votes by their id; several snapshots may be restored in any
    order. A vote that was taken back, here or in the snapshot, does not count again. A study that exists
    keeps its state. Raises StudyError where `folder` is no snapshot of this studio.
    """
    missing = [
        table for table in ("studies", "pairs", "votes") if not (folder / f"{table}.parquet").is_file()
    ]
    if missing:
        raise StudyError(f"{folder.name} is no snapshot: {', '.join(missing)} are missing.")

    def fill(t: Transaction, tables: Sequence[str]) -> dict[str, int]:
        new = {}
        for table in tables:
            file = folder / f"{table}.parquet"
            if not file.is_file():
                continue
            [(before,)] = t.read(f"SELECT count(*) FROM {table}")
            mine = [row[0] for row in t.read(f"SELECT name FROM pragma_table_info('{table}')")]
            theirs = [row[0] for row in t.read(f"DESCRIBE SELECT * FROM {_quoted(file)}")]
            columns = ", ".join(c for c in mine if c in theirs)
            taken_back = (
                "WHERE NOT EXISTS (SELECT 1 FROM vote_events e WHERE e.vote = s.id AND e.kind = 'undo')"
                " AND NOT EXISTS (SELECT 1 FROM votes v WHERE v.pair = s.pair AND v.rater = s.rater"
                " AND v.question = s.question)"
                if table == "votes"
                else ""
            )
            t.run(
                f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {_quoted(file)} s {taken_back} "
                "ON CONFLICT DO NOTHING"
            )
            [(after,)] = t.read(f"SELECT count(*) FROM {table}")
            new[table] = after - before
        return new

    def first(t: Transaction) -> dict[str, int]:
        new = fill(t, TABLES[:-1])
        t.run("DELETE FROM votes WHERE id IN (SELECT vote FROM vote_events WHERE kind = 'undo')")
        return new

    def second(t: Transaction) -> dict[str, int]:
        new = fill(t, TABLES[-1:])
        # What one of the two sides had not heard of: a showing is voted on where there is a vote on it.
        t.run(
            "UPDATE assignments SET state = 'voted' "
            "WHERE state <> 'voted' AND token IN (SELECT token FROM votes)"
        )
        t.run(
            "UPDATE assignments SET state = 'undone' "
            "WHERE state = 'voted' AND token NOT IN (SELECT token FROM votes)"
        )
        return new

    # Apart, because a key that was deleted is free for an insert only after the commit.
    return db.write(first) | db.write(second)


def versions() -> dict[str, str]:
    """What wrote the data, for reports."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"tables": str(len(migrations()))}
    for name in ("calibri-studio", "torch", "diffusers", "duckdb", "numpy", "scipy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # the studio run from its folder, without being installed
            found[name] = "not installed"
    return found
