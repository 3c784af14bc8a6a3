"""A second place for votes and studies: parts that are only ever added, shipped while people vote.

A part is a Parquet file with the rows of one table that are new or changed since the last one; its name has
a number, the table and the hash of its bytes. Where a row is in several parts, the newest one counts; votes
that were taken back are known by their events. Parts wait in the data folder until they have been shipped, so
that nothing is lost while the place cannot be reached. A data folder without studies is filled from them.

No key, password or token is in the database, and so in no part; what panels call people stays out, too.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from calibri.errors import StudyError
from calibri.files import write_whole
from calibri.words import count
from studio.studies.storage.archive_places import CARD, Place
from studio.studies.storage.database import Database
from studio.studies.storage.snapshots import TABLES
from studio.studies.storage.study_store import now

log = logging.getLogger(__name__)

EVERY = 300.0  # seconds between two shipments
AT_ONCE = 50  # parts of one commit
PATIENCE = 60.0  # seconds for the last shipment
PART = re.compile(r"(\d{8})-([a-z_]+)-([0-9a-f]{32})\.parquet")
LEFT_OUT = ("panel_ids",)
SHIPPED = tuple(table for table in TABLES if table not in LEFT_OUT)
KEYS = {"images": "sha256", "renders": "recipe", "assignments": "token", "completions": "rater"}  # else: id
README = "README.md"


class Archive:
    """Ships what is new every `every` seconds, when asked, and at the end. `folder`: for what waits.

    `restore(folder)`: adds the rows of a snapshot's folder that are missing, and says how many of each table.
    """

    def __init__(
        self,
        db: Database,
        place: Place,
        folder: Path,
        restore: Callable[[Path], Mapping[str, int]],
        every: float = EVERY,
    ) -> None:
        self._db, self._place, self._folder, self._restore, self._every = db, place, folder, restore, every
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._cut_at = -1  # commits of the database when parts were last cut
        self._shipped_at: datetime | None = None
        self._problem = ""

    # the worker

    def begin(self) -> str:
        """Bring back what is missing, and ship from now on. Returns what was done, in words."""
        self._folder.mkdir(parents=True, exist_ok=True)
        [(studies,)] = self._db.read("SELECT count(*) FROM studies")
        if not studies and not self._number_file.exists():
            self._wish_file.touch()  # stays until it was granted, also over restarts
        told = self._try()
        self._thread = threading.Thread(target=self._run, name="archive", daemon=True)
        self._thread.start()
        return told

    def ship_soon(self) -> None:
        """Ship at the next moment, without waiting for it."""
        self._wake.set()

    def close(self) -> None:
        """Ship what is new, once, if the worker was begun. Safe to call twice."""
        self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(PATIENCE)
            self._thread = None

    def _run(self) -> None:
        last = False
        while not last:
            self._wake.wait(self._every)
            self._wake.clear()
            last = self._closed
            self._try()

    def _try(self) -> str:
        try:
            brought = self.sync()
            self._problem = ""
        except Exception as error:  # whatever a client does, votes go on and the next round tries again
            words = str(error) if isinstance(error, StudyError) else type(error).__name__
            if words != self._problem:
                log.warning("the archive %s: %s. It is tried again.", self._place.name, words)
            self._problem = words
            return self.tell()
        return f"{brought} came back from the archive {self._place.name}." if brought else self.tell()

    def tell(self) -> str:
        """How it stands, in words."""
        waiting = len(self._list_waiting())
        if self._problem:
            kept = f" {count(waiting, 'part')} wait here." if waiting else ""
            return f"{self._place.name}: not shipped just now: {self._problem}.{kept}"
        if self._shipped_at is None:
            return f"{self._place.name}: nothing to ship yet."
        return f"{self._place.name}: all was shipped at {self._shipped_at:%H:%M} UTC."

    # one round

    def sync(self) -> str:
        """Bring back, cut and ship. Returns what came back, in words. Raises what the place and the disk do;
        what was cut stays and is shipped next time."""
        with self._lock:
            brought = self._meet() if not self._number_file.exists() else ""
            self._cut()
            self._ship()
            return brought

    def _meet(self) -> str:
        """The first time that this data folder and the archive meet."""
        names = self._place.list()
        found = sorted(name for name in names if PART.fullmatch(name))
        brought = ""
        if self._wish_file.exists():
            brought = self._bring_back(found) if found else ""
        elif found:
            log.warning("the archive %s has parts of another data folder; ours are added", self._place.name)
        if README not in names:
            self._place.add({README: CARD.encode()})
        self._write_number(max((int(name[:8]) for name in found), default=0))
        self._wish_file.unlink(missing_ok=True)
        return brought

    def _bring_back(self, names: Sequence[str]) -> str:
        """Fill the empty data folder, as parts say from the oldest to the newest."""
        with TemporaryDirectory(dir=self._folder) as place:
            parts, whole = Path(place) / "parts", Path(place) / "whole"
            parts.mkdir()
            whole.mkdir()
            for name in names:
                data = self._place.read(name)
                if not _fits(name, data):
                    log.error("the archive's part %s is damaged and is left out", name)
                    continue
                (parts / name).write_bytes(data)
            for table in SHIPPED:
                files = [p for p in sorted(parts.iterdir()) if _table_of(p.name) == table]
                self._db.run_outside(_merge(table, files, whole / f"{table}.parquet"))
            new = self._restore(whole)
            for table in SHIPPED:
                (whole / f"{table}.parquet").replace(self._state(table))
        told = (count(new.get("studies", 0), "study", "studies"), count(new.get("votes", 0), "vote"))
        return " and ".join(told)

    def _cut(self) -> None:
        """Make parts of what is new or changed since the last time."""
        [(commits,)] = self._db.read("SELECT number FROM commits")
        if commits == self._cut_at:
            return
        number = int(self._number_file.read_text()) + 1
        with TemporaryDirectory(dir=self._folder) as place:
            fresh = Path(place)
            # One transaction, so that a vote and its showing are both in or both out.
            copies = [f"COPY {table} TO {_quoted(fresh / table)} (FORMAT parquet)" for table in SHIPPED]
            self._db.run_outside("BEGIN TRANSACTION READ ONLY", *copies, "COMMIT")
            made = [part for table in SHIPPED if (part := self._compare(table, fresh, number)) is not None]
            if made:
                self._write_number(number)
            for part in made:
                part.replace(self._folder / part.name)
            for table in SHIPPED:
                (fresh / table).replace(self._state(table))
        self._cut_at = commits

    def _compare(self, table: str, fresh: Path, number: int) -> Path | None:
        """The rows in `fresh` that the last state of this table has not, as a part; None for no such rows."""
        state, out = self._state(table), fresh / f"{table}.part"
        columns = self._list_columns(fresh / table)
        known = state.exists() and set(self._list_columns(state)) == set(columns)
        chosen = ", ".join(columns)
        query = f"SELECT {chosen} FROM read_parquet({_quoted(fresh / table)})"
        if known:
            query += f" EXCEPT SELECT {chosen} FROM read_parquet({_quoted(state)})"
        [(rows,)] = self._db.read(f"SELECT count(*) FROM ({query})")
        if not rows:
            return None
        self._db.run_outside(f"COPY ({query}) TO {_quoted(out)} (FORMAT parquet)")
        digest = hashlib.sha256(out.read_bytes()).hexdigest()[:32]
        return out.rename(fresh / f"{number:08d}-{table}-{digest}.parquet")

    def _list_columns(self, file: Path) -> list[str]:
        return [row[0] for row in self._db.read(f"DESCRIBE SELECT * FROM read_parquet({_quoted(file)})")]

    def _ship(self) -> None:
        waiting = self._list_waiting()
        for start in range(0, len(waiting), AT_ONCE):
            some = waiting[start : start + AT_ONCE]
            self._place.add({part.name: part.read_bytes() for part in some})
            for part in some:
                part.unlink()
        self._shipped_at = now()

    # files

    def _list_waiting(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("*.parquet") if PART.fullmatch(path.name))

    @property
    def _number_file(self) -> Path:
        """The number of the last part; missing until this data folder has met the archive."""
        return self._folder / "number.txt"

    @property
    def _wish_file(self) -> Path:
        """Says that this data folder was empty when it was first to meet the archive."""
        return self._folder / "restore-wanted"

    def _write_number(self, number: int) -> None:
        write_whole(self._number_file, f"{number}\n", durable=True)

    def _state(self, table: str) -> Path:
        """All rows of a table when parts were last cut."""
        folder = self._folder / "state"
        folder.mkdir(exist_ok=True)
        return folder / f"{table}.parquet"


def _merge(table: str, files: Iterable[Path], out: Path) -> str:
    """SQL that writes the newest state of each row. Without files: the table as it is, which is empty."""
    listed = ", ".join(_quoted(file) for file in files)
    if not listed:
        return f"COPY (SELECT * FROM {table} LIMIT 0) TO {_quoted(out)} (FORMAT parquet)"
    return (
        "COPY (SELECT * EXCLUDE (filename) "
        f"FROM read_parquet([{listed}], union_by_name = true, filename = true) "
        f"QUALIFY row_number() OVER (PARTITION BY {KEYS.get(table, 'id')} ORDER BY filename DESC) = 1) "
        f"TO {_quoted(out)} (FORMAT parquet)"
    )


def _table_of(name: str) -> str:
    found = PART.fullmatch(name)
    return found[2] if found else ""


def _fits(name: str, data: bytes) -> bool:
    """Whether a part has the bytes that its name promises."""
    found = PART.fullmatch(name)
    return found is not None and hashlib.sha256(data).hexdigest().startswith(found[3])


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
