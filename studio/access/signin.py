"""Who calls: the organisers' sign-in of a public studio, and the visitor's cookie that its limits count by.

A studio with accounts and without `--demo` uses Gradio's own sign-in, which asks everybody. A public studio
lets everybody in, so its organisers sign in at `/signin` (a page) or `/login` (for gradio_client:
`Client(url, auth=(name, password))`). Both set one signed, http-only cookie. The signing key is not stored:
after a restart organisers sign in again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Template
from markupsafe import Markup
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from studio.access.limits import STRANGER, Bucket
from studio.settings import Settings

VISITOR, SESSION = "calibri-visitor", "calibri-session"
SESSION_SECONDS = 12 * 3600
VISITOR_SECONDS = 30 * 24 * 3600
TRIES_A_MINUTE = 30  # to sign in, by everybody together
LONGEST_FORM = 4096  # bytes
COUNTED = ("/config", "/queue/join")  # besides pages: what programs ask for first, and what open pages ask


class Signin:
    """Signs and reads the two cookies. Safe to call from any thread."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._accounts = settings.accounts
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._tries = Bucket(TRIES_A_MINUTE, TRIES_A_MINUTE / 60, clock())
        self._lock = threading.Lock()

    # who it is

    def organiser(self, cookies: Mapping[str, str]) -> str | None:
        """The name of the organiser who signed in, or None."""
        packed, _, mark = cookies.get(SESSION, "").partition(".")
        if not self._signed("session", packed, mark):
            return None
        try:
            name, end = json.loads(base64.urlsafe_b64decode(packed))
        except (binascii.Error, ValueError, TypeError):
            return None
        return str(name) if end > self._clock() else None

    def visitor(self, cookies: Mapping[str, str]) -> str:
        """The key by which this visitor's limits are counted; STRANGER without a cookie of this studio."""
        word, _, mark = cookies.get(VISITOR, "").partition(".")
        return word if self._signed("visitor", word, mark) else STRANGER

    def caller(self) -> str | None:
        """The same key for the event that this thread handles; None outside of an event."""
        from gradio.context import LocalContext  # seconds

        request = LocalContext.request.get(None)
        return self.visitor(request.cookies) if request is not None else None

    # handing out cookies

    def new_visitor(self) -> str:
        """The value of a new visitor's cookie."""
        word = secrets.token_hex(16)
        return f"{word}.{self._mark('visitor', word)}"

    def try_password(self, name: str, password: str) -> str | None:
        """The session's cookie, or None for a wrong pair. Raises TimeoutError after too many tries."""
        with self._lock:
            if self._tries.missing(1, self._clock()):
                raise TimeoutError
            self._tries.take(1)
        good = False
        for known, right in self._accounts:  # compare all, so that the time reveals nothing
            good |= _same(name, known) & _same(password, right)
        if not good:
            return None
        content = json.dumps([name, self._clock() + SESSION_SECONDS]).encode()
        packed = base64.urlsafe_b64encode(content).decode()
        return f"{packed}.{self._mark('session', packed)}"

    @property
    def has_accounts(self) -> bool:
        return bool(self._accounts)

    def _mark(self, kind: str, word: str) -> str:
        return hmac.new(self._key, f"{kind}:{word}".encode(), hashlib.sha256).hexdigest()

    def _signed(self, kind: str, word: str, mark: str) -> bool:
        return bool(word) and _same(mark, self._mark(kind, word))


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(), right.encode())


def routes(signin: Signin) -> list[Route]:
    """For FastAPI's `routes=`: they come before Gradio's, whose /login does nothing without `auth`."""

    async def show(request: Request) -> Response:
        return _page(signin, signin.organiser(request.cookies))

    async def enter(request: Request) -> Response:
        message, cookie = await _attempt(signin, request)
        if not cookie:
            return _page(signin, None, message, 403)
        return _set_cookie(RedirectResponse("./", 303), request, SESSION, cookie, SESSION_SECONDS)

    async def login(request: Request) -> Response:
        message, cookie = await _attempt(signin, request)
        if not cookie:
            return JSONResponse({"detail": message}, 401)
        return _set_cookie(JSONResponse({"success": True}), request, SESSION, cookie, SESSION_SECONDS)

    async def leave(request: Request) -> Response:
        if _from_elsewhere(request):
            return _page(signin, signin.organiser(request.cookies), "Sign out on this page.", 403)
        return _set_cookie(RedirectResponse("./", 303), request, SESSION, "", 0)

    return [
        Route("/signin", show, methods=["GET"]),
        Route("/signin", enter, methods=["POST"]),
        Route("/signout", leave, methods=["POST"]),
        Route("/login", login, methods=["POST"]),
    ]


async def _attempt(signin: Signin, request: Request) -> tuple[str, str | None]:
    """(message, cookie or None) for a sent form."""
    if _from_elsewhere(request):
        return "Another site sent this form. Sign in here.", None
    length = request.headers.get("content-length", "")
    if not length.isdigit() or int(length) > LONGEST_FORM:
        return "Expected a name and a password.", None
    form = await request.form(max_files=0, max_fields=8)
    name, password = form.get("username"), form.get("password")
    if not isinstance(name, str) or not isinstance(password, str):
        return "Expected a name and a password.", None
    try:
        cookie = signin.try_password(name.strip(), password)
    except TimeoutError:
        return "Too many tries. Wait a minute.", None
    return ("", cookie) if cookie else ("Name or password is wrong.", None)


def _from_elsewhere(request: Request) -> bool:
    return request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")


def _is_secure(scope: Scope) -> bool:
    sent = dict(scope["headers"]).get(b"x-forwarded-proto", b"")
    return scope.get("scheme") == "https" or sent.split(b",")[0].strip() == b"https"


def _set_cookie(response: Response, request: Request, name: str, value: str, seconds: int) -> Response:
    """Set a cookie that no other site can make the browser send."""
    response.set_cookie(
        name,
        value,
        max_age=seconds,
        path=request.scope.get("root_path") or "/",
        secure=_is_secure(request.scope),
        httponly=True,
        samesite="lax",
    )
    response.headers["cache-control"] = "no-store"
    return response


def _page(signin: Signin, name: str | None, message: str = "", status: int = 200) -> Response:
    here = Path(__file__)
    template = Template(here.with_suffix(".html").read_text(encoding="utf-8"), autoescape=True)
    style = Markup(here.with_suffix(".css").read_text(encoding="utf-8"))
    page = template.render(name=name, message=message, has_accounts=signin.has_accounts, style=style)
    return HTMLResponse(page, status, headers={"cache-control": "no-store", "x-frame-options": "DENY"})


class VisitorCookie:
    """ASGI: sets a visitor's cookie where there is none. Raters' pages get none."""

    def __init__(self, app: ASGIApp, signin: Signin) -> None:
        self._app, self._signin = app, signin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._signin.visitor(Request(scope).cookies) != STRANGER:
            await self._app(scope, receive, send)
            return
        path = scope["path"].rstrip("/")

        async def with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start" and "/ballot" not in path:
                kind = dict(message["headers"]).get(b"content-type", b"")
                if kind.startswith(b"text/html") or path.endswith(COUNTED):
                    message["headers"] = [*message["headers"], (b"set-cookie", self._new(scope))]
            await send(message)

        await self._app(scope, receive, with_cookie)

    def _new(self, scope: Scope) -> bytes:
        # It grants no rights, and also works where the studio is shown inside another site's page.
        shared = "; SameSite=None; Secure; Partitioned" if _is_secure(scope) else "; SameSite=Lax"
        return (
            f"{VISITOR}={self._signin.new_visitor()}; Path={scope.get('root_path') or '/'}; "
            f"Max-Age={VISITOR_SECONDS}; HttpOnly{shared}"
        ).encode()


def middleware(signin: Signin) -> Sequence[Any]:
    """For FastAPI's `middleware=`."""
    return [Middleware(VisitorCookie, signin=signin)]
