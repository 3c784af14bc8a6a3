"""The routes of the sign-in: `/signin` (a page), `/login` (for gradio_client), `/signout`, and the hub's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from jinja2 import Template
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Scope

from studio.access import hub
from studio.access.guesses import TooManyGuesses
from studio.access.hub_token import drop_hub_token, keep_hub_token
from studio.access.sessions import SESSION_SECONDS
from studio.access.signin import KNOWN, KNOWN_SECONDS, STATE, Signin, session_cookie

LONGEST_FORM = 4096  # bytes
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
WRONG, NO_FORM = "Name or password is wrong.", "Expected a name and a password."


class Attempt(NamedTuple):
    """What came of a sent form. `secret`: a new session's, or None; `seconds`: when to try again."""

    name: str = ""
    secret: str | None = None
    message: str = NO_FORM
    seconds: int = 0


def routes(signin: Signin) -> list[Route]:
    """For FastAPI's `routes=`: they come before Gradio's, whose own sign-in is never reached."""

    async def show(request: Request) -> Response:
        return _page(signin, request)

    async def enter(request: Request) -> Response:
        tried = await _attempt(signin, request)
        if not tried.secret:
            return _page(signin, request, tried.message, 403, tried.seconds)
        return _welcome(signin, request, RedirectResponse(_next(request), 303), tried.name, tried.secret)

    async def login(request: Request) -> Response:
        tried = await _attempt(signin, request)
        if not tried.secret:
            return _late(JSONResponse({"detail": tried.message}, 401), tried.seconds)
        return _welcome(signin, request, JSONResponse({"success": True}), tried.name, tried.secret)

    async def leave(request: Request) -> Response:
        signin.end(request.cookies)
        answer = RedirectResponse("./", 303)
        drop_hub_token(answer)
        return _set_cookie(answer, request, session_cookie(request.headers.get("host", "")), "", 0)

    async def go_to_page(request: Request) -> Response:
        return RedirectResponse("../signin" if request.url.path.endswith("/") else "./signin", 303)

    made = [Route("/signin", show, methods=["GET"]), Route("/signout", leave, methods=["POST"])]
    made.append(Route("/signin", enter, methods=["POST"]))
    made += [Route(path, login, methods=["POST"]) for path in ("/login", "/login/")]
    made += [Route(path, go_to_page, methods=["GET"]) for path in ("/login", "/login/", "/logout")]
    return made + (_hub_routes(signin, signin.hub) if signin.hub is not None else [])


def _hub_routes(signin: Signin, app: hub.HubApp) -> list[Route]:
    async def begin(request: Request) -> Response:
        address, cookie = hub.begin(app, request)
        return _set_cookie(RedirectResponse(address, 303), request, STATE, cookie, hub.STATE_SECONDS)

    async def come_back(request: Request) -> Response:
        cookie = request.cookies.get(STATE, "")
        try:
            person, told = await hub.finish(app, request, cookie, signin.settings.organiser_names)
        except hub.HubError as error:
            return _page(signin, request, str(error), 403)
        jobs = hub.is_for_jobs(cookie)
        wanted = hub.read_cookie(cookie).place
        place = f"../{wanted}" if wanted else "../" if person.organises else "../signin"
        place = "../search" if jobs else place
        answer = RedirectResponse(place, 303)
        if jobs:
            keep_hub_token(answer, told)
        _set_cookie(answer, request, STATE, "", 0)
        return _welcome(signin, request, answer, "", signin.begin(person))

    return [
        Route(hub.BEGIN, begin, methods=["GET"]),
        Route(hub.CALLBACK, come_back, methods=["GET"]),
    ]


async def _attempt(signin: Signin, request: Request) -> Attempt:
    length = request.headers.get("content-length", "")
    if not length.isdigit() or int(length) > LONGEST_FORM:
        return Attempt()
    form = await request.form(max_files=0, max_fields=8)
    name, password = form.get("username"), form.get("password")
    if not isinstance(name, str) or not isinstance(password, str):
        return Attempt()
    name = name.strip()
    address = request.client.host if request.client else ""
    try:
        secret = await signin.try_password(name, password, address, request.cookies)
    except TooManyGuesses as error:
        return Attempt(name, None, str(error), error.seconds)
    return Attempt(name, secret, WRONG)


def _welcome(signin: Signin, request: Request, answer: Response, name: str, secret: str) -> Response:
    """Hand out the new session. `name`: the account of a password."""
    signin.end(request.cookies)  # what was open in this browser ends
    cookie = session_cookie(request.headers.get("host", ""))
    _set_cookie(answer, request, cookie, secret, SESSION_SECONDS)
    if name:
        _set_cookie(answer, request, KNOWN, signin.new_known(name), KNOWN_SECONDS)
    return answer


def _late(answer: Response, seconds: int) -> Response:
    """The answer to a try that came too soon, where `seconds` says so."""
    if seconds:
        answer.status_code = 429
        answer.headers["retry-after"] = str(seconds)
    return answer


def is_secure(scope: Scope) -> bool:
    sent = dict(scope["headers"]).get(b"x-forwarded-proto", b"")
    return scope.get("scheme") == "https" or sent.split(b",")[0].strip() == b"https"


def _set_cookie(response: Response, request: Request, name: str, value: str, seconds: int) -> Response:
    """Set a cookie that scripts cannot read and that no other site can make the browser send with a form."""
    response.set_cookie(
        name,
        value,
        max_age=seconds,
        path=request.scope.get("root_path") or "/",
        secure=is_secure(request.scope),
        httponly=True,
        samesite="lax",
    )
    response.headers["cache-control"] = "no-store"
    return response


def place_of(path: str, query: str) -> str:
    """What `/signin?next=` says of a page, from the root of the studio."""
    return quote(path.lstrip("/") + (f"?{query}" if query else ""), safe="/")


def _next(request: Request) -> str:
    """Where to go after signing in: a page of this studio, relative to /signin."""
    wanted = request.query_params.get("next", "")
    return f"./{wanted}" if re.fullmatch(r"\w[\w-]*(\?[\w=&%.,:+~-]*)?", wanted, re.ASCII) else "./"


def _page(
    signin: Signin, request: Request, message: str = "", status: int = 200, seconds: int = 0
) -> Response:
    here = Path(__file__).with_name("signin.html")
    template = Template(here.read_text(encoding="utf-8"), autoescape=True)
    wanted = request.query_params.get("next", "")
    page = template.render(
        person=signin.person(request.cookies),
        message=message,
        has_accounts=signin.has_accounts,
        has_hub=signin.hub is not None,
        demo=signin.settings.demo,
        up="../" if request.url.path.endswith(hub.CALLBACK) else "",
        action=f"signin?next={quote(wanted, safe='')}" if _next(request) != "./" else "signin",
        style=Markup(here.with_suffix(".css").read_text(encoding="utf-8")),
    )
    headers = {"cache-control": "no-store", "x-frame-options": "DENY", "content-security-policy": POLICY}
    return _late(HTMLResponse(page, status, headers=headers), seconds)
