"""What the studio remembers of a browser between its pages: the desk, its pictures, and what is under way.

A visitor's id is a random word kept in the browser. It restores a work place, nothing more: it grants no
rights and is no identity for votes.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from studio.scales.desk import Desk

MOST_VISITORS = 400
MOST_PICTURES = 24  # in one visitor's history


@dataclass
class Visitor:
    """One browser's work place."""

    id: str
    desk: Desk | None = None
    sent: int = 0  # when, by the browser's clock in ms, the last move of the desk was made that is in `desk`
    base: tuple[Any, Any] | None = None  # what the desk's base picture was rendered for, and that shot
    beside: str = ""  # the calibration that the desk is charted against and blended with
    blend: tuple[Any, Any, str] | None = None  # the desk before a blend, after it, and with what
    borrowed: dict[str, Any] = field(default_factory=dict)  # id → a calibration that came inside a PNG
    carried: Any = None  # the ask of a picture that Compare sent to Scales, until that page has taken it
    study: dict[str, Any] | None = None  # what Compare sent to the page Studies, until that page has taken it
    history: deque[Any] = field(default_factory=lambda: deque(maxlen=MOST_PICTURES))
    _turns: dict[str, int] = field(default_factory=dict)
    editing: threading.RLock = field(
        default_factory=threading.RLock
    )  # held from reading the desk to keeping it
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, work: str) -> Callable[[], bool]:
        """Start work of this kind and call off what was under way of it. Returns `cancelled() -> bool`."""
        with self._lock:
            turn = self._turns[work] = self._turns.get(work, 0) + 1
        return lambda: self._turns[work] != turn

    def stop(self, work: str) -> None:
        """Call off the work of this kind that is under way."""
        self.begin(work)


class Visitors:
    """The work places in use, the least recently seen forgotten first."""

    def __init__(self) -> None:
        self._all: OrderedDict[str, Visitor] = OrderedDict()
        self._lock = threading.Lock()

    @staticmethod
    def new_id() -> str:
        return secrets.token_hex(16)

    @staticmethod
    def is_id(word: object) -> bool:
        return isinstance(word, str) and re.fullmatch(r"[0-9a-f]{32}", word) is not None

    def of(self, word: object) -> Visitor:
        """The work place of this id; a new empty one for an unknown id, an unkept one where there is no
        valid id."""
        if not self.is_id(word):
            return Visitor(self.new_id())
        with self._lock:
            visitor = self._all.setdefault(str(word), Visitor(str(word)))
            self._all.move_to_end(str(word))
            while len(self._all) > MOST_VISITORS:
                self._all.popitem(last=False)
        return visitor
