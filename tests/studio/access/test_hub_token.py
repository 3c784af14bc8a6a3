"""Signing in for jobs of one's own: the hub is asked for that right, and the browser keeps the token."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from studio.access import doors
from studio.access.hub_token import COOKIE
from studio.access.signin import Signin
from studio.settings import HubApp, Settings
from tests.studio.access.test_space import Hub

HERE = "https://studio.test"


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def client(hub: Hub) -> TestClient:
    app = HubApp("app", "hush", hub.url, scopes="openid profile jobs contribute-repos")
    signin = Signin(Settings(demo=True, organisers="ann"), app)
    return TestClient(Starlette(routes=doors.routes(signin)), base_url=HERE, follow_redirects=False)


def scopes_of(address: str) -> str:
    return parse_qs(urlsplit(address).query)["scope"][0]


def test_only_a_sign_in_for_jobs_asks_for_them_and_leaves_the_token_in_the_browser(
    hub: Hub, client: TestClient
) -> None:
    plain = client.get("/login/huggingface").headers["location"]
    assert scopes_of(plain) == "openid profile"
    done = client.get(hub.authorise(plain).removeprefix(HERE))
    assert done.status_code == 303 and done.headers["location"] == "../"
    assert not any(cookie.startswith(COOKIE) for cookie in done.headers.get_list("set-cookie"))

    begun = client.get("/login/huggingface?for=jobs").headers["location"]
    assert scopes_of(begun) == "openid profile jobs contribute-repos"
    done = client.get(hub.authorise(begun).removeprefix(HERE))
    assert done.headers["location"] == "../search"
    [cookie] = [each for each in done.headers.get_list("set-cookie") if each.startswith(COOKIE)]
    assert cookie.split(";")[0].endswith(".token")
    assert "HttpOnly" in cookie and "Secure" in cookie and "SameSite=lax" in cookie

    left = client.post("/signout")
    [gone] = [each for each in left.headers.get_list("set-cookie") if each.startswith(COOKIE)]
    assert "Max-Age=0" in gone and "token" not in gone.split(";")[0]
