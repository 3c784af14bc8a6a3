"""The studio in another site's frame, where the browser refuses storage: a Space in a private window."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.browser.running import PATIENCE, running_studio

#: Browsers differ in when they refuse storage to frames; this one always does. Reading it throws.
REFUSE = """
if (window !== window.top) for (const name of ['localStorage', 'sessionStorage'])
  Object.defineProperty(Window.prototype, name, {configurable: true, get() {
    throw new DOMException('Access is denied for this document.', 'SecurityError'); }});
"""


@contextmanager
def serving(page: bytes) -> Iterator[str]:
    """Another site with this one page."""

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_the_studio_opens_and_renders_in_a_frame_without_storage(browser, tmp_path: Path) -> None:
    from tests.tiny import tiny_flux

    tiny_flux(tmp_path / "tiny")
    options = ("--backbone", str(tmp_path / "tiny"), "--frame-from", "http://localhost:*")
    with running_studio(tmp_path, *options) as studio:
        page = f"<!doctype html><iframe id=f src='{studio.url}/' width=1280 height=800></iframe>".encode()
        with serving(page) as site:
            context = browser.new_context(viewport={"width": 1300, "height": 900})
            context.set_default_timeout(PATIENCE * 1000)
            context.add_init_script(REFUSE)
            shown, errors = context.new_page(), []
            shown.on("pageerror", lambda error: errors.append(str(error)))
            shown.goto(site)
            frame = shown.frame_locator("#f")
            frame.locator("html[data-filled]").wait_for(state="attached")
            frame.locator("#model-bar .ready").wait_for()
            frame.locator("#prompt textarea, #prompt input").fill("a red cube")
            frame.locator("#steps input[type=number]").fill("2")
            frame.locator("#render").click()
            frame.locator("#caption-base >> text=/2 steps/").wait_for()
            assert errors == []
            context.close()
