"""The queue of events with lanes of their own: organisers and votes never wait for visitors.

Of visitors each has few events in the queue, an address and all together have more. Whoever is refused
learns when to try again; the page keeps what was typed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal

from fastapi import HTTPException, Request
from gradio import Blocks
from gradio.queueing import Event, EventQueue, LRUCache, Queue

from calibri.words import count
from studio.access.callers import Caller
from studio.core import Core

Lane = Literal["visitors", "organisers", "votes"]

MOST_THREADS = 64  # that handle events
MOST_OF_VISITORS = 40  # events of visitors that are handled at once: threads are left for the others
MOST_OF_ONE = 8  # events of one visitor that wait or are handled
MOST_WAITING: dict[Lane, int] = {"organisers": 256, "votes": 256}
MOST_PAGES = 10_000  # whose events are known
MOST_RECORDED = 256  # events whose times Gradio keeps, for nobody
GUESS = 2.0  # seconds that an event takes, while none was measured
VOTES = "votes"  # the concurrency_id of events that take votes


class Lanes(Queue):
    """Gradio's queue; an event's lane follows from who sent it."""

    core: Core

    def compute_analytics_summary(self, records: Any) -> dict[str, Any]:
        """Nothing. After every refused event Gradio summed up the last 10,000 for a page of its own, which is
        off: three quarters of a busy studio's work."""
        return {}

    async def push(self, body: Any, request: Request, username: str | None) -> Any:
        """Put an event into the queue. Raises HTTPException, in a sentence, where that cannot be."""
        fn = self._find(body)
        address = request.client.host if request.client else ""
        caller = self.core.callers.know(request.cookies, address)
        lane: Lane = "votes" if fn.concurrency_id == VOTES else "visitors"
        if self.core.settings.demo and caller.organiser:
            lane = "organisers"
        self._check_room(lane, caller)
        answer = await super().push(body, request, username)
        event = self.event_ids_to_events.get(str(answer[1])) if answer[0] else None
        if event is not None:
            event.lane, event.caller = lane, caller  # type: ignore[attr-defined]
            if lane == "organisers":
                self._change_lane(event)
        return answer

    def _find(self, body: Any) -> Any:
        holder = self.blocks.state_holder
        known = body.session_hash in holder if body.session_hash else False
        fns = holder[body.session_hash].blocks_config.fns if known else self.blocks.fns
        if body.fn_index not in fns:
            raise HTTPException(404, "There is no such event (any more). Reload the page.")
        fn = fns[body.fn_index]
        if not isinstance(body.data, list):
            raise HTTPException(422, "data: expected a list of values.")
        return fn

    def _check_room(self, lane: Lane, caller: Caller) -> None:
        queued = [e for q in self.event_queue_per_concurrency_id.values() for e in q.queue]
        waiting = [e for e in queued if _lane(e) == lane]
        most = MOST_WAITING.get(lane, self.core.settings.queue)
        if len(waiting) >= most:
            seconds = self.estimate(waiting)
            raise _full(f"The queue is full: {count(len(waiting), 'request')} wait already", seconds)
        if lane != "visitors" or not self.core.settings.demo:
            return
        mine = [e for e in [*queued, *self._handled()] if _lane(e) == lane]
        of = Counter(e.caller.visitor for e in mine)  # type: ignore[attr-defined]
        at = Counter(e.caller.address for e in mine)  # type: ignore[attr-defined]
        for own, limit in ((of[caller.visitor], MOST_OF_ONE), (at[caller.address], 4 * MOST_OF_ONE)):
            if own >= limit:
                words = f"{count(own, 'request')} of yours wait already, expected at most {limit}"
                raise _full(words, self.estimate(waiting))

    def estimate(self, waiting: Iterable[Event]) -> int:
        """Seconds until one of these has ended, from how long such events took."""
        times = self.process_time_per_fn
        each = [times[e.fn].avg_time if e.fn in times else GUESS for e in waiting]
        return max(1, math.ceil(sum(each) / max(1, min(MOST_OF_VISITORS, len(each)))))

    def _handled(self) -> list[Event]:
        return [event for job in self.active_jobs if job for event in job]

    def _change_lane(self, event: Event) -> None:
        """Move an event that was just queued into the queue of the same name for organisers."""
        before = self.event_queue_per_concurrency_id[event.concurrency_id]
        name = f"{event.concurrency_id} of organisers"
        queue = self.event_queue_per_concurrency_id.setdefault(
            name, EventQueue(name, before.concurrency_limit)
        )
        before.queue.remove(event)
        event.concurrency_id = name
        queue.queue.append(event)

    def get_events(self) -> Any:
        """The next events to handle: those of visitors only while threads are left for the others."""
        if sum(_lane(event) == "visitors" for event in self._handled()) < MOST_OF_VISITORS:
            return super().get_events()
        aside = {
            name: queue
            for name, queue in self.event_queue_per_concurrency_id.items()
            if queue.queue and _lane(queue.queue[0]) == "visitors"
        }
        for name in aside:
            del self.event_queue_per_concurrency_id[name]
        try:
            return super().get_events()
        finally:
            self.event_queue_per_concurrency_id.update(aside)


def _lane(event: Event) -> Lane:
    return getattr(event, "lane", "visitors")


def _full(why: str, seconds: int) -> HTTPException:
    """Gradio's page shows the text of any refusal but of 503, where it has words of its own."""
    words = f"{why}. Try again in about {count(seconds, 'second')}; what you typed stays."
    return HTTPException(429, words, {"retry-after": str(seconds)})


def open_queue(app: Blocks, core: Core) -> Blocks:
    """Give an app its queue. Returns the app."""
    app.queue(max_size=None, default_concurrency_limit=8, api_open=False)
    app._queue = Lanes(
        live_updates=True,
        concurrency_count=MOST_THREADS,
        update_intervals=1,
        max_size=None,
        blocks=app,
        default_concurrency_limit=8,
    )
    app._queue.core = core
    app._queue.ANALYTICS_MAX_EVENTS = MOST_RECORDED
    app._queue.pending_event_ids_session = LRUCache(MOST_PAGES)  # Gradio never forgets one
    return app
