"""Sweeps in the background: they outlive pages and visitors, and can be resumed after a restart."""

from __future__ import annotations

import logging
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibri.analysis.diagnose import Cell, SweepFile, best_start, read_sweep, run_sweep, sweep_header
from calibri.analysis.settings import SweepSettings
from calibri.backbones.step_cache import refuse_step_cache
from calibri.calibration.artifact import Calibration
from calibri.errors import CalibriError, NoneBetter, RenderCancelled, SearchError
from calibri.files import Unreadable
from calibri.rewards.scoring import LocalScorer, SearchStopped
from calibri.search.provenance import now
from studio.diagnose.store import ALIVE, CELLS, State, Sweep, SweepNote, check_fits, read_sweeps, write_note
from studio.examples import PutAway
from studio.machine.background import Background
from studio.machine.host import ModelHost
from studio.machine.queue import Priority
from studio.machine.rewards import RewardModels
from studio.machine.speed import Pace

if TYPE_CHECKING:
    from calibri.backbones.layouts import Layout
    from calibri.backbones.loading import Backbone
    from calibri.rewards.base import Reward

log = logging.getLogger(__name__)

AWAY = "examples-put-away.json"


class Sweeps:
    """Sweeps one after the other over one ModelHost, each in `folder`/<id>/. Safe to call from any thread.

    `rewards`: shared with others; without them `load(name, device) -> Reward` may say how they are loaded.
    `examples`: a folder of finished sweeps that are shown and never written.
    Opening touches no file: that is for the first use.
    """

    def __init__(
        self,
        folder: Path,
        host: ModelHost,
        *,
        pace: Pace | None = None,
        rewards: RewardModels | None = None,
        load: Callable[[str, str], Reward] | None = None,
        examples: Path | None = None,
    ) -> None:
        self.folder, self._examples = folder, examples
        self.away = PutAway(folder / AWAY)
        self.pace = pace or Pace(host)
        self._own_pace = pace is None
        self.rewards = rewards or (RewardModels() if load is None else RewardModels(load))
        self._host = host
        self._lock = threading.RLock()
        self._known: dict[str, Sweep] | None = None
        self._unreadable: tuple[Unreadable, ...] = ()
        self._stops: dict[str, threading.Event] = {}
        self._line: list[str] = []
        self._background = Background("sweeps")
        self.revision = 0  # grows whenever a page would show something else

    # what there is

    def all(self) -> list[Sweep]:
        """Every sweep, the newest first, examples last."""
        with self._lock:
            shown = [s for s in self._read().values() if not (s.example and s.id in self.away)]
        return sorted(shown, key=lambda s: (not s.example, s.note.when, s.id), reverse=True)

    def get(self, sweep_id: object) -> Sweep:
        """Raises SearchError for an unknown sweep."""
        with self._lock:
            found = self._read().get(str(sweep_id))
        if found is None:
            raise SearchError("There is no such sweep (any more).")
        return found

    def path(self, sweep_id: str) -> Path:
        """The file that `calibri search --start` takes."""
        found = self.get(sweep_id)
        folder = self._examples if found.example and self._examples else self.folder
        return folder / found.id / CELLS

    def cells(self, sweep_id: str) -> list[Cell]:
        """What is measured so far, in the order of the layout."""
        path = self.path(sweep_id)
        return read_sweep(path) if path.exists() else []

    def start_of(self, sweep_id: str, layout: Layout) -> Calibration:
        """The best value of each scale together, to start from. Raises SearchError where nothing is better
        than the base with its whole interval.
        """
        found = self.get(sweep_id)
        made = best_start(self.cells(sweep_id), layout, found.note.backbone)
        if set(made.members[0].scales) == {1.0}:
            raise NoneBetter(
                "No cell of this sweep is better than the base with its whole interval, so the best start is "
                "the base itself. More prompts give narrower intervals."
            )
        return made

    def _read(self) -> dict[str, Sweep]:
        if self._known is None:
            listing = read_sweeps(self.folder)
            shipped = read_sweeps(self._examples).found if self._examples else {}
            examples = {name: replace(sweep, example=True) for name, sweep in shipped.items()}
            self._known, self._unreadable = {**examples, **listing.found}, listing.unreadable
        return self._known

    def unreadable(self) -> tuple[Unreadable, ...]:
        """Sweeps that cannot be read, and why."""
        with self._lock:
            self._read()
            return self._unreadable

    # what can be done

    def start(self, settings: SweepSettings) -> Sweep:
        """Begin a sweep of the loaded backbone, or queue it. Raises SearchError, HostError, and RewardError
        for what a reward lacks."""
        backbone = self._host.wait_ready()
        refuse_step_cache(backbone.options, "a sweep")
        names = [term.name for term in settings.rewards]
        self.rewards.loading.of(names).check(names)
        note = SweepNote(
            settings=settings,
            backbone=backbone.spec.name,
            fingerprint=backbone.fingerprint,
            names=backbone.layout(settings.granularity).names,
            when=now(),
            loading=self.rewards.loading.of(names),
        )
        stem = re.sub(r"[^0-9]", "", note.when)
        made = Sweep(f"{stem}-{secrets.token_hex(2)}", note, "queued")
        with self._lock:
            write_note(self.folder, made)
            self._read()[made.id] = made
            self._enqueue(made.id)
        return made

    def put_away(self, sweep_id: str) -> None:
        """Show an example no more. Raises SearchError for a sweep of one's own, and where the disk
        refuses."""
        if not self.get(sweep_id).example:
            raise SearchError("Expected an example, got a sweep of your own.")
        self._put(lambda: self.away.put(sweep_id))

    def bring_back(self) -> None:
        """Show every example again. Raises SearchError where the disk refuses."""
        self._put(self.away.clear)

    def _put(self, change: Callable[[], None]) -> None:
        try:
            change()
        except OSError as error:
            raise SearchError(f"The list of examples was not written: {error.strerror}.") from error
        with self._lock:
            self.revision += 1

    def resume(self, sweep_id: str) -> None:
        """Go on after the last cell. Raises SearchError for a sweep that is under way or done."""
        with self._lock:
            found = self.get(sweep_id)
            if found.state in ALIVE:
                raise SearchError("This sweep is running already.")
            if found.example:
                raise SearchError("This sweep came with the studio as an example. Start one of your own.")
            if found.state == "done":
                raise SearchError("This sweep is done: there is nothing left to measure.")
            self._enqueue(found.id)

    def stop(self, sweep_id: str) -> None:
        """End after the batch under way; the cells measured stay. Raises SearchError if it does not run."""
        with self._lock:
            found = self.get(sweep_id)
            if found.state not in ALIVE:
                raise SearchError("This sweep is not running.")
            self._stops[found.id].set()
            if found.id in self._line:
                self._line.remove(found.id)
                self._set(found.id, state="interrupted")
            else:
                self._set(found.id, state="stopping")

    def wait(self, sweep_id: str, seconds: float = 600.0) -> Sweep:
        """Block until this sweep has ended, at most `seconds`, and return how it stands."""
        end = time.monotonic() + seconds
        while self.get(sweep_id).state in ALIVE and time.monotonic() < end:
            time.sleep(0.02)
        return self.get(sweep_id)

    def close(self) -> None:
        """Leave everything after the batch under way, to be resumed. Safe to call twice."""
        with self._lock:
            self._line.clear()
        self._background.close()
        if self._own_pace:
            self.pace.close()

    # the thread

    def _enqueue(self, sweep_id: str) -> None:
        if self._background.closed:
            raise SearchError("The studio is closing.")
        self._stops[sweep_id] = threading.Event()
        self._line.append(sweep_id)
        self._set(sweep_id, state="queued", error="", seconds_left=None, images=0)
        self._background.ensure(self._work)

    def _set(self, sweep_id: str, **changes: Any) -> None:
        with self._lock:
            before = self._read()[sweep_id]
            after = self._read()[sweep_id] = replace(before, **changes)
            self.revision += 1
            if (after.state, after.error) == (before.state, before.error):
                return
            try:
                write_note(self.folder, after)
            except SearchError as error:  # the cells say how far it is; the state is known until the end
                log.error("%s: %s", sweep_id, error)

    def _work(self) -> None:
        with self._host.reserve("a sweep"):
            while True:
                with self._lock:
                    if not self._line:
                        return
                    sweep_id = self._line.pop(0)
                    self._set(sweep_id, state="running")
                state, error = self._run(sweep_id, partial(self._ends, sweep_id))
                self._set(sweep_id, state=state, error=error, seconds_left=None)

    def _ends(self, sweep_id: str) -> bool:
        return self._background.closed or self._stops[sweep_id].is_set()

    def _run(self, sweep_id: str, stop: Callable[[], bool]) -> tuple[State, str]:
        """Measure what is missing. Returns how it ended, and the error in words."""
        try:
            self._measure(self.get(sweep_id), stop)
        except (SearchStopped, RenderCancelled):
            return "interrupted", ""
        except CalibriError as error:
            return "failed", str(error).replace(f"{self.folder}/", "")
        except Exception as error:
            log.exception("the sweep %s failed", sweep_id)
            kind = type(error).__name__
            return "failed", f"Something unexpected happened ({kind}). The server's log has the details."
        return "done", ""

    def _measure(self, found: Sweep, stop: Callable[[], bool]) -> None:
        settings, note = found.settings, found.note
        backbone = self._host.wait_ready(cancel=stop)
        check_fits(note, backbone)
        names, device = [term.name for term in settings.rewards], str(backbone.device)
        with self.rewards.using(names, device, f"the sweep of {note.when[:10]}", note.loading) as rewards:
            self._measure_with(rewards, found, backbone, stop)

    def _measure_with(
        self, rewards: dict[str, Reward], found: Sweep, backbone: Backbone, stop: Callable[[], bool]
    ) -> None:
        from calibri.sampling.renderer import Renderer  # torch

        settings, note, size = found.settings, found.note, self._host.batch_size
        turn = partial(self._host.hold, Priority.SEARCH, "a sweep", cancel=stop)
        scorer = LocalScorer(Renderer(backbone, size), rewards, size, turn)
        if scorer.judges:
            raise SearchError(
                f"Expected rewards, got the judge {sorted(scorer.judges)[0]}. What was chosen by a judge can "
                "no longer be measured by it."
            )
        pairs = settings.draw_pairs()
        header = sweep_header(
            note.fingerprint, settings.granularity, settings.rewards, settings.steps, settings.guidance, pairs
        )
        began = time.monotonic()

        def progress(images: int, total: int) -> None:
            each = (time.monotonic() - began) / images
            self._set(found.id, images=images, images_total=total, seconds_left=(total - images) * each)

        with SweepFile(self.folder / found.id / CELLS, header) as file:
            self._set(found.id, done=len(file.cells))
            layout = backbone.layout(settings.granularity)
            for _ in run_sweep(file, settings, layout, pairs, scorer, stop=stop, progress=progress):
                self._set(found.id, done=len(file.cells))
        images = self.get(found.id).images
        if images:
            self.pace.note(note.backbone, settings.nfe, (time.monotonic() - began) / images)
