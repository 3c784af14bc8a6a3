"""The run folder: `config.json`, written once, and `journal.jsonl`, which only grows.

Each line is a record with `prev`, the digest of the line before (of config.json for the first), and `hash`,
its own. A line is one write and one fsync, so that `kill -9` loses at most the generation under way: a torn
last line is cut off when the folder is opened again, while any altered line, or an altered config, is
refused.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from calibri.errors import JournalError
from calibri.files import load_json, open_file, read_text, sync, write_whole
from calibri.search.config import SearchConfig
from calibri.search.records import GenerationRecord, Record, record_from

CONFIG = "config.json"
LARGEST_CONFIG = 64 * 2**20  # bytes: its prompts
JOURNAL = "journal.jsonl"
LOCK = "lock"
TAIL = "tail.json"  # the point reached as it stands
CALIBRATION = "calibration.json"  # only if it is shown to be better than base


T = TypeVar("T")


def _digest(prev: str, body: str) -> str:
    return hashlib.sha256(f"{prev}\n{body}".encode()).hexdigest()


def _line(record: Record, prev: str) -> tuple[bytes, str]:
    body = json.dumps(
        record.model_dump(mode="json"), ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )
    digest = _digest(prev, body)
    # `prev` and `hash` go in front of the body's own text, so that checking a line needs no second
    # serialisation.
    return f'{{"prev":"{prev}","hash":"{digest}",{body[1:]}\n'.encode(), digest


_HEAD = len('{"prev":"') + 64 + len('","hash":"') + 64 + len('",')
_SHAPE = re.compile(rb'\{"prev":"([0-9a-f]{64})","hash":"([0-9a-f]{64})",')


def _checked(line: bytes, prev: str, number: int) -> tuple[Record, str]:
    """The record of one complete line that follows `prev`, and its digest. ValueError if it is no JSON
    line.
    """
    text = line.decode()  # UnicodeDecodeError is a ValueError
    data = load_json(text)
    if not isinstance(data, dict):
        raise ValueError("not an object")
    said_prev, said = data.pop("prev", None), data.pop("hash", None)
    _follows(said_prev, said, prev, "{" + text[_HEAD:], number)
    return record_from(data), said


def _verified(line: bytes, prev: str, number: int) -> tuple[bytes, str]:
    """The JSON text of one complete line that follows `prev`, unparsed, and its digest. ValueError if it has
    not the shape of a line.
    """
    shape = _SHAPE.match(line)
    if shape is None or not line.endswith(b"}"):
        raise ValueError("not an object with prev and hash in front")
    said_prev, said = (part.decode() for part in shape.groups())
    body = b"{" + line[_HEAD:]
    _follows(said_prev, said, prev, body.decode(), number)
    return body, said


def _follows(said_prev: object, said: object, prev: str, body: str, number: int) -> None:
    """JournalError unless the line of this body follows the digest `prev` and is what its own says."""
    if said_prev != prev:
        raise JournalError(
            f"line {number} of {JOURNAL} does not follow from "
            + (CONFIG if number == 1 else f"line {number - 1}")
            + ": one of them was altered; the run cannot be resumed"
        )
    if _digest(prev, body) != said:
        raise JournalError(
            f"line {number} of {JOURNAL} was altered: its digest does not match; the run cannot be resumed"
        )


class JournalTail:
    """Reads a run that any process may be writing. Never writes, never locks.

    `poll` returns the records completed since the last call; `offset` is the byte up to which the journal
    is read. An unfinished last line waits for the next call. Raises JournalError if a line was altered.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.offset = 0
        self.lines = 0
        self._prev: str | None = None

    def config(self) -> SearchConfig | None:
        """The run's config, or None while there is none."""
        path = self.folder / CONFIG
        if not os.path.lexists(path):
            return None
        return SearchConfig.from_json(read_text(path, LARGEST_CONFIG, JournalError))

    def poll(self) -> list[Record]:
        return self._poll(_checked, None)

    def poll_bodies(self, most: int = 8_000_000) -> list[bytes]:
        """Like `poll`, at most about `most` bytes at a time (call until it returns nothing), and each record
        as its JSON text: its digest is checked, its content is not parsed, which takes most of the time of a
        long journal. The lines before an altered one are returned before the error is raised.
        """
        return self._poll(_verified, most)

    def _poll(self, check: Callable[[bytes, str, int], tuple[T, str]], most: int | None) -> list[T]:
        if self._prev is None:
            try:
                with open_file(self.folder / CONFIG, JournalError) as file:
                    self._prev = hashlib.file_digest(file, "sha256").hexdigest()
            except FileNotFoundError:
                return []
        data = self._read(most)
        while most is not None and len(data) >= most and data.count(b"\n") < 2:
            most *= 4  # the line is longer than that
            data = self._read(most)
        found: list[T] = []
        start, prev = 0, self._prev
        while (end := data.find(b"\n", start)) >= 0:
            number = self.lines + len(found) + 1
            try:
                item, prev = check(data[start:end], prev, number)
            except ValueError as error:
                if data.find(b"\n", end + 1) < 0:
                    break  # a torn last line: its writer will cut it off
                raise JournalError(f"line {number} of {JOURNAL} cannot be read: {error}") from error
            except JournalError:
                if most is None or not found:
                    raise
                break  # what is good comes first, the error with the next call
            found.append(item)
            start = end + 1
        self._prev, self.offset, self.lines = prev, self.offset + start, self.lines + len(found)
        return found

    def _read(self, most: int | None) -> bytes:
        """What follows `offset`, at most `most` bytes of it."""
        try:
            with open_file(self.folder / JOURNAL, JournalError) as file:
                if os.fstat(file.fileno()).st_size < self.offset:
                    raise JournalError(f"{JOURNAL} has become shorter than what was read of it")
                file.seek(self.offset)
                return file.read(-1 if most is None else most)
        except FileNotFoundError:
            return b""


def read_journal(folder: str | Path) -> list[Record]:
    """All complete records of a run, checked. Raises JournalError if there is no run."""
    if not (Path(folder) / CONFIG).exists():
        raise JournalError(f"{folder} is no run folder: it has no {CONFIG}")
    return JournalTail(folder).poll()


def rewrite_journal(made: str | Path, place: str | Path, change: Callable[[Record], Record]) -> None:
    """Copies the journal of `made` into `place`, which has the same config, each record changed and each
    digest anew. What it then says is what `change` says: for examples, never for a run that goes on."""
    prev = hashlib.sha256((Path(place) / CONFIG).read_bytes()).hexdigest()
    lines = []
    for record in read_journal(made):
        line, prev = _line(change(record), prev)
        lines.append(line)
    write_whole(Path(place) / JOURNAL, b"".join(lines), durable=True)


def owner_of(folder: str | Path) -> int | None:
    """Process id that writes the run now; None if nobody does."""
    try:
        with open_file(Path(folder) / LOCK, JournalError) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _pid_in(file.read())
    except (OSError, JournalError):
        pass  # no lock, or none that can be held
    return None


def _pid_in(data: bytes) -> int:
    with suppress(ValueError, IndexError):
        return int(data.split()[0])
    return 0


class RunFolder:
    """A run opened for writing by one process at a time.

    The lock is the kernel's: it vanishes with its process, however that ends, so a stale one never blocks.
    Raises JournalError if another process writes the run, or if the run cannot be trusted.
    """

    def __init__(self, folder: str | Path, config: SearchConfig | None = None) -> None:
        self.folder = Path(folder)
        self.repaired = 0  # bytes of a torn last line that were cut off
        self.records: list[Record] = []
        self._file: int | None = None
        if config is None and not (self.folder / CONFIG).exists():
            raise JournalError(f"{self.folder} is no run folder: it has no {CONFIG}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise JournalError(f"{self.folder} is a file, not a folder for a run") from error
        self._lock: int | None = self._locked()
        try:
            self.config = self._settle_config(config)
            self._open_journal()
        except BaseException:
            self.close()
            raise

    def _locked(self) -> int:
        lock = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        for attempt in range(5):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt < 4:  # owner_of() holds it for an instant
                    time.sleep(0.05)
        else:
            owner = _pid_in(os.pread(lock, 64, 0))
            os.close(lock)
            raise JournalError(
                f"{self.folder} is being written by process {owner}; wait for it or stop it first"
            )
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
        return lock

    def _settle_config(self, config: SearchConfig | None) -> SearchConfig:
        path = self.folder / CONFIG
        if not path.exists():
            if (self.folder / JOURNAL).exists():
                raise JournalError(f"{self.folder} has a {JOURNAL} but no {CONFIG}")
            assert config is not None
            write_whole(path, config.to_json(), durable=True)
            return config
        stored = SearchConfig.from_json(path.read_text(encoding="utf-8"))
        if config is not None and config != stored:
            names = [n for n in SearchConfig.model_fields if getattr(config, n) != getattr(stored, n)]
            raise JournalError(
                f"{self.folder} holds another search (they differ in {', '.join(names)}); "
                "resume it as it is, or choose a new folder"
            )
        return stored

    def _open_journal(self) -> None:
        tail = JournalTail(self.folder)
        path = self.folder / JOURNAL
        new = not path.exists()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        if new:
            sync(self.folder)
        self.records = tail.poll()
        size = os.fstat(self._file).st_size
        if size > tail.offset:
            self.repaired = size - tail.offset
            os.ftruncate(self._file, tail.offset)
            os.fsync(self._file)
        assert tail._prev is not None
        self._prev = tail._prev

    def append(self, record: Record) -> None:
        """Writes one record and waits until it is on the disk."""
        if self._file is None:
            raise JournalError("the run folder is closed")
        data, digest = _line(record, self._prev)
        written = os.write(self._file, data)
        if written != len(data):
            raise JournalError(
                f"only {written} of {len(data)} bytes could be written to {JOURNAL}: is the disk full?"
            )
        os.fsync(self._file)
        self._prev = digest
        self.records.append(record)

    def generations(self) -> Iterator[GenerationRecord]:
        """The generations done, in order."""
        return (record for record in self.records if isinstance(record, GenerationRecord))

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._lock is not None:
            os.close(self._lock)  # releases it
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
