"""Run folders as the studio shows them: journals are read as they grow, whoever writes them.

A folder holds `config.json` and `journal.jsonl` (calibri.search.journal), and `studio.json` with what the
studio adds: a title, who started the search, when, and its budget. Only what pages show is kept in memory.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from calibri.calibration.artifact import Calibration
from calibri.errors import JournalError, SearchError
from calibri.files import write_whole
from calibri.search.config import Budget, SearchConfig
from calibri.search.journal import CONFIG, TAIL, JournalTail, owner_of
from calibri.search.progress import SearchProgress
from calibri.search.records import Generation, Record, read_generation, record_from
from calibri.search.space import SearchSpace
from calibri.words import slug

log = logging.getLogger(__name__)

NOTE = "studio.json"
EVERY = 0.8  # s: how often all folders are looked at, however many pages ask


class RunNote(BaseModel):
    """What the studio adds to a run. `by`: who started it, empty where nobody signs in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["calibri-studio-run/1"] = "calibri-studio-run/1"
    title: str = ""
    by: str = ""
    when: str = ""
    budget: Budget | None = None


class Run(SearchProgress):
    """One run folder as far as it is read. `begun`: seconds since 1970. `owner`: the process that writes it
    now."""

    def __init__(self, folder: Path, config: SearchConfig, note: RunNote, begun: float) -> None:
        super().__init__(config)
        self.id, self.folder, self.note, self.begun = folder.name, folder, note, begun
        self.owner: int | None = None
        self._tail = JournalTail(folder)

    @property
    def title(self) -> str:
        return self.note.title or self.id

    @property
    def lines(self) -> int:
        """Records that were read."""
        return self._tail.lines

    @property
    def limits(self) -> Budget:
        """Those of the last session, or what was asked for before the first."""
        return self.budget or self.note.budget or Budget()

    @property
    def space(self) -> SearchSpace | None:
        """Which number is which; None before the first session."""
        labels = self.sessions[0].labels if self.sessions else []
        if not labels:
            return None
        config = self.config
        scales = len(labels) - (len(config.conditions) if config.search_weights else 0)
        names = [label.partition(": ")[2] or label for label in labels]
        each = names[: scales // len(config.conditions)]
        return SearchSpace(tuple(each), config.conditions, config.weights, config.search_weights)

    def read(self) -> bool:
        """Take in what was added to the journal. Returns whether something was."""
        if self.error:
            return False
        before = self.lines
        try:
            while bodies := self._tail.poll_bodies():
                for body in bodies:
                    self.take(_record(body))
        except (JournalError, ValueError, KeyError, TypeError) as error:
            words = str(error) if isinstance(error, JournalError) else f"line not understood: {error!r}"
            self.error = words.replace(f"{self.folder.parent}/", "")
            log.warning("the run %s is shown up to line %d: %s", self.id, self.lines, self.error)
            return True
        return self.lines != before

    def calibration(self, title: str = "") -> Calibration:
        """The point reached: as it was judged where the search is over, else unjudged.

        Raises SearchError before the first generation, ArtifactError if its file was altered.
        """
        title = title or self.title
        if self.over and (self.folder / TAIL).exists():
            return Calibration.load(self.folder / TAIL).model_copy(update={"title": title})
        vector, space, config = self.point(), self.space, self.config
        if space is None:
            raise SearchError("This run does not say which scales it searches.")
        found = {
            "how": "search",
            "verdict": "not judged",
            "rewards": ", ".join(term.text for term in config.rewards),
            "steps": config.steps,
            "start": config.start_from,
            "seed": config.seed,
            "generations": self.generations[-1].generation + 1,
            "images": self.generations[-1].images,
            "config": config.hash,
            "run": self.id,
        }
        return Calibration(
            title=title,
            backbone=Path(config.backbone).name,
            granularity=config.granularity,
            names=space.names,
            members=space.decode(vector),
            found=found,
        )


def _record(body: bytes) -> Record | Generation:
    """The record of a journal's line, a generation without what no page shows."""
    is_generation = body.startswith(b'{"kind":"generation"')
    return read_generation(body) if is_generation else record_from(json.loads(body))


class RunStore:
    """All runs of a folder, and of a folder of examples that is only read. Reads what is new, at most every
    EVERY seconds.

    Safe to call from any thread. An id is the name of a folder that was found there, never a path.
    """

    def __init__(self, folder: Path, examples: Path | None = None) -> None:
        self.folder, self._examples = folder, examples
        self._runs: dict[str, Run] = {}
        self._broken: set[str] = set()
        self._lock = threading.Lock()
        self._looked = 0.0

    def refresh(self, *, now: bool = False, ahead: bool = False) -> None:
        """Read what was added. `now`: however short ago the last look was. `ahead`: before anybody asks; the
        next call looks again."""
        with self._lock:
            if not (now or ahead) and time.monotonic() - self._looked < EVERY:
                return
            found: dict[str, Path] = {}
            for place in (self._examples, self.folder):
                if place is not None and place.is_dir():
                    found |= {p.name: p for p in place.iterdir() if (p / CONFIG).is_file()}
            for name in self._runs.keys() - found.keys():
                del self._runs[name]
            for name, path in found.items():
                if (run := self._open(name, path)) is not None:
                    run.read()
                    run.owner = owner_of(path)
            if not ahead:
                self._looked = time.monotonic()

    def _open(self, name: str, path: Path) -> Run | None:
        if name not in self._runs and name not in self._broken:
            try:
                config = SearchConfig.from_json((path / CONFIG).read_text(encoding="utf-8"))
                self._runs[name] = Run(path, config, *_note(path))
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
        for run in self.several([run_id]):
            return run
        raise SearchError(f"There is no search {run_id!r} (any more).")

    def several(self, run_ids: Sequence[object]) -> list[Run]:
        """Those of these runs that there are, each once, in this order."""
        self.refresh()
        known = {i: self._runs[i] for i in run_ids if isinstance(i, str) and i in self._runs}
        return list(known.values())

    def create(self, title: str, by: str, budget: Budget | None) -> Path:
        """A new folder with its note, named after the title; a number is added where the name is taken."""
        self.folder.mkdir(parents=True, exist_ok=True)
        name, number = slug(title, "search"), 1
        while True:
            path = self.folder / (name if number == 1 else f"{name}-{number}")
            try:
                if not (self._examples and (self._examples / path.name).exists()):
                    path.mkdir()
                    break
            except FileExistsError:
                pass
            number += 1
        note = RunNote(title=title, by=by, when=datetime.now(UTC).isoformat(), budget=budget)
        write_whole(path / NOTE, note.model_dump_json(), durable=True)
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
