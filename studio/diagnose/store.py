"""Sweeps on disk. Each has a folder with two files: `sweep.jsonl`, which `calibri diagnose` writes too, and
`studio.json`, what the studio adds."""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from calibri.analysis.diagnose import read_sweep
from calibri.analysis.settings import SweepSettings
from calibri.calibration.artifact import Calibration, Member
from calibri.errors import SearchError, sentence
from calibri.files import Listing, read_folder, read_text, write_whole
from calibri.rewards.base import RewardLoading

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone

log = logging.getLogger(__name__)

State = Literal["queued", "running", "stopping", "done", "failed", "interrupted"]
ALIVE: tuple[State, ...] = ("queued", "running", "stopping")
CELLS, NOTE = "sweep.jsonl", "studio.json"
LARGEST_NOTE = 32 * 2**20  # bytes: its prompts


class SweepNote(BaseModel):
    """What the studio keeps of a sweep beside its cells. `loading`: how its rewards are loaded. `state`: the
    last one that was written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["calibri-studio-sweep/1"] = "calibri-studio-sweep/1"
    settings: SweepSettings
    backbone: str
    fingerprint: str
    names: tuple[str, ...]
    when: str
    loading: RewardLoading = RewardLoading()
    state: State = "queued"
    error: str = ""


@dataclass(frozen=True)
class Sweep:
    """One sweep as pages see it.

    `done`, `total`: cells. `images`, `images_total`: pictures since it was last begun. `seconds_left`: None
    while no speed is known. `error`: in words, where it failed. `example`: it came with the studio and is
    only read.
    """

    id: str
    note: SweepNote
    state: State
    done: int = 0
    images: int = 0
    images_total: int = 0
    seconds_left: float | None = None
    error: str = ""
    example: bool = False

    @property
    def settings(self) -> SweepSettings:
        return self.note.settings

    @property
    def total(self) -> int:
        return len(self.note.names) * len(self.settings.values)

    @property
    def title(self) -> str:
        rewards = ", ".join(term.text.removeprefix("tabletop-") for term in self.settings.rewards)
        when = self.note.when.replace("T", " ")[:16]
        first = "Example" if self.example else when
        return f"{first} · {self.note.backbone} · {self.settings.granularity} · {rewards}"


def read_sweeps(folder: Path) -> Listing[Sweep]:
    """All sweeps of a data folder by id. What was under way when the studio ended is interrupted."""
    listing = read_folder(folder, f"*/{NOTE}", _read_one)
    for each in listing.unreadable:
        log.warning("the sweep %s", each)
    return listing


def _read_one(path: Path) -> Sweep:
    try:
        note = SweepNote.model_validate_json(read_text(path / NOTE, LARGEST_NOTE, SearchError))
    except ValidationError as error:
        raise SearchError(f"{NOTE} is not of a sweep: {sentence(error)}") from error
    except SearchError as error:
        raise SearchError(f"{NOTE}: {error}") from error
    cells = path / CELLS
    done = len(read_sweep(cells)) if os.path.lexists(cells) else 0
    state: State = "interrupted" if note.state in ALIVE else note.state
    return Sweep(path.name, note, state, done, error=note.error)


def write_note(folder: Path, sweep: Sweep) -> None:
    """Write what is known of a sweep. Raises SearchError where the folder cannot be written."""
    path = folder / sweep.id / NOTE
    note = sweep.note.model_copy(update={"state": sweep.state, "error": sweep.error})
    try:
        write_whole(path, note.model_dump_json(indent=1) + "\n", durable=True)
    except OSError as error:
        raise SearchError(f"The sweep cannot be written: {error.strerror}.") from error


def check_fits(note: SweepNote, backbone: Backbone) -> None:
    """Raises SearchError where this sweep was made with another backbone than the loaded one."""
    if backbone.fingerprint == note.fingerprint:
        return
    if backbone.spec.name == note.backbone:
        raise SearchError(
            f"{note.backbone} has other weights now than when this sweep began. Start a new one."
        )
    raise SearchError(
        f"This sweep is of {note.backbone}, but {backbone.spec.name} is loaded. Load {note.backbone} first."
    )


def make_cell_calibration(found: Sweep, name: str, value: float) -> Calibration:
    """One cell of a sweep as a calibration: all scales 1 but this one. Raises SearchError for no cell."""
    names = found.note.names
    if name not in names or not math.isfinite(value):
        raise SearchError(f"This sweep has no cell {name!r} × {value}.")
    return Calibration(
        title=f"{name} × {value:.2f}",
        backbone=found.note.backbone,
        granularity=found.settings.granularity,
        names=names,
        members=(Member(scales=tuple(value if each == name else 1.0 for each in names)),),
        found={"how": "one cell of a sweep"},
    )


def count_images(scales: int, values: int, pairs: int) -> int:
    """Pictures that a sweep renders: the base and every cell on every pair."""
    return pairs * (1 + scales * values)
