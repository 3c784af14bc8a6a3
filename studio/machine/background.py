"""Work that no page waits for: one thread at a time, which ends before the studio closes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

PATIENCE = 60.0  # seconds that `close` waits for running work

Work = Callable[[], object]


class Background:
    """Runs one piece of work after another in a thread that exists while there is work.

    Long work asks `closed` between its steps. An error of a piece is logged, and the next piece runs all the
    same. Safe to call from any thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._next: Work | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the studio closes: running work should end, and none begins."""
        return self._closed

    @property
    def busy(self) -> bool:
        return self._thread is not None

    def start(self, work: Work) -> bool:
        """Begin this work unless other work runs. Returns whether it began."""
        with self._lock:
            if self._closed or self._thread is not None:
                return False
            self._begin(work)
            return True

    def ensure(self, work: Work) -> None:
        """Begin this work, after the running one if there is one. Of several that wait only the last one is
        done, so each should look for everything that there is to do.
        """
        with self._lock:
            if self._closed:
                return
            if self._thread is None:
                self._begin(work)
            else:
                self._next = work

    def _begin(self, work: Work) -> None:
        self._thread = threading.Thread(target=self._run, args=(work,), name=self._name, daemon=True)
        self._thread.start()

    def _run(self, work: Work) -> None:
        todo: Work | None = work
        while todo is not None:
            try:
                todo()
            except Exception:
                log.exception("%s failed", self._name)
            with self._lock:
                todo, self._next = (None if self._closed else self._next), None
                if todo is None:
                    self._thread = None

    def wait(self, seconds: float = PATIENCE) -> bool:
        """Block until no work runs, `seconds` at most. Returns whether none does."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)
        return thread is None or not thread.is_alive()

    def stop(self) -> None:
        """Begin no more work, without waiting for the running one."""
        with self._lock:
            self._closed = True

    def close(self) -> None:
        """Begin no more work and wait for the running one."""
        self.stop()
        self.wait()
