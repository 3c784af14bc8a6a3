"""A reward for other machines, over HTTP: what `remote` asks. Messages are those of `worker_main`."""

from __future__ import annotations

import hashlib
import hmac
import io
import ipaddress
import json
import logging
import socket
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from PIL import Image

from calibri.errors import CalibriError, RewardError
from calibri.rewards.pictures import as_rgb
from calibri.rewards.remote import INFO, KIND, SCORE
from calibri.rewards.worker_main import PROTOCOL, WireError, read
from calibri.words import shown_name, without_paths

if TYPE_CHECKING:
    from calibri.rewards.base import Reward

log = logging.getLogger(__name__)

MOST_BYTES = 128 * 2**20  # of a request
LONGEST_HEADER = 2**20  # prompts, bytes
MOST_PICTURES = 32
MOST_PIXELS = 4096 * 4096  # of one picture, decoded
MOST_PIXELS_TOGETHER = 4 * MOST_PIXELS
MOST_CONNECTIONS = 16
SECONDS = 60.0  # for a request to arrive
TURN = 600.0  # seconds that a request waits for those before it
SHORTEST_TOKEN = 16


class _Refused(Exception):
    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class RewardServer(ThreadingHTTPServer):
    """Serves one reward; requests are scored one at a time. `port` 0: any that is free.

    Raises RewardError for a host beyond this machine without a token, for a short token, or where the address
    cannot be had.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, reward: Reward, host: str, port: int, token: str = "") -> None:
        if token and len(token) < SHORTEST_TOKEN:
            raise RewardError(f"expected a token of at least {SHORTEST_TOKEN} characters, got {len(token)}")
        if not token and not is_loopback(host):
            raise RewardError(
                f"--host {host} can be reached from other machines: expected a token for it, by --token-file "
                "or CALIBRI_REWARD_TOKEN"
            )
        self.reward = reward
        self.turn = threading.Lock()
        self._digest = _digest(token) if token else b""
        self._room = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise RewardError(f"{host}:{port} cannot be served: {why}") from error

    @property
    def url(self) -> str:
        """Its address."""
        host, port = self.server_address[:2]
        return f"http://{f'[{host!s}]' if ':' in str(host) else host!s}:{port}"

    def allows(self, header: str, host: str) -> bool:
        """Whether a request may ask: by its token, compared in constant time. Without a token: whether it was
        sent to this machine by name, so that no page of a browser gets here under a name of its own."""
        if not self._digest:
            return is_loopback(host.rpartition(":")[0] if ":" in host.rpartition("]")[2] else host)
        kind, _, given = header.partition(" ")
        return hmac.compare_digest(_digest(given.strip()), self._digest) and kind.lower() == "bearer"

    def describe(self) -> dict[str, Any]:
        """What is served, without folders of this machine."""
        info = self.reward.info.model_dump(mode="json")
        limits = {"most_pictures": MOST_PICTURES, "most_bytes": MOST_BYTES, "most_pixels": MOST_PIXELS}
        return {"protocol": PROTOCOL, "info": {**info, "source": shown_name(info["source"])}, **limits}

    def score(self, images: list[Image.Image], prompts: list[str]) -> list[float]:
        """Scores of one request, when it has its turn."""
        if not self.turn.acquire(timeout=TURN):
            raise _Refused(503, "too many requests wait: try later")
        try:
            return [float(score) for score in self.reward.score(images, prompts)]
        finally:
            self.turn.release()

    def process_request(self, request: Any, client_address: Any) -> None:
        """One thread a connection, so many at most."""
        if not self._room.acquire(blocking=False):
            body = b'{"error": "too many connections: try later"}'
            head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Length: {len(body)}\r\n"
            with suppress(OSError):
                request.settimeout(1)
                request.sendall(head.encode() + b"Connection: close\r\n\r\n" + body)
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """As ThreadingMixIn; gives the room back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is nothing to tell."""
        log.debug("a connection ended early", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: RewardServer
    protocol_version = "HTTP/1.1"
    server_version = "calibri"
    sys_version = ""
    timeout = SECONDS

    def setup(self) -> None:
        super().setup()
        # `timeout` is for each part that arrives. Who does not show the token in that time altogether leaves.
        self._clock = threading.Timer(SECONDS, self._hang_up)
        self._clock.daemon = True
        self._clock.start()

    def finish(self) -> None:
        self._clock.cancel()
        super().finish()

    def _hang_up(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def do_GET(self) -> None:
        self._answer(self._info)

    def do_POST(self) -> None:
        self._answer(self._score)

    def _answer(self, make: Callable[[], dict[str, Any]]) -> None:
        try:
            if not self.server.allows(self.headers.get("Authorization", ""), self.headers.get("Host", "")):
                raise _Refused(401, "expected the token of this server")
            self._clock.cancel()
            status, told = 200, make()
        except _Refused as refused:
            status, told = refused.status, {"error": str(refused)}
        except CalibriError as error:
            status, told = 422, {"error": without_paths(str(error))}
        except (TimeoutError, ConnectionError):
            raise
        except Exception as error:
            log.exception("a request failed")
            status, told = 500, {"error": f"{type(error).__name__}: the server's log has the details"}
        if status != 200:  # the body may not have been read
            self.close_connection = True
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _info(self) -> dict[str, Any]:
        if self.path != INFO:
            raise _Refused(404, f"expected {INFO} or {SCORE}")
        return self.server.describe()

    def _score(self) -> dict[str, Any]:
        if self.path != SCORE:
            raise _Refused(404, f"expected {INFO} or {SCORE}")
        if self.headers.get("Content-Type", "") != KIND:
            raise _Refused(415, f"expected {KIND}")
        prompts, images = read_request(self._read_body())
        return {"scores": self.server.score(images, prompts), "revision": self.server.reward.info.revision}

    def _read_body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or self.headers.get("Transfer-Encoding"):
            raise _Refused(411, "expected a Content-Length")
        if len(length) > 12 or int(length) > MOST_BYTES:
            raise _Refused(413, f"expected at most {MOST_BYTES} bytes")
        deadline, left, parts = time.monotonic() + SECONDS, int(length), []
        while left:
            self.connection.settimeout(max(0.01, deadline - time.monotonic()))
            part = self.rfile.read1(min(left, 2**20))
            if not part or time.monotonic() > deadline:
                raise _Refused(408, f"expected the whole request within {SECONDS:g} s")
            parts.append(part)
            left -= len(part)
        self.connection.settimeout(SECONDS)
        return b"".join(parts)

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)


def read_request(body: bytes) -> tuple[list[str], list[Image.Image]]:
    """(prompts, RGB pictures) of a request. Raises _Refused."""
    try:
        message = read(io.BytesIO(body), LONGEST_HEADER, MOST_BYTES)
    except WireError as error:
        raise _Refused(400, str(error)) from error
    header, blobs = message or ({}, [])
    if header.get("protocol") != PROTOCOL:
        raise _Refused(400, f"expected protocol {PROTOCOL}, got {header.get('protocol')!r:.20}")
    prompts = header.get("prompts")
    if not isinstance(prompts, list) or not all(isinstance(prompt, str) for prompt in prompts):
        raise _Refused(400, "expected prompts, a list of texts")
    if len(prompts) != len(blobs):
        raise _Refused(400, f"expected a prompt for each picture, got {len(prompts)} for {len(blobs)}")
    if len(blobs) > MOST_PICTURES:
        raise _Refused(413, f"expected at most {MOST_PICTURES} pictures, got {len(blobs)}")
    opened = [_open(blob) for blob in blobs]
    if sum(image.width * image.height for image in opened) > MOST_PIXELS_TOGETHER:
        raise _Refused(413, f"expected at most {MOST_PIXELS_TOGETHER} pixels together")
    return prompts, [_decode(image) for image in opened]


def _open(blob: bytes) -> Image.Image:
    """The picture, its size known and nothing decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(blob), formats=("PNG", "JPEG"))
    except Image.DecompressionBombError as error:
        raise _Refused(413, f"expected at most {MOST_PIXELS} pixels in a picture") from error
    except Exception as error:  # damaged files raise many kinds
        raise _Refused(400, "expected pictures in PNG or JPEG") from error
    if image.width * image.height > MOST_PIXELS:
        raise _Refused(
            413, f"expected at most {MOST_PIXELS} pixels in a picture, got {image.width}×{image.height}"
        )
    return image


def _decode(image: Image.Image) -> Image.Image:
    try:
        image.load()
        return as_rgb(image)
    except Exception as error:  # damaged files raise many kinds
        raise _Refused(400, "expected whole pictures in PNG or JPEG") from error


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    host = host.strip("[]").lower()
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
