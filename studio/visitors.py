"""What the studio remembers of a browser between its pages, and what is under way for it.

A visitor's id is a random word kept in the browser. It restores a work place, nothing more: it grants no
rights and is no identity for votes. What a page keeps there is an object of a class of that page's room.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from calibri.errors import CalibriError, RenderCancelled

P = TypeVar("P")
MOST_VISITORS = 1000
MOST_BYTES = 2**30  # that pages keep for all of them together, as far as they tell


class Overtaken(RenderCancelled):
    """The same person asked for something newer: nobody waits for this answer."""


@dataclass
class Visitor:
    """One browser's work place: one object of each class that a page asked for."""

    id: str
    _places: dict[type, object] = field(default_factory=dict)
    _under_way: dict[str, threading.Event] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def place(self, kind: type[P]) -> P:
        """This visitor's object of this class, made without arguments at the first call."""
        with self._lock:
            found = self._places.get(kind)
            if not isinstance(found, kind):
                found = self._places[kind] = kind()
            return found

    def find_place(self, kind: type[P]) -> P | None:
        """The object that was made of this class or of one derived from it; None while there is none."""
        with self._lock:
            return next((made for made in self._places.values() if isinstance(made, kind)), None)

    @property
    def size(self) -> int:
        """Bytes that are kept, about: places that keep much tell their `size`."""
        with self._lock:
            return sum(getattr(place, "size", 0) for place in self._places.values())

    def begin(self, work: str) -> Callable[[], bool]:
        """Start work of this kind and call off what was under way of it. Returns `cancelled() -> bool`."""
        called_off = threading.Event()
        with self._lock:
            older = self._under_way.get(work)
            self._under_way[work] = called_off
        if older is not None:
            older.set()
        return called_off.is_set

    def stop(self, work: str) -> None:
        """Call off the work of this kind that is under way."""
        self.begin(work)
        with self._lock:
            self._under_way.pop(work, None)

    @contextmanager
    def working(self, work: str) -> Iterator[Callable[[], bool]]:
        """As `begin`, for the time of the work. Raises Overtaken where newer work of this kind called it off,
        and RenderCancelled where a person did."""
        cancelled = self.begin(work)
        try:
            yield cancelled
        except RenderCancelled:
            with self._lock:
                newer = work in self._under_way
            if newer and cancelled():
                raise Overtaken("Newer work took over.") from None
            raise


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

    def place(self, word: object, kind: type[P]) -> P:
        """The object of this class at the work place of this id: see Visitor.place."""
        return self.of(word).place(kind)

    @classmethod
    def check_id(cls, word: object) -> None:
        """Raises CalibriError for what is no id: what was kept with it could not be found again."""
        if not cls.is_id(word):
            raise CalibriError(
                "Expected the id that this browser keeps, got something else. Reload the page."
            )

    def trim(self, word: object) -> None:
        """Forget the least recently seen until all of them fit into MOST_BYTES; the one of this id stays."""
        with self._lock:
            known = [visitor for key, visitor in self._all.items() if key != word]
            sizes = {visitor.id: visitor.size for visitor in self._all.values()}
            total = sum(sizes.values())
            for visitor in known:
                if total <= MOST_BYTES:
                    break
                if sizes[visitor.id]:  # those that keep nothing make no room
                    del self._all[visitor.id]
                    total -= sizes[visitor.id]

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
