"""Calibrations on disk: those that come with the studio (read-only) and those that visitors saved."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

from calibri.calibration.artifact import Calibration
from calibri.errors import ArtifactError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One saved calibration. `id` is its file's stem, prefixed by the shelf it lies on."""

    id: str
    path: Path
    calibration: Calibration
    built_in: bool

    @property
    def title(self) -> str:
        return self.calibration.title or self.path.stem


class CalibrationStore:
    """Reads two folders of JSON files and writes to one of them, which is made at the first save."""

    def __init__(self, built_in: Path, own: Path) -> None:
        self._built_in, self._own = built_in, own
        self._read: dict[Path, tuple[float, Entry | None]] = {}

    def entries(self, backbone: str | None = None) -> list[Entry]:
        """All valid calibrations (of this backbone), those of the studio first, each shelf by file name."""
        found = []
        for folder, shelf in ((self._built_in, "studio"), (self._own, "own")):
            for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
                entry = self._entry(path, shelf)
                if entry is not None and backbone in (None, entry.calibration.backbone):
                    found.append(entry)
        return found

    def _entry(self, path: Path, shelf: str) -> Entry | None:
        changed = path.stat().st_mtime
        known = self._read.get(path)
        if known is None or known[0] != changed:
            try:
                entry = Entry(f"{shelf}/{path.stem}", path, Calibration.load(path), shelf == "studio")
            except ArtifactError as error:
                log.warning("%s is no valid calibration and is left out: %s", path.name, error)
                entry = None
            known = self._read[path] = (changed, entry)
        return known[1]

    def get(self, entry_id: str) -> Entry:
        """The calibration of this id, or an ArtifactError."""
        for entry in self.entries():
            if entry.id == entry_id:
                return entry
        raise ArtifactError(f"There is no saved calibration {entry_id!r} (any more).")

    def save(self, calibration: Calibration) -> Entry:
        """Write it under its title. A file of the same name and other content is kept: the new one gets a
        number."""
        stem = re.sub(r"[^a-z0-9]+", "-", calibration.title.lower()).strip("-")[:60] or "calibration"
        self._own.mkdir(parents=True, exist_ok=True)
        path, number = self._own / f"{stem}.json", 2
        while path.exists() and Calibration.load(path).hash != calibration.hash:
            path, number = self._own / f"{stem}-{number}.json", number + 1
        calibration.save(path)
        return Entry(f"own/{path.stem}", path, calibration, False)
