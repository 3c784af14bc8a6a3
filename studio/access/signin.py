"""Who calls: people who signed in, and the visitors that a public studio's limits count.

One sign-in for all studios with accounts: with `--demo` for organisers, otherwise for everybody but raters.
It is a session kept here (studio.access.sessions); its secret is in an http-only cookie. Two more cookies
are signed: a visitor's, which grants no rights, and that of a browser that has signed in before, which need
not wait while others guess. Routes: studio.access.doors.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping

import anyio
import anyio.to_thread

from studio.access.guesses import Guesses
from studio.access.keys import open_secret
from studio.access.limits import STRANGER
from studio.access.passwords import Accounts
from studio.access.sessions import Person, Sessions
from studio.settings import HubApp, Settings

log = logging.getLogger(__name__)

VISITOR, SESSION, KNOWN, STATE = "calibri-visitor", "calibri-session", "calibri-known", "calibri-hub"
VISITOR_SECONDS = 30 * 24 * 3600
KNOWN_SECONDS = 180 * 24 * 3600
MOST_COOKIES = 8  # of sessions that one request may bring: of studios at other ports of this machine
SCOPE_HUB = "calibri.hub"  # where a request's scope names the hub account


class Signin:
    """Begins, reads and ends sessions. Safe to call from any thread. `clock`: seconds that never go back.

    Raises PasswordError for accounts that cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        hub: HubApp | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self.settings, self.hub = settings, hub
        self._sleep = sleep
        self._accounts = Accounts.read(settings)
        self._guesses = Guesses(self._accounts.names, clock)
        self._sessions = Sessions(clock)
        self._key = secrets.token_bytes(32)
        self._lasting_key = open_secret(settings.data / "signin.key")
        self._checks: anyio.CapacityLimiter | None = None

    # who it is

    def person(self, cookies: Mapping[str, str]) -> Person | None:
        """Who signed in, an organiser or not."""
        return self._sessions.find(_session_secrets(cookies))

    def organiser(self, cookies: Mapping[str, str]) -> str | None:
        """The name of the organiser who signed in, or None."""
        person = self.person(cookies)
        return person.name if person is not None and person.organises else None

    def visitor(self, cookies: Mapping[str, str]) -> str:
        """The key by which this visitor's limits are counted; STRANGER without a cookie of this studio."""
        word, _, mark = cookies.get(VISITOR, "").partition(".")
        return word if word and _same(mark, self._mark("visitor", word)) else STRANGER

    def caller(self) -> str | None:
        """The same key for the event that this thread handles; None outside of an event."""
        from gradio.context import LocalContext  # seconds

        request = LocalContext.request.get(None)
        return self.visitor(request.cookies) if request is not None else None

    # signing in and out

    async def try_password(
        self, name: str, password: str, address: str = "", cookies: Mapping[str, str] | None = None
    ) -> str | None:
        """A session's secret, or None for a wrong pair. While many guess, this waits.

        Raises TooManyGuesses where it would wait for too long.
        """
        browser = self._known_browser(name, cookies or {})
        wait, was_right = self._guesses.queue(name, address, browser)
        if wait:
            await self._sleep(wait)
        self._checks = self._checks or anyio.CapacityLimiter(1)  # a hash takes memory and a processor
        right = await anyio.to_thread.run_sync(self._accounts.check, name, password, limiter=self._checks)
        if not right:
            log.info("sign-in refused: wrong name or password")
            return None
        was_right()
        return self.begin(Person(name))

    def begin(self, person: Person) -> str:
        """The secret of a new session."""
        return self._sessions.begin(person)

    def end(self, cookies: Mapping[str, str]) -> None:
        """End the sessions of these cookies, whoever else has copied them."""
        self._sessions.end(_session_secrets(cookies))

    # signed cookies

    def new_visitor(self) -> str:
        """The value of a new visitor's cookie."""
        word = secrets.token_hex(16)
        return f"{word}.{self._mark('visitor', word)}"

    def new_known(self, name: str) -> str:
        """The value of the cookie of a browser that has signed in to this account."""
        word = secrets.token_hex(16)
        return f"{word}.{self._mark_known(name, word)}"

    def _known_browser(self, name: str, cookies: Mapping[str, str]) -> str:
        word, _, mark = cookies.get(KNOWN, "").partition(".")
        return word if word and _same(mark, self._mark_known(name, word)) else ""

    def _mark_known(self, name: str, word: str) -> str:
        try:
            key = self._lasting_key()  # outlives a restart: an attack may, too
        except OSError:
            key = self._key
        return _sign(key, f"known:{word}:{name}")

    def _mark(self, kind: str, word: str) -> str:
        return _sign(self._key, f"{kind}:{word}")

    # what the pages ask

    @property
    def has_accounts(self) -> bool:
        return bool(self._accounts.names)

    @property
    def names(self) -> list[str]:
        return self._accounts.names

    @property
    def has_door(self) -> bool:
        """Whether there is anything to sign in to."""
        return self.has_accounts or self.settings.demo or self.hub is not None

    @property
    def is_closed(self) -> bool:
        """Whether only those who signed in get in, and raters."""
        return self.has_accounts and not self.settings.demo


def session_cookie(host: str) -> str:
    """The name of the session's cookie. Browsers keep cookies by name and host: studios at several ports of
    one machine have one each."""
    port = host.rpartition(":")[2]
    return f"{SESSION}-{port}" if port.isdigit() and ":" in host else SESSION


def _session_secrets(cookies: Mapping[str, str]) -> list[str]:
    found = [v for n, v in cookies.items() if v and (n == SESSION or n.startswith(f"{SESSION}-"))]
    return found[:MOST_COOKIES]


def _sign(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), right.encode())
