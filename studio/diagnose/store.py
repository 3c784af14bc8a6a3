"""Sweeps on disk: what one measures, how far it is, and its folder of two files.

`sweep.jsonl` is the file of `calibri diagnose`; `studio.json` is what the studio knows of it besides.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from calibri.analysis.diagnose import VALUES, read_sweep
from calibri.analysis.evaluate import pairs_of
from calibri.calibration.artifact import Calibration, Member
from calibri.calibration.scale_names import HIGHEST, LOWEST
from calibri.errors import SearchError
from calibri.files import write_whole
from calibri.rewards.base import RewardTerm
from calibri.rewards.scoring import Pair

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone

log = logging.getLogger(__name__)

State = Literal["queued", "running", "stopping", "done", "failed", "interrupted"]
ALIVE: tuple[State, ...] = ("queued", "running", "stopping")
CELLS, NOTE = "sweep.jsonl", "studio.json"
MOST_PAIRS, MOST_STEPS, MOST_VALUES = 256, 100, 16
LONGEST_PROMPT = 400


class SweepSettings(BaseModel):
    """What a sweep measures. `pairs`: (prompt, seed) pairs that every cell is measured on."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    granularity: Literal["block", "layer", "gate"] = "block"
    rewards: tuple[RewardTerm, ...] = Field(min_length=1)
    prompts: tuple[str, ...] = Field(min_length=1)
    pairs: int = Field(16, ge=2, le=MOST_PAIRS)
    steps: int = Field(8, ge=1, le=MOST_STEPS)
    guidance: float | None = Field(None, ge=1, le=20)
    values: tuple[float, ...] = Field(VALUES, min_length=1, max_length=MOST_VALUES)
    seed: int = Field(0, ge=0, lt=2**31)

    @field_validator("values")
    @classmethod
    def _ordered(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        bad = next((v for v in values if not LOWEST <= v <= HIGHEST), None)
        if bad is not None:
            raise ValueError(f"a scale is from {LOWEST:g} to {HIGHEST:g}, came {bad:g}")
        if 1.0 in values:
            raise ValueError("1 is the base itself: leave it out")
        return tuple(sorted(set(values)))

    @field_validator("prompts")
    @classmethod
    def _short(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        for prompt in prompts:
            if not 0 < len(prompt) <= LONGEST_PROMPT:
                raise ValueError(f"a prompt has 1 to {LONGEST_PROMPT} characters, one has {len(prompt)}")
        return prompts

    @classmethod
    def checked(cls, **values: Any) -> SweepSettings:
        """Raises SearchError with the field that does not fit, and why."""
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            words = first["msg"].removeprefix("Value error, ")
            raise SearchError(f"{first['loc'][0]}: {words}, came {str(first.get('input'))[:60]}") from None

    def drawn(self) -> list[Pair]:
        """The pairs, the same for every cell: each prompt once before any comes twice."""
        each = -(-self.pairs // len(self.prompts))
        by_prompt = pairs_of(self.prompts, self.seed, each)
        return [by_prompt[i * each + k] for k in range(each) for i in range(len(self.prompts))][: self.pairs]

    @property
    def nfe(self) -> int:
        """Transformer evaluations a picture."""
        return self.steps * (1 if self.guidance in (None, 1) else 2)


class SweepNote(BaseModel):
    """What the studio keeps of a sweep beside its cells. `state`: the last one that was written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["calibri-studio-sweep/1"] = "calibri-studio-sweep/1"
    settings: SweepSettings
    backbone: str
    fingerprint: str
    names: tuple[str, ...]
    when: str
    state: State = "queued"
    error: str = ""


@dataclass(frozen=True)
class Sweep:
    """One sweep as pages see it.

    `done`, `total`: cells. `images`, `images_total`: pictures since it was last begun. `seconds_left`: None
    while no speed is known. `error`: in words, where it failed.
    """

    id: str
    note: SweepNote
    state: State
    done: int = 0
    images: int = 0
    images_total: int = 0
    seconds_left: float | None = None
    error: str = ""
    began: float = 0.0  # time.monotonic() of the first picture

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
        return f"{when} · {self.note.backbone} · {self.settings.granularity} · {rewards}"


def read_folder(folder: Path) -> dict[str, Sweep]:
    """All sweeps of a data folder by id. What was under way when the studio ended is interrupted."""
    found = {}
    for path in sorted(folder.glob(f"*/{NOTE}")) if folder.is_dir() else ():
        try:
            note = SweepNote.model_validate_json(path.read_text(encoding="utf-8"))
            cells = path.with_name(CELLS)
            done = len(read_sweep(cells)) if cells.exists() else 0
        except (OSError, ValidationError, SearchError) as error:
            log.warning("the sweep %s is left out: %s", path.parent.name, error)
            continue
        state: State = "interrupted" if note.state in ALIVE else note.state
        found[path.parent.name] = Sweep(path.parent.name, note, state, done, error=note.error)
    return found


def write_note(folder: Path, sweep: Sweep) -> None:
    """Write what is known of a sweep. Raises SearchError where the folder cannot be written."""
    path = folder / sweep.id / NOTE
    note = sweep.note.model_copy(update={"state": sweep.state, "error": sweep.error})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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


def cell_calibration(found: Sweep, name: str, value: float) -> Calibration:
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


def images_of(scales: int, values: int, pairs: int) -> int:
    """Pictures that a sweep renders: the base and every cell on every pair."""
    return pairs * (1 + scales * values)
