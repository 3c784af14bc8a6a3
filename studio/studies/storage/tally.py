"""How many changes were committed, kept beside the database, so that a damaged log of changes is noticed.

DuckDB reads a log up to the first thing that it cannot read and says nothing of the rest. The database
counts its commits in a table, and after each one the number is written into a small file: where the file has
a higher number than the table, changes were lost.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from studio.studies.storage.opening import log_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dropped:
    """Changes that could not be read when the file was opened. `kept`: a copy of the damaged log."""

    changes: int
    kept: Path | None


class Tally:
    """The number in `<database>.count`. `path`: of the database; None: nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._count = 0
        self._file: int | None = None

    @contextmanager
    def keep_log(self) -> Iterator[Path | None]:
        """A copy of the log while the database is opened, which empties it; `compare` may keep the copy."""
        copy = None
        if self._path is not None and self._read() and log_of(self._path).is_file():
            copy = self._path.with_name(f".{self._path.name}.log-before")
            shutil.copyfile(log_of(self._path), copy)
        try:
            yield copy
        finally:
            if copy is not None:
                copy.unlink(missing_ok=True)

    def compare(self, count: int, copy: Path | None) -> Dropped | None:
        """What was lost, given the number that the database has. Goes on from there."""
        lost = self._read() - count
        self._write(count)
        if lost <= 0 or self._path is None:
            return None
        kept = None
        if copy is not None:
            kept = self._path.with_name(
                f"{log_of(self._path).name}.damaged-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
            )
            copy.rename(kept)
        log.error("the last %d changes to %s could not be read", lost, self._path.name)
        return Dropped(lost, kept)

    def add(self) -> None:
        """Count one more commit."""
        self._write(self._count + 1)

    def _read(self) -> int:
        if self._path is None:
            return 0
        try:
            return int(self._file_path.read_text())
        except (OSError, ValueError):
            return 0

    def _write(self, count: int) -> None:
        self._count = count
        if self._path is None:
            return
        try:
            if self._file is None:
                self._file = os.open(self._file_path, os.O_WRONLY | os.O_CREAT, 0o644)
            os.lseek(self._file, 0, os.SEEK_SET)
            os.write(self._file, f"{count:020d}\n".encode())  # as long as the last one: never half of it
        except OSError as error:
            log.warning("the number of changes is not kept: %s", error)

    def close(self) -> None:
        """Close the small file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @property
    def _file_path(self) -> Path:
        assert self._path is not None
        return self._path.with_name(self._path.name + ".count")
