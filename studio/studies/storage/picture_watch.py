"""Which pictures of a study are lost or damaged, so that the organiser hears of it before raters complain."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from studio.machine.background import Background
from studio.studies.storage.database import Database
from studio.studies.storage.picture_store import ImageStore

log = logging.getLogger(__name__)

EVERY = 600.0  # seconds between checks of a study that somebody looks at


@dataclass(frozen=True)
class LostPicture:
    """A picture of a study whose file is gone or damaged."""

    sha256: str
    prompt: str
    seed: int
    arm: str


class PictureWatch:
    """Reads all files of a study now and then, in the background. Safe to call from any thread.

    `clock`: seconds.
    """

    def __init__(self, db: Database, images: ImageStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._db, self._images, self._clock = db, images, clock
        self._lock = threading.Lock()
        self._lost: dict[str, set[str]] = {}  # study → hashes
        self._checked: dict[str, float] = {}
        self._background = Background("check-pictures")

    def note(self, study: str, sha256: str) -> None:
        """A picture could not be read."""
        with self._lock:
            known = self._lost.setdefault(study, set())
            if sha256 not in known:
                log.error("study %s: the file of picture %s is missing or damaged", study, sha256)
            known.add(sha256)

    def list_lost(self, study: str) -> list[LostPicture]:
        """What is known to be lost now. Begins a check of all files where the last one is long ago."""
        due = self._clock() - self._checked.get(study, -EVERY) >= EVERY
        if due and self._background.start(lambda: self._read_all(study)):
            self._checked[study] = self._clock()
        return self._describe(study)

    def check(self, study: str) -> list[LostPicture]:
        """Read every picture of the study now, and return those that are lost."""
        self._read_all(study)
        return self._describe(study)

    def _read_all(self, study: str) -> None:
        self._checked[study] = self._clock()
        rows = self._db.read("SELECT DISTINCT unnest([image_x, image_y]) FROM pairs WHERE study = ?", [study])
        for (sha256,) in rows:
            if self._background.closed:
                break
            if sha256 and not self._images.is_whole(sha256):
                self.note(study, sha256)

    def _describe(self, study: str) -> list[LostPicture]:
        with self._lock:
            known = sorted(self._lost.get(study, ()))
        lost = [sha256 for sha256 in known if not self._images.is_whole(sha256)]
        with self._lock:
            self._lost.get(study, set()).difference_update(set(known) - set(lost))
        if not lost:
            return []
        marks = ", ".join("?" * len(lost))
        rows = self._db.read(
            "SELECT DISTINCT i.sha, i.prompt, i.seed, a.label FROM ("
            "SELECT image_x AS sha, prompt, seed, arm_x AS arm, study FROM pairs UNION ALL "
            "SELECT image_y, prompt, seed, arm_y, study FROM pairs) i JOIN arms a ON a.id = i.arm "
            f"WHERE i.study = ? AND i.sha IN ({marks}) ORDER BY 2, 3, 4, 1",
            [study, *lost],
        )
        return [LostPicture(*row) for row in rows]

    def close(self) -> None:
        """End the check under way."""
        self._background.close()
