"""How often raters' browsers may ask: counted by study and by the identity that they send, not by address.

Identities can be invented, so new raters of a study have an allowance together, and so have all requests.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from calibri.words import count
from studio.access.limits import Bucket
from studio.studies.voting.ballots import Refused


class Rate(NamedTuple):
    """Requests at once, and on average in a second."""

    burst: float
    per_second: float


PERSON = Rate(60, 3)  # a vote takes a second or more
NEWCOMERS = Rate(300, 2)  # of one study: a lecture hall that opens the link at once
EVERYBODY = Rate(3000, 400)  # about what the writer can take
MOST_REMEMBERED = 10_000  # people and studies


class TooOften(Refused):
    """More requests than are allowed. `seconds`: when to try again."""

    def __init__(self, text: str, seconds: int) -> None:
        super().__init__("busy", text)
        self.seconds = seconds


class Rates:
    """Asked before the work of each request. Safe to call from any thread. `clock`: seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._all = Bucket(*EVERYBODY, clock())
        self._buckets: OrderedDict[tuple[str, str], Bucket] = OrderedDict()

    def take(self, study: str, person: str) -> None:
        """Count one request of this person. Raises TooOften."""
        with self._lock:
            now = self._clock()
            own = self._find((study, person), PERSON, now)
            if missing := own.missing(1, now):
                raise _refuse("This browser asks too often.", missing)
            if missing := self._all.missing(1, now):
                raise _refuse("Many people are voting here just now.", missing)
            own.take(1)
            self._all.take(1)

    def take_newcomer(self, study: str) -> None:
        """Count somebody who takes part in this study for the first time. Raises TooOften."""
        with self._lock:
            now = self._clock()
            shared = self._find((study, ""), NEWCOMERS, now)
            if missing := shared.missing(1, now):
                raise _refuse("Many people are joining this study just now.", missing)
            shared.take(1)

    def _find(self, key: tuple[str, str], rate: Rate, now: float) -> Bucket:
        bucket = self._buckets.setdefault(key, Bucket(*rate, now))
        self._buckets.move_to_end(key)
        while len(self._buckets) > MOST_REMEMBERED:
            self._buckets.popitem(last=False)
        return bucket


def _refuse(why: str, seconds: float) -> TooOften:
    whole = max(1, math.ceil(seconds))
    return TooOften(f"{why} Try again in {count(whole, 'second')}.", whole)
