"""Where a search is, from its records: one fold for the loop, the command line and the studio."""

from __future__ import annotations

from collections import deque
from typing import Literal

import numpy as np

from calibri.errors import SearchError
from calibri.search.config import Budget, SearchConfig
from calibri.search.guard import Fall, find_falls
from calibri.search.records import (
    BaseRecord,
    EventRecord,
    Generation,
    GenerationRecord,
    PointRecord,
    Record,
    ResultRecord,
    SessionRecord,
    ValidationRecord,
    share_words,
)
from calibri.search.stopping import kept_point

State = Literal["running", "done", "failed", "interrupted"]
RECENT = 20  # records that the speed is measured over


class SearchProgress:
    """Takes the records of one run in order and knows where the search is.

    `images`: rendered so far, without the final judgement. `seconds`: of work, all sessions together. `over`:
    the last thing that happened is a result. `falls`: judges that fell by the last validation. `points`: of a
    front, as far as they are judged. `log`: when (ISO time, or empty) and what, in sentences. `error`: why
    the rest of the journal cannot be read; its reader sets it.
    """

    def __init__(self, config: SearchConfig) -> None:
        self.config = config
        self.sessions: list[SessionRecord] = []
        self.base: BaseRecord | None = None
        self.generations: list[GenerationRecord | Generation] = []
        self.validations: list[ValidationRecord] = []
        self.falls: list[Fall] = []
        self.points: list[PointRecord] = []
        self.result: ResultRecord | None = None
        self.log: list[tuple[str, str]] = []
        self.images = 0
        self.seconds = 0.0
        self.over = False
        self.error = ""
        # (images, seconds, generations) after each of the last records of this session
        self._marks: deque[tuple[int, float, int]] = deque(maxlen=RECENT)

    def take(self, record: Record | Generation) -> None:
        """Go on by one record."""
        self.over = isinstance(record, ResultRecord)
        match record:
            case GenerationRecord() | Generation():
                self.generations.append(record)
                self.points = []
            case ValidationRecord():
                self.validations.append(record)
                self._note(
                    f"Validation after generation {record.generation}: {record.objective.text()} spreads "
                    f"over the base, on {record.objective.n} pairs."
                )
                self.falls = find_falls(self.validations)
                for fall in self.falls:
                    self._note(fall.text)
            case PointRecord():
                self.points.append(record)
                gains = ", ".join(f"{name} {gain.text()}" for name, gain in record.gains.items())
                self._note(f"Point {record.number} of the front ({share_words(record.shares)}): {gains}.")
            case BaseRecord():
                self.base = record
                means = ", ".join(f"{name} {value:.3g}" for name, value in record.means.items())
                self._note(f"The base was measured on {record.pairs} pairs: {means}.")
            case SessionRecord():
                verb = "went on" if self.sessions else "began"
                self.sessions.append(record)
                self._marks.clear()
                self._note(f"The search {verb} on {record.host}.", record.time)
            case EventRecord():
                self._note(record.text, record.time)
            case ResultRecord():
                self.result = record
                self.seconds = max(self.seconds, record.seconds)
                self._note(f"Ended: {record.reason}. {record.text}", record.time)
        if isinstance(record, BaseRecord | GenerationRecord | Generation | ValidationRecord):
            self.images = max(self.images, record.images)
            self.seconds = max(self.seconds, record.seconds)
            self._marks.append((record.images, record.seconds, len(self.generations)))

    def _note(self, text: str, time: str = "") -> None:
        self.log.append((time, text))

    def state(self, *, written: bool) -> State:
        """`written`: a process writes the run now (`journal.owner_of`)."""
        if self.error:
            return "failed"
        if written:
            return "running"
        return "done" if self.over else "interrupted"

    @property
    def budget(self) -> Budget | None:
        """The limits of the last session; None before the first."""
        if not self.sessions:
            return None
        last = self.sessions[-1]
        return Budget(
            images=last.images_limit, minutes=last.minutes_limit, generations=last.generations_limit
        )

    @property
    def last(self) -> GenerationRecord | Generation | None:
        """The last generation."""
        return self.generations[-1] if self.generations else None

    @property
    def verdict(self) -> str:
        """Of the final judgement; empty before it."""
        return self.result.verdict if self.result is not None and self.over else ""

    @property
    def speed(self) -> float | None:
        """Images a second over the last records; None while not known."""
        if len(self._marks) < 2:
            return None
        (images, seconds, _), (more, later, _) = self._marks[0], self._marks[-1]
        return (more - images) / (later - seconds) if later > seconds else None

    def seconds_left(
        self, budget: Budget | None = None, *, speed: float | None = None, extra: int = 0
    ) -> float | None:
        """Until the first limit is reached; None where no limit or no speed is known.

        `budget`: None for that of the last session. `speed`: images a second, as its caller measured them.
        `extra`: images rendered since the last record.
        """
        budget, speed = budget or self.budget or Budget(), speed or self.speed
        left = []
        if budget.minutes is not None:
            left.append(60 * budget.minutes - self.seconds)
        if budget.images is not None and speed:
            left.append((budget.images - self.images - extra) / speed)
        if budget.generations is not None and self._marks:
            (_, seconds, first), (_, later, last) = self._marks[0], self._marks[-1]
            if last > first:
                left.append((budget.generations - last) * (later - seconds) / (last - first))
        return max(0.0, min(left)) if left else None

    def point(self) -> np.ndarray:
        """The point reached, (n,), which the search keeps. Raises SearchError before the first generation."""
        if not self.generations:
            raise SearchError("This search has no generation yet. Wait for the first one.")
        return kept_point(self.generations, self.config.tail)
