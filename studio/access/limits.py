"""What one visitor of a public studio may ask for, and how often. Outside demo mode nothing is limited here.

A visitor is known by the signed cookie of studio.access.signin. Whoever throws it away gets a new one, and a
full allowance with it: what nobody can get round is the allowance of all visitors together. An address is no
identity: `X-Forwarded-For` can be forged, and many people share one.
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
MOST_VISITORS = 4096  # that are remembered
STRANGER = ""  # whoever comes without a valid cookie; all of them share one allowance


class LimitError(CalibriError):
    """A public studio does not do that, or not now; the text says what it does."""


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
        """Of what `missing` found to be there."""
        self._level -= tokens


class Limits:
    """Asked by whatever renders for people, once for each request. Safe to call from any thread.

    `who() -> visitor's key`, None for work of the studio itself, which is not limited. `clock`: seconds.
    """

    def __init__(
        self, settings: Settings, who: Callable[[], str | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._on, self._who, self._clock = settings.demo, who, clock
        self._rate, self._queue = settings.rate, settings.queue
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()
        self._all = self._new(clock(), ALL_TOGETHER)
        self._at_once: dict[str, int] = {}

    @contextmanager
    def admitted(self, requests: Sequence[RenderRequest], spec: BackboneSpec) -> Iterator[None]:
        """Render inside this. Raises LimitError where the request is too large, comes too often, or where too
        many wait already."""
        visitor = self._who() if self._on else None
        if visitor is None or not requests:
            yield
            return
        check_size(requests, spec)
        with self._lock:
            if self._at_once.get(visitor, 0) >= MOST_AT_ONCE:
                raise LimitError("Your earlier pictures are still being made. Wait for them, or press Stop.")
            if sum(self._at_once.values()) >= self._queue:
                raise LimitError(f"{self._queue} requests wait already. Try again in a minute.")
            self._take(visitor, len(requests))
            self._at_once[visitor] = self._at_once.get(visitor, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._at_once[visitor] -= 1
                if not self._at_once[visitor]:
                    del self._at_once[visitor]

    def _take(self, visitor: str, pictures: int) -> None:
        now = self._clock()
        bucket = self._buckets.setdefault(visitor, self._new(now))
        self._buckets.move_to_end(visitor)
        while len(self._buckets) > MOST_VISITORS:
            self._buckets.popitem(last=False)
        own, shared = bucket.missing(pictures, now), self._all.missing(pictures, now)
        if own:
            raise LimitError(
                f"Each visitor of this public studio may render {self._rate} pictures a minute. "
                f"Go on in {_wait(own)}, or run a copy of your own without limits."
            )
        if shared:
            raise LimitError(f"Many people are rendering here just now. Go on in {_wait(shared)}.")
        bucket.take(pictures)
        self._all.take(pictures)

    def _new(self, now: float, visitors: int = 1) -> Bucket:
        rate = self._rate * visitors
        return Bucket(max(rate, MOST_PICTURES), rate / 60, now)


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
