"""Calibrations on disk: those of the studio, which nobody changes, and those that visitors saved."""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from calibri.calibration.artifact import LARGEST_FILE, Calibration
from calibri.calibration.scale_names import HIGHEST, LOWEST
from calibri.errors import ArtifactError
from calibri.words import slug

log = logging.getLogger(__name__)

TRASH = "trash"  # a folder inside that of the saved calibrations
MOST_TRASH = 200  # older ones are removed for good
LONGEST_TITLE = 120


@dataclass(frozen=True)
class Entry:
    """One saved calibration. `id`: its shelf and its file's name without `.json`. `saved`: when, in seconds
    since 1970."""

    id: str
    path: Path
    calibration: Calibration
    built_in: bool
    saved: float = 0.0

    @property
    def title(self) -> str:
        return self.calibration.title or self.path.stem


class CalibrationStore:
    """Reads two folders of JSON files and writes to one of them, which is made at the first save.

    Safe to call from any thread. Titles are unique over both shelves, whatever the case of their letters.
    """

    def __init__(self, built_in: Path, own: Path) -> None:
        self._built_in, self._own = built_in, own
        self._read: dict[Path, tuple[float, Entry | None]] = {}
        self._lock = threading.RLock()
        self.revision = 0  # grows with every change that is made here

    # what there is

    def entries(self, backbone: str | None = None) -> list[Entry]:
        """All valid calibrations (of this backbone), those of the studio first, each shelf by file name."""
        found = []
        with self._lock:
            for folder, shelf in ((self._built_in, "studio"), (self._own, "own")):
                for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
                    entry = self._entry(path, shelf)
                    if entry is not None and backbone in (None, entry.calibration.backbone):
                        found.append(entry)
        return found

    def _entry(self, path: Path, shelf: str) -> Entry | None:
        try:
            changed = path.stat().st_mtime
        except FileNotFoundError:
            return None  # another program removed it meanwhile
        known = self._read.get(path)
        if known is None or known[0] != changed:
            try:
                made = Calibration.load(path)
                entry = Entry(f"{shelf}/{path.stem}", path, made, shelf == "studio", changed)
            except ArtifactError as error:
                log.warning("%s is left out, as it is not a valid calibration: %s", path.name, error)
                entry = None
            known = self._read[path] = (changed, entry)
        return known[1]

    def get(self, entry_id: str) -> Entry:
        """The calibration of this id, or an ArtifactError."""
        for entry in self.entries():
            if entry.id == entry_id:
                return entry
        raise ArtifactError(f"There is no saved calibration {entry_id!r} (any more).")

    # changes

    def save(self, calibration: Calibration) -> Entry:
        """Write it under its title. Where another one has that title, the new one gets a number, in its title
        and its file's name."""
        with self._lock:
            title = self._check_title(" ".join(calibration.title.split())[:LONGEST_TITLE] or "Calibration")
            same = next((e for e in self._same_title(title) if not e.built_in), None)
            if same is not None and same.calibration.hash == calibration.hash:
                return self._write(same.path, calibration, title)
            return self._write(self._free_path(title), calibration, self._free_title(title))

    def rename(self, entry_id: str, title: object) -> Entry:
        """Raises ArtifactError for an empty, long or taken title, and for a calibration of the studio."""
        with self._lock:
            entry = self._get_own(entry_id, "renamed")
            new = self._check_title(title)
            other = next((e for e in self._same_title(new) if e.id != entry.id), None)
            if other is not None:
                raise ArtifactError(f"There is already a calibration called “{other.title}”.")
            return self._write(entry.path, entry.calibration, new, saved=entry.saved)

    def duplicate(self, entry_id: str) -> Entry:
        """A copy that can be changed."""
        with self._lock:
            entry = self.get(entry_id)
            title = self._free_title(f"{entry.title[: LONGEST_TITLE - 12]} copy")
            return self._write(self._free_path(title), entry.calibration, title)

    def delete(self, entry_id: str) -> str:
        """Move it to the trash. Returns its id there, which `restore` takes."""
        with self._lock:
            entry = self._get_own(entry_id, "deleted")
            trash = self._own / TRASH
            name = f"{time.time_ns():020d}-{entry.path.stem}"
            try:
                trash.mkdir(parents=True, exist_ok=True)
                os.replace(entry.path, trash / f"{name}.json")
            except FileNotFoundError:
                raise ArtifactError(f"There is no saved calibration {entry_id!r} (any more).") from None
            except OSError as error:
                raise ArtifactError(
                    f"“{entry.title}” cannot be moved to the trash: {error.strerror}."
                ) from error
            self.revision += 1
            for old in sorted(trash.glob("*.json"))[:-MOST_TRASH]:
                old.unlink(missing_ok=True)
            return name

    def trash(self) -> list[Entry]:
        """Deleted calibrations, the last one first. `saved`: when it was deleted."""
        folder, found = self._own / TRASH, []
        with self._lock:
            for path in sorted(folder.glob("*.json"), reverse=True) if folder.is_dir() else ():
                stamp = path.stem.partition("-")[0]
                entry = self._entry(path, TRASH)
                if entry is not None and stamp.isdecimal():
                    found.append(Entry(path.stem, path, entry.calibration, False, int(stamp) / 1e9))
        return found

    def restore(self, trash_id: object) -> Entry:
        """Back to the shelf, with its old id where that is free. Raises ArtifactError for an unknown id."""
        with self._lock:
            found = next((e for e in self.trash() if e.id == trash_id), None)
            if found is None:
                raise ArtifactError("That calibration is not in the trash (any more).")
            path = self._own / f"{found.path.stem.partition('-')[2]}.json"
            if path.exists():
                path = self._free_path(found.title)
            title = self._free_title(found.title)
            entry = self._write(path, found.calibration, title, saved=found.path.stat().st_mtime)
            found.path.unlink(missing_ok=True)
            return entry

    # helpers; the lock is held

    def _get_own(self, entry_id: str, verb: str) -> Entry:
        entry = self.get(entry_id)
        if entry.built_in:
            raise ArtifactError(
                f"“{entry.title}” came with the studio and cannot be {verb}. "
                "Duplicate it and change the copy."
            )
        return entry

    @staticmethod
    def _check_title(title: object) -> str:
        words = " ".join(str(title or "").split())
        if not words:
            raise ArtifactError("Expected a title, got none.")
        if len(words) > LONGEST_TITLE:
            raise ArtifactError(f"Expected a title of at most {LONGEST_TITLE} characters, got {len(words)}.")
        return words

    def _same_title(self, title: str) -> list[Entry]:
        return [e for e in self.entries() if e.title.casefold() == title.casefold()]

    def _free_title(self, title: str) -> str:
        taken = {entry.title.casefold() for entry in self.entries()}
        free, number = title, 2
        while free.casefold() in taken:
            free, number = f"{title} {number}", number + 1
        return free

    def _free_path(self, title: str) -> Path:
        stem = slug(title, "calibration", 60)
        path, number = self._own / f"{stem}.json", 2
        while path.exists():
            path, number = self._own / f"{stem}-{number}.json", number + 1
        return path

    def _write(self, path: Path, calibration: Calibration, title: str, saved: float | None = None) -> Entry:
        made = calibration.model_copy(update={"title": title})
        try:
            made.save(path)
            if saved is not None:
                os.utime(path, (saved, saved))
            changed = path.stat().st_mtime
        except (ArtifactError, OSError) as error:
            words = str(error).replace(f"{path}", path.name)
            raise ArtifactError(f"“{title}” cannot be written. {words}") from error
        self._read.pop(path, None)  # a clock may not tell two quick writes apart
        self.revision += 1
        return Entry(f"own/{path.stem}", path, made, False, changed)


def export_file(entry: Entry) -> tuple[str, str]:
    """The calibration as a file: its name and its text."""
    return f"{slug(entry.title, 'calibration', 60)}.json", entry.calibration.to_json()


def read_file(path: Path) -> Calibration:
    """The calibration in a file that somebody sent. Raises ArtifactError, without the path."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ArtifactError(f"expected at most {LARGEST_FILE // 2**20} MB")
        made = Calibration.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(error.strerror or "it cannot be read") from error
    except UnicodeDecodeError as error:
        raise ArtifactError("expected a text file") from error
    far = next((s for m in made.members for s in m.scales if not LOWEST <= s <= HIGHEST), None)
    if far is not None:
        raise ArtifactError(f"expected scales from {LOWEST:g} to {HIGHEST:g}, got {far:g}")
    return made if made.title.strip() else made.model_copy(update={"title": path.stem[:60]})
