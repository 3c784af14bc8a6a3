"""Run folders as the studio shows them: journals read as they grow, whoever writes them.

A folder is a search's `config.json` and `journal.jsonl` (calibri.search.journal), and here also
`studio.json`: its title, who started it and when, and its budget. Only what pages show is kept in memory.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from array import array
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from calibri.calibration.artifact import Calibration
from calibri.errors import JournalError, SearchError
from calibri.files import write_whole
from calibri.search.config import Budget, SearchConfig
from calibri.search.journal import CONFIG, TAIL, JournalTail, owner_of
from calibri.search.records import (
    BaseRecord,
    EventRecord,
    GenerationRecord,
    ResultRecord,
    SessionRecord,
    ValidationRecord,
    record_from,
)
from calibri.search.space import SearchSpace
from calibri.search.stopping import kept_point
from calibri.words import slug

log = logging.getLogger(__name__)

NOTE = "studio.json"
EVERY = 0.8  # s: how often all folders are looked at, however many pages ask
_HEAD = re.compile(rb'\{"kind":"generation","generation":(\d+),"images":(\d+),"seconds":([-+.\deE]+),')
_LAST = b'"bucket_mean":'  # from here to the end a generation's line is what pages show of it


class RunNote(BaseModel):
    """What the studio keeps of a run beside its journal. `by`: a name, empty where nobody signs in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["calibri-studio-run/1"] = "calibri-studio-run/1"
    title: str = ""
    by: str = ""
    when: str = ""
    budget: Budget | None = None


class Step(NamedTuple):
    """One generation. `best`: the objective of its best candidate; `mean_gain`, `low`, `high`: over all of
    them, with its interval; `mean`, `spread`: (n,) float64, of each searched number after it; `point`: (n,)
    or empty, what would be kept then (GenerationRecord); `images`, `seconds`: used so far."""

    generation: int
    images: int
    seconds: float
    best: float
    mean_gain: float
    low: float
    high: float
    sigma: float
    axis_ratio: float
    mean_rate: float
    mean: array[float]
    spread: array[float]
    point: array[float]


def step_of(body: bytes) -> Step:
    """A generation from its line in the journal. Raises JournalError for anything else."""
    head, last = _HEAD.match(body), body.rfind(_LAST)
    if head is None or last < 0:
        record = record_from(json.loads(body))
        if not isinstance(record, GenerationRecord):
            raise JournalError(f"not a generation: {record.kind}")
        data = record.model_dump()
        number, images, seconds = record.generation, record.images, record.seconds
    else:
        # The candidates in the middle are most of the line, and no page shows them.
        data = json.loads(b"{" + body[last:])
        number, images, seconds = int(head[1]), int(head[2]), float(head[3])
    gain = data["bucket_mean"]
    return Step(
        number,
        images,
        seconds,
        data["best"],
        gain["mean"],
        gain["low"],
        gain["high"],
        data["sigma"],
        data["axis_ratio"],
        data["mean_rate"],
        array("d", data["mean"]),
        array("d", data["spread"]),
        array("d", data.get("point", ())),
    )


class Run:
    """One run as far as it is read. Lists only grow; `lines` grows with every record."""

    def __init__(self, folder: Path, config: SearchConfig, note: RunNote, begun: float) -> None:
        self.id, self.folder, self.config, self.note = folder.name, folder, config, note
        self.begun = begun  # seconds since 1970
        self.steps: list[Step] = []
        self.base: BaseRecord | None = None
        self.validations: list[ValidationRecord] = []
        self.sessions: list[SessionRecord] = []
        self.result: ResultRecord | None = None
        self.log: list[tuple[str, str]] = []  # when (ISO time or empty), what
        self.error = ""  # why the journal cannot be trusted
        self.over = False  # the last thing that happened is a result
        self.owner: int | None = None  # the process that writes it now
        self._tail = JournalTail(folder)

    @property
    def title(self) -> str:
        return self.note.title or self.id

    @property
    def lines(self) -> int:
        return self._tail.lines

    @property
    def images(self) -> int:
        """Rendered so far, without the final judgement."""
        return max((r.images for r in (self.base, *self.steps[-1:], *self.validations[-1:]) if r), default=0)

    @property
    def seconds(self) -> float:
        return max(
            (r.seconds for r in (self.base, *self.steps[-1:], *self.validations[-1:], self.result) if r),
            default=0.0,
        )

    @property
    def budget(self) -> Budget:
        """The limits in force: those of the last session, or what was asked for before the first."""
        if not self.sessions:
            return self.note.budget or Budget()
        last = self.sessions[-1]
        return Budget(
            images=last.images_limit, minutes=last.minutes_limit, generations=last.generations_limit
        )

    @property
    def speed(self) -> float | None:
        """Images a second over the last generations of this session."""
        since = self.sessions[-1].generation if self.sessions else 0
        marks = [s for s in self.steps[-20:] if s.generation >= since]
        if len(marks) < 2 or marks[-1].seconds <= marks[0].seconds:
            return None
        return (marks[-1].images - marks[0].images) / (marks[-1].seconds - marks[0].seconds)

    @property
    def space(self) -> SearchSpace | None:
        """Which number is which; None before the first session has told."""
        labels = self.sessions[0].labels if self.sessions else []
        if not labels:
            return None
        config = self.config
        scales = len(labels) - (len(config.conditions) if config.search_weights else 0)
        names = [label.partition(": ")[2] or label for label in labels]
        each = names[: scales // len(config.conditions)]
        return SearchSpace(tuple(each), config.conditions, config.weights, config.search_weights)

    def read(self) -> bool:
        """Take in what was added. Yes: something was."""
        if self.error:
            return False
        before = self.lines
        try:
            while bodies := self._tail.poll_bodies():
                for body in bodies:
                    self._take(body)
        except (JournalError, ValueError, KeyError, TypeError) as error:
            words = str(error) if isinstance(error, JournalError) else f"line not understood: {error!r}"
            self.error = words.replace(f"{self.folder.parent}/", "")
            log.warning("the run %s is shown up to line %d: %s", self.id, self.lines, self.error)
            return True
        return self.lines != before

    def _take(self, body: bytes) -> None:
        if body.startswith(b'{"kind":"generation"'):
            self.steps.append(step_of(body))
            self.over = False
            return
        record = record_from(json.loads(body))
        self.over = isinstance(record, ResultRecord)
        match record:
            case BaseRecord():
                self.base = record
                means = ", ".join(f"{name} {value:.3g}" for name, value in record.means.items())
                self.log.append(("", f"The base was measured on {record.pairs} pairs: {means}."))
            case ValidationRecord():
                self.validations.append(record)
                self.log.append(
                    (
                        "",
                        f"Validation after generation {record.generation}: {record.objective.text()} spreads "
                        f"over the base, on {record.objective.n} pairs.",
                    )
                )
            case SessionRecord():
                self.sessions.append(record)
                again = "went on" if len(self.sessions) > 1 else "began"
                self.log.append((record.time, f"The search {again} on {record.host}."))
            case EventRecord():
                self.log.append((record.time, record.text))
            case ResultRecord():
                self.result = record
                self.log.append((record.time, f"Ended: {record.reason}. {record.text}"))

    def point(self) -> np.ndarray:
        """The point reached, (n,), which the search keeps.

        Raises SearchError before the first generation.
        """
        if not self.steps:
            raise SearchError("This search has no generation yet. Wait for the first one.")
        return kept_point(self.steps, self.config.tail)  # type: ignore[arg-type]  # images, mean, point are read

    def calibration(self, title: str = "") -> Calibration:
        """The point reached as a calibration: as it was judged where the search is over, else unjudged.

        Raises SearchError before the first generation, ArtifactError if its file was altered.
        """
        if self.over and (self.folder / TAIL).exists():
            found = Calibration.load(self.folder / TAIL)
            return found.model_copy(update={"title": title or self.title})
        vector, space, last = self.point(), self.space, self.steps[-1]
        if space is None:
            raise SearchError("This run does not tell which scales it searches.")
        found = {
            "how": "search",
            "verdict": "not judged",
            "rewards": ", ".join(term.text for term in self.config.rewards),
            "steps": self.config.steps,
            "start": self.config.start_from,
            "seed": self.config.seed,
            "generations": last.generation + 1,
            "images": last.images,
            "config": self.config.hash,
            "run": self.id,
        }
        return Calibration(
            title=title or self.title,
            backbone=Path(self.config.backbone).name,
            granularity=self.config.granularity,
            names=space.names,
            members=space.decode(vector),
            found=found,
        )


class RunStore:
    """All runs of a folder, and of a shelf that is only read. Reads what is new, at most every EVERY seconds.

    Safe to call from any thread. An id is the name of a folder that was found there, never a path.
    """

    def __init__(self, folder: Path, shelf: Path | None = None) -> None:
        self.folder, self._shelf = folder, shelf
        self._runs: dict[str, Run] = {}
        self._broken: set[str] = set()
        self._lock = threading.Lock()
        self._looked = 0.0
        self._revision = 0

    @property
    def revision(self) -> int:
        """Grows whenever `all` or a run of it would show something else."""
        self.refresh()
        return self._revision

    def refresh(self, *, now: bool = False, ahead: bool = False) -> None:
        """Read what was added to the folders. `ahead`: nobody has asked yet, so whoever asks looks again."""
        with self._lock:
            if not (now or ahead) and time.monotonic() - self._looked < EVERY:
                return
            found: dict[str, Path] = {}
            for place in (self._shelf, self.folder):
                if place is not None and place.is_dir():
                    found |= {p.name: p for p in place.iterdir() if (p / CONFIG).is_file()}
            changed = self._runs.keys() - found.keys()
            for name in changed:
                del self._runs[name]
            grown = [run for name, path in found.items() if (run := self._known(name, path)) and run.read()]
            for run in self._runs.values():
                owner = owner_of(run.folder)
                if owner != run.owner:
                    run.owner = owner
                    grown.append(run)
            self._revision += bool(changed or grown)
            if not ahead:
                self._looked = time.monotonic()

    def _known(self, name: str, path: Path) -> Run | None:
        if name not in self._runs and name not in self._broken:
            try:
                config = SearchConfig.from_json((path / CONFIG).read_text(encoding="utf-8"))
                self._runs[name] = Run(path, config, *_note(path))
                self._revision += 1
            except (SearchError, OSError, ValueError) as error:
                self._broken.add(name)
                log.warning("the run folder %s is left out: %s", name, error)
        return self._runs.get(name)

    def all(self) -> list[Run]:
        """Every readable run, the newest first."""
        self.refresh()
        return sorted(list(self._runs.values()), key=lambda run: (-run.begun, run.id))

    def get(self, run_id: object) -> Run:
        """The run of this id. Raises SearchError."""
        self.refresh()
        run = self._runs.get(run_id) if isinstance(run_id, str) else None
        if run is None:
            raise SearchError(f"There is no search {run_id!r} (any more).")
        return run

    def several(self, run_ids: Sequence[object]) -> list[Run]:
        """Those of these runs that there are, each once, in this order."""
        self.refresh()
        known = {i: self._runs[i] for i in run_ids if isinstance(i, str) and i in self._runs}
        return list(known.values())

    def new(self, title: str, by: str, budget: Budget | None, stem: str) -> Path:
        """A new folder with its note, named after `stem`; a number is added where the name is taken."""
        self.folder.mkdir(parents=True, exist_ok=True)
        name, number = slug(stem, "search"), 1
        while True:
            path = self.folder / (name if number == 1 else f"{name}-{number}")
            try:
                if not (self._shelf and (self._shelf / path.name).exists()):
                    path.mkdir()
                    break
            except FileExistsError:
                pass
            number += 1
        when = datetime.now(UTC).isoformat()
        write_whole(
            path / NOTE, RunNote(title=title, by=by, when=when, budget=budget).model_dump_json(), durable=True
        )
        return path


def _note(path: Path) -> tuple[RunNote, float]:
    """The studio's note of a run and when it was begun. A run that another program began has no note."""
    begun = (path / CONFIG).stat().st_mtime
    try:
        note = RunNote.model_validate_json((path / NOTE).read_text(encoding="utf-8"))
        return note, datetime.fromisoformat(note.when).timestamp()
    except FileNotFoundError:
        return RunNote(), begun
    except (ValidationError, ValueError) as error:
        log.warning("%s of the run %s is not valid and is left out: %s", NOTE, path.name, error)
        return RunNote(), begun


def as_words(config: SearchConfig) -> dict[str, Any]:
    """The settings of a search for people: label → value."""
    rows: dict[str, Any] = {
        "Backbone": Path(config.backbone).name,
        "Granularity": config.granularity,
        "Members": ", ".join(config.conditions),
        "Start": config.start_from,
        "Rewards": ", ".join(term.text for term in config.rewards),
        "Judges": ", ".join(config.judges) or "none",
        "Steps": config.steps,
        "Guidance of the base": config.guidance or "none",
        "Preset": config.preset,
        "Seed": config.seed,
        "First step (sigma)": config.sigma0,
        "Bounds": f"{config.bounds[0]:g} to {config.bounds[1]:g}",
        "Prompts": f"{len(config.prompts)} to search, {len(config.validation_prompts)} to validate, "
        f"{len(config.held_out_prompts)} to judge",
        "Pairs a generation": config.bucket,
        "Pictures in a batch": config.batch_size,
        "Compiled": "yes" if config.compile else "no",
        "Stops by itself": {"validation": "when validation stops rising", "paper": "by the paper's rule"}.get(
            config.convergence, "only at its budget"
        ),
    }
    return rows
