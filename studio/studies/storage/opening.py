"""Opens the DuckDB file, or says in one sentence why that is not possible and what to do."""

from __future__ import annotations

import logging
import os
import shutil
import struct
import sys
import tempfile
from pathlib import Path

import duckdb

from calibri.errors import StudyError
from studio.studies.storage.newest import find_newest

log = logging.getLogger(__name__)

LIMITS: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "memory_limit": "512MB",
    "threads": 2,
}


class FileInUse(StudyError):
    """Another process has the file open."""


class DamagedFile(StudyError):
    """The file, or its log of the last changes, cannot be read."""


def connect(path: Path | None) -> duckdb.DuckDBPyConnection:
    """Open a file that no other process has open. Raises StudyError with what to do about it."""
    if path is None:
        return duckdb.connect(":memory:", config=LIMITS)
    make_folder(path.parent)
    try:
        return duckdb.connect(str(path), config=LIMITS)
    except duckdb.Error as error:
        log.debug("DuckDB: %s", error)
        raise _explain(path) from None


def make_folder(folder: Path) -> None:
    """Make the folder if needed. Raises StudyError where nothing can be written in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StudyError(
            f"Nothing can be written in the folder {folder} ({error.strerror}). "
            "Choose another data folder, or give this user the right to write there."
        ) from None


def log_of(path: Path) -> Path:
    """The file of the last changes, which DuckDB keeps beside the database."""
    return path.with_name(path.name + ".wal")


def _explain(path: Path) -> StudyError:
    """Why a file does not open. Decided by what is on the disk, not by DuckDB's words."""
    owner = find_owner(path)
    if owner is not None:
        number = f" (process id {owner})" if owner else ""
        return FileInUse(
            f"{path.name} is open in another process{number}. Use that studio (calibri study does so by "
            "itself), or close it first."
        )
    for file in (path, log_of(path)):
        if file.is_dir():
            return StudyError(f"Expected a file at {file}, got a folder. Move it away.")
        if file.exists() and not os.access(file, os.R_OK | os.W_OK):
            return StudyError(f"{file.name} may not be read and written by this user. Change its rights.")
    newest = find_newest(path.parent / "snapshots")
    adds = f"adds what the newest snapshot ({newest.name}) has" if newest else "there is no snapshot to add"
    repair = f"calibri study --data {path.parent} repair"
    if log_of(path).exists() and opens_without_log(path):
        return DamagedFile(
            f"{log_of(path).name}, which holds the last changes to the votes, is damaged. Nothing was "
            f"changed. Run `{repair}`: it puts the damaged file aside, keeps what can be read, and {adds}."
        )
    return DamagedFile(
        f"{path.name} is damaged, or is no file of votes. Nothing was changed. "
        f"Run `{repair}`: it puts the file aside, begins a new one, and {adds}."
    )


def opens_without_log(path: Path) -> bool:
    """Whether a copy of the file opens where the log of its last changes is left out."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".try-") as folder:
        copy = Path(folder) / path.name
        shutil.copyfile(path, copy)
        return opens(copy)


def opens(path: Path) -> bool:
    """Whether DuckDB reads this file with its log. The file may change."""
    try:
        duckdb.connect(str(path), config=LIMITS).close()
    except duckdb.Error:
        return False
    return True


def find_owner(path: Path) -> int | None:
    """The id of the process that has the file open, 0 for one that cannot be named; None where none has.

    DuckDB locks its file as `fcntl(F_SETLK)` does. Never call it where this process has the file open:
    closing a file gives up the locks of its process.
    """
    if sys.platform == "win32":
        return _try_to_write(path)
    import fcntl

    mac = sys.platform == "darwin"
    form = "qqihh" if mac else "hhqqi"
    kind, whence = fcntl.F_WRLCK, os.SEEK_SET
    asked = struct.pack(form, 0, 0, 0, kind, whence) if mac else struct.pack(form, kind, whence, 0, 0, 0)
    try:
        with path.open("rb") as file:
            told = struct.unpack(form, fcntl.fcntl(file, fcntl.F_GETLK, asked))
    except OSError:
        return None
    kind, owner = (told[3], told[2]) if mac else (told[0], told[4])
    return None if kind == fcntl.F_UNLCK else max(0, owner)


def _try_to_write(path: Path) -> int | None:
    """Windows refuses to open a file for writing that another process has open, and does not say which."""
    try:
        path.open("r+b").close()
    except PermissionError:
        return 0
    except OSError:
        return None
    return None
