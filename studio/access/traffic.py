"""How many requests and bytes visitors of a public studio may send, and how many at once.

Cookies can be thrown away, and addresses be forged or shared: each request counts for its cookie, for its
address and for all together. Everything is reserved before the work, in one step, and given back after it.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from calibri.errors import CalibriError
from calibri.words import count
from studio.access.callers import Caller
from studio.access.limits import Bucket

MOST_REMEMBERED = 10_000  # cookies and addresses


class Rate(NamedTuple):
    """At once, and on average in a second."""

    burst: float
    per_second: float


class Allowance(NamedTuple):
    """Of one kind: for a cookie, for an address, and for all visitors together."""

    visitor: Rate
    address: Rate
    everybody: Rate


#: An open page asks about twice a second; a lecture hall shares one address.
REQUESTS = Allowance(Rate(240, 20), Rate(1200, 100), Rate(3000, 300))
#: Bytes. A picture with its settings has up to 2 MB.
UPLOADS = Allowance(Rate(16e6, 0.25e6), Rate(64e6, 1e6), Rate(256e6, 4e6))
#: Desks kept on the disk for the first time: nobody fills the folder, or pushes out those of others.
DRAFTS = Allowance(Rate(4, 1 / 600), Rate(40, 1 / 60), Rate(100, 0.1))
AT_ONCE = (24, 200, 600)  # requests that are being answered, for a cookie, an address and all


class TooMuch(CalibriError):
    """More than is allowed now. `seconds`: when to try again."""

    headline = "Not now"

    def __init__(self, why: str, seconds: float) -> None:
        self.seconds = max(1, math.ceil(seconds))
        super().__init__(f"{why} Try again in {count(self.seconds, 'second')}.")


class Traffic:
    """Asked before each request of a visitor. Safe to call from any thread. `clock`: seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[tuple[str, str], Bucket] = OrderedDict()
        self._open: Counter[str] = Counter()

    def take_request(self, caller: Caller) -> None:
        """Count one request. Raises TooMuch."""
        if not caller.organiser:
            self._take("requests", REQUESTS, caller, 1, "This browser asks too often.")

    def take_upload(self, caller: Caller, size: int) -> None:
        """Reserve so many bytes. Raises TooMuch."""
        if not caller.organiser:
            self._take("bytes", UPLOADS, caller, size, "Too many files were sent just now.")

    def take_draft(self, caller: Caller, new: bool, size: int) -> None:
        """Reserve so many bytes for a desk that is kept, and a place for a new one. Raises TooMuch."""
        if not caller.organiser:
            if new:
                self._take("drafts", DRAFTS, caller, 1, "This browser has kept many desks just now.")
            self._take("bytes", UPLOADS, caller, size, "Much was sent just now.")

    def give_back(self, caller: Caller, size: int) -> None:
        """Of what was reserved, the bytes that did not come."""
        with self._lock:
            for _, bucket in self._find("bytes", UPLOADS, caller):
                bucket.take(-size)

    @contextmanager
    def answering(self, caller: Caller) -> Iterator[None]:
        """While a request is answered. Raises TooMuch where too many are."""
        keys = () if caller.organiser else (f"visitor {caller.visitor}", f"at {caller.address}", "all")
        with self._lock:
            for key, most in zip(keys, AT_ONCE):
                if self._open[key] >= most:
                    who = "Many people use this studio" if key == "all" else "Too many requests are open"
                    raise TooMuch(f"{who} just now: expected at most {most} at once.", 5)
            self._open.update(keys)
        try:
            yield
        finally:
            with self._lock:
                self._open.subtract(keys)
                for key in keys:
                    if not self._open[key]:
                        del self._open[key]

    def _take(self, kind: str, allowed: Allowance, caller: Caller, amount: float, why: str) -> None:
        with self._lock:
            now = self._clock()
            for rate, bucket in self._find(kind, allowed, caller):
                if amount > rate.burst:
                    raise TooMuch(f"Expected at most {rate.burst:.0f} {kind}, got {amount:.0f}.", 1)
                if missing := bucket.missing(amount, now):
                    shared = rate is allowed.everybody
                    raise TooMuch("Many people use this studio just now." if shared else why, missing)
            for _, bucket in self._find(kind, allowed, caller):
                bucket.take(amount)

    def _find(self, kind: str, allowed: Allowance, caller: Caller) -> list[tuple[Rate, Bucket]]:
        """The caller's buckets. The lock is held."""
        found = []
        keys = (f"visitor {caller.visitor}", f"at {caller.address}", "all")
        for key, rate in zip(keys, allowed):
            bucket = self._buckets.setdefault((kind, key), Bucket(*rate, self._clock()))
            self._buckets.move_to_end((kind, key))
            found.append((rate, bucket))
        while len(self._buckets) > MOST_REMEMBERED:
            self._buckets.popitem(last=False)
        return found
