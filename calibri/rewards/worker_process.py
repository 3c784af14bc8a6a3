"""The process of a worker: started, greeted, asked, ended."""

from __future__ import annotations

import hmac
import json
import logging
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from calibri.errors import RewardError
from calibri.rewards import worker_main
from calibri.rewards.worker_main import HELLO, PROTOCOL, WireError, pack, read
from calibri.words import duration, without_paths

log = logging.getLogger(__name__)

START = 60.0  # seconds until the process must have connected
_GREETING = 5.0  # seconds for whoever connects to say who it is
_GRACE = 3.0  # seconds to end by itself


class Ended(Exception):
    """The process has ended by itself. The message: how, and its last words."""


class WorkerProcess:
    """`worker_main` in another Python, with one connection to it. Not safe from several threads at once.

    `start_seconds`: until it must have connected. Raises Ended, and RewardError for one that does not connect
    or speaks another protocol.
    """

    def __init__(
        self, python: Path, name: str, start_seconds: float = START, program: Path | None = None
    ) -> None:
        self._name, self._start_seconds = name, start_seconds
        self._show = False
        self._said: deque[str] = deque(maxlen=20)
        secret = secrets.token_hex(32)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._popen = _launch(python, program or Path(worker_main.__file__), name)
            self._reader = threading.Thread(target=self._read_stderr, daemon=True)
            self._reader.start()
            try:
                self._greet(listener, secret, time.monotonic() + start_seconds)
            except BaseException:
                self.end()
                raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def ask(self, header: dict[str, Any], blobs: Sequence[bytes], seconds: float) -> dict[str, Any]:
        """The header of its answer. Raises Ended, and RewardError where that takes too long."""
        try:
            self._connection.settimeout(seconds)
            self._connection.sendall(pack(header, blobs))
            answer = read(self._stream)
        except TimeoutError as error:
            raise RewardError(
                f"{self._name}: its worker gave no answer within {duration(seconds)} and was ended: allow "
                "more time, or smaller batches"
            ) from error
        except OSError as error:
            raise self._how_ended() from error
        except WireError as error:
            if self._has_ended():
                raise self._how_ended() from error
            raise RewardError(f"{self._name}: its worker sent what is no answer: {error}") from error
        if answer is None:
            raise self._how_ended()
        if "trace" in answer[0]:
            log.debug("%s: %s", self._name, without_paths(str(answer[0]["trace"])))
        return answer[0]

    @contextmanager
    def showing(self) -> Iterator[None]:
        """What the process says is shown meanwhile: a download's progress, say."""
        self._show = True
        try:
            yield
        finally:
            self._show = False

    def end(self) -> None:
        """Ends the process, at the latest after a few seconds. Safe to call twice."""
        for part in ("_stream", "_connection"):
            if hasattr(self, part):
                with suppress(OSError):
                    getattr(self, part).close()
        with suppress(OSError):
            if self._popen.stdin is not None:
                self._popen.stdin.close()
        try:
            self._popen.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._reader.join(1)

    # ---- the start

    def _greet(self, listener: socket.socket, secret: str, deadline: float) -> None:
        """Takes the connection that shows the secret, and no other."""
        order = {"port": listener.getsockname()[1], "secret": secret}
        try:
            assert self._popen.stdin is not None
            self._popen.stdin.write(json.dumps(order).encode() + b"\n")
            self._popen.stdin.flush()
        except OSError as error:
            raise self._how_ended() from error
        listener.settimeout(0.1)
        while time.monotonic() < deadline:
            if self._popen.poll() is not None:
                raise self._how_ended()
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            hello = _hear(connection, min(_GREETING, max(0.1, deadline - time.monotonic())))
            if hello is None or not hmac.compare_digest(str(hello.get("secret")).encode(), secret.encode()):
                log.warning("%s: a connection without its secret was refused", self._name)
                connection.close()
                continue
            self._accept(connection, hello)
            return
        raise RewardError(
            f"{self._name}: its worker did not connect within {duration(self._start_seconds)} and was ended"
        )

    def _accept(self, connection: socket.socket, hello: dict[str, Any]) -> None:
        self._connection = connection
        self._stream: Any = connection.makefile("rb")
        if hello.get("protocol") != PROTOCOL:
            raise RewardError(
                f"{self._name}: expected a worker of protocol {PROTOCOL}, got {hello.get('protocol')!r}: "
                "start calibri anew after an update"
            )
        self._connection.sendall(pack({"ok": True}))

    # ---- the end

    def _has_ended(self) -> bool:
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(0.5)
        return self._popen.poll() is not None

    def _how_ended(self) -> Ended:
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(_GRACE)
        self._reader.join(1)
        code = self._popen.poll()
        how = "its connection closed" if code is None else f"exit status {code}"
        if code is not None and code < 0:
            with suppress(ValueError):
                how = f"signal {signal.Signals(-code).name}"
        last = self._said[-1] if self._said else ""
        return Ended(f"{how}; its last words: {last}" if last else f"{how}, without a word")

    def _read_stderr(self) -> None:
        """Keeps the last lines, without folders; a progress bar's are those between carriage returns."""
        assert self._popen.stderr is not None
        descriptor, rest = self._popen.stderr.fileno(), ""
        with suppress(OSError, ValueError):
            while data := os.read(descriptor, 65536):
                *lines, rest = re.split(r"[\r\n]+", rest + data.decode("utf-8", "replace"))
                for line in lines:
                    self._hear_line(line)
                rest = rest[-10_000:]
        self._hear_line(rest)
        with suppress(OSError):
            self._popen.stderr.close()

    def _hear_line(self, line: str) -> None:
        line = without_paths(line).strip()[:500]
        if line:
            self._said.append(line)
            if self._show:
                print(f"{self._name}: {line}", file=sys.stderr, flush=True)


def _launch(python: Path, program: Path, name: str) -> subprocess.Popen[bytes]:
    # -I: neither this folder nor PYTHONPATH is searched for modules. A session of its own: Ctrl-C is for us.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CALIBRI_")}
    try:
        return subprocess.Popen(
            [str(python), "-I", "-X", "utf8", str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise RewardError(f"{name}: the Python of its environment cannot be run: {error.strerror}") from error


def _hear(connection: socket.socket, seconds: float) -> dict[str, Any] | None:
    """What whoever connected says of itself; None for what is no greeting."""
    connection.settimeout(seconds)
    try:
        with connection.makefile("rb") as stream:
            heard = read(stream, HELLO, 0)
    except (OSError, WireError):
        return None
    return None if heard is None else heard[0]
