"""The only owner of the DuckDB file: one connection, a cursor for each call, one writer.

Writes are jobs that a single thread runs in short transactions; jobs that wait at the same moment share one
commit, so many raters cost one fsync. A job is on disk when `write` returns. The file is opened at first use:
importing or starting a tool creates nothing.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from calibri.errors import CalibriError, StudyError
from studio.access.keys import open_secret
from studio.studies.storage.opening import FileInUse, connect, make_folder
from studio.studies.storage.tally import Dropped, Tally

__all__ = ["Database", "FileInUse", "Transaction", "connect", "migrate", "migrations", "open_secret"]

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).resolve().parent / "migrations"
MOST_TOGETHER = 64  # jobs in one transaction: at 2 ms each nobody waits long
TRIES = 3
CLOSING = "The studio is closing; nothing more is written."
T = TypeVar("T")
Row = tuple[Any, ...]


class Transaction:
    """Reads and writes for a job, which sees its own writes."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor = cursor
        self.wrote = False

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        return self._cursor.execute(sql, list(values)).fetchall()

    def records(self, sql: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        return _records(self._cursor, sql, values)

    def run(self, sql: str, values: Sequence[Any] = ()) -> None:
        """Execute a statement that changes something."""
        self.wrote = True
        self._cursor.execute(sql, list(values))

    def insert(self, table: str, rows: Sequence[dict[str, Any]], *, if_new: bool = False) -> None:
        """Insert dictionaries with the same keys as many-row statements (executemany takes 2 ms a row).

        `if_new`: skip rows whose key exists.
        """
        if not rows:
            return
        columns = list(rows[0])
        marks = "(" + ", ".join("?" * len(columns)) + ")"
        more = " ON CONFLICT DO NOTHING" if if_new else ""
        for start in range(0, len(rows), 200):
            part = rows[start : start + 200]
            self.run(
                f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([marks] * len(part))}{more}",
                [row[c] for row in part for c in columns],
            )


Answered = tuple[Any, CalibriError | None]  # an answer, or why the job was refused


class Job:
    """A function waiting for its transaction, and the future of its answer."""

    def __init__(self, work: Callable[[Transaction], Any]) -> None:
        self.work = work
        self.future: Future[Any] = Future()

    def finish(self, answer: Any, refusal: CalibriError | None) -> None:
        if refusal is None:
            self.future.set_result(answer)
        else:
            self.future.set_exception(refusal)


class Database:
    """Opens `path` (created with its folder when first needed) or, with None, a database in memory.

    `on_rollback` is called in the writer thread after a rollback, so that copies in memory are dropped.
    """

    def __init__(self, path: Path | None, *, on_rollback: Callable[[], None] = lambda: None) -> None:
        self.path = path
        self.on_rollback = on_rollback
        self.dropped: Dropped | None = None  # what was lost of the file since it was last open
        self._tally = Tally(path)
        self._opening = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._closed = False

    # opening and closing

    def _open(self) -> duckdb.DuckDBPyConnection:
        with self._opening:
            if self._closed:
                raise StudyError(CLOSING)
            if self._connection is None:
                self._connection = self._connect()
                self._writer = threading.Thread(target=self._work, name="votes-writer", daemon=True)
                self._writer.start()
            return self._connection

    def _connect(self) -> duckdb.DuckDBPyConnection:
        """A connection with today's tables. Whatever fails, none is left open: no job may wait for it."""
        with self._tally.keep_log() as copy:
            connection = connect(self.path)
            try:
                migrate(connection)
                connection.execute("SET lock_configuration = true")
                [(count,)] = connection.execute("SELECT number FROM commits").fetchall()
            except duckdb.Error as error:
                connection.close()
                log.error("the votes cannot be used: %s", error)
                name = self.path.name if self.path else "The database"
                raise StudyError(f"{name} holds no votes that this studio can read.") from error
            except BaseException:
                connection.close()
                raise
            self.dropped = self._tally.compare(count, copy)
        return connection

    def open(self) -> None:
        """Open the file now. Raises StudyError where its folder cannot be written, it is in use, damaged or
        of another version.
        """
        if self.path is not None:
            make_folder(self.path.parent)
        self._open()

    def close(self) -> None:
        """Finish the jobs that wait, then close the file. Safe to call twice."""
        with self._opening:
            if self._closed or self._connection is None:
                self._closed = True
                return
            self._closed = True
            self._jobs.put(None)
        assert self._writer is not None
        self._writer.join()
        self._connection.close()
        self._tally.close()

    # reading

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """All rows of a query."""
        with closing(self._open().cursor()) as cursor:
            return cursor.execute(sql, list(values)).fetchall()

    def records(self, sql: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """All rows of a query as dictionaries."""
        with closing(self._open().cursor()) as cursor:
            return _records(cursor, sql, values)

    def run_outside(self, *statements: str) -> None:
        """Statements that read this database and write other files (COPY, ATTACH), outside the writer."""
        with closing(self._open().cursor()) as cursor:
            for statement in statements:
                cursor.execute(statement)

    # writing

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a transaction and return its answer after the commit.

        `work` may run again after a conflict, so it must decide from what it reads. A CalibriError from it
        refuses the job and changes nothing.
        """
        self._open()
        if threading.current_thread() is self._writer:
            raise StudyError("A write job cannot wait for another one.")
        job = Job(work)
        with self._opening:  # nothing comes after the None of `close`
            if self._closed:
                raise StudyError(CLOSING)
            self._jobs.put(job)
        return job.future.result()

    def _work(self) -> None:
        connection = self._connection
        assert connection is not None
        cursor = connection.cursor()
        ended = False
        while not ended:
            waiting = [self._jobs.get()]
            while len(waiting) < MOST_TOGETHER and not self._jobs.empty():
                waiting.append(self._jobs.get())
            ended = None in waiting
            jobs = [job for job in waiting if job is not None]
            try:
                answers = self._together(cursor, jobs)
            except Exception as error:
                if len(jobs) > 1:
                    log.info("a shared transaction was undone (%s); its %d jobs run alone", error, len(jobs))
                for job in jobs:
                    self._alone(cursor, job)
                continue
            for job, answered in zip(jobs, answers):
                job.finish(*answered)
        cursor.close()

    def _together(self, cursor: duckdb.DuckDBPyConnection, jobs: Sequence[Job]) -> list[Answered]:
        """(answer, refusal) for each job, all committed. Raises, with nothing changed, when a job fails."""
        answers: list[Answered] = []
        wrote = False
        cursor.execute("BEGIN TRANSACTION")
        try:
            for job in jobs:
                transaction = Transaction(cursor)
                try:
                    answers.append((job.work(transaction), None))
                except CalibriError as refusal:
                    if transaction.wrote:
                        raise
                    answers.append((None, refusal))
                wrote |= transaction.wrote
            if wrote:
                cursor.execute("UPDATE commits SET number = number + 1")
            cursor.execute("COMMIT")
        except BaseException:
            self._undo(cursor)
            raise
        if wrote:
            self._tally.add()
        return answers

    def _alone(self, cursor: duckdb.DuckDBPyConnection, job: Job) -> None:
        for attempt in range(1, TRIES + 1):
            try:
                job.finish(*self._together(cursor, [job])[0])
                return
            except Exception as error:
                conflict = isinstance(error, duckdb.ConstraintException | duckdb.TransactionException)
                if attempt == TRIES or not conflict:
                    job.future.set_exception(error)
                    return

    def _undo(self, cursor: duckdb.DuckDBPyConnection) -> None:
        try:
            cursor.execute("ROLLBACK")
        except duckdb.TransactionException:
            log.debug("the transaction was gone already")
        self.on_rollback()


def _records(cursor: duckdb.DuckDBPyConnection, sql: str, values: Sequence[Any]) -> list[dict[str, Any]]:
    rows = cursor.execute(sql, list(values)).fetchall()
    names = [column[0] for column in cursor.description or []]
    return [dict(zip(names, row)) for row in rows]


def migrations(folder: Path = MIGRATIONS) -> list[tuple[int, str, str]]:
    """(number, name, SQL) of all migrations in order. Raises StudyError for a gap in the numbers."""
    found = [(int(p.stem.split("_")[0]), p.stem, p.read_text("utf-8")) for p in sorted(folder.glob("*.sql"))]
    if [number for number, _, _ in found] != list(range(1, len(found) + 1)):
        raise StudyError(f"migrations must be numbered 1, 2, 3, …; found {[n for _, n, _ in found]}")
    return found


def migrate(connection: duckdb.DuckDBPyConnection, folder: Path = MIGRATIONS) -> int:
    """Bring the tables up to date, one transaction for each migration. Returns the version."""
    known = migrations(folder)
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_version "
        "(version INTEGER PRIMARY KEY, name VARCHAR, applied TIMESTAMP)"
    )
    done = int(connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchall()[0][0])
    if done > len(known):
        raise StudyError(
            f"A newer studio wrote these votes: expected tables {len(known)}, got {done}. Update this one."
        )
    for number, name, sql in known[done:]:
        connection.execute("BEGIN TRANSACTION")
        try:
            connection.execute(sql)
            connection.execute(
                "INSERT INTO schema_version VALUES (?, ?, CAST(epoch_ms(?) AS TIMESTAMP))",
                [number, name, int(time.time() * 1000)],
            )
            connection.execute("COMMIT")
        except duckdb.Error as error:
            connection.execute("ROLLBACK")
            raise StudyError(f"Migration {name} failed; nothing was changed: {error}") from error
    return len(known)
