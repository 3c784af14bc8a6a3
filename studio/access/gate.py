"""What comes to Gradio's routes, counted before Gradio reads it: bytes, files, levels of JSON, requests.

Gradio reads a body of any size, keeps every file that is sent, and writes a trace where a browser leaves.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from calibri.errors import CalibriError
from calibri.files import load_json
from studio.access.callers import Caller, Callers
from studio.access.traffic import TooMuch, Traffic

log = logging.getLogger(__name__)

API = "/gradio_api/"
UPLOAD = "/gradio_api/upload"
LARGEST_CALL = 48 * 2**20  # bytes of JSON; prompts that are pasted have 32 MB at most
LARGEST_CALL_OF_VISITORS = 256 * 2**10
LARGEST_UPLOAD = 128 * 2**20  # bytes of all files sent together; one has 2 MB at most
LARGEST_UPLOAD_OF_VISITORS = 5 * 2**20
DEEPEST_CALL = 32  # levels of JSON


class Refused(CalibriError):
    """A request that is not passed on. `status`: of the answer."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class Gate:
    """ASGI. `on_upload(bytes)`: called after files came."""

    def __init__(
        self, app: ASGIApp, callers: Callers, traffic: Traffic, on_upload: Callable[[int], None]
    ) -> None:
        self._app, self._callers, self._traffic, self._on_upload = app, callers, traffic, on_upload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or "/ballot" in scope["path"]:  # which counts for itself
            await self._app(scope, receive, send)
            return
        body, answer = Body(receive), Answer(send)
        where = f"{scope['method']} {scope['path'][:100]}"
        try:
            await self._pass(scope, body, answer)
        except (ClientDisconnect, OSError) as error:
            if not body.gone and not isinstance(error, ClientDisconnect):
                raise
            log.info("request aborted: %s after %d bytes", where, body.size)
        except (TooMuch, Refused) as refusal:
            log.info("request refused: %s: %s", where, refusal)
            if not answer.begun:
                await _refuse(refusal)(scope, receive, send)
        except Exception as error:
            if isinstance(error, TypeError) and "/call/v2/" in scope["path"] and not answer.begun:
                await _refuse(Refused(str(error), 422))(scope, receive, send)  # arguments that are none
                return
            token = secrets.token_hex(3)
            log.error("error %s in %s", token, where, exc_info=error)
            if not answer.begun:
                words = f"Something unexpected happened. Look for {token} in the server's log."
                await _refuse(Refused(words, 500))(scope, receive, send)
        else:
            if body.gone and not body.whole:
                log.info("request aborted: %s after %d bytes", where, body.size)

    async def _pass(self, scope: Scope, body: Body, answer: Answer) -> None:
        if API not in scope["path"]:
            await self._app(scope, body.receive, answer.send)
            return
        request = Request(scope)
        caller = self._callers.know(request.cookies, scope["client"][0] if scope.get("client") else "")
        self._traffic.take_request(caller)
        with self._traffic.answering(caller):
            if scope["method"] != "POST":
                await self._app(scope, body.receive, answer.send)
            elif scope["path"].rstrip("/").endswith(UPLOAD):
                await self._take_files(scope, body, answer, caller)
            else:
                most = LARGEST_CALL if caller.organiser else LARGEST_CALL_OF_VISITORS
                await self._app(scope, await _read_call(request, body, most), answer.send)

    async def _take_files(self, scope: Scope, body: Body, answer: Answer, caller: Caller) -> None:
        most = LARGEST_UPLOAD if caller.organiser else LARGEST_UPLOAD_OF_VISITORS
        size = _length(Request(scope))
        if size is None:
            raise Refused("Expected the length of the files, got none.", 411)
        if size > most:
            raise Refused(f"Expected at most {most} bytes of files at once, got {size}.", 413)
        self._traffic.take_upload(caller, size)
        try:
            await self._app(scope, body.receive, answer.send)
        finally:
            if not caller.organiser and size > body.size:
                self._traffic.give_back(caller, size - body.size)
            self._on_upload(body.size)


class Body:
    """What is received, and how far it came."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.size, self.whole, self.gone = 0, False, False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.gone = True
        elif message["type"] == "http.request":
            self.size += len(message.get("body", b""))
            self.whole = not message.get("more_body", False)
        return message


class Answer:
    """What is sent, and whether that began."""

    def __init__(self, send: Send) -> None:
        self._send, self.begun = send, False

    async def send(self, message: Message) -> None:
        self.begun = True
        await self._send(message)


async def _read_call(request: Request, body: Body, most: int) -> Receive:
    """The body of a call, checked, as what gives it to Gradio. Raises Refused and ClientDisconnect."""
    if (_length(request) or 0) > most:
        raise Refused(f"Expected at most {most} bytes, got {_length(request)}.", 413)
    chunks: list[bytes] = []
    while not body.whole:
        message = await body.receive()
        if body.gone:
            raise ClientDisconnect
        chunks.append(message.get("body", b""))
        if body.size > most:
            raise Refused(f"Expected at most {most} bytes, got more.", 413)
    data = b"".join(chunks)
    if "json" in request.headers.get("content-type", "json"):
        _check_event(request, check_call(data))
    left = [{"type": "http.request", "body": data, "more_body": False}]

    async def receive() -> Message:
        return left.pop() if left else await body.receive()

    return receive


def check_call(data: bytes) -> Any:
    """The call of an event, as JSON. Raises Refused for what is none."""
    try:
        call = load_json(data.decode(), deepest=DEEPEST_CALL)
    except ValueError as error:
        raise Refused(f"Expected JSON, got something else: {error}.", 400) from None
    if b"\\u" in data.lower() and not _can_be_stored(call):
        raise Refused("Expected text, got half a character (a surrogate).", 400)
    if not isinstance(call, dict):
        return call  # Gradio says what it expects
    for name, kinds, words in (
        ("fn_index", int, "the number of an event"),
        ("session_hash", str, "the word of a session"),
        ("trigger_id", int, "the number of a component"),
    ):
        value = call.get(name)
        if value is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
            raise Refused(f"{name}: expected {words}, got {str(value)[:40]!r}.", 422)
    if len(str(call.get("session_hash") or "")) > 64:
        raise Refused("session_hash: expected at most 64 characters, got more.", 422)
    return call


_NAMED = re.compile(r"/gradio_api/(?:run|api|call|call/v2)/([^/]+)/?$")


def _check_event(request: Request, call: Any) -> None:
    """Raises Refused where a call names an event that there is not: Gradio would fail."""
    blocks = request.app.get_blocks()
    number, session = (
        (call.get(n) for n in ("fn_index", "session_hash")) if isinstance(call, dict) else ("", "")
    )
    known = blocks.fns
    if session and session in blocks.state_holder:
        known = blocks.state_holder[session].blocks_config.fns
    named = _NAMED.search(request.url.path)
    if isinstance(number, int):
        there = number in known
    else:
        there = named is None or any(fn.api_name == named[1] for fn in known.values())
    if not there or (named and "/call/" in named[0] and named[1] not in {f.api_name for f in known.values()}):
        raise Refused("There is no such event (any more). Reload the page.", 404)


def _can_be_stored(call: Any) -> bool:
    """Whether UTF-8 can hold all texts."""
    import json

    try:
        json.dumps(call, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _length(request: Request) -> int | None:
    text = request.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _refuse(refusal: TooMuch | Refused) -> Response:
    """As Gradio's page, its client and people read it."""
    text = str(refusal)
    headers = {"cache-control": "no-store"}
    if isinstance(refusal, TooMuch):
        headers["retry-after"] = str(refusal.seconds)
    status = 429 if isinstance(refusal, TooMuch) else refusal.status
    return JSONResponse({"detail": text, "error": text}, status, headers)


def middleware(callers: Callers, traffic: Traffic, on_upload: Callable[[int], None]) -> Sequence[Any]:
    """For FastAPI's `middleware=`."""
    return [Middleware(Gate, callers=callers, traffic=traffic, on_upload=on_upload)]
