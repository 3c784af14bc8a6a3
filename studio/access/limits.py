"""What one visitor of a public studio may ask for, and how often. Outside demo mode nothing is limited here.

A visitor is known by the signed cookie of studio.access.signin. Whoever throws it away gets a new one, and a
full allowance with it, so that pictures are counted by address too. An address is no identity:
`X-Forwarded-For` can be forged, and many people share one. The allowance of all visitors together holds in
any case.

What counts is work: pixels × steps × members, in pictures of the usual size and steps. It is reserved before
the work, in one step, and given back where nothing was rendered.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from calibri.errors import CalibriError
from calibri.words import count
from studio.settings import Settings

if TYPE_CHECKING:
    from calibri.backbones.catalog import BackboneSpec
    from calibri.sampling.request import RenderRequest

LONGEST_PROMPT = 300  # characters
MOST_STEPS = 30
MOST_MEMBERS = 4  # of one ensemble
MOST_PICTURES = 12  # in one request
MOST_AT_ONCE = 3  # requests of one visitor that wait or render; a newer move calls the older one off
ALL_TOGETHER = 10  # times the rate of one visitor
AT_ONE_ADDRESS = 4  # times the rate of one visitor
AT_ONCE_AT_ADDRESS = 4 * MOST_AT_ONCE
SECONDS_EACH = 3.0  # for a usual picture, while none was measured
MOST_VISITORS = 4096  # that are remembered
STRANGER = ""  # whoever comes without a valid cookie; all of them share one allowance


class LimitError(CalibriError):
    """A public studio does not do that, or not now; the text says what it does."""

    headline = "Not now"


class Bucket:
    """Fills with `per_second` tokens up to `capacity`, and starts full."""

    def __init__(self, capacity: float, per_second: float, now: float) -> None:
        self.capacity, self.per_second = capacity, per_second
        self._level, self._at = capacity, now

    def missing(self, tokens: float, now: float) -> float:
        """Seconds until that many are there; 0 when they are."""
        self._level = min(self.capacity, self._level + (now - self._at) * self.per_second)
        self._at = now
        return max(0.0, (tokens - self._level) / self.per_second)

    def take(self, tokens: float) -> None:
        """Of what `missing` found to be there; less than nothing gives back."""
        self._level -= tokens


class Admitted:
    """A request that was let in. Call `begin` when its first step is done: its work counts from then on."""

    def __init__(self) -> None:
        self.begun = False

    def begin(self) -> None:
        self.begun = True


class Limits:
    """Asked by whatever renders for people, once for each request. Safe to call from any thread.

    `who() -> visitor's key`, None for work that is not limited: the studio's own, and organisers'.
    `where() -> address`, empty where it is not known. `clock`: seconds.
    """

    def __init__(
        self,
        settings: Settings,
        who: Callable[[], str | None],
        clock: Callable[[], float] = time.monotonic,
        where: Callable[[], str] = str,
    ) -> None:
        self._on, self._who, self._where, self._clock = settings.demo, who, where, clock
        self._rate, self._queue = settings.rate, settings.queue
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()
        self._addresses: OrderedDict[str, Bucket] = OrderedDict()
        self._all = self._new(clock(), ALL_TOGETHER)
        self._at_once: dict[str, int] = {}
        self._at_address: dict[str, int] = {}
        self._waiting, self._seconds_each = 0.0, SECONDS_EACH

    @contextmanager
    def admitted(self, requests: Sequence[RenderRequest], spec: BackboneSpec) -> Iterator[Admitted]:
        """Render inside this. Raises LimitError where the request is too large, comes too often, or where too
        many wait already."""
        visitor, let_in = self._who() if self._on else None, Admitted()
        if visitor is None or not requests:
            yield let_in
            return
        check_size(requests, spec)
        address, work = self._where(), measure_work(requests, spec)
        with self._lock:
            self._check_room(visitor, address)
            buckets = self._take(visitor, address, work)
            _count(self._at_once, visitor, 1)
            _count(self._at_address, address, 1)
            self._waiting += work
        began, done = self._clock(), False
        try:
            yield let_in
            done = True
        finally:
            with self._lock:
                _count(self._at_once, visitor, -1)
                _count(self._at_address, address, -1)
                self._waiting -= work
                if done:
                    self._seconds_each += 0.2 * ((self._clock() - began) / work - self._seconds_each)
                elif not let_in.begun:
                    for bucket in buckets:
                        bucket.take(-work)

    def _check_room(self, visitor: str, address: str) -> None:
        if self._at_once.get(visitor, 0) >= MOST_AT_ONCE:
            raise LimitError("Your earlier pictures are still being made. Wait for them, or press Stop.")
        if address and self._at_address.get(address, 0) >= AT_ONCE_AT_ADDRESS:
            raise LimitError(
                f"{AT_ONCE_AT_ADDRESS} requests from your address wait already. {self._tell_wait()}"
            )
        if sum(self._at_once.values()) >= self._queue:
            raise LimitError(f"{self._queue} requests wait already. {self._tell_wait()}")

    def _tell_wait(self) -> str:
        """About when one of those that wait is done."""
        each = self._waiting / max(1, sum(self._at_once.values()))
        return f"Try again in about {_wait(each * self._seconds_each)}; what you typed stays."

    def _take(self, visitor: str, address: str, work: float) -> tuple[Bucket, ...]:
        """Reserve the work. Returns what it was taken from."""
        now = self._clock()
        bucket = _remember(self._buckets, visitor, lambda: self._new(now))
        if work > bucket.capacity:
            raise LimitError(
                f"Expected the work of at most {bucket.capacity:g} usual pictures at once, got that of "
                f"{work:.1f}: fewer pictures, steps or members fit."
            )
        there = (
            _remember(self._addresses, address, lambda: self._new(now, AT_ONE_ADDRESS)) if address else None
        )
        own, shared = bucket.missing(work, now), self._all.missing(work, now)
        if own:
            raise LimitError(
                f"Each visitor of this public studio may render {self._rate} pictures a minute. "
                f"Go on in {_wait(own)}, or run a copy of your own without limits."
            )
        if there is not None and (near := there.missing(work, now)):
            raise LimitError(f"Many people are rendering at your address. Go on in {_wait(near)}.")
        if shared:
            raise LimitError(f"Many people are rendering here just now. Go on in {_wait(shared)}.")
        taken = tuple(each for each in (bucket, there, self._all) if each is not None)
        for each in taken:
            each.take(work)
        return taken

    def _new(self, now: float, visitors: int = 1) -> Bucket:
        rate = self._rate * visitors
        return Bucket(max(rate, MOST_PICTURES), rate / 60, now)


def _remember(buckets: OrderedDict[str, Bucket], key: str, make: Callable[[], Bucket]) -> Bucket:
    bucket = buckets.get(key) or make()
    buckets[key] = bucket
    buckets.move_to_end(key)
    while len(buckets) > MOST_VISITORS:
        buckets.popitem(last=False)
    return bucket


def _count(counts: dict[str, int], key: str, change: int) -> None:
    counts[key] = counts.get(key, 0) + change
    if not counts[key]:
        del counts[key]


def measure_work(requests: Sequence[RenderRequest], spec: BackboneSpec) -> float:
    """Pixels × steps × members, in pictures of the usual size and steps of this backbone. A picture counts as
    one at least: its prompt is read and its pixels are written whatever its size."""
    usual = spec.width * spec.height * spec.steps * (2 if spec.cfg else 1)
    work = 0.0
    for request in requests:
        pixels = (request.width or spec.width) * (request.height or spec.height)
        guided = len(request.members or ()) <= 1 and request.guidance not in (None, 1)
        members = 2 if guided else len(request.members or ()) or 1
        work += max(1.0, pixels * request.steps * members / usual)
    return work


def check_size(requests: Sequence[RenderRequest], spec: BackboneSpec) -> None:
    """Raises LimitError for more than a public studio renders for anybody."""
    if len(requests) > MOST_PICTURES:
        raise LimitError(
            f"{len(requests)} pictures were asked for; this public studio renders {MOST_PICTURES} at once."
        )
    for request in requests:
        if len(request.prompt) > LONGEST_PROMPT:
            raise LimitError(
                f"The prompt has {len(request.prompt)} characters; this public studio takes {LONGEST_PROMPT}."
            )
        if request.steps > MOST_STEPS:
            raise LimitError(
                f"{request.steps} steps were asked for; this public studio renders {MOST_STEPS} at most."
            )
        width, height = request.width or spec.width, request.height or spec.height
        if width * height > spec.width * spec.height:
            raise LimitError(
                f"{width} × {height} pixels were asked for; this public studio renders {spec.width} × "
                f"{spec.height}, or other sides with no more pixels."
            )
        if len(request.members or ()) > MOST_MEMBERS:
            raise LimitError(
                f"This ensemble has {len(request.members or ())} members; this public studio renders "
                f"{MOST_MEMBERS} at most."
            )


def _wait(seconds: float) -> str:
    return count(max(1, math.ceil(seconds)), "second")
