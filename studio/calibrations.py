"""Calibrations on disk: those of the studio, which nobody changes, and those that visitors saved."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from calibri.calibration.artifact import LARGEST_FILE, Calibration
from calibri.calibration.export import write_scales
from calibri.calibration.reading import parse_calibration
from calibri.calibration.scale_names import HIGHEST, LOWEST
from calibri.errors import ArtifactError
from calibri.files import Listing, Unreadable, read_folder, read_text
from calibri.words import slug

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone

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
        self._read: dict[Path, tuple[float, Entry | ArtifactError]] = {}
        self._lock = threading.RLock()
        self.revision = 0  # grows with every change that is made here

    # what there is

    def entries(self, backbone: str | None = None, fingerprint: str = "") -> list[Entry]:
        """All valid calibrations (of this backbone), those of the studio first, each shelf by file name.

        `fingerprint`: of the backbone; what was found on the same weights under another name belongs to it.
        """
        listed = [entry for shelf in self._shelves() for entry in shelf.found.values()]
        return [e for e in listed if backbone is None or e.calibration.belongs_to(backbone, fingerprint)]

    def unreadable(self) -> list[Unreadable]:
        """Files in both folders that are no valid calibrations, and why."""
        return [each for shelf in self._shelves() for each in shelf.unreadable]

    def _shelves(self) -> list[Listing[Entry]]:
        with self._lock:
            return [
                read_folder(folder, "*.json", partial(self._entry, shelf=shelf))
                for folder, shelf in ((self._built_in, "studio"), (self._own, "own"))
            ]

    def _entry(self, path: Path, shelf: str) -> Entry:
        changed = path.stat().st_mtime
        known = self._read.get(path)
        if known is None or known[0] != changed:
            found: Entry | ArtifactError
            try:
                made = Calibration.load(path)
                found = Entry(f"{shelf}/{path.stem}", path, made, shelf == "studio", changed)
            except ArtifactError as error:
                log.warning("%s is not a valid calibration: %s", path.name, error)
                found = error
            known = self._read[path] = (changed, found)
        if isinstance(known[1], ArtifactError):
            raise known[1]
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
                with suppress(OSError):  # a folder of such a name
                    old.unlink()
            return name

    def trash(self) -> list[Entry]:
        """Deleted calibrations, the last one first. `saved`: when it was deleted."""
        found = []
        with self._lock:
            listing = read_folder(self._own / TRASH, "*.json", partial(self._entry, shelf=TRASH))
        for entry in reversed(listing.found.values()):
            path, stamp = entry.path, entry.path.stem.partition("-")[0]
            if re.fullmatch(r"\d{1,20}", stamp):
                found.append(Entry(path.stem, path, entry.calibration, False, int(stamp) / 1e9))
        return found

    def restore(self, trash_id: object) -> Entry:
        """Back to the shelf, with its old id where that is free. Raises ArtifactError for an unknown id."""
        with self._lock:
            found = next((e for e in self.trash() if e.id == trash_id), None)
            if found is None:
                raise ArtifactError("That calibration is not in the trash (any more).")
            path = self._own / f"{found.path.stem.partition('-')[2]}.json"
            if os.path.lexists(path):
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
        while os.path.lexists(path):
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


EXPORTS = ("json", "text", "csv")  # the whole calibration, or the scales of one member


def export_file(entry: Entry, form: object = "json") -> tuple[str, str]:
    """The calibration as a file: its name and its text. `text`, `csv`: the scales of the first positive
    member. Raises ArtifactError for another form."""
    made, stem = entry.calibration, slug(entry.title, "calibration", 60)
    if form not in EXPORTS:
        raise ArtifactError(f"Expected {', '.join(EXPORTS)}, got {str(form)[:40]!r}.")
    if form == "json":
        return f"{stem}.json", made.to_json()
    member = next((i for i, m in enumerate(made.members, 1) if m.condition == "positive"), 1)
    return f"{stem}.{'txt' if form == 'text' else 'csv'}", write_scales(made, str(form), member)


def read_file(path: Path, backbone: Backbone | None) -> Calibration:
    """The calibration in a file that somebody sent; a checkpoint of the paper's code and a vector are for the
    loaded backbone. Raises ArtifactError or LayoutError, without the path."""
    sites, name = (backbone.sites, backbone.spec.name) if backbone is not None else ((), "")
    text = read_text(path, LARGEST_FILE, ArtifactError)
    made = parse_calibration(text, sites, backbone=name)
    far = next((s for m in made.members for s in m.scales if not LOWEST <= s <= HIGHEST), None)
    if far is not None:
        raise ArtifactError(f"expected scales from {LOWEST:g} to {HIGHEST:g}, got {far:g}")
    return made if made.title.strip() else made.model_copy(update={"title": path.stem[:60]})
