"""Run folders as the studio shows them: journals are read as they grow, whoever writes them.

A folder holds `config.json` and `journal.jsonl` (calibri.search.journal), and `studio.json` with what the
studio adds: a title, who started the search, when, and its budget. Only what pages show is kept in memory.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from calibri.backbones.catalog import backbone_name
from calibri.calibration.artifact import Calibration
from calibri.errors import JournalError, SearchError
from calibri.files import Unreadable, explain, load_json, read_folder, read_text, write_whole
from calibri.search.config import Budget, SearchConfig
from calibri.search.front_file import file_of
from calibri.search.journal import CONFIG, JOURNAL, LARGEST_CONFIG, TAIL, JournalTail, owner_of
from calibri.search.progress import SearchProgress
from calibri.search.records import Generation, Record, read_generation, record_from, share_words
from calibri.search.space import SearchSpace
from calibri.words import slug
from studio.examples import PutAway

log = logging.getLogger(__name__)

NOTE = "studio.json"
AWAY = "examples-put-away.json"
DELETED = ".deleted"  # a folder among the runs that holds no run itself
LARGEST_NOTE = 2**20  # bytes
EVERY = 0.8  # s: how often all folders are looked at, however many pages ask


class Deleted(NamedTuple):
    """A search that was deleted. `number`: the higher, the later; 0 for an example that was put away."""

    number: int
    id: str


class RunNote(BaseModel):
    """What the studio adds to a run. `by`: who started it, empty where nobody signs in. `when`: ISO time.
    `stopped`: it left the queue before it began."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["calibri-studio-run/1"] = "calibri-studio-run/1"
    title: str = ""
    by: str = ""
    when: str = ""
    budget: Budget | None = None
    tags: tuple[str, ...] = ()
    stopped: bool = False


class Run(SearchProgress):
    """One run folder as far as it is read. `begun`: seconds since 1970. `owner`: the process that writes it
    now. `example`: it came with the studio and is only read."""

    def __init__(
        self, folder: Path, config: SearchConfig, note: RunNote, begun: float, example: bool = False
    ) -> None:
        super().__init__(config)
        self.id, self.folder, self.note, self.begun = folder.name, folder, note, begun
        self.example = example
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
        each = names[: scales // len(config.searched)]
        return SearchSpace.named(config, tuple(each))

    def read(self) -> bool:
        """Take in what was added to the journal. Returns whether something was. A journal that cannot be read
        is told in `error`."""
        if self.error:
            return False
        before = self.lines
        try:
            while bodies := self._tail.poll_bodies():
                for body in bodies:
                    self.take(_record(body))
        except (JournalError, OSError, ValueError, KeyError, TypeError) as error:
            words = str(error) if isinstance(error, JournalError) else f"line not understood: {error!r}"
            if isinstance(error, OSError):
                words = f"{JOURNAL} cannot be read: {explain(error)}"
            self.error = words.replace(f"{self.folder.parent}/", "")
            log.warning("the run %s is shown up to line %d: %s", self.id, self.lines, self.error)
            return True
        return self.lines != before

    def calibration(self, title: str = "", point: int = 0) -> Calibration:
        """The point reached: as it was judged where the search is over, else unjudged. `point`: that point of
        its front.

        Raises SearchError before the first generation, and for a point that there is not; ArtifactError if
        its file was altered.
        """
        title = title or self.title
        if point:
            return self._point(title, point)
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
        if loading := config.load_options.tell():
            found["loading"] = loading
        return Calibration(
            title=title,
            backbone=backbone_name(config.backbone),
            granularity=config.granularity,
            names=space.names,
            members=space.decode(vector),
            found=found,
        )

    def _point(self, title: str, number: int) -> Calibration:
        path = self.folder / file_of(number)
        found = next((one for one in self.points if one.number == number), None)
        if found is None or not (self.over and path.exists()):
            raise SearchError(f"This search has no point {number} of a front (any more).")
        return Calibration.load(path).model_copy(update={"title": f"{title}, {share_words(found.shares)}"})


def _record(body: bytes) -> Record | Generation:
    """The record of a journal's line, a generation without what no page shows."""
    is_generation = body.startswith(b'{"kind":"generation"')
    return read_generation(body) if is_generation else record_from(load_json(body.decode()))


class RunStore:
    """All runs of a folder, and of a folder of examples that is only read. Reads what is new, at most every
    EVERY seconds.

    Safe to call from any thread. An id is the name of a folder that was found there, never a path.
    """

    def __init__(self, folder: Path, examples: Path | None = None) -> None:
        self.folder, self._examples = folder, examples
        self.away = PutAway(folder / AWAY)
        self._runs: dict[str, Run] = {}
        self._broken: dict[str, tuple[float, SearchError]] = {}  # as of when, and why
        self._unreadable: tuple[Unreadable, ...] = ()
        self._lock = threading.Lock()
        self._looked = 0.0

    def refresh(self, *, now: bool = False, ahead: bool = False) -> None:
        """Read what was added. `now`: however short ago the last look was. `ahead`: before anybody asks; the
        next call looks again."""
        with self._lock:
            if not (now or ahead) and time.monotonic() - self._looked < EVERY:
                return
            unreadable: list[Unreadable] = []
            found: dict[str, Run] = {}
            for place in (self._examples, self.folder):
                if place is not None:
                    listing = read_folder(place, f"*/{CONFIG}", self._open)
                    found |= listing.found
                    unreadable += listing.unreadable
            self._runs = found
            for run in found.values():
                run.read()
                run.owner = owner_of(run.folder)
            for each in set(unreadable) - set(self._unreadable):
                log.warning("the run folder %s", each)
            self._unreadable = tuple(unreadable)
            if not ahead:
                self._looked = time.monotonic()

    def _open(self, path: Path) -> Run | None:
        """The run of this folder, None for an example that is put away. Raises SearchError, also when asked
        again before its config changes."""
        name, changed = path.name, (path / CONFIG).stat().st_mtime
        if path.parent == self._examples and name in self.away:
            return None
        if name in self._runs:
            return self._runs[name]
        if name in self._broken and self._broken[name][0] == changed:
            raise self._broken[name][1]
        try:
            config = SearchConfig.from_json(read_text(path / CONFIG, LARGEST_CONFIG, SearchError))
        except SearchError as error:
            self._broken[name] = changed, error
            raise
        return Run(path, config, *_note(path), path.parent == self._examples)

    def unreadable(self) -> tuple[Unreadable, ...]:
        """Run folders that cannot be read, and why; a run whose journal cannot be says so itself."""
        self.refresh()
        return self._unreadable

    def all(self) -> list[Run]:
        """Every readable run, the newest first, examples last."""
        self.refresh()
        return sorted(list(self._runs.values()), key=lambda run: (run.example, -run.begun, run.id))

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
                if not self._is_taken(path.name):
                    path.mkdir()
                    break
            except FileExistsError:
                pass
            number += 1
        note = RunNote(title=title, by=by, when=datetime.now(UTC).isoformat(), budget=budget)
        write_whole(path / NOTE, note.model_dump_json(), durable=True)
        return path

    def _is_taken(self, name: str) -> bool:
        """By an example, or by a deleted search: pictures of it may be kept under its id."""
        deleted = any(each.id == name for each in list_deleted(self.folder))
        return deleted or bool(self._examples and (self._examples / name).exists())

    def note(self, run: Run, **changes: object) -> None:
        """Change what the studio keeps of a run. Raises OSError where the disk refuses."""
        with self._lock:
            when = run.note.when or datetime.fromtimestamp(run.begun, UTC).isoformat()
            made = RunNote.model_validate({**run.note.model_dump(), "when": when, **changes})
            write_whole(run.folder / NOTE, made.model_dump_json(), durable=True)
            run.note = made

    def free_title(self, title: str) -> str:
        """This title, with a number where another search has it."""
        taken, number, free = {run.title for run in self.all()}, 1, title
        while free in taken:
            number += 1
            free = f"{title} ({number})"
        return free


def list_deleted(folder: Path) -> list[Deleted]:
    """The runs of this folder that can be brought back, the last deleted last."""
    place = folder / DELETED
    names = [path.name for path in place.iterdir()] if place.is_dir() else []
    found = [re.fullmatch(r"(\d{6,})-(.+)", name) for name in names]
    return sorted(Deleted(int(match[1]), match[2]) for match in found if match)


def _note(path: Path) -> tuple[RunNote, float]:
    """The studio's note of a run and when it was begun. A run that another program began has no note."""
    begun = (path / CONFIG).stat().st_mtime
    try:
        note = RunNote.model_validate_json(read_text(path / NOTE, LARGEST_NOTE, JournalError))
        return note, datetime.fromisoformat(note.when).timestamp()
    except (JournalError, ValidationError, ValueError) as error:
        if not os.path.lexists(path / NOTE):
            return RunNote(), begun
        log.warning("%s of the run %s is not valid and is left out: %s", NOTE, path.name, error)
        return RunNote(), begun
