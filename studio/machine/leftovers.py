"""Folders of files that can be made or sent again: each has an age and a total, and is swept."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from calibri.memory import trim_heaps
from studio.machine.background import Background

log = logging.getLogger(__name__)

EVERY = 60.0  # seconds between two sweeps where nothing comes
SOON = 64 * 2**20  # bytes that came since the last sweep and make the next one begin


@dataclass(frozen=True)
class Shelf:
    """A folder, the seconds since a file was last asked for after which it goes (None: it stays while there
    is room), and the bytes of all files together, of which the oldest go first."""

    folder: Path
    kept: float | None
    most: int


class _File(NamedTuple):
    used: float  # seconds since 1970
    size: int
    path: Path


class Leftovers:
    """Sweeps in the background, now and then and when much came. Safe to call from any thread."""

    def __init__(self, shelves: Sequence[Shelf]) -> None:
        self.shelves = tuple(shelves)
        self._background = Background("sweep-leftovers")
        self._soon = threading.Event()
        self._lock = threading.Lock()
        self._came = 0

    def start(self) -> None:
        """Begin to sweep."""
        self._background.start(self._work)

    def note(self, size: int) -> None:
        """So many bytes came."""
        with self._lock:
            self._came += size
            if self._came < min(SOON, *(shelf.most // 4 for shelf in self.shelves)):
                return
            self._came = 0
        self._soon.set()

    def _work(self) -> None:
        while not self._background.closed:
            for shelf in self.shelves:
                try:
                    sweep(shelf)
                except OSError as error:
                    log.warning("%s is not swept: %s", shelf.folder.name, error.strerror)
            # Heaps keep what renders freed, for the next one (`keep_freed_memory`); between those of many
            # sizes little is used again, and a studio of a hundred visitors grew by a megabyte a second.
            trim_heaps()
            self._soon.wait(EVERY)
            self._soon.clear()

    def close(self) -> None:
        """End after the sweep under way."""
        self._background.stop()
        self._soon.set()
        self._background.close()


def sweep(shelf: Shelf, now: float | None = None) -> int:
    """Remove what is too old, then the oldest until the rest fits. Returns how many files went."""
    now = time.time() if now is None else now
    files = sorted(_list_files(shelf.folder))
    total, gone = sum(file.size for file in files), 0
    for file in files:
        old = shelf.kept is not None and now - file.used > shelf.kept
        if not old and total <= shelf.most:
            break  # those after it are younger
        file.path.unlink(missing_ok=True)
        total, gone = total - file.size, gone + 1
    if gone:
        log.info("%d files of %s are swept", gone, shelf.folder.name)
        _remove_empty(shelf.folder)
    return gone


def _list_files(folder: Path) -> list[_File]:
    """Those inside, in folders of any depth. A link is not followed."""
    found = []
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place) / name
            try:
                known = path.lstat()
            except FileNotFoundError:
                continue  # its writer removed it meanwhile
            found.append(_File(max(known.st_mtime, known.st_atime), known.st_size, path))
    return found


def _remove_empty(folder: Path) -> None:
    for place, _, _ in os.walk(folder, topdown=False):
        if Path(place) != folder:
            try:
                os.rmdir(place)
            except OSError:
                continue  # it holds something
