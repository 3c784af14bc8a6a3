"""A running studio and a browser, for tests, benchmarks and screenshots."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from studio.machine.host import ModelHost

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)
PATIENCE = 180.0  # seconds: test machines may be busy


def chromium() -> str | None:
    """The path of a Chromium or Chrome on this machine."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next(filter(None, map(shutil.which, names)), None)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Studio:
    """A studio in a process of its own."""

    url: str
    log: Path
    process: subprocess.Popen
    seconds_to_page: float

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8")


@contextmanager
def running_studio(folder: Path, *options: str) -> Iterator[Studio]:
    """`python app.py` on a free port with its data in `folder`; ended by its process id."""
    port, log = free_port(), folder / "studio.log"
    url, began = f"http://127.0.0.1:{port}", time.monotonic()
    command = [sys.executable, "app.py", "--port", str(port), "--data", str(folder / "data"), *options]
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT)
    try:
        while True:
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    answer.read()
                break
            except OSError:
                assert process.poll() is None, f"the studio ended:\n{log.read_text(encoding='utf-8')}"
                assert time.monotonic() - began < PATIENCE, "the studio did not come up"
                time.sleep(0.05)
        yield Studio(url, log, process, time.monotonic() - began)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


@dataclass
class SharedStudio:
    """A studio in the test's own process, whose model host the test can occupy."""

    url: str
    host: ModelHost


@dataclass
class Watched:
    """What went wrong in a page: console errors, exceptions, requests to other hosts, answers of 400 and
    more."""

    problems: list[str] = field(default_factory=list)

    def watch(self, page) -> None:
        page.on("pageerror", lambda error: self.problems.append(f"exception: {error}"))
        page.on("console", lambda m: self._said(m.text) if m.type == "error" else None)
        page.on("request", lambda r: self._asked(r.url))
        page.on(
            "response",
            lambda r: self.problems.append(f"{r.status}: {r.url}") if r.status >= 400 else None,
        )

    def _said(self, text: str) -> None:
        # Leaving a page cuts its open polls off.
        if "AbortError" not in text and "Connection errored out" not in text:
            self.problems.append(f"console: {text}")

    def _asked(self, url: str) -> None:
        if url.startswith(("http", "ws")) and "://127.0.0.1" not in url:
            self.problems.append(f"asked another host: {url}")


def filled(page) -> None:
    """Wait until the page has its first values: until then its fields are closed to people."""
    page.wait_for_selector("html[data-filled]", state="attached")


def ready(page) -> None:
    """Wait until a backbone is there and the page has its settings, which overwrite what is typed before."""
    page.wait_for_selector("html[data-filled][data-ready]", state="attached")
    page.wait_for_selector("#model-bar .ready")


def unfold(page, opener, field: str) -> None:
    """Click `opener` (a selector or a locator) and wait until `field` may be typed in: what unfolds for the
    first time gets its values a moment after it is there, in place of what a machine has typed by then."""
    page.locator(opener).first.click() if isinstance(opener, str) else opener.click()
    page.wait_for_selector(field)
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def picture_bytes(page, elem_id: str) -> bytes:
    """The picture that this component shows, as the server sent it."""
    source = page.locator(f"#{elem_id} img").first.get_attribute("src")
    answer = page.request.get(source)
    assert answer.ok, source
    return answer.body()


def wait_for_other_picture(page, elem_id: str, before: bytes | None, seconds: float = PATIENCE) -> bytes:
    """Wait until this component shows a picture other than `before`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if page.locator(f"#{elem_id} img").count():
            now = picture_bytes(page, elem_id)
            if now != before:
                return now
        page.wait_for_timeout(50)
    raise AssertionError(f"#{elem_id} shows no other picture after {seconds:.0f} s")
