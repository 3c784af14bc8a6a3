"""In a real Chromium: signing in and out, and what a page of another site gets from a studio."""

from __future__ import annotations

import http.server
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page

from tests.browser.running import PATIENCE, Studio, Watched, filled, running_studio

PAGES = ("/", "/scales", "/search", "/diagnose", "/library", "/quick", "/studies", "/results")

#: What a page of another site tries. Every name is of an answer that it must not get.
ATTACK = """
async (url) => {
  const got = [];
  const note = (name) => (answer) => { if (answer.type !== 'opaque') got.push(name + ' ' + answer.status); };
  const json = {'content-type': 'application/json'};
  const config = await fetch(url + '/config', {credentials: 'include'}).catch(() => null);
  const known = config && config.ok ? await config.json() : {dependencies: []};
  if (config) got.push('config ' + config.status);
  const ids = known.dependencies.length ? known.dependencies.map(d => d.id) : [...Array(150).keys()];
  for (const id of ids) {
    const body = JSON.stringify({data: ['bent', 'bent', 'bent'], fn_index: id, session_hash: 'evil' + id});
    for (const mode of ['cors', 'no-cors']) {
      await fetch(url + '/gradio_api/queue/join', {
        method: 'POST', mode, credentials: 'include', body,
        headers: mode === 'cors' ? json : {'content-type': 'text/plain'},
      }).then(note('join')).catch(() => 0);
    }
  }
  for (const path of ['/', '/studies', '/gradio_api/info', '/ballot', '/signin', '/theme.css'])
    await fetch(url + path, {credentials: 'include'}).then(note(path)).catch(() => 0);
  await fetch(url + '/ballot/look', {method: 'POST', mode: 'cors', headers: json, body: '{}'})
    .then(note('look')).catch(() => 0);
  await fetch(url + '/signout', {method: 'POST', mode: 'no-cors', credentials: 'include'}).catch(() => 0);
  const form = Object.assign(document.createElement('form'), {
    method: 'post', action: url + '/signout', target: 'hidden',
  });
  const hidden = Object.assign(document.createElement('iframe'), {name: 'hidden'});
  const shown = Object.assign(document.createElement('iframe'), {src: url + '/', id: 'shown'});
  document.body.append(form, hidden, shown);
  form.submit();
  await new Promise(done => setTimeout(done, 1500));
  return got;
}
"""


def read_frame(page: Page) -> str:
    """What the frame `shown` of another site's page shows."""
    return next(f for f in page.frames if f.parent_frame and f.name != "hidden").content()


@contextmanager
def behind_tls(url: str, certificate: Path) -> Iterator[str]:
    """The studio at another port, encrypted: bytes are passed on as they are."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    behind = urlsplit(url)

    class Tunnel(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with (
                suppress(OSError),
                context.wrap_socket(self.request, server_side=True) as near,
                socket.create_connection((behind.hostname, behind.port)) as far,
            ):
                back = threading.Thread(target=pass_on, args=(far, near), daemon=True)
                back.start()
                pass_on(near, far)
                back.join()

    def pass_on(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Tunnel) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@contextmanager
def other_site(certificate: Path | None = None) -> Iterator[str]:
    """A page at another origin and another site than 127.0.0.1: `localhost`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>another site</title><body>")

        def log_message(self, *words: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        scheme = "https" if certificate is not None else "http"
        yield f"{scheme}://localhost:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


def saved(folder: Path) -> list[str]:
    return sorted(p.name for p in (folder / "calibrations").rglob("*"))


def test_another_site_reads_nothing_and_duplicates_no_calibration(tiny_studio: Studio, browser) -> None:
    """The studio without accounts, at this machine: everybody at it may do everything, but no other site."""
    data = tiny_studio.log.parent / "data"
    before = saved(data)
    with other_site() as evil:
        page = browser.new_page()
        page.goto(evil)
        assert page.evaluate(ATTACK, tiny_studio.url) == []
        assert "Calibri" not in read_frame(page)  # frame-ancestors
        page.close()
    assert saved(data) == before


def sign_in(page: Page, url: str, name: str, password: str) -> None:
    page.goto(url)
    assert page.url.startswith(f"{url}/signin")
    page.fill("[name=username]", name)
    page.fill("[name=password]", password)
    page.click("button")


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    folder = tmp_path_factory.mktemp("closed")
    with running_studio(folder, "--auth", r"ann:a\,b:c") as studio:
        yield studio
        assert "Traceback" not in studio.text(), studio.text()


def test_signing_in_opens_every_page_without_a_complaint(closed: Studio, browser) -> None:
    context, watched = browser.new_context(), Watched()
    page = context.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    sign_in(page, closed.url, "ann", "guess")
    assert page.inner_text("[role=alert]") == "Name or password is wrong."
    watched.watch(page)
    sign_in(page, closed.url, "ann", "a,b:c")
    filled(page)
    for path in PAGES:
        page.goto(closed.url + path)
        filled(page)
        if path != "/results":  # without a bar above it
            page.locator("a.account", has_text="ann: sign out").wait_for()
    for view in ("api", "settings"):
        page.goto(f"{closed.url}/?view={view}")
        filled(page)
    page.goto(closed.url)
    page.click("a.account")
    page.click("button")  # sign out
    page.wait_for_url("**/signin*")
    page.goto(f"{closed.url}/library")
    assert page.url == f"{closed.url}/signin?next=library"
    assert watched.problems == []
    context.close()


def test_over_tls_another_site_cannot_use_a_session(tmp_path: Path, browser) -> None:
    """Studio and site behind TLS, an organiser signed in: Chromium sends all it has. This site may show
    the studio in a frame, and that is all it may."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    certificate = tmp_path / "site.pem"
    subject = ["-subj", "/CN=localhost", "-days", "2", "-nodes", "-newkey", "rsa:2048"]
    files = ["-keyout", str(certificate.with_suffix(".key")), "-out", str(certificate)]
    subprocess.run([openssl, "req", "-x509", *subject, *files], check=True, capture_output=True)
    options = ("--demo", "--auth", "ann:a", "--frame-from", "https://localhost:*")
    with (
        running_studio(tmp_path, *options) as studio,
        behind_tls(studio.url, certificate) as url,
        other_site(certificate) as evil,
    ):
        context = browser.new_context(ignore_https_errors=True)
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.goto(f"{url}/signin")
        page.fill("[name=username]", "ann")
        page.fill("[name=password]", "a")
        page.click("button")
        filled(page)
        before = saved(tmp_path / "data")
        attacker = context.new_page()
        attacker.set_default_timeout(PATIENCE * 1000)
        attacker.goto(evil)
        assert attacker.evaluate(ATTACK, url) == []
        assert "Calibri Studio" in read_frame(attacker)
        assert saved(tmp_path / "data") == before
        page.goto(f"{url}/signin")
        assert "signed in as" in page.inner_text("main")  # neither request nor form has signed ann out
        context.close()
        assert "Traceback" not in studio.text(), studio.text()
