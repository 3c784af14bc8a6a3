"""A studio with accounts asks everybody but raters, by its own sign-in; Gradio's takes no guesses."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AuthenticationError

from studio.access.guard import OPEN
from studio.access.guesses import ADDRESS, NAME
from studio.access.passwords import Hash
from studio.access.signin import KNOWN, SESSION
from studio.machine.host import ModelHost
from tests.studio.asking import run_apart
from tests.studio.launched import PATIENCE, Launched, launched

ANN, BEN = ("ann", "a:b"), ("ben", "c, d:e")
HTML = {"accept": "text/html"}


@pytest.fixture(scope="module")
def studio(host: ModelHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    folder = tmp_path_factory.mktemp("closed")
    (folder / "accounts").write_text(f"ben:{Hash.make(BEN[1], n=16)}\n")
    settings = {"auth": ":".join(ANN), "auth_file": str(folder / "accounts")}
    with launched(folder, host, no_search=True, **settings) as made:
        yield made


def enter(client: httpx.Client, account: tuple[str, str] = ANN, **headers: str) -> httpx.Response:
    data = dict(zip(("username", "password"), account))
    return client.post("/signin", data=data, headers=headers)


def session(client: httpx.Client) -> dict[str, str]:
    return {name: value for name, value in client.cookies.items() if name.startswith(SESSION)}


def routes(studio: Launched) -> Iterator[tuple[str, str]]:
    """(method, path) of everything that answers, Gradio's own routes too."""
    for route in _flat(studio.app.app.routes):
        for method in sorted(getattr(route, "methods", None) or ()):
            yield method, re.sub(r"\{.*?\}", "x", route.path)


def _flat(found: list) -> Iterator:
    for route in found:
        inner = getattr(route, "original_router", route)  # how FastAPI keeps a router that was included
        if hasattr(inner, "routes"):
            yield from _flat(inner.routes)
        elif hasattr(route, "path"):
            yield route


FORGED = ["", "x", "None", "a.b", "WyJhbm4iLCA5OTk5OTk5OTk5XQ==." + "0" * 64, "A" * 43, "A" * 5000]


def test_nothing_answers_without_a_session(studio: Launched) -> None:
    found = set(routes(studio))
    assert len(found) > 40 and ("POST", "/gradio_api/queue/join") in found and ("POST", "/login") in found
    with studio.client() as client:
        for method, path in found:
            open_to_all = path.rstrip("/") in OPEN or path.startswith("/ballot/")
            answer = client.request(method, path)
            led = answer.status_code == 303 and answer.headers["location"].startswith("/signin")
            assert open_to_all or led or answer.status_code == 401, (method, path, answer.status_code)
            assert open_to_all or not led or (method in ("GET", "HEAD") and not answer.content)
        for path in ("/ballot/../config", "//ballot/x", "/ballotx", "/config/", "/gradio_api/../config"):
            assert client.get(path).status_code in (303, 401), path
        assert client.get("/ballot").status_code == 200
        assert client.post("/ballot/look", json={"study": "x", "rater": "y"}).status_code != 401


@pytest.mark.parametrize("value", FORGED)
def test_forged_cookies_are_nobodys(studio: Launched, value: str) -> None:
    port = studio.url.rpartition(":")[2]
    for name in (SESSION, f"{SESSION}-{port}", "access-token", "access-token-unsecure", KNOWN, "session"):
        answer = httpx.get(f"{studio.url}/config", headers={"cookie": f"{name}={value}"})
        assert answer.status_code == 401, name


def test_pages_lead_to_the_sign_in_and_back(studio: Launched) -> None:
    with studio.client() as client:
        led = client.get("/results?study=abc", headers=HTML)
        assert led.status_code == 303 and led.headers["location"] == "/signin?next=results%3Fstudy%3Dabc"
        form = client.get(led.headers["location"])
        assert 'name="password"' in form.text and "signin?next=results%3Fstudy%3Dabc" in form.text
        data = dict(zip(("username", "password"), BEN))
        done = client.post("/signin?next=results%3Fstudy%3Dabc", data=data)
        assert done.status_code == 303 and done.headers["location"] == "./results?study=abc"
        assert client.get("/results?study=abc", headers=HTML).status_code == 200
        for away in ("//evil.example", "https:%2F%2Fevil.example", "%5C%5Cevil", "..%2F..", "javascript:x"):
            done = client.post(f"/signin?next={away}", data=data)
            assert done.headers["location"] == "./", away


def test_signing_out_ends_the_session_wherever_its_cookie_was_copied(studio: Launched) -> None:
    with studio.client() as client:
        assert enter(client).status_code == 303
        copied = session(client)
        assert copied and client.get("/config").status_code == 200
        assert httpx.get(f"{studio.url}/config", cookies=copied).status_code == 200
        assert client.get("/logout").headers["location"] == "./signin"  # a link signs nobody out
        assert client.get("/config").status_code == 200
        assert client.post("/signout", headers={"sec-fetch-site": "cross-site"}).status_code == 403
        assert client.post("/signout").status_code == 303
        assert not session(client)
    assert httpx.get(f"{studio.url}/config", cookies=copied).status_code == 401


def test_signing_in_again_ends_the_session_before(studio: Launched) -> None:
    with studio.client() as client:
        enter(client)
        before = session(client)
        enter(client, BEN)
        assert before != session(client)
        assert "signed in as <b>ben</b>" in client.get("/signin").text
    assert httpx.get(f"{studio.url}/config", cookies=before).status_code == 401


@pytest.mark.parametrize("scheme, secure", [("http", False), ("https", True)])
def test_cookies_are_for_this_studio_only(studio: Launched, scheme: str, secure: bool) -> None:
    with studio.client() as client:
        sent = (
            enter(client, x_forwarded_proto=scheme)
            if False
            else enter(client, **{"x-forwarded-proto": scheme})
        )
    cookies = sent.headers.get_list("set-cookie")
    assert {c.partition("=")[0].rpartition("-")[0] for c in cookies} >= {SESSION, "calibri"}
    for cookie in cookies:
        assert "HttpOnly" in cookie and "SameSite=lax" in cookie and ("Secure" in cookie) is secure
        assert ANN[1] not in cookie and "Domain" not in cookie


def test_programs_sign_in_by_name_or_bring_a_cookie(studio: Launched) -> None:
    quick = {"timeout": PATIENCE}
    by_name = Client(studio.url, auth=BEN, verbose=False, httpx_kwargs=dict(quick))
    assert by_name.predict(api_name="/list_calibrations")
    with studio.client() as client:
        enter(client)
        cookies = session(client)
    by_cookie = Client(studio.url, verbose=False, httpx_kwargs={**quick, "cookies": cookies})
    assert by_cookie.predict(api_name="/list_calibrations")
    header = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
    by_header = Client(studio.url, verbose=False, headers=header, httpx_kwargs=dict(quick))
    assert by_header.predict(api_name="/list_calibrations")
    for refused in ({"auth": ("ann", "guess")}, {}, {"headers": {"Cookie": f"{SESSION}=x"}}):
        with pytest.raises(AuthenticationError):
            Client(studio.url, verbose=False, httpx_kwargs=dict(quick), **refused)


def test_a_studio_says_who_may_sign_in(studio: Launched) -> None:
    from studio.shell.start import tell_door

    said = tell_door(studio.core.signin)
    assert said == "2 accounts: ann, ben.\n"


def test_the_page_above_all_pages_leads_out(studio: Launched) -> None:
    from studio.shell.model_bar import account_html

    assert "ann: sign out" in account_html(studio.core, "ann")


def test_uploads_need_a_session(studio: Launched, tmp_path: Path) -> None:
    files = {"files": ("a.png", b"x", "image/png")}
    with studio.client() as client:
        assert client.post("/gradio_api/upload", files=files).status_code == 401
        enter(client)
        assert client.post("/gradio_api/upload", files=files).status_code == 200


def test_no_sign_in_takes_guesses_for_long_and_the_right_person_gets_in(
    studio: Launched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood on all doors, Gradio's own among them, from one address: the first few are looked at, the rest
    wait or are refused. The right person is let in: at once in a known browser, elsewhere after a wait."""
    with studio.client() as known:
        enter(known, BEN)

        async def flood() -> Counter:
            async with httpx.AsyncClient(base_url=studio.url, timeout=PATIENCE) as client:

                async def guess(number: int) -> int:
                    path = ("/login", "/login/", "/signin")[number % 3]
                    data = {"username": "ben", "password": f"guess {number}"}
                    return (await client.post(path, data=data)).status_code

                return Counter(await asyncio.gather(*(guess(n) for n in range(90))))

        async def no_pause(seconds: float) -> None:
            waits.append(seconds)

        waits: list[float] = []
        monkeypatch.setattr(studio.core.signin, "_sleep", no_pause)
        met = run_apart(flood())
        assert set(met) == {401, 403, 429}
        assert met[401] + met[403] <= ADDRESS.free + 8 and met[429] >= 70, met
        assert 0 < max(waits) <= ADDRESS.wait
        late = known.post("/login", data={"username": "ann", "password": "guess"})
        assert late.status_code == 429 and 1 <= int(late.headers["retry-after"]) <= ADDRESS.pause + 1
        assert "Try again in" in late.json()["detail"] and "signed in here before" in late.json()["detail"]
        assert enter(known, BEN).status_code == 303
    with studio.client() as elsewhere:
        assert enter(elsewhere, BEN, **{"x-forwarded-for": "198.51.100.7"}).status_code == 303
    assert NAME.wait < PATIENCE
    assert studio.app.app.auth is None and studio.app.auth is None  # Gradio knows no account


def test_under_a_path_the_sign_in_is_found_with_and_without_it(host: ModelHost, tmp_path: Path) -> None:
    """What a proxy passes on: with /studio in front, and without."""
    with launched(tmp_path, host, no_search=True, auth="ann:a", root_path="/studio") as made:
        for front in ("", "/studio"):
            with made.client() as client:
                led = client.get(f"{front}/library", headers=HTML)
                assert led.status_code == 303 and led.headers["location"] == "/studio/signin?next=library"
                assert client.get(f"{front}/config").status_code == 401
                assert client.get(f"{front}/ballot").status_code == 200
                data = {"username": "ann", "password": "a"}
                sent = client.post(f"{front}/signin?next=library", data=data)
                assert sent.headers["location"] == "./library"
                assert all("Path=/studio;" in c for c in sent.headers.get_list("set-cookie"))
                cookie = "; ".join(c.partition(";")[0] for c in sent.headers.get_list("set-cookie"))
                assert client.get(f"{front}/config", headers={"cookie": cookie}).status_code == 200
