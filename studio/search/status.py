"""The status of a search: its thread here, what pages and programs see, and what can be done with it."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from calibri.search.config import Budget
from studio.search.runs import Run

State = Literal["queued", "running", "paused", "stopping", "done", "failed", "interrupted", "elsewhere"]
Act = Literal["pause", "resume", "stop", "skip"]  # skip: the final judgement
STOPPED_BEFORE = "stopped before it started"
ALIVE = ("queued", "running", "paused", "stopping")  # it has a thread here


@dataclass(frozen=True)
class JobStatus:
    """One search as pages and programs see it.

    `error`: in words, where it failed. `images`: rendered so far, those of the generation under way included,
    those of the final judgement not. `images_limit`: None without such a limit. `seconds`: of work, without
    pauses. `images_per_second`, `seconds_left`: None while not known. `verdict`: "better", "not told apart",
    "worse", "not judged", or empty before the end. `doing`: what it does now, in words. `when`: it was begun,
    ISO time. `ended`: why it is over, in words: a limit, or who stopped it.
    """

    id: str
    title: str
    state: State
    error: str = ""
    images: int = 0
    images_limit: int | None = None
    generations: int = 0
    seconds: float = 0.0
    images_per_second: float | None = None
    seconds_left: float | None = None
    verdict: str = ""
    doing: str = ""
    when: str = ""
    ended: str = ""


class Seen(NamedTuple):
    """A search at one moment: its run, its status, and what can be done with it."""

    run: Run
    status: JobStatus
    acts: frozenset[Act]


@dataclass
class Job:
    """One search that has, or had, a thread here. Changed by Searches only, under its lock."""

    id: str
    title: str
    budget: Budget | None
    state: State = "queued"
    error: str = ""
    pause: bool = False
    stop: bool = False
    abandon: bool = False
    leave: bool = False
    judging: bool = False
    thread: threading.Thread | None = None
    # progress within what is under way
    done: int = 0
    total: int = 0
    since: int = 0  # images since the last record
    halted: float = 0.0  # seconds not spent on work
    marks: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=64))
    rendered: int = 0

    def clock(self) -> float:
        """Seconds, standing still while the search is paused."""
        return time.monotonic() - self.halted

    def count_images(self, done: int, total: int) -> None:
        """`done` of `total` images of what is under way are rendered."""
        new = done - self.done if done > self.done and total == self.total else done
        self.done, self.total = done, total
        self.since += new
        self.rendered += new
        self.marks.append((self.clock(), self.rendered))

    def count_record(self) -> None:
        """A record is on the disk."""
        self.done = self.total = self.since = 0

    @property
    def alive(self) -> bool:
        return self.state in ALIVE

    @property
    def ends(self) -> bool:
        """Whether what is under way has to end."""
        return self.abandon if self.judging else self.stop

    @property
    def speed(self) -> float | None:
        """Images a second over the last batches."""
        if len(self.marks) < 2 or self.marks[-1][0] <= self.marks[0][0]:
            return None
        return (self.marks[-1][1] - self.marks[0][1]) / (self.marks[-1][0] - self.marks[0][0])


def state_of(run: Run, job: Job | None) -> State:
    """Of a run whose thread here is `job`, if there is one."""
    if job is not None and job.alive:
        return job.state
    state = run.state(written=run.owner is not None)
    if state == "running":
        return "elsewhere"
    return "failed" if state == "interrupted" and job is not None and job.state == "failed" else state


def see(run: Run, job: Job | None) -> Seen:
    """A run whose thread here is `job`. Call it under the lock of the jobs."""
    state, limits = state_of(run, job), run.limits
    images, speed, doing, left = run.images, run.speed, "", None
    if job is not None and job.alive:
        images += 0 if job.judging else job.since
        limits, speed, doing = job.budget or limits, job.speed or speed, _doing(run, job)
    if job is not None and job.alive and job.judging:
        left = (job.total - job.done) / speed if speed and job.total else None
    elif state in ("running", "paused", "elsewhere"):
        left = run.seconds_left(limits, speed=speed, extra=images - run.images)
    status = JobStatus(
        id=run.id,
        title=run.title,
        state=state,
        error=run.error or (job.error if job is not None and state == "failed" else ""),
        images=images,
        images_limit=limits.images,
        generations=len(run.generations),
        seconds=run.seconds,
        images_per_second=speed,
        seconds_left=left,
        verdict=run.verdict,
        doing=doing,
        when=datetime.fromtimestamp(run.begun, UTC).isoformat(timespec="seconds"),
        ended=_ended(run, state),
    )
    return Seen(run, status, _acts(run, job, state))


def _ended(run: Run, state: State) -> str:
    """Why a run is over, or empty."""
    if state == "interrupted" and run.note.stopped and not run.lines:
        return STOPPED_BEFORE
    return run.result.reason if state == "done" and run.result is not None else ""


def _acts(run: Run, job: Job | None, state: State) -> frozenset[Act]:
    if job is not None and job.alive:
        if state == "paused":
            return frozenset({"resume", "stop"})
        if state == "stopping" or job.judging:
            return frozenset({"skip"})
        return frozenset({"stop"} if job.pause else {"pause", "stop"})
    return frozenset(
        {"resume"} if state in ("interrupted", "failed", "done") and not (run.error or run.example) else ()
    )


def _doing(run: Run, job: Job) -> str:
    """What a search does now, in words."""
    if job.state == "queued":
        return "waiting for its turn"
    if job.state == "paused":
        return "halted where it is"
    count = f": {job.done} of {job.total} pictures" if job.total else ""
    if job.judging:
        return f"judging the point reached on held-out prompts{count}"
    if job.state == "stopping":
        return "ending after this batch"
    if job.pause:
        return "pausing after this batch"
    if run.base is None:
        return f"measuring the base{count}"
    return f"generation {len(run.generations) + 1}{count}"
