"""A Space: closed to all but its owner from the first minute, who signs in with the hub account.

The hub is a server on this machine that speaks its sign-in: authorisation code with PKCE, and userinfo.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from studio.access.hub import read_person
from studio.access.rights import Rights
from studio.access.sessions import Person
from studio.access.signin import SESSION, STATE, Signin
from studio.machine.host import ModelHost
from studio.settings import HUB, HubApp, Settings, read_hub_app, read_settings
from tests.browser.running import free_port
from tests.studio.access.test_demo import REFUSED, defaults
from tests.studio.launched import PATIENCE, Launched, launched

ROOT = Path(__file__).resolve().parents[3]
SPACE = {"SPACE_ID": "ann/calibri", "SPACE_HOST": "ann-calibri.hf.space"}
APP = {"OAUTH_CLIENT_ID": "app", "OAUTH_CLIENT_SECRET": "hush", "OAUTH_SCOPES": "openid profile"}


class Hub:
    """What the hub answers. `account`: who sits at the browser."""

    def __init__(self) -> None:
        self.account: dict[str, Any] = {"sub": "1", "preferred_username": "ann", "name": "Ann"}
        self.codes: dict[str, dict[str, str]] = {}
        self.asked: list[str] = []
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *words: object) -> None:
                pass

            def do_GET(self) -> None:
                hub.asked.append(self.path)
                good = self.headers.get("authorization") == "Bearer token"
                self._answer(200 if good else 401, hub.account if good else {})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                self._answer(*hub.token(parse_qs(body), self.headers.get("authorization", "")))

            def _answer(self, status: int, content: dict) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(content).encode())

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def authorise(self, address: str) -> str:
        """What the hub's page does when the person agrees: the address that it sends the browser to."""
        found = urlsplit(address)
        asked = {name: values[0] for name, values in parse_qs(found.query).items()}
        assert address.startswith(f"{self.url}/oauth/authorize?") and asked["response_type"] == "code"
        assert asked["client_id"] == "app" and "openid" in asked["scope"]
        code = f"code{len(self.codes)}"
        self.codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def token(self, form: dict[str, list[str]], who: str) -> tuple[int, dict]:
        asked = self.codes.pop(form["code"][0], None)
        digest = hashlib.sha256(form["code_verifier"][0].encode()).digest()
        proof = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        right = base64.b64encode(b"app:hush").decode()
        if asked is None or who != f"Basic {right}" or proof != asked["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        if form["redirect_uri"][0] != asked["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        return 200, {"access_token": "token", "token_type": "bearer"}


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    made = Hub()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="module")
def space(host: ModelHost, hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    app = HubApp("app", "hush", hub.url)
    with launched(
        tmp_path_factory.mktemp("space"), host, app, no_search=True, demo=True, organisers="ann, lab"
    ) as made:
        yield made


def sign_in(space: Launched, hub: Hub, client: httpx.Client, **account: Any) -> httpx.Response:
    hub.account = {"sub": "1", "preferred_username": "ann"} | account
    begun = client.get("/login/huggingface")
    assert begun.status_code == 303
    return client.get(hub.authorise(begun.headers["location"]).removeprefix(space.url))


def may_load(space: Launched, client: httpx.Client) -> bool:
    number = space.indices("load_chosen")[0]
    worked, answer = space.call(client, number, ["tabeltop", *defaults(space, number)[1:]])
    assert not worked
    return not REFUSED.search(str(answer))


# signing in


def test_the_owner_signs_in_with_the_hub_account_and_out(space: Launched, hub: Hub) -> None:
    with space.client() as client:
        assert "Sign in with Hugging Face" in client.get("/signin").text
        done = sign_in(space, hub, client)
        assert done.status_code == 303 and done.headers["location"] == "../"
        [cookie] = [c for c in done.headers.get_list("set-cookie") if c.startswith(SESSION)]
        assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "token" not in cookie
        assert may_load(space, client)
        copied = {n: v for n, v in client.cookies.items() if n.startswith(SESSION)}
        client.post("/signout")
        assert not may_load(space, client)
        with space.client() as other:
            other.cookies.update(copied)
            assert not may_load(space, other)


def test_another_hub_account_is_known_and_organises_nothing(space: Launched, hub: Hub) -> None:
    before = everything_here(space)
    with space.client() as client:
        done = sign_in(space, hub, client, sub="2", preferred_username="eve")
        assert done.headers["location"] == "../signin"
        page = client.get("/signin").text
        assert "signed in as <b>eve</b>" in page and "does not organise" in page
        assert not may_load(space, client)
    assert everything_here(space) == before


def everything_here(space: Launched) -> tuple:
    files = {str(p) for p in space.core.settings.data.rglob("*.json")}
    return files, space.core.host.status.loads, [s.id for s in space.studio.studies.store.all()]


@pytest.mark.parametrize(
    "case", ["state", "no cookie", "code twice", "code of another", "refused", "no code"]
)
def test_a_way_back_that_was_not_begun_here_signs_nobody_in(space: Launched, hub: Hub, case: str) -> None:
    hub.account = {"sub": "1", "preferred_username": "ann"}
    with space.client() as client, space.client() as other:
        back = hub.authorise(client.get("/login/huggingface").headers["location"]).removeprefix(space.url)
        if case == "state":
            back = back.replace("state=", "state=x")
        elif case == "no cookie":
            client.cookies.clear()
        elif case == "code twice":
            hub.codes.clear()
        elif case == "code of another":  # whose sign-in an attacker would like to plant here
            theirs = hub.authorise(other.get("/login/huggingface").headers["location"])
            code = parse_qs(urlsplit(theirs).query)["code"][0]
            state = parse_qs(urlsplit(back).query)["state"][0]
            back = f"/login/callback?{urlencode({'code': code, 'state': state})}"
        elif case == "refused":
            state = parse_qs(urlsplit(back).query)["state"][0]
            back = f"/login/callback?{urlencode({'error': 'access_denied', 'state': state})}"
        else:
            back = "/login/callback"
        answer = client.get(back)
        assert answer.status_code == 403 and 'role="alert"' in answer.text
        assert 'href="../login/huggingface"' in answer.text  # leads to a new try from below /login/
        assert not [name for name in client.cookies if name.startswith(SESSION)]
        assert not may_load(space, client)


def test_a_cookie_that_gradio_would_sign_is_nobodys(space: Launched) -> None:
    """Gradio signs OAuth sessions with a key that everybody knows where no secret is set."""
    info = {"oauth_info": {"userinfo": {"sub": "1", "preferred_username": "ann"}}}
    packed = base64.b64encode(json.dumps(info).encode()).decode()
    with space.client() as client:
        for name in ("session", SESSION, STATE):
            client.cookies.set(name, packed)
        assert not may_load(space, client)


@pytest.mark.parametrize(
    "told, organises",
    [
        ({"preferred_username": "Ann"}, True),
        ({"preferred_username": "ann2"}, False),
        ({"name": "ann", "preferred_username": "eve"}, False),  # a shown name, which anybody chooses
        ({"orgs": [{"preferred_username": "lab", "roleInOrg": "admin"}]}, True),
        ({"orgs": [{"name": "lab", "roleInOrg": "write"}]}, True),
        ({"orgs": [{"name": "lab", "roleInOrg": "read"}]}, False),
        ({"orgs": [{"name": "lab"}]}, False),
        ({"orgs": [{"preferred_username": "other", "name": "lab", "roleInOrg": "admin"}]}, False),
        ({"orgs": ["lab"]}, False),
    ],
)
def test_who_organises_a_space(told: dict[str, Any], organises: bool) -> None:
    person = read_person({"sub": "7", "preferred_username": "eve"} | told, ["ann", "lab"])
    assert person.organises is organises and person.hub == "7"
    assert not read_person({"sub": "7", "preferred_username": "eve"} | told, []).organises


def test_an_answer_of_the_hub_without_an_account_is_nobody() -> None:
    for told in ({}, {"sub": "1"}, {"sub": "", "preferred_username": "ann"}):
        with pytest.raises(KeyError):
            read_person(told, ["ann"])


def test_hub_accounts_vote_where_a_study_asks_for_them(space: Launched, hub: Hub, tmp_path: Path) -> None:
    from starlette.requests import Request

    from studio.access.guard import Guard
    from studio.studies.http import _hub_login

    seen: list[str | None] = []

    async def answer(scope, receive, send) -> None:
        seen.append(_hub_login(Request(scope)))

    signin = Signin(Settings(demo=True, data=tmp_path))
    secret = signin.begin(Person("eve", organises=False, hub="42"))
    headers = [(b"cookie", f"{SESSION}={secret}".encode())]
    for given in (headers, []):
        scope = {"type": "http", "method": "POST", "path": "/ballot/look", "query_string": b""}
        coroutine = Guard(answer, signin)(scope | {"headers": given}, None, None)  # type: ignore[arg-type]
        with pytest.raises(StopIteration):
            coroutine.send(None)
    assert seen == ["42", None]


# settings


def test_a_copy_of_the_space_without_variables_is_closed() -> None:
    settings = read_settings([], SPACE)
    assert settings.demo and settings.host == "0.0.0.0"
    assert settings.organiser_names == ["ann"] and settings.frame_sites == [HUB]
    assert read_hub_app(SPACE) is None  # until the hub gives it a sign-in
    rights = Rights(settings, Signin(settings))
    assert not rights.may_organise(None)


@pytest.mark.parametrize(
    "variables, demo",
    [
        ({"CALIBRI_DEMO": "1"}, True),
        ({"CALIBRI_AUTH": "ann:x", "CALIBRI_DEMO": "1"}, True),
        ({"CALIBRI_AUTH": "ann:x"}, False),  # then everybody signs in, as before
        ({"CALIBRI_AUTH": " "}, True),
        ({"CALIBRI_DEMO": "0"}, False),
        ({"CALIBRI_RATE": "5"}, True),
    ],
)
def test_what_a_space_is_told_counts(variables: dict[str, str], demo: bool) -> None:
    settings = read_settings([], SPACE | variables)
    assert settings.demo is demo
    assert demo or settings.has_accounts or variables == {"CALIBRI_DEMO": "0"}


def test_the_sign_in_of_the_hub_is_taken_from_the_environment_of_a_space_only() -> None:
    app = read_hub_app(SPACE | APP)
    assert app == HubApp("app", "hush", HUB, "openid profile", "ann-calibri.hf.space")
    assert "hush" not in repr(app)
    assert read_hub_app(APP) is None and read_hub_app({}) is None
    assert "hf_oauth: true\n" in (ROOT / "README.md").read_text(encoding="utf-8").split("---")[1]


def test_the_app_itself_starts_closed_on_a_space(hub: Hub, tmp_path: Path) -> None:
    """`python app.py` with the variables that the hub sets, and no others."""
    port = free_port()
    clean = {n: v for n, v in os.environ.items() if not n.startswith(("CALIBRI_", "SPACE", "OAUTH"))}
    clean |= {"SPACE_ID": "ann/calibri", **APP, "OPENID_PROVIDER_URL": hub.url, "CALIBRI_PORT": str(port)}
    command = [sys.executable, "app.py", "--data", str(tmp_path / "data"), "--no-search"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=clean, stdout=log, stderr=subprocess.STDOUT)
    try:
        url, end = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE
        while True:
            try:
                first = httpx.get(url)
                break
            except httpx.TransportError:
                assert process.poll() is None and time.monotonic() < end, (tmp_path / "log").read_text()
                time.sleep(0.2)
        assert f"frame-ancestors 'self' {HUB}" in first.headers["content-security-policy"]
        with httpx.Client(base_url=url, timeout=PATIENCE) as client:
            config = client.get("/config").json()
            calls = [
                d["id"] for d in config["dependencies"] if d["api_name"] in ("act", "duplicate", "on_make")
            ]
            assert calls
            for number in calls:
                inputs = next(d["inputs"] for d in config["dependencies"] if d["id"] == number)
                body = {"data": [None] * len(inputs), "fn_index": number, "session_hash": f"s{number}"}
                assert client.post("/gradio_api/queue/join", json=body).status_code == 200
                told = client.get("/gradio_api/queue/data", params={"session_hash": f"s{number}"}).text
                assert REFUSED.search(told), told
            hub.account = {"sub": "1", "preferred_username": "ann"}
            back = hub.authorise(client.get("/login/huggingface").headers["location"])
            assert client.get(back).headers["location"] == "../"
            assert "signed in as <b>ann</b>" in client.get("/signin").text
        assert not list((tmp_path / "data").glob("calibrations/*"))
    finally:
        process.terminate()
        process.wait(30)
    said = (tmp_path / "log").read_text()
    assert "Hub accounts that organise: ann." in said and "hush" not in said and "Traceback" not in said
