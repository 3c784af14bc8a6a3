"""Drafts of mixing desks on disk: one small file for each visitor, there after a restart. No Gradio.

A file holds the desk of each backbone that its visitor worked on last. Its name is a digest: whoever reads
the folder's list of files cannot take anybody's place.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from calibri.backbones.layouts import Granularity
from calibri.calibration.artifact import Member
from calibri.errors import ArtifactError, CalibriError
from calibri.files import load_json, read_text, write_whole
from studio.scales.desk import MOST_MEMBERS

log = logging.getLogger(__name__)

FOLDER = "drafts"  # in the data folder
DAMAGED = "damaged"  # inside of it
FORMAT = "calibri-studio-drafts/1"
MOST_BACKBONES = 4  # of one visitor: the desk that was changed longest ago is forgotten first
LARGEST = 128 * 2**10  # bytes of a file; 8 members of 240 scales take 20 KB


class DraftError(CalibriError):
    """A draft cannot be read or kept."""


class Bounds(NamedTuple):
    """How many files there are at most, for how many seconds one stays after its last change, and how many
    bytes all have together."""

    files: int
    kept: float
    total: int


OWN = Bounds(1000, 90 * 24 * 3600.0, 64 * 2**20)
PUBLIC = Bounds(300, 14 * 24 * 3600.0, 16 * 2**20)


class DeskDraft(BaseModel):
    """A desk as it was last. `layout`: a digest of the backbone's scales. `saved`: seconds since 1970. `at`:
    the member in hand."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: str
    layout: str
    granularity: Granularity
    saved: float
    members: tuple[Member, ...] = Field(min_length=1, max_length=MOST_MEMBERS)
    at: int = Field(ge=0, lt=MOST_MEMBERS)

    @property
    def place(self) -> tuple[str, str]:
        """What it belongs to."""
        return self.backbone, self.layout


def digest_layout(names: Sequence[str]) -> str:
    """What tells the scales of one backbone from those of another one."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class DraftStore:
    """Reads and writes the files of a folder, which is made at the first draft. Calls for one visitor come
    one after the other; those for several may come at the same time. `clock`: seconds since 1970."""

    folder: Path
    bounds: Bounds = OWN
    clock: Callable[[], float] = time.time

    def find(self, visitor: str, backbone: str, layout: str) -> DeskDraft | None:
        """This visitor's draft on this backbone; None where there is none, or it is too old.

        Raises DraftError where it may have been in a file that cannot be read, which is put aside.
        """
        drafts, damaged = self._read(visitor)
        found = next((draft for draft in drafts if draft.place == (backbone, layout)), None)
        if found is None and damaged:
            raise DraftError(f"Your draft could not be read. It was put aside in {FOLDER}/{DAMAGED}.")
        return found

    def keep(
        self, visitor: str, draft: DeskDraft, admit: Callable[[bool, int], None] = lambda new, size: None
    ) -> None:
        """Write it as a whole, in place of an earlier one. `admit(new, bytes)` is asked before and may raise.

        Raises DraftError for one that is too large, and OSError where nothing can be written.
        """
        path = self._path(visitor)
        others = [each for each in self._read(visitor)[0] if each.place != draft.place]
        kept = [draft, *others][:MOST_BACKBONES]
        while len(text := _write(kept)) > LARGEST and len(kept) > 1:
            kept.pop()
        if len(text) > LARGEST:
            raise DraftError(f"Expected a draft of at most {LARGEST} bytes, got {len(text)}.")
        new = not os.path.lexists(path)
        admit(new, len(text))
        write_whole(path, text)
        if new:
            self._make_room(path)

    def forget(self, visitor: str, backbone: str, layout: str) -> None:
        """Without it: the visitor's desk is as it was at first. Raises OSError."""
        path = self._path(visitor)
        if not os.path.lexists(path):
            return
        rest = [draft for draft in self._read(visitor)[0] if draft.place != (backbone, layout)]
        if rest:
            write_whole(path, _write(rest))
        else:
            path.unlink(missing_ok=True)

    def _path(self, visitor: str) -> Path:
        return self.folder / f"{hashlib.sha256(f'desk:{visitor}'.encode()).hexdigest()[:32]}.json"

    def _read(self, visitor: str) -> tuple[list[DeskDraft], bool]:
        """The drafts in a visitor's file that are not too old, the newest first, and whether some of it
        could not be read."""
        path = self._path(visitor)
        if not os.path.lexists(path):
            return [], False
        drafts, problem = _parse(path)
        if problem:
            log.warning("the draft %s is damaged: %s", path.name, problem)
            self._put_aside(path, drafts)
        oldest = self.clock() - self.bounds.kept
        return [draft for draft in drafts if draft.saved >= oldest], bool(problem)

    def _put_aside(self, path: Path, readable: Sequence[DeskDraft]) -> None:
        """Move a damaged file out of the way; what could be read of it stays."""
        try:
            aside = self.folder / DAMAGED
            aside.mkdir(exist_ok=True)
            os.replace(path, aside / path.name)
            if readable:
                write_whole(path, _write(readable))
        except OSError as error:
            log.warning("the draft %s cannot be put aside: %s", path.name, error.strerror)

    def _make_room(self, newest: Path) -> None:
        """Remove the files that were changed longest ago, until there are as many as there may be."""
        found = []
        for path in self.folder.glob("[!.]*.json"):
            try:
                found.append((path.stat().st_mtime, path))
            except FileNotFoundError:
                continue  # its visitor removed it meanwhile
        found.sort()
        old = [path for _, path in found if path != newest]
        for path in old[: max(0, len(found) - self.bounds.files)]:
            path.unlink(missing_ok=True)


def _write(drafts: Sequence[DeskDraft]) -> str:
    body = ",\n".join(draft.model_dump_json() for draft in drafts)
    return f'{{"format": {json.dumps(FORMAT)}, "drafts": [\n{body}\n]}}\n'


def _parse(path: Path) -> tuple[list[DeskDraft], str]:
    """What can be read of a file, and why not all of it."""
    try:
        content = load_json(read_text(path, LARGEST, ArtifactError))
        listed = content["drafts"] if content["format"] == FORMAT else None
        if not isinstance(listed, list):
            return [], f"expected {FORMAT} with a list of drafts"
    except (CalibriError, ValueError, LookupError, TypeError) as error:
        return [], f"expected {FORMAT}, got {error!r:.120}"
    drafts, problem = [], ""
    for each in listed[:MOST_BACKBONES]:
        try:
            drafts.append(DeskDraft.model_validate(each))
        except (ValidationError, CalibriError, TypeError) as error:
            problem = " ".join(str(error).split())[:160]
    return drafts, problem
