"""The order in which people and searches use the backbone, and the errors for when they cannot."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum

from calibri.errors import CalibriError, RenderCancelled

OnWait = Callable[[int, str], None]
Cancel = Callable[[], bool]


class HostError(CalibriError):
    """The backbone cannot do now what was asked. The text says why, and what to change."""

    headline = "Not now"


class Priority(IntEnum):
    """Who goes first: smaller is sooner."""

    ORGANISER = -5
    INTERACTIVE = 0
    AHEAD = 2  # what somebody will probably ask for next
    STUDY = 5
    SEARCH = 10


class PriorityLock:
    """A lock for the waiter with the smallest priority; within one priority, first come, first served."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._order = itertools.count()
        self._waiters: list[tuple[int, int]] = []
        self._holder: str | None = None

    @property
    def holder(self) -> str:
        return self._holder or ""

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    @contextmanager
    def hold(
        self, priority: int, label: str, *, cancel: Cancel | None = None, on_wait: OnWait | None = None
    ) -> Iterator[None]:
        """Wait for the lock and keep it inside the `with`.

        `on_wait(ahead, holder)` is called whenever the number of holders and waiters ahead changes;
        `cancel` is asked while waiting and raises RenderCancelled once it is true.
        """
        self._enter(priority, label, cancel, on_wait)
        try:
            yield
        finally:
            with self._condition:
                self._holder = None
                self._condition.notify_all()

    def _enter(self, priority: int, label: str, cancel: Cancel | None, on_wait: OnWait | None) -> None:
        ticket = (int(priority), next(self._order))
        told = -1
        with self._condition:
            heapq.heappush(self._waiters, ticket)
        try:
            while True:
                with self._condition:
                    if self._holder is None and self._waiters[0] == ticket:
                        heapq.heappop(self._waiters)
                        self._holder = label
                        return
                    ahead = sum(other < ticket for other in self._waiters) + (self._holder is not None)
                    holder = self._holder or ""
                    if ahead == told:
                        self._condition.wait(0.05)  # also the rhythm at which `cancel` is asked
                if cancel is not None and cancel():
                    raise RenderCancelled("Stopped while waiting for the model.")
                if ahead != told and on_wait is not None:
                    on_wait(ahead, holder)
                told = ahead
        except BaseException:
            with self._condition:
                if ticket in self._waiters:
                    self._waiters.remove(ticket)
                    heapq.heapify(self._waiters)
                self._condition.notify_all()
            raise
