"""`remote`: a reward that another machine serves by `calibri rewards serve`, over HTTP with a token.

The token comes from the environment alone: it is in no record, no message and no log.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import PIL
from pydantic import ValidationError

from calibri.errors import RewardError
from calibri.rewards.base import RewardInfo, check_counts
from calibri.rewards.pictures import encode_picture
from calibri.rewards.worker_main import PROTOCOL, pack
from calibri.words import without_paths

if TYPE_CHECKING:
    from PIL.Image import Image

TOKEN = "CALIBRI_REWARD_TOKEN"
KIND = "application/x-calibri-reward"  # of a request's body: no page of a browser can send it unasked
INFO, SCORE = "/v1/reward", "/v1/score"
_SECONDS = 900.0  # for one answer
_BUSY = 300.0  # how long a server that has no room is asked again
_LONGEST = 16 * 2**20  # of an answer, bytes
_TOKEN = re.compile(r"[!-~]{1,512}")


def read_token() -> str:
    """The token of the environment; empty where there is none. Raises RewardError, which does not tell it."""
    token = os.environ.get(TOKEN, "").strip()
    if token and not _TOKEN.fullmatch(token):
        raise RewardError(f"{TOKEN}: expected up to 512 visible ASCII characters without spaces")
    return token


class Address:
    """`http(s)://host:port`, with `?jpeg=95` where pictures are to be sent as JPEG of that quality.

    Raises RewardError for what is none, or for one with a name and password in it.
    """

    def __init__(self, text: str) -> None:
        try:
            parts = urlsplit(text.strip())
            port = parts.port
        except ValueError as error:
            raise RewardError("expected an address http://host:port, got one that cannot be read") from error
        if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
            raise RewardError(f"expected an address http://host:port or https://host, got {text[:80]!r}")
        if parts.username is not None or parts.password is not None:
            raise RewardError(f"expected an address without name and password: the token is given as {TOKEN}")
        if parts.path.strip("/") or parts.fragment:
            raise RewardError("expected an address http://host:port without a path")
        self.secure = parts.scheme.lower() == "https"
        self.host = parts.hostname
        self.port = port or (443 if self.secure else 80)
        self.quality = _read_quality(parts.query)

    @property
    def text(self) -> str:
        """As records have it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        jpeg = "" if self.quality is None else f"?jpeg={self.quality}"
        return f"http{'s' if self.secure else ''}://{host}:{self.port}{jpeg}"


def _read_quality(query: str) -> int | None:
    options = parse_qsl(query, keep_blank_values=True)
    if not options:
        return None
    [(name, value), *more] = options
    if more or name != "jpeg" or not re.fullmatch(r"[1-9]\d?", value) or int(value) > 95:
        raise RewardError(f"expected ?jpeg=QUALITY with a quality from 1 to 95, got ?{query[:40]}")
    return int(value)


class RemoteReward:
    """What another machine serves. `info` is that of the reward there, so its scores are kept as the reward's
    own; JPEG is part of the revision. Safe to call from any thread, one request at a time.

    `source`: see Address. `name`: the reward that is expected there; empty for any. Raises RewardError.
    """

    def __init__(self, device: str = "cpu", source: str | Path | None = None, *, name: str = "") -> None:
        if source is None:
            raise RewardError(
                "remote: expected the address of a server as its source: --reward-source remote=http://HOST:PORT"
            )
        self._label = name or "remote"
        try:
            self._address = Address(str(source))
        except RewardError as error:
            raise RewardError(f"{self._label}: {error}") from error
        self._token = read_token()
        self._lock = threading.Lock()
        self._connection: http.client.HTTPConnection | None = None
        self._closed = False
        told = self._ask("GET", INFO)
        if told.get("protocol") != PROTOCOL:
            raise self._error(f"expected a server of protocol {PROTOCOL}, got {told.get('protocol')!r}")
        self._pictures = max(1, int(told.get("most_pictures", 1)))
        self._bytes = int(told.get("most_bytes", 2**20))
        self._revision = ""
        self.info = self._describe(told.get("info"))
        if name and self.info.name != name:
            raise self._error(f"expected {name}, got {self.info.name[:60]}, which is served there")

    def _describe(self, told: Any) -> RewardInfo:
        fields = told if isinstance(told, dict) else {}
        try:
            info = RewardInfo.model_validate(
                {k: v for k, v in fields.items() if k in RewardInfo.model_fields}
            )
        except ValidationError as error:
            raise self._error("its server did not tell what it serves") from error
        self._revision = revision = info.revision
        if revision and self._address.quality is not None:
            revision += f"-jpeg{self._address.quality}-by{PIL.__version__}"
        return info.model_copy(update={"source": self._address.text, "revision": revision})

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> np.ndarray:
        """As Reward.score."""
        check_counts(images, prompts, self._label)
        scores: list[float] = []
        while len(scores) < len(images):
            blobs = self._encode(images[len(scores) : len(scores) + self._pictures])
            part = list(prompts[len(scores) : len(scores) + len(blobs)])
            told = self._ask("POST", SCORE, pack({"protocol": PROTOCOL, "prompts": part}, blobs))
            found = told.get("scores")
            if not isinstance(found, list) or len(found) != len(blobs):
                raise self._error(f"expected {len(blobs)} scores, got something else")
            if told.get("revision") != self._revision:
                raise self._error("its server now has other weights: load the reward again")
            try:
                scores += [float(score) for score in found]
            except (TypeError, ValueError) as error:
                raise self._error("expected numbers as scores, got something else") from error
        return np.array(scores, dtype=np.float64)

    def _encode(self, images: Sequence[Image]) -> list[bytes]:
        """As many of these pictures as one request holds, at least one."""
        blobs: list[bytes] = []
        room = self._bytes - 2**20  # the prompts
        for image in images:
            blob = encode_picture(image, self._address.quality)
            room -= len(blob)
            if blobs and room < 0:
                break
            blobs.append(blob)
        return blobs

    def close(self) -> None:
        """Closes the connection. Scoring afterwards is an error."""
        with self._lock:
            self._closed = True
            self._drop()

    # ---- HTTP

    def _ask(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        """The JSON object that the server answers. Raises RewardError."""
        until = time.monotonic() + _BUSY
        while True:
            with self._lock:
                if self._closed:
                    raise RewardError(f"{self._label} was closed: load it again to score with it")
                status, data = self._send_twice(method, path, body)
            if status != 503 or time.monotonic() > until:
                break
            time.sleep(1)
        try:
            told = json.loads(data)
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict):
            raise self._error(f"expected a server of calibri, got status {status} from something else")
        if status == 401:
            lacks = f"{TOKEN} is not set" if not self._token else f"{TOKEN} is not its token"
            raise self._error(f"its server asks for a token: {lacks}")
        if status != 200:
            said = " ".join(without_paths(str(told.get("error"))).split())[:400]
            raise self._error(f"its server answered {status}: {said}")
        return told

    def _send_twice(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        """(status, body). A connection that was open before may have been closed there: then once more."""
        for fresh in (self._connection is None, True):
            try:
                return self._send(method, path, body)
            except TimeoutError as error:
                self._drop()
                raise self._error("its server gave no answer in time") from error
            except (OSError, http.client.HTTPException) as error:
                self._drop()
                if fresh:
                    why = getattr(error, "strerror", None) or type(error).__name__
                    raise self._error(f"its server cannot be reached: {why}") from error
        raise AssertionError("unreachable")

    def _send(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        """One request, without redirects and proxies: the token is for this address."""
        if self._connection is None:
            host, port = self._address.host, self._address.port
            if self._address.secure:
                context = ssl.create_default_context()
                self._connection = http.client.HTTPSConnection(host, port, timeout=_SECONDS, context=context)
            else:
                self._connection = http.client.HTTPConnection(host, port, timeout=_SECONDS)
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = KIND
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        data = answer.read(_LONGEST)
        if answer.will_close or not answer.isclosed():
            self._drop()
        return answer.status, data

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _error(self, words: str) -> RewardError:
        address = self._address.text.partition("?")[0]
        return RewardError(f"{self._label} at {address}: {words}")
