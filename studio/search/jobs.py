"""Searches in the background: they outlive every page, every visitor and the studio itself."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from calibri.backbones.catalog import backbone_name
from calibri.backbones.options import LoadOptions
from calibri.calibration.artifact import Calibration
from calibri.errors import CalibriError, RenderCancelled, SearchError
from calibri.memory import is_out_of_memory
from calibri.rewards.scoring import SearchStopped
from calibri.search.config import Budget, SearchConfig
from calibri.search.journal import RunFolder
from calibri.search.records import GenerationRecord, Record
from calibri.words import count, duration, grouped
from studio.machine.background import Background
from studio.machine.host import ModelHost
from studio.machine.queue import Priority
from studio.machine.rewards import RewardModels
from studio.machine.speed import Pace
from studio.search.filmstrip import Filmstrip
from studio.search.records import OF_THE_STUDIO, RunRecords
from studio.search.runs import Run, RunStore
from studio.search.status import Job, JobStatus, Seen, State, see, state_of
from studio.search.turns import Leave, Turns

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone

log = logging.getLogger(__name__)

CLOSING = "The studio is closing."
PATIENCE = 60.0  # seconds that `close` waits for each search


class Searches:
    """Searches one after the other over one ModelHost; a run lives in `folder`/<run id>/.

    A search holds the host for one batch at a time, after people. When the studio has ended, however that
    happened, its journal is resumed on the same trajectory. `assets`: of the studio; finished example runs in
    its folder `runs` are shown and never written. `rewards`: shared with others. All methods may be called
    from any thread.
    """

    def __init__(
        self, host: ModelHost, folder: Path, assets: Path, rewards: RewardModels | None = None
    ) -> None:
        self._host = host
        self.store = RunStore(folder, assets / "runs")
        self.records = RunRecords(self.store, lambda run_id: self.status(run_id).state)
        self.pace = Pace(host)
        self.film = Filmstrip(host)
        self.rewards = rewards or RewardModels()
        self._jobs: dict[str, Job] = {}
        self._turns = Turns()
        self._closed = False
        # Long journals take a second or more: they are read before somebody opens the page.
        self._reader = Background("read-runs")
        self._reader.start(lambda: self.store.refresh(ahead=True))

    # what there is

    def survey(self) -> dict[str, Seen]:
        """Run id → search, for every search that is known here, the newest first, examples last; also those
        that other programs run or ran."""
        return {run.id: self._see(run) for run in self.store.all()}

    def see(self, run_id: object) -> Seen | None:
        """One search; None if there is none of this id."""
        return next((self._see(run) for run in self.store.several([run_id])), None)

    def all(self) -> list[JobStatus]:
        """The status of every search, the newest first; without examples, which are nobody's."""
        return [seen.status for seen in self.survey().values() if not seen.run.example]

    def status(self, run_id: str) -> JobStatus:
        """The status of one search. Raises SearchError for an unknown one."""
        return self._see(self.store.get(run_id)).status

    def _see(self, run: Run) -> Seen:
        with self._turns.lock:
            return see(run, self._jobs.get(run.id))

    @property
    def busy(self) -> bool:
        """Whether a search works, waits or is paused."""
        return any(job.alive for job in list(self._jobs.values()))

    def busy_words(self) -> str:
        """What runs now, for the model bar; empty when nothing does."""
        alive = [job for job in list(self._jobs.values()) if job.alive]
        parts = []
        for job in alive:
            if job.state not in ("running", "stopping") or (seen := self.see(job.id)) is None:
                continue
            status = seen.status
            limit = f" of {grouped(status.images_limit)}" if status.images_limit else ""
            rest = status.seconds_left
            left = f", {duration(rest, exact=True)} left" if rest is not None else ""
            verb = "judging" if job.judging else "searching"
            parts.append(f"{verb}: {status.title}, {grouped(status.images)}{limit} images{left}")
        for state, words in (("paused", "paused"), ("queued", "in the queue")):
            if number := sum(job.state == state for job in alive):
                parts.append(f"{count(number, 'search', 'searches')} {words}")
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
        if (backbone := self._host.backbone) is not None:
            check_fits(config, backbone)
        title = " ".join(title.split())[:80] or self.store.free_title(default_title(config))
        folder = self.store.create(title, by, budget)
        with RunFolder(folder, config):  # writes its config before anybody sees the run
            pass
        self.store.refresh(now=True)
        self._begin(Job(folder.name, title, budget))
        return folder.name

    def pause(self, run_id: str) -> None:
        """Halt after this batch. The search keeps what it rendered; the next one in line gets its turn."""
        with self._turns.lock:
            job = self._alive(run_id)
            if job.state == "stopping":
                raise SearchError("This search is ending. It can go on when its judgement is done.")
            job.pause = True
            self._turns.set(job, "paused" if job.state == "queued" else job.state)

    def resume(self, run_id: str, budget: Budget | None = None) -> None:
        """Go on: with a paused search where it halted, with an interrupted or failed one after the last
        generation in its journal. `budget`: new limits for a search that is not under way.

        Raises SearchError for a search that another program runs, or that used its budget up.
        """
        run = self.store.get(run_id)
        with self._turns.lock:
            job = self._jobs.get(run_id)
            if job is not None and job.alive:
                if job.state == "stopping":
                    raise SearchError("This search is being judged. It can go on when that is done.")
                job.pause = False
                waits: State = "running" if self._turns.empty else "queued"
                self._turns.set(job, waits if job.state == "paused" else job.state)
                return
        if run.example:
            raise SearchError(f"{OF_THE_STUDIO} Start one of your own.")
        state = state_of(run, None)
        if state == "elsewhere":
            raise SearchError(f"Another program (process {run.owner}) runs this search. Wait until it ends.")
        if run.error:
            raise SearchError(f"This run cannot go on: {run.error}")
        limits = budget or run.limits
        used = limits.reason_to_stop(images=run.images, seconds=run.seconds, generations=len(run.generations))
        if state == "done" and used and run.verdict != "not judged":
            raise SearchError(f"This search is finished: {used}. Give it more, or start a new one.")
        if run.note.stopped:
            self._note_stopped(run, False)
        self._begin(Job(run_id, run.title, budget or run.budget or run.note.budget))

    def stop(self, run_id: str) -> None:
        """End after this batch, judge the point reached on held-out prompts, and keep it. While that
        judgement runs: skip it. A search that waits in the queue leaves it.
        """
        with self._turns.lock:
            job = self._alive(run_id)
            if job.state == "stopping" or job.judging:
                job.abandon = True
            elif job.state in ("queued", "paused") and not self.store.get(run_id).lines:
                job.leave = True  # there is nothing to judge
            job.stop, job.pause = True, False
            self._turns.set(job, "stopping")

    def calibration(self, run_id: str, title: str = "", point: int = 0) -> Calibration:
        """The point that a search has reached, at any time, or that point of its front. SearchError before
        the first generation, and for a point that there is not."""
        return self.store.get(run_id).calibration(title, point)

    def wait(self, run_id: str, seconds: float | None = None) -> JobStatus:
        """Block until this search's thread has ended, at most `seconds`, and return its status."""
        job = self._jobs.get(run_id)
        if job is not None and job.thread is not None:
            job.thread.join(seconds)
        self.store.refresh(now=True)
        return self.status(run_id)

    def close(self) -> None:
        """Leave every search after this batch, to be resumed at the next start."""
        with self._turns.lock:
            self._closed = True
            jobs = list(self._jobs.values())
            for job in jobs:
                job.leave = True
            self._turns.lock.notify_all()
        for worker in (self._reader, self.film, self.pace):
            worker.close()
        for job in jobs:
            if job.thread is not None:
                job.thread.join(PATIENCE)

    # the threads

    def _alive(self, run_id: str) -> Job:
        job = self._jobs.get(run_id)
        if job is None or not job.alive:
            state = self.status(run_id).state
            raise SearchError(
                "Another program runs this search. Stop it there."
                if state == "elsewhere"
                else f"This search does not run: it is {state}."
            )
        return job

    def _begin(self, job: Job) -> None:
        with self._turns.lock:
            if self._closed:
                raise SearchError(CLOSING)
            old = self._jobs.get(job.id)
            if old is not None and old.alive:
                raise SearchError("This search runs already.")
            self._jobs[job.id] = job
            self._turns.enter(job)
            job.thread = threading.Thread(
                target=self._work, args=(job,), name=f"search-{job.id}", daemon=True
            )
        job.thread.start()

    def _work(self, job: Job) -> None:
        state, error = self._try(job)
        self.store.refresh(now=True)
        with self._turns.lock:
            self._turns.drop(job)
            job.error = error
            self._turns.set(job, state)

    def _try(self, job: Job) -> tuple[State, str]:
        """Run a search to its end. Returns its state then, and what went wrong."""
        try:
            self._turns.wait(job)
            with self._host.reserve(f"the search “{job.title}”"):
                for record in self._records(job):
                    self._note(job, record)
        except (Leave, SearchStopped, RenderCancelled):
            if job.stop and not self.store.get(job.id).lines:
                self._note_stopped(self.store.get(job.id), True)
            return "interrupted", ""
        except Exception as problem:
            if not isinstance(problem, CalibriError):
                log.exception("the search %s failed", job.id)
            return "failed", explain(problem).replace(f"{self.store.folder}/", "")
        return "done", ""

    def _note_stopped(self, run: Run, stopped: bool) -> None:
        """Whether a person took it out of the queue before it began."""
        try:
            self.store.note(run, stopped=stopped)
        except OSError as error:  # it reads "interrupted" then
            log.warning("the search %s: %s", run.id, error.strerror)

    def _records(self, job: Job) -> Iterator[Record]:
        from calibri.search.run import run_search  # scipy

        backbone = self._host.wait_ready(cancel=lambda: job.leave or job.stop)
        run = self.store.get(job.id)
        check_fits(run.config, backbone)
        names, device, by = run.config.reward_names, str(backbone.device), f"the search “{job.title}”"
        with self.rewards.using(names, device, by, run.config.reward_loading) as rewards:
            yield from run_search(
                None,
                run.folder,
                backbone=backbone,
                rewards=rewards,
                budget=job.budget,
                stop=lambda: self._ends(job),
                abandon=lambda: self._ends(job, judging=True),
                turn=lambda: self._turn(job),
                progress=lambda done, total: self._count(job, done, total),
                clock=job.clock,
            )

    @staticmethod
    def _ends(job: Job, *, judging: bool = False) -> bool:
        """Whether to stop, between two batches; `judging`: whether to skip the judgement."""
        if job.leave:
            raise Leave
        job.judging = judging
        return job.ends

    def _count(self, job: Job, done: int, total: int) -> None:
        with self._turns.lock:
            job.count_images(done, total)

    def _note(self, job: Job, record: Record) -> None:
        self.store.refresh(now=True)
        with self._turns.lock:
            if isinstance(record, GenerationRecord) and job.speed:
                config = self.store.get(job.id).config
                name = backbone_name(config.backbone)
                self.pace.note(name, config.nfe or config.steps, 1 / job.speed)
            job.count_record()

    @contextmanager
    def _turn(self, job: Job) -> Iterator[None]:
        """One batch: after a pause, after other searches, after people."""
        with ExitStack() as stack:
            while True:
                self._turns.wait(job)
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


def explain(problem: Exception) -> str:
    """What went wrong with a search, for people."""
    if is_out_of_memory(problem) or is_out_of_memory(problem.__cause__ or problem):
        return (
            "The memory of this machine ran out. Resume with nothing else running, or start a new search "
            "with smaller batches."
        )
    if isinstance(problem, CalibriError):
        return str(problem)
    if isinstance(problem, OSError):
        why = problem.strerror or type(problem).__name__
        return f"The run could not be written: {why}. Make room, then resume."
    return f"{type(problem).__name__}: {problem}"


def default_title(config: SearchConfig) -> str:
    """`Layer: align + quality + keep`."""
    short = [t.name.removeprefix(f"{backbone_name(config.backbone)}-") for t in config.rewards]
    members = f", {len(config.conditions)} members" if len(config.conditions) > 1 else ""
    what = f"front, {config.granularity}" if config.front else config.granularity
    return f"{what.capitalize()}{members}: {' + '.join(short)}"


def check_fits(config: SearchConfig, backbone: Backbone) -> None:
    """Raises SearchError where the config wants another backbone than the one that is loaded, or one that is
    loaded in another way.
    """
    wanted = backbone_name(config.backbone)
    if backbone.spec.name not in (config.backbone, wanted) and backbone.spec.source != config.backbone:
        raise SearchError(
            f"This search needs {wanted}, but {backbone.spec.name} is loaded. Load {wanted} first."
        )
    needed, loaded = tell_needed(config.load_options), tell_needed(backbone.options)
    if config.dtype == "auto":  # the weights' own dtype is in the fingerprint, which a run checks
        needed, loaded = replace(needed, dtype="auto"), replace(loaded, dtype="auto")
    if needed != loaded:
        raise SearchError(
            f"This search needs the backbone as it began: {needed.words or 'without settings of its own'}. "
            f"Loaded is {loaded.words or 'one without'}: choose the same in Change backbone, More settings."
        )


def tell_needed(options: LoadOptions) -> LoadOptions:
    """What of loading must be as it was when a search goes on: that which moves scores."""
    return replace(options, device="auto", offload="", vae_tiling=False, vae_slicing=False, attention="")
