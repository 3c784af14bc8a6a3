"""Pages of other sites: they change nothing, read nothing, and show no frame, whatever the browser sends.

The headers are those that Chromium sends; tests/browser/test_access.py has Chromium send them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from studio.access.guard import Guarded, Outer
from studio.access.origins import host_of, is_foreign, is_known_host, may_read
from studio.access.signin import Signin
from studio.machine.host import ModelHost
from studio.settings import HUB, Settings
from tests.studio.access.test_demo import defaults, everything
from tests.studio.access.test_doors import routes
from tests.studio.asking import run_apart
from tests.studio.launched import Launched, launched

EVIL = "https://evil.example"
FOREIGN = [
    {"origin": EVIL, "sec-fetch-site": "cross-site", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"},
    {"origin": EVIL, "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "empty"},
    {"origin": EVIL, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},  # a form
    {"origin": "null", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},  # a sandboxed frame
    {"origin": "http://localhost:9", "sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
    {"origin": EVIL},  # over plain HTTP, Chromium sends this only
    {"origin": "http://localhost:9"},
    {"origin": "http://127.0.0.1:9"},
    {"origin": "null"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "nonsense"},
]
NO_SUCH = "/gradio_api/run/none"


@pytest.fixture(scope="module")
def studio(host: ModelHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    """Without accounts: for everybody who sits at this machine, and for no page of another site."""
    with launched(tmp_path_factory.mktemp("open"), host) as made:
        yield made


def granted(answer: httpx.Response) -> list[str]:
    return [name for name in answer.headers if name.startswith("access-control-")]


def test_no_route_that_changes_something_answers_another_site(studio: Launched) -> None:
    before, asked = everything(studio), 0
    with studio.client() as client:
        for method, path in set(routes(studio)):
            if method in ("GET", "HEAD", "OPTIONS"):
                continue
            for headers in FOREIGN:
                answer = client.request(method, path, headers=headers, json={"data": []})
                assert answer.status_code == 403 and "Another site" in answer.text, (method, path, headers)
                assert not granted(answer)
                asked += 1
    assert asked > 200 and everything(studio) == before


def test_another_site_duplicates_no_calibration(studio: Launched) -> None:
    before = everything(studio)
    [number, *_] = studio.indices("duplicate")
    body = {"data": defaults(studio, number), "fn_index": number, "session_hash": "evil", "event_data": {}}
    with studio.client() as client:
        for headers in FOREIGN:
            for kind in ("application/json", "text/plain"):  # plain text needs no preflight
                answer = client.post(
                    "/gradio_api/queue/join", json=body, headers={**headers, "content-type": kind}
                )
                assert answer.status_code == 403
        own = {"origin": studio.url, "sec-fetch-site": "same-origin"}
        assert client.post("/gradio_api/queue/join", json=body, headers=own).status_code == 200
        assert client.post("/gradio_api/queue/join", json=body, headers={"origin": studio.url}).is_success
    assert everything(studio)[:3] == before[:3]


@pytest.mark.parametrize("path", ["/config", "/gradio_api/info", "/", "/studies", "/theme.css"])
def test_another_site_reads_nothing(studio: Launched, path: str) -> None:
    with studio.client() as client:
        for headers in FOREIGN:
            if headers.get("sec-fetch-mode") == "navigate":
                continue
            answer = client.get(path, headers=headers)
            assert answer.status_code == 403 and not granted(answer), headers
            asked = {**headers, "access-control-request-method": "POST"}
            assert not granted(client.options(path, headers=asked))
        link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
        for headers in ({}, link, {"origin": studio.url}):
            answer = client.get(path, headers=headers)
            assert answer.status_code == 200 and not granted(answer)


def test_every_answer_says_what_a_browser_may_do_with_it(studio: Launched) -> None:
    with studio.client() as client:
        for path in ("/", "/scales", "/config", "/theme.css", "/nothing", "/ballot", "/gradio_api/info"):
            headers = client.get(path).headers
            assert headers["x-content-type-options"] == "nosniff", path
            assert headers["referrer-policy"] == "same-origin", path
            assert "frame-ancestors" in headers["content-security-policy"], path
        assert "frame-ancestors 'self'" in client.get("/").headers["content-security-policy"]
        assert "default-src 'none'" in client.get("/ballot").headers["content-security-policy"]
        page = b"<script>alert(1)</script>"
        for name in ("a.html", "a.svg"):
            [path] = client.post("/gradio_api/upload", files={"files": (name, page)}).json()
            answer = client.get(f"/gradio_api/file={path}")
            assert "sandbox" in answer.headers["content-security-policy"].split("; ")
            assert "script-src" not in answer.headers["content-security-policy"]


def test_only_the_sites_that_were_named_show_the_studio_in_a_frame(tmp_path: Path) -> None:
    from studio.access.guard import policy

    def ancestors(**settings: str) -> str:
        return next(p for p in policy(Settings(**settings)).split("; ") if p.startswith("frame-ancestors"))

    assert ancestors() == "frame-ancestors 'self'"
    assert ancestors(frame_from=f"{HUB}, https://*.example.org:8443") == (
        f"frame-ancestors 'self' {HUB} https://*.example.org:8443"
    )
    for wrong in ("*", "https://a; script-src *", "evil.example", "'self'", "https:", "https://a b"):
        with pytest.raises(ValueError, match="expected sites"):
            Settings(frame_from=wrong)


# names: DNS rebinding


def test_a_name_that_another_site_points_here_gets_no_answer(studio: Launched) -> None:
    before = everything(studio)
    with studio.client() as client:
        for host in (
            "evil.example",
            "evil.example:7860",
            "127.0.0.1.evil.example",
            "localhost.evil",
            "0.0.0.0",
        ):
            for method, path in (
                ("GET", "/config"),
                ("POST", "/gradio_api/queue/join"),
                ("POST", "/ballot/look"),
            ):
                own = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
                answer = client.request(method, path, headers=own)
                assert answer.status_code == 403 and "--host-name" in answer.text, (host, path)
        for host in ("localhost", "127.0.0.1:1", "[::1]:7860"):
            assert client.get("/config", headers={"host": host}).status_code == 200
    assert everything(studio) == before


@pytest.mark.parametrize(
    "settings, host, known",
    [
        ({}, "localhost:7860", True),
        ({}, "LOCALHOST.", True),
        ({}, "studio.example.org", False),
        ({}, "", False),
        ({}, "[::1", False),
        ({"host_name": "studio.example.org, other"}, "Studio.Example.org:443", True),
        ({"host_name": "studio.example.org"}, "evil.example", False),
        ({"host_name": "studio.example.org", "auth": "a:b"}, "evil.example", False),
        ({"host_name": "studio.example.org"}, "127.0.0.1", True),
        ({"auth": "a:b"}, "studio.example.org", True),  # the sign-in protects it
        ({"demo": True}, "studio.example.org", True),
        ({"share": True}, "abc.gradio.live", True),
        ({"host": "0.0.0.0"}, "gpu-box", True),
        ({"host": "0.0.0.0", "host_name": "gpu-box"}, "evil.example", False),
        ({"host": "0.0.0.0", "host_name": "gpu-box"}, "192.168.1.2:7860", True),
        ({"host": "localhost"}, "evil.example", False),
        ({"host": "::1"}, "evil.example", False),
    ],
)
def test_names_that_the_studio_answers_to(settings: dict, host: str, known: bool) -> None:
    assert is_known_host(Settings(**settings), host) is known


@pytest.mark.parametrize(
    "headers, foreign",
    [
        ({"host": "a.org"}, False),  # a program
        ({"host": "a.org", "origin": "https://a.org"}, False),
        ({"host": "a.org:8000", "origin": "http://a.org:8000"}, False),
        ({"host": "a.org:8000", "origin": "http://a.org:8001"}, True),
        ({"host": "127.0.0.1:7860", "x-forwarded-host": "a.org", "origin": "https://a.org"}, False),
        ({"host": "127.0.0.1:7860", "origin": "https://a.org"}, True),
        ({"host": "127.0.0.1:7860", "origin": "https://named.org"}, False),  # by --host-name
        ({"host": "127.0.0.1:7860", "origin": "https://a.org", "sec-fetch-site": "same-origin"}, False),
        ({"host": "a.org", "origin": "https://a.org.evil"}, True),
        ({"host": "a.org", "origin": "https://a.org@evil"}, True),
        ({"host": "", "origin": "null"}, True),
        ({"host": "", "origin": "file://"}, True),
        ({"host": "", "origin": "http://[::1"}, True),
        ({"host": "a.org", "sec-fetch-site": "none"}, False),
        ({"host": "a.org", "sec-fetch-site": "same-site"}, True),
    ],
)
def test_whose_page_sent_it(headers: dict[str, str], foreign: bool) -> None:
    settings = Settings(host_name="named.org")
    assert is_foreign(settings, headers) is foreign
    assert may_read(settings, headers) is not foreign


def test_hosts_are_read_as_browsers_read_them() -> None:
    asked = ["a.org", "A.org:80", "[::1]:80", "https://a.org:1", "a.org.", "a b", "u@a.org", ":80", "[::1"]
    assert [host_of(h) for h in asked] == ["a.org", "a.org", "::1", "a.org", "a.org", "a b", "a.org", "", ""]


# the guard itself


def test_the_guard_stands_outside_of_everything_that_gradio_adds(studio: Launched) -> None:
    assert isinstance(studio.app.app.middleware_stack, Outer)


@pytest.mark.parametrize("auth", ["", "ann:a"])
def test_what_did_not_meet_the_outer_guard_meets_the_inner(tmp_path: Path, auth: str) -> None:
    sent: list[dict] = []

    async def answer(scope, receive, send) -> None:
        sent.append({"type": "reached"})

    async def send(message) -> None:
        sent.append(dict(message))

    async def receive() -> dict:
        return {"type": "http.request"}

    guarded = Guarded(answer, Signin(Settings(auth=auth, data=tmp_path)))
    scope = {"type": "http", "method": "POST", "path": "/gradio_api/queue/join", "query_string": b""}
    scope["headers"] = [(b"host", b"localhost"), (b"origin", b"https://evil.example")]
    run_apart(guarded(dict(scope), receive, send))
    assert sent[0]["status"] == 403
    sent.clear()
    scope["headers"] = [(b"host", b"localhost")]
    run_apart(guarded(dict(scope), receive, send))
    assert sent[0].get("status") == (401 if auth else None)
    sent.clear()
    run_apart(guarded({"type": "websocket", "path": "/", "headers": []}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
