"""Who has signed in: kept here, not in the cookie, so that signing out ends it, and so does nothing else.

Times are those of a clock that never goes back: setting the machine's clock neither ends a session nor
lengthens it. After a restart people sign in again.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

SESSION_SECONDS = 12 * 3600
MOST_SESSIONS = 1000  # the oldest end first; only who knows a password makes one


@dataclass(frozen=True)
class Person:
    """Who signed in. `organises`: a hub account may be nobody's organiser. `hub`: the hub's id of it."""

    name: str
    organises: bool = True
    hub: str = ""


class Sessions:
    """Safe to call from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: OrderedDict[bytes, tuple[Person, float]] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, person: Person) -> str:
        """A new session's secret, for a cookie."""
        secret, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            for mark in [m for m, (_, end) in self._open.items() if end <= now]:
                del self._open[mark]
            self._open[_mark(secret)] = person, now + SESSION_SECONDS
            while len(self._open) > MOST_SESSIONS:
                self._open.popitem(last=False)
        return secret

    def find(self, given: Iterable[str]) -> Person | None:
        """Who signed in with the first of these secrets that is of an open session."""
        now = self._clock()
        with self._lock:
            for secret in given:
                person, end = self._open.get(_mark(secret), (None, 0.0))
                if person is not None and end > now:
                    return person
        return None

    def end(self, given: Iterable[str]) -> None:
        """Sign out."""
        with self._lock:
            for secret in given:
                self._open.pop(_mark(secret), None)


def _mark(secret: str) -> bytes:
    # A hash: what a lookup takes tells nothing of the secrets, and memory holds none.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
