"""Searches: searches in the background, which outlive every page, every visitor and the studio itself."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibri.calibration.artifact import Calibration
from calibri.errors import CalibriError, RenderCancelled, SearchError
from calibri.memory import is_out_of_memory
from calibri.rewards.scoring import SearchStopped
from calibri.search.config import Budget, SearchConfig
from calibri.search.journal import RunFolder
from calibri.search.records import GenerationRecord, Record
from calibri.words import duration, grouped
from studio.machine.host import ModelHost
from studio.machine.queue import Priority
from studio.machine.rewards import RewardModels
from studio.machine.speed import Pace
from studio.search.filmstrip import Filmstrip
from studio.search.runs import Run, RunStore
from studio.search.status import ALIVE, Job, JobStatus, State, state_of, status_of

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone

log = logging.getLogger(__name__)

CLOSING = "The studio is closing."


class _Left(Exception):
    """The studio closes: the run stays as it is, to be resumed."""


class Searches:
    """Searches one after the other over one ModelHost; a run lives in `folder`/<run id>/.

    A search holds the host for one batch at a time, after people. It is a thread that outlives pages; after
    the end of the studio, however it ended, its journal is resumed on the same trajectory. `assets`: of the
    studio; finished example runs in its folder `runs` are shown and never written. `rewards`: those that
    others load too. All methods may be called
    from any thread.
    """

    def __init__(
        self, host: ModelHost, folder: Path, assets: Path, rewards: RewardModels | None = None
    ) -> None:
        self._host = host
        self.store = RunStore(folder, assets / "runs")
        self.pace = Pace(host)
        self.film = Filmstrip(host)
        self.rewards = rewards or RewardModels()
        self._jobs: dict[str, Job] = {}
        self._turns = threading.Condition()
        self._line: list[str] = []  # ids that wait for their turn; the first one has it
        self._revision = 0
        self._closed = False
        # Long journals take a second or more: they are read before somebody opens the page.
        threading.Thread(target=lambda: self.store.refresh(ahead=True), name="read-runs", daemon=True).start()

    # what there is

    @property
    def revision(self) -> int:
        """Grows whenever a page would show something else."""
        return self._revision + self.store.revision + self.film.revision + self.pace.revision

    def all(self) -> list[JobStatus]:
        """Every search that is known here, the newest first; also those that other programs run or ran."""
        return [self._status(run) for run in self.store.all()]

    def status(self, run_id: str) -> JobStatus:
        """Raises SearchError for an unknown search."""
        return self._status(self.store.get(run_id))

    def _status(self, run: Run) -> JobStatus:
        with self._turns:
            job = self._jobs.get(run.id)
            now = job.now() if job is not None else None
        return status_of(run, now)

    def busy_words(self) -> str:
        """What runs now, for the model bar; empty when nothing does."""
        with self._turns:
            alive = [job for job in self._jobs.values() if job.state in ALIVE]
        parts = []
        for job in alive:
            if job.state not in ("running", "stopping"):
                continue
            try:
                status = self.status(job.id)
            except SearchError:
                continue  # its folder was just removed
            limit = f" of {grouped(status.images_limit)}" if status.images_limit else ""
            left = (
                f", {duration(status.seconds_left, exact=True)} left"
                if status.seconds_left is not None
                else ""
            )
            verb = "judging" if job.judging else "searching"
            parts.append(f"{verb}: {status.title}, {grouped(status.images)}{limit} images{left}")
        for state, words in (("paused", "paused"), ("queued", "in the queue")):
            count = sum(job.state == state for job in alive)
            if count:
                parts.append(f"{count} search{'es' if count > 1 else ''} {words}")
        return "; ".join(parts)

    # what can be done

    def start(self, config: SearchConfig, budget: Budget | None, title: str = "", *, by: str = "") -> str:
        """Begin a search, or queue it behind the one under way. Returns its run id. `budget`: None for
        run_search's own.

        Raises SearchError where the loaded backbone is another one.
        """
        from calibri.search.run import DEFAULT_BUDGET

        if self._closed:
            raise SearchError(CLOSING)
        budget = budget or DEFAULT_BUDGET
        backbone = self._host.backbone
        if backbone is not None:
            check_fits(config, backbone)
        title = " ".join(title.split())[:80] or default_title(config)
        folder = self.store.new(title, by, budget, title)
        with RunFolder(folder, config):  # its config is on the disk before anybody hears of it
            pass
        self.store.refresh(now=True)
        self._begin(Job(folder.name, title, budget))
        return folder.name

    def pause(self, run_id: str) -> None:
        """Halt after the batch under way. Its pictures and its turn among the searches are kept."""
        with self._turns:
            job = self._alive(run_id)
            if job.state == "stopping":
                raise SearchError("This search is ending. It can go on when its judgement is done.")
            job.pause = True
            if job.state == "queued":
                self._set(job, "paused")
            self._changed()

    def resume(self, run_id: str, budget: Budget | None = None) -> None:
        """Go on: with a paused search where it halted, with an interrupted or failed one after the last
        generation in its journal. `budget`: new limits for a search that is not under way.

        Raises SearchError for a search that another program runs, or that used its budget up.
        """
        run = self.store.get(run_id)
        with self._turns:
            job = self._jobs.get(run_id)
            if job is not None and job.state in ALIVE:
                if job.state == "stopping":
                    raise SearchError("This search is being judged. It can go on when that is done.")
                job.pause = False
                if job.state == "paused":
                    self._set(job, "queued" if self._line else "running")
                self._changed()
                return
        if run.folder.parent != self.store.folder:
            raise SearchError("This search came with the studio as an example. Start one of your own.")
        state = state_of(run, None)
        if state == "elsewhere":
            raise SearchError(f"Another program (process {run.owner}) runs this search. Wait until it ends.")
        if run.error:
            raise SearchError(f"This run cannot go on: {run.error}")
        limits = budget or run.budget
        used = limits.reason_to_stop(images=run.images, seconds=run.seconds, generations=len(run.steps))
        if state == "done" and used and run.result is not None and run.result.verdict != "not judged":
            raise SearchError(f"This search is finished: {used}. Give it more, or start a new one.")
        self._begin(Job(run_id, run.title, budget or (run.budget if run.sessions else run.note.budget)))

    def stop(self, run_id: str) -> None:
        """End after the batch under way, judge the point reached on held-out prompts, and keep it. While
        that judgement runs: skip it. A search that waits in the queue leaves it.
        """
        with self._turns:
            job = self._alive(run_id)
            if job.state == "stopping" or job.judging:
                job.abandon = True
            elif job.state in ("queued", "paused") and not self.store.get(run_id).lines:
                job.leave = True  # there is nothing to judge
            job.stop, job.pause = True, False
            self._set(job, "stopping")

    def calibration(self, run_id: str, title: str = "") -> Calibration:
        """The point that a search has reached, at any time. SearchError before the first generation."""
        return self.store.get(run_id).calibration(title)

    def wait(self, run_id: str, seconds: float | None = None) -> JobStatus:
        """Block until this search's thread has ended, at most `seconds`, and say how it stands."""
        job = self._jobs.get(run_id)
        if job is not None and job.thread is not None:
            job.thread.join(seconds)
        self.store.refresh(now=True)
        return self.status(run_id)

    def close(self) -> None:
        """Leave every search after the batch under way, to be resumed at the next start."""
        with self._turns:
            self._closed = True
            jobs = list(self._jobs.values())
            for job in jobs:
                job.leave = True
            self._turns.notify_all()
        self.film.close()
        self.pace.close()
        for job in jobs:
            if job.thread is not None:
                job.thread.join(60)

    # the threads

    def _alive(self, run_id: str) -> Job:
        job = self._jobs.get(run_id)
        if job is None or job.state not in ALIVE:
            status = self.status(run_id)
            raise SearchError(
                "Another program runs this search. Stop it there."
                if status.state == "elsewhere"
                else f"This search does not run: it is {status.state}."
            )
        return job

    def _set(self, job: Job, state: State) -> None:
        job.state = state
        self._changed()

    def _changed(self) -> None:
        self._revision += 1
        self._turns.notify_all()

    def _begin(self, job: Job) -> None:
        with self._turns:
            if self._closed:
                raise SearchError(CLOSING)
            old = self._jobs.get(job.id)
            if old is not None and old.state in ALIVE:
                raise SearchError("This search runs already.")
            self._jobs[job.id] = job
            self._line.append(job.id)
            job.thread = threading.Thread(
                target=self._work, args=(job,), name=f"search-{job.id}", daemon=True
            )
            self._changed()
        job.thread.start()

    def _work(self, job: Job) -> None:
        try:
            self._my_turn(job)
            with self._host.reserve(f"the search “{job.title}”"):
                for record in self._records(job):
                    self._took(job, record)
            end, error = "done", ""
        except (_Left, SearchStopped, RenderCancelled):
            end, error = "interrupted", ""
        except CalibriError as problem:
            end, error = "failed", self._words(problem)
        except OSError as problem:
            log.exception("the search %s failed", job.id)
            why = problem.strerror or type(problem).__name__
            end, error = "failed", f"The run could not be written: {why}. Make room, then resume."
        except Exception as problem:
            log.exception("the search %s failed", job.id)
            end, error = "failed", self._words(problem, type(problem).__name__)
        self.store.refresh(now=True)
        with self._turns:
            if job.id in self._line:
                self._line.remove(job.id)
            job.error = error
            self._set(job, end)  # type: ignore[arg-type]

    def _words(self, problem: Exception, kind: str = "") -> str:
        """An error without the paths of this machine."""
        words = str(problem).replace(f"{self.store.folder}/", "")
        if is_out_of_memory(problem):
            return (
                "The memory of this machine ran out. Resume with nothing else running, or start a new search "
                "with smaller batches."
            )
        return f"{kind}: {words}" if kind else words

    def _records(self, job: Job) -> Iterator[Record]:
        from calibri.search.run import run_search  # scipy

        backbone = self._host.wait_ready(cancel=lambda: job.leave or job.stop)
        run = self.store.get(job.id)
        config = run.config
        check_fits(config, backbone)
        names = dict.fromkeys([term.name for term in config.rewards] + list(config.judges))
        device = backbone.device.type
        rewards: dict[str, Any] = {name: self.rewards.load(name, device) for name in names}
        return run_search(
            None,
            run.folder,
            backbone=backbone,
            rewards=rewards,
            budget=job.budget,
            stop=lambda: self._asked(job),
            abandon=lambda: self._asked(job, judging=True),
            turn=lambda: self._turn(job),
            progress=lambda done, total: self._progressed(job, done, total),
            clock=job.clock,
        )

    @staticmethod
    def _asked(job: Job, *, judging: bool = False) -> bool:
        """Whether to stop, between two batches; the second question of a search is about its judgement."""
        if job.leave:
            raise _Left
        job.judging = judging
        return job.ends

    def _progressed(self, job: Job, done: int, total: int) -> None:
        with self._turns:
            job.progressed(done, total)
            self._changed()

    def _took(self, job: Job, record: Record) -> None:
        self.store.refresh(now=True)
        with self._turns:
            if isinstance(record, GenerationRecord) and job.speed:
                config = self.store.get(job.id).config
                members = sum(weight != 0 for weight in config.weights) or 1
                self.pace.note(Path(config.backbone).name, config.steps * members, 1 / job.speed)
            job.took()
            self._changed()

    @contextmanager
    def _turn(self, job: Job) -> Iterator[None]:
        """One batch: after a pause, after other searches, after people."""
        with ExitStack() as stack:
            while True:
                self._my_turn(job)
                if job.ends:
                    raise SearchStopped("stopped between two batches")
                try:
                    stack.enter_context(
                        self._host.hold(
                            Priority.SEARCH,
                            "a search",
                            cancel=lambda: job.leave or job.pause or job.ends,
                        )
                    )
                    break
                except RenderCancelled:
                    continue  # paused or stopped while it waited for people
            yield

    def _my_turn(self, job: Job) -> None:
        """Wait while paused and while another search has the turn. A pause gives the turn to the next one."""
        with self._turns:
            began = time.monotonic()
            while True:
                if job.leave:
                    raise _Left
                if job.pause:
                    if job.id in self._line:
                        self._line.remove(job.id)
                    if job.state != "paused":
                        self._set(job, "paused")
                else:
                    if job.id not in self._line:
                        self._line.append(job.id)
                    if self._line[0] == job.id:
                        break
                    if job.state == "paused":
                        self._set(job, "queued")
                self._turns.wait(1.0)
            job.halted += time.monotonic() - began
            if job.state in ("queued", "paused"):
                self._set(job, "running")


def default_title(config: SearchConfig) -> str:
    """`Layer: align + quality + keep`."""
    short = [t.name.removeprefix(f"{Path(config.backbone).name}-") for t in config.rewards]
    members = f", {len(config.conditions)} members" if len(config.conditions) > 1 else ""
    return f"{config.granularity.capitalize()}{members}: {' + '.join(short)}"


def check_fits(config: SearchConfig, backbone: Backbone) -> None:
    """Raises SearchError where the config wants another backbone than the one that is loaded, or a compiled
    one.
    """
    if config.compile:
        raise SearchError(
            "This search renders with compiled blocks, which the studio does not: go on with calibri search "
            "--resume."
        )
    wanted = Path(config.backbone).name
    if backbone.spec.name not in (config.backbone, wanted) and backbone.spec.source != config.backbone:
        raise SearchError(
            f"This search needs {wanted}, but {backbone.spec.name} is loaded. Load {wanted} first."
        )
