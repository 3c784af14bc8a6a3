"""How a search stands: what is known of its thread, and what pages and programs are told."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Literal

from calibri.search.config import Budget
from studio.search.runs import Run

State = Literal["queued", "running", "paused", "stopping", "done", "failed", "interrupted", "elsewhere"]
ALIVE = ("queued", "running", "paused", "stopping")  # it has a thread here


@dataclass(frozen=True)
class JobStatus:
    """One search as pages and programs see it.

    `error`: in words, where it failed. `images`: rendered so far, the generation under way included, the
    final judgement not. `images_limit`: None without such a limit. `seconds`: of work, pauses left out.
    `images_per_second`, `seconds_left`: None while not known. `verdict`: "better", "not told apart", "worse",
    "not judged", or empty before the end. `doing`: what it is at now, in words.
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

    def progressed(self, done: int, total: int) -> None:
        new = done - self.done if done > self.done and total == self.total else done
        self.done, self.total = done, total
        self.since += new
        self.rendered += new
        self.marks.append((self.clock(), self.rendered))

    def took(self) -> None:
        """A record is on the disk."""
        self.done = self.total = self.since = 0

    def now(self) -> Job:
        """A copy that no longer changes."""
        return replace(self, marks=deque(self.marks))

    @property
    def alive(self) -> bool:
        return self.state in ALIVE

    @property
    def ends(self) -> bool:
        """Whether what is under way shall end."""
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
    if run.error:
        return "failed"
    if run.owner is not None:
        return "elsewhere"
    if run.over:
        return "done"
    return "failed" if job is not None and job.state == "failed" else "interrupted"


def status_of(run: Run, job: Job | None) -> JobStatus:
    """What is told of a run whose thread here is `job`."""
    state = state_of(run, job)
    error = run.error or (job.error if job is not None and state == "failed" else "")
    images, budget, speed, doing, left = run.images, run.budget, run.speed, "", None
    if job is not None and job.alive:
        images += 0 if job.judging else job.since
        budget, speed = job.budget or budget, job.speed or speed
        doing = _doing(run, job)
    if job is not None and job.alive and job.judging:
        left = (job.total - job.done) / speed if speed and job.total else None
    elif state in ("running", "paused", "elsewhere"):
        left = _seconds_left(budget, run, images, speed)
    return JobStatus(
        id=run.id,
        title=run.title,
        state=state,
        error=error,
        images=images,
        images_limit=budget.images,
        generations=len(run.steps),
        seconds=run.seconds,
        images_per_second=speed,
        seconds_left=left,
        verdict=run.result.verdict if run.result is not None and run.over else "",
        doing=doing,
    )


def _doing(run: Run, job: Job) -> str:
    """What a search is at, in words."""
    if job.state == "queued":
        return "waiting for its turn"
    if job.state == "paused":
        return "halted; it goes on where it is"
    of = f": {job.done} of {job.total} pictures" if job.total else ""
    if job.judging:
        return f"judging the point reached on held-out prompts{of}"
    if job.state == "stopping":
        return "ending after the batch under way"
    if job.pause:
        return "pausing after the batch under way"
    if run.base is None:
        return f"measuring the base{of}"
    return f"generation {len(run.steps) + 1}{of}"


def _seconds_left(budget: Budget, run: Run, images: int, speed: float | None) -> float | None:
    """Until the first limit is reached; None where no limit or no speed is known."""
    left = []
    if budget.minutes is not None:
        left.append(60 * budget.minutes - run.seconds)
    if budget.images is not None and speed:
        left.append((budget.images - images) / speed)
    if budget.generations is not None and len(run.steps) > 1:
        each = (run.steps[-1].seconds - run.steps[0].seconds) / (len(run.steps) - 1)
        left.append((budget.generations - len(run.steps)) * each)
    return max(0.0, min(left)) if left else None
