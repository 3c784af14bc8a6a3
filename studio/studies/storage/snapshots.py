"""Copies of the votes: Parquet snapshots while people vote, live backups, restores without duplicates."""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import duckdb

from calibri.errors import StudyError
from studio.machine.background import Background
from studio.studies.storage.database import Database, Transaction, migrations
from studio.studies.storage.newest import NUMBER, find_newest, read_order
from studio.studies.storage.study_store import now

log = logging.getLogger(__name__)

#: In the order in which they are restored: events come before votes, because they say which were taken back.
TABLES = (
    *("studies", "arms", "images", "renders", "pairs", "raters", "invites", "panel_ids", "completions"),
    *("assignments", "vote_events", "votes"),
)
KEPT = 5  # automatic snapshots; those of a closing are never removed


class Snapshots:
    """Writes a folder of Parquet files after every `every` votes and at each close, in the background."""

    def __init__(self, db: Database, folder: Path, every: int = 200) -> None:
        self.db, self.folder, self.every = db, folder, every
        self._since = 0
        self._lock = threading.Lock()
        self._background = Background("snapshot")

    def count_vote(self) -> None:
        """Note an acknowledged vote; the snapshot that may follow does not keep the voter waiting."""
        with self._lock:
            self._since += 1
            if self._since >= self.every and self._background.start(self._take_quietly):
                self._since = 0

    def _take_quietly(self) -> None:
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
        with self._lock:
            last = find_newest(self.folder)
            (part / NUMBER).write_text(str(1 + (read_order(last)[0] if last else 0)))
            whole = part.rename(self.folder / name)
            for old in sorted(self.folder.glob("*-auto"), key=read_order)[:-KEPT]:
                shutil.rmtree(old)
        return whole

    def latest(self) -> Path | None:
        """The snapshot that was taken last, whatever the clock said; None where there is none."""
        return find_newest(self.folder)

    def close(self) -> None:
        """Wait for the snapshot under way."""
        self._background.close()


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def backup(db: Database, path: Path) -> Path:
    """A consistent copy of the whole database while people vote. Raises StudyError where `path` exists."""
    if path.exists():
        raise StudyError(f"{path.name} exists already. Choose another name for the backup.")
    path.parent.mkdir(parents=True, exist_ok=True)
    alias = f"backup_{secrets.token_hex(4)}"
    [(source,)] = db.read("SELECT current_database()")
    db.run_outside(
        f"ATTACH {_quoted(path)} AS {alias}", f'COPY FROM DATABASE "{source}" TO {alias}', f"DETACH {alias}"
    )
    return path


def count_missing(db: Database, folder: Path) -> int:
    """How many votes of a snapshot are not here, leaving out those that were taken back."""
    [(missing,)] = db.read(
        f"SELECT count(*) FROM {_quoted(folder / 'votes.parquet')} s WHERE id NOT IN (SELECT id FROM votes) "
        "AND id NOT IN (SELECT vote FROM vote_events WHERE kind = 'undo' AND vote IS NOT NULL)"
    )
    return int(missing)


def restore(db: Database, folder: Path) -> dict[str, int]:
    """Add the rows of a snapshot that are missing here. Returns how many rows of each table were new.

    Idempotent: rows are known by their keys, votes by their id; snapshots may be restored in any order. A
    vote that was taken back, here or in the snapshot, stays taken back. A study that exists keeps its state.
    Raises StudyError where `folder` is no snapshot.
    """
    missing = [
        table for table in ("studies", "pairs", "votes") if not (folder / f"{table}.parquet").is_file()
    ]
    if missing:
        raise StudyError(f"{folder.name} is no snapshot: it lacks {', '.join(missing)}.")

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
        # Snapshots of earlier versions have no order: their showings and votes come before all others.
        for table, first in (("assignments", "issued, token"), ("votes", "time, id")):
            t.run(
                f"UPDATE {table} SET number = o.number FROM (SELECT rowid AS row, "
                f"row_number() OVER (PARTITION BY study ORDER BY {first}) - (SELECT count(*) FROM {table}) "
                f"AS number FROM {table} WHERE number IS NULL) o WHERE {table}.rowid = o.row"
            )
        # The two sides may disagree: a showing is voted on where there is a vote on it.
        t.run(
            "UPDATE assignments SET state = 'voted' "
            "WHERE state <> 'voted' AND token IN (SELECT token FROM votes)"
        )
        t.run(
            "UPDATE assignments SET state = 'undone' "
            "WHERE state = 'voted' AND token NOT IN (SELECT token FROM votes)"
        )
        return new

    # Two transactions, because a deleted key is free for an insert only after the commit.
    return db.write(first) | db.write(second)


def versions() -> dict[str, str]:
    """The programs that wrote the data, for reports."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"tables": str(len(migrations()))}
    for name in ("calibri-studio", "torch", "diffusers", "duckdb", "numpy", "scipy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from its folder
            found[name] = "not installed"
    return found
