"""Which search may work: one after the other, in the order of their starts."""

from __future__ import annotations

import threading
import time

from studio.search.status import Job, State


class Leave(Exception):
    """The studio closes, or there is nothing to keep: the run stays as it is."""


class Turns:
    """The searches that wait in line; the first one has the turn. `lock` guards all that changes in a Job."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self._line: list[str] = []

    @property
    def empty(self) -> bool:
        """Whether no search waits or works."""
        return not self._line

    def enter(self, job: Job) -> None:
        """Wait behind the others."""
        if job.id not in self._line:
            self._line.append(job.id)

    def drop(self, job: Job) -> None:
        """Give the turn to the next one."""
        if job.id in self._line:
            self._line.remove(job.id)

    def set(self, job: Job, state: State) -> None:
        """Change a job's state, under the lock, and wake those who wait."""
        job.state = state
        self.lock.notify_all()

    def wait(self, job: Job) -> None:
        """Wait while this job is paused and while another one has the turn. A pause gives the turn to the
        next one. Raises Leave."""
        with self.lock:
            began = time.monotonic()
            while True:
                if job.leave:
                    raise Leave
                if job.pause:
                    self.drop(job)
                    if job.state != "paused":
                        self.set(job, "paused")
                else:
                    self.enter(job)
                    if self._line[0] == job.id:
                        break
                    if job.state == "paused":
                        self.set(job, "queued")
                self.lock.wait(1.0)
            job.halted += time.monotonic() - began
            if job.state in ("queued", "paused"):
                self.set(job, "running")
