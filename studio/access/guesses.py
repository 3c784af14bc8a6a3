"""How fast passwords can be guessed, without locking anybody out.

Each try waits for its turn, and then the password is checked, so that the right one always works: nothing is
ever locked. Turns come one by one in each of several lines: that of the name, that of the address, and that
of the whole studio. The first tries wait for nothing; then the pause after each grows, up to a bound. A try
that would wait too long is refused, and counts for nothing.

An address can hold two places at a time, the line of a name has room for eight or so: somebody at another
address gets through while one address guesses. A browser that has signed in to this account before has a
line of its own, which nobody else can fill.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from calibri.errors import CalibriError
from calibri.words import count

MOST_LINES = 4096  # of names that are no account, of addresses, and of browsers; the oldest are forgotten


class TooManyGuesses(CalibriError):
    """This try would wait too long. `seconds`: when to come again."""

    def __init__(self, seconds: float) -> None:
        self.seconds = max(1, round(seconds + 0.5))
        super().__init__(
            "Many wrong passwords have been tried for this name or from your network. Try again in "
            f"{count(self.seconds, 'second')}. A browser that has signed in here before need not wait."
        )


class Pace(NamedTuple):
    """`free`: tries that wait for nothing. `forgotten`: seconds after which one try less counts. `pause`,
    `wait`: the longest, in seconds."""

    free: int
    forgotten: float
    pause: float
    wait: float


NAME = Pace(10, 30, 4, 30)
ADDRESS = Pace(10, 30, 10, 10)
BROWSER = Pace(10, 30, 10, 10)
STUDIO = Pace(50, 2, 0.2, 30)


@dataclass
class Line:
    """Turns, one after another."""

    pace: Pace
    tries: float = 0.0
    at: float = 0.0  # when `tries` was so many
    next: float = 0.0  # when the next turn is

    def wait(self, now: float) -> float:
        """Seconds until the next turn."""
        return max(0.0, self.next - now)

    def take(self, now: float) -> None:
        """Count a try, and let the next one wait for longer."""
        pace, passed = self.pace, (now - self.at) / self.pace.forgotten
        self.tries, self.at = max(0.0, self.tries - passed), now
        self.tries = min(self.tries + 1, pace.free + 16)  # so that even a long attack is forgotten in minutes
        over = self.tries - pace.free
        self.next = max(self.next, now) + (min(pace.pause, 0.25 * 2**over) if over > 0 else 0.0)

    def give_back(self) -> None:
        """The try was right: it does not count."""
        self.tries = max(0.0, self.tries - 1)


class Guesses:
    """Safe to call from any thread. `clock`: seconds that never go back."""

    def __init__(self, names: list[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._studio = Line(STUDIO)
        self._names = {name: Line(NAME) for name in names}
        self._others: OrderedDict[tuple[str, str], Line] = OrderedDict()
        self._lock = threading.Lock()

    def queue(self, name: str, address: str, browser: str = "") -> tuple[float, Callable[[], None]]:
        """(seconds to wait before the check, what to call if the password was right). `browser`: the known
        browser that asks, proved by its cookie. Raises TooManyGuesses."""
        with self._lock:
            now = self._clock()
            lines = self._choose(name, address, browser)
            wait = max(line.wait(now) for line in lines)
            late = [line.wait(now) - line.pace.wait for line in lines]
            if max(late) > 0:
                raise TooManyGuesses(max(late))
            for line in lines:
                line.take(now)
        return wait, lambda: self._give_back(lines)

    def _give_back(self, lines: list[Line]) -> None:
        with self._lock:
            for line in lines:
                line.give_back()

    def _choose(self, name: str, address: str, browser: str) -> list[Line]:
        if browser:
            return [self._other("browser", browser, BROWSER)]
        of_name = self._names.get(name) or self._other("name", name, NAME)
        return [of_name, self._other("address", network(address), ADDRESS), self._studio]

    def _other(self, kind: str, word: str, pace: Pace) -> Line:
        line = self._others.setdefault((kind, word[:80]), Line(pace))
        self._others.move_to_end((kind, word[:80]))
        while len(self._others) > MOST_LINES:
            self._others.popitem(last=False)
        return line


def network(address: str) -> str:
    """What counts as one address: an IPv4 address, or the first 64 bits of an IPv6 address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4:
        return str(found)
    mapped = found.ipv4_mapped
    return str(mapped) if mapped else str(ipaddress.ip_network((found, 64), strict=False))
