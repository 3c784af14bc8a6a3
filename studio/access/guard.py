"""What every request meets first: whether the studio answers to this name, whether another site sent it,
whether one must sign in. And the headers that every answer gets.

Gradio puts its own middleware around what an app is given. Its answer to a request of another site allows
that site to read it with the visitor's cookies, so this guard must stand outside of it: see `Guarded`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from studio.access.doors import is_secure, place_of
from studio.access.limits import STRANGER
from studio.access.origins import SAFE, host_of, is_foreign, is_known_host, may_read
from studio.access.signin import SCOPE_HUB, VISITOR, VISITOR_SECONDS, Signin
from studio.settings import Settings

log = logging.getLogger(__name__)

COUNTED = ("/config", "/queue/join")  # besides pages: what programs ask for first, and what open pages ask
#: What a studio that asks everybody to sign in answers before that. Raters have no account; Gradio calls the
#: last one itself when it starts.
OPEN = {"/signin", "/signout", "/login", "/logout", "/login/huggingface", "/login/callback"}
OPEN |= {"/ballot", "/robots.txt", "/gradio_api/startup-events"}
FOR_PROGRAMS = ("/config", "/gradio_api")  # whoever asks for these wants no page
FILES = "/gradio_api/file="
#: Of files that people uploaded or made: shown as pictures, saved, but never run as pages.
FILE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'"


def policy(settings: Settings) -> str:
    """What pages may load. Gradio's own scripts are inline and make functions from text; nothing comes from
    other hosts."""
    return "; ".join(
        (
            "default-src 'self'",
            "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "media-src 'self' data: blob:",
            "connect-src 'self' data: blob:",
            "worker-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            " ".join(("frame-ancestors 'self'", *settings.frame_sites)),
        )
    )


class Guard:
    """ASGI, outermost. Asked for each request; keeps nothing."""

    def __init__(self, app: ASGIApp, signin: Signin) -> None:
        self._app, self._signin, self._settings = app, signin, signin.settings
        self._policy = policy(signin.settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # the studio has none
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        path = path_of(scope)
        person = self._signin.person(request.cookies)
        if person is not None and person.hub:
            scope[SCOPE_HUB] = person.hub
        signed_in = person is not None and person.organises
        answer = self._refuse(request, path, signed_in)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = list(message.get("headers", ()))
                self._add_headers(MutableHeaders(raw=message["headers"]), path)
            await send(message)

        await (self._app if answer is None else answer)(scope, receive, with_headers)

    def _refuse(self, request: Request, path: str, signed_in: bool) -> Response | None:
        """What is answered in place of the studio; None where the request may go on."""
        headers = request.headers
        if not is_known_host(self._settings, headers.get("host", "")):
            log.warning("refused: asked for %r", host_of(headers.get("host", ""))[:80])
            return PlainTextResponse(
                "This studio answers to localhost only. To reach it under another name, start it with "
                "--host-name NAME; see docs/hosting.md.",
                403,
            )
        safe = request.method in SAFE
        if not (may_read if safe else _is_own)(self._settings, headers):
            log.warning("refused: another site sent %s %s", request.method, path[:80])
            return JSONResponse({"detail": "Another site sent this. Use the studio's own pages."}, 403)
        if not self._signin.is_closed or signed_in or path in OPEN or path.startswith("/ballot/"):
            return None
        accept = headers.get("accept") or "*/*"
        if safe and not path.startswith(FOR_PROGRAMS) and ("text/html" in accept or "*/*" in accept):
            root = request.scope.get("root_path", "")
            wanted = place_of(path, request.url.query)
            return RedirectResponse(f"{root}/signin" + (f"?next={wanted}" if wanted else ""), 303)
        return JSONResponse({"detail": "Sign in first, at /signin."}, 401)

    def _add_headers(self, headers: MutableHeaders, path: str) -> None:
        for name in [n for n in headers if n.startswith("access-control-")]:
            del headers[name]  # Gradio lets any site that asks read with the visitor's cookies
        default_policy = FILE_POLICY if path.startswith(FILES) else self._policy
        headers.setdefault("content-security-policy", default_policy)
        headers.setdefault("x-content-type-options", "nosniff")
        headers.setdefault("referrer-policy", "same-origin")


def _is_own(settings: Settings, headers: Headers) -> bool:
    return not is_foreign(settings, headers)


def path_of(scope: Scope) -> str:
    """The path below the studio's root, without a slash at its end."""
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    return path.rstrip("/") or "/"


class Guarded:
    """ASGI, given to FastAPI as middleware. At the first scope, that of the start, it puts a guard around the
    whole app; whatever comes without having met that guard meets one here."""

    def __init__(self, app: ASGIApp, signin: Signin) -> None:
        self._signin = signin
        self._app = VisitorCookie(app, signin) if signin.settings.demo else app
        self._inner = Guard(self._app, signin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        whole = scope.get("app")
        stack = getattr(whole, "middleware_stack", None)
        if isinstance(stack, Outer):
            await (self._app if scope.get(Outer.MARK) else self._inner)(scope, receive, send)
            return
        if whole is not None and stack is not None:
            whole.middleware_stack = Outer(stack, self._signin)
        await self._inner(scope, receive, send)


class Outer:
    """A guard that marks what has met it."""

    MARK = "calibri.guarded"

    def __init__(self, app: ASGIApp, signin: Signin) -> None:
        self._inside = app
        self._guard = Guard(self._pass_on, signin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._guard(scope, receive, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[self.MARK] = True
        await self._inside(scope, receive, send)


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
        shared = "; SameSite=None; Secure; Partitioned" if is_secure(scope) else "; SameSite=Lax"
        return (
            f"{VISITOR}={self._signin.new_visitor()}; Path={scope.get('root_path') or '/'}; "
            f"Max-Age={VISITOR_SECONDS}; HttpOnly{shared}"
        ).encode()


def middleware(signin: Signin) -> Sequence[Any]:
    """For FastAPI's `middleware=`."""
    return [Middleware(Guarded, signin=signin)]
