"""What a rater's browser calls: five small routes beside Gradio's own, and the same page without Gradio.

A vote is one POST of a few hundred bytes, answered after its commit. There are no cookies, so no other site
can vote for a visitor: the rater's secret is in the body. A picture's name is its showing's token and a side.
"""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import anyio.to_thread
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from calibri.errors import CalibriError
from calibri.words import without_paths
from studio.access.signin import SCOPE_HUB
from studio.studies import commands
from studio.studies.protocol import QUICK
from studio.studies.storage.picture_store import PictureGone
from studio.studies.studies import Studies
from studio.studies.voting.ballots import Refused, View
from studio.studies.voting.identity import Who
from studio.studies.voting.rates import Rates, TooOften
from studio.studies.voting.voting import NO_STUDY
from studio.ui.templates import fill_template

log = logging.getLogger(__name__)

PREFIX = "/ballot"
LARGEST_STUDY = 16 * 2**20
LARGEST_BODY = 8192  # bytes; a vote with a long comment is below 3,000
VOTERS, VIEWERS = 64, 8  # threads that wait for a commit, and threads that read pictures
STATUS = {"expired": 409, "used": 409, "second": 409, "closed": 409, "study": 404, "token": 404, "side": 404}
STATUS["busy"] = 429
DEEPEST, DEEPEST_STUDY = 8, 24  # levels of JSON; a vote has two, a new study with its calibrations eight

Handler = Callable[[Request], Awaitable[Response]]


def routes(studies: Studies, rates: Rates | None = None, *, signin: str = "") -> list[Route]:
    """The routes for FastAPI's `routes=`. `signin`: where raters sign in with a hub account, if they can."""
    api = _Api(studies, rates or Rates(), signin)
    posts = {"look": api.look, "consent": api.consent, "cast": api.cast, "undo": api.undo}
    made = [Route(f"{PREFIX}/{name}", api.take_post(call), methods=["POST"]) for name, call in posts.items()]
    made.append(Route(f"{PREFIX}/picture/{{token}}/{{side}}", api.picture, methods=["GET"]))
    made.append(Route(f"{PREFIX}/organise", api.organise, methods=["POST"]))
    made.append(Route(PREFIX, page, methods=["GET"]))
    return made


class _Api:
    def __init__(self, studies: Studies, rates: Rates, signin: str) -> None:
        self._studies, self._rates, self._signin = studies, rates, signin
        self._voters: anyio.CapacityLimiter | None = None
        self._viewers: anyio.CapacityLimiter | None = None

    def take_post(self, call: Callable[[dict[str, Any], Who], View]) -> Handler:
        """A POST of a JSON object with `study`, `rater`, perhaps `invite`. Answers a View or a refusal."""

        async def handle(request: Request) -> Response:
            self._voters = self._voters or anyio.CapacityLimiter(VOTERS)
            body = await _read(request)
            if body is None:
                log.warning("vote refused (size): more than %d bytes", LARGEST_BODY)
                return _refusal("size", "This request is too large.", 413)
            values = read_json(body, DEEPEST)
            if not isinstance(values, dict):
                return _refusal("json", "The page sent something that is not a vote. Reload it.", 400)
            hub = _hub_login(request)
            return await anyio.to_thread.run_sync(
                partial(self._answer, call, values, hub), limiter=self._voters
            )

        return handle

    def _answer(self, call: Callable[..., View], values: dict[str, Any], hub: str | None) -> Response:
        try:
            study = values.get("study")
            if not study:
                study = self._only_open()
                if isinstance(study, Response):
                    return study
            if not isinstance(study, str):
                raise Refused("study", NO_STUDY)
            values["study"] = study
            who_asks = next((v for n in ("invite", "preview", "rater") if (v := values.get(n))), "")
            self._rates.take(study[:80], str(who_asks)[:80])
            if values.get("preview"):
                token = "" if call == self.consent else values.get("token")
                return _view(self._studies.previews.view(study, values["preview"], token))
            rater, invite, panel = (values.get(name) for name in ("rater", "invite", "panel"))
            who = self._studies.voting.recognise(study, rater, invite, hub, panel)
            return _view(call(values, who))
        except Refused as refusal:
            log.warning("vote refused (%s): %s", refusal.code, refusal)
            more = {"signin": self._signin} if refusal.code == "hub" and self._signin else {}
            answer = _refusal(refusal.code, str(refusal), STATUS.get(refusal.code, 403), **more)
            if isinstance(refusal, TooOften):
                answer.headers["retry-after"] = str(refusal.seconds)
            return answer
        except CalibriError as error:
            log.warning("vote refused: %s", error)
            return _refusal("error", str(error), 409)
        except Exception:
            log.exception("a vote failed")
            return _refusal("error", "Something unexpected happened. Try once more.", 500)

    def _only_open(self) -> str | Response:
        """Where no study is named: the id of the only open one, or a list to choose from."""
        found = [s for s in self._studies.store.all("open") if s.protocol.access != "invite"]
        found = [s for s in found if s.protocol.preset != QUICK.preset]
        if len(found) == 1:
            return found[0].id
        listed = [{"id": s.id, "name": s.name} for s in found]
        text = "Choose a study." if listed else "No study is open right now. Come back later."
        return JSONResponse({"stage": "choose", "studies": listed, "text": text})

    def look(self, values: dict[str, Any], who: Who) -> View:
        return self._studies.voting.look(values["study"], who)

    def consent(self, values: dict[str, Any], who: Who) -> View:
        if not self._studies.voting.has_joined(values["study"], who):
            self._rates.take_newcomer(values["study"])
        return self._studies.voting.consent(values["study"], who)

    def undo(self, values: dict[str, Any], who: Who) -> View:
        return self._studies.voting.undo(values["study"], who)

    def cast(self, values: dict[str, Any], who: Who) -> View:
        return self._studies.voting.cast(
            values["study"],
            who,
            values.get("token"),
            values.get("answers"),
            **{name: values[name] for name in ("response_ms", "shown_ms", "comment") if name in values},
        )

    async def picture(self, request: Request) -> Response:
        """One side of a showing, as PNG. Both sides have the same headers and the same length."""
        self._viewers = self._viewers or anyio.CapacityLimiter(VIEWERS)
        token, side = request.path_params["token"], request.path_params["side"]
        try:
            data = await anyio.to_thread.run_sync(self._bytes, token, side, limiter=self._viewers)
        except PictureGone:
            return _refusal("gone", "This picture is lost. Skip this pair.", 410)
        except CalibriError as refusal:
            log.warning("picture refused: %s", refusal)
            return _refusal("picture", "There is no such picture.", 404)
        return Response(
            data,
            media_type="image/png",
            headers={"cache-control": "private, max-age=3600", "x-content-type-options": "nosniff"},
        )

    def _bytes(self, token: str, side: str) -> bytes:
        return self._studies.previews.picture(token, side) or self._studies.voting.pictures.read(token, side)

    async def organise(self, request: Request) -> Response:
        """A command of studio.studies.commands, for who knows the data folder's key: `calibri study`."""
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), commands.secret(self._studies.key()).encode()):
            log.warning("organiser's command refused: wrong key")
            return _refusal("key", "Only the organiser can do that.", 403)
        body = await _read(request, LARGEST_STUDY)
        if body is None:
            return _refusal("size", f"A command has at most {LARGEST_STUDY // 2**20} MB.", 413)
        asked = read_json(body, DEEPEST_STUDY)
        command, values = (
            (asked.get(n) for n in ("command", "values")) if isinstance(asked, dict) else ("", "")
        )
        if not (isinstance(command, str) and isinstance(values, dict)):
            return _refusal("json", "Expected a JSON object with command and values.", 400)
        try:
            answer = await anyio.to_thread.run_sync(commands.run, self._studies, command, values)
        except CalibriError as error:
            return _refusal("error", str(error), 409)
        except Exception:
            log.exception("the organiser's command %r failed", command)
            return _refusal("error", "Something unexpected happened. The studio's log says what.", 500)
        if isinstance(answer, Path):
            data = await anyio.to_thread.run_sync(answer.read_bytes)
            return Response(data, headers={"x-file-name": answer.name})
        return Response(json.dumps(answer, default=str), media_type="application/json")


async def _read(request: Request, most: int = LARGEST_BODY) -> bytes | None:
    """The body, or None where it is larger than `most`; the rest is not read."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            return None
    return body


def read_json(body: bytes, deepest: int) -> Any:
    """The JSON of a request; None where it is none, is nested too deep or holds what no text can hold.

    JSON can name half a character (a surrogate), which neither UTF-8 nor the database can store.
    """
    try:
        values = json.loads(body.decode())
        if b"\\u" in body:
            json.dumps(values, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    level = [values]
    for _ in range(deepest):
        level = [
            i
            for v in level
            for i in (v.values() if isinstance(v, dict) else v if isinstance(v, list) else ())
        ]
        if not level:
            return values
    return None


def _hub_login(request: Request) -> str | None:
    """The Hugging Face account of a visitor who signed in with it at this Space."""
    account = request.scope.get(SCOPE_HUB)
    return str(account) if account else None


def _view(view: View) -> JSONResponse:
    return JSONResponse(asdict(view), headers={"cache-control": "no-store"})


def _refusal(code: str, text: str, status: int, **more: str) -> JSONResponse:
    return JSONResponse(
        {"error": code, "text": without_paths(text), **more},
        status_code=status,
        headers={"cache-control": "no-store"},
    )


@cache
def asset(name: str) -> str:
    """A script or a style of the rater's page."""
    return (Path(__file__).parent / "pages" / name).read_text(encoding="utf-8")


#: The page without Gradio speaks to this studio only, whatever a text on it says.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PLACE = "<div class='vote' role='main' aria-live='polite'></div>"


async def page(request: Request) -> Response:
    """The rater's page without Gradio: light for phones, and open where the studio asks for a sign-in."""
    shown = fill_template(
        "studies/pages/ballot.html",
        root=request.scope.get("root_path", ""),
        style=Markup(asset("vote.css")),
        script=Markup(asset("vote.js")),
        place=Markup(PLACE),
    )
    headers = {"cache-control": "no-store", "x-frame-options": "DENY", "content-security-policy": POLICY}
    return HTMLResponse(shown, headers=headers)
