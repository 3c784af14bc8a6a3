"""Search on a Space: jobs of the visitor, against a hub on loopback, through a launched studio."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from calibri.backbones import catalog
from calibri.search.hub_jobs import HubSearches
from calibri.search.journal import JOURNAL, RunFolder
from calibri.search.records import SessionRecord
from studio.access.hub_token import COOKIE, drop_hub_token, keep_hub_token, read_hub_token
from studio.machine.host import ModelHost
from studio.search import hub_page
from studio.search.form import USUAL
from studio.settings import HubApp
from tests.fake_hub import FakeHub
from tests.studio.launched import Launched, launched

TOKEN = "hf_ann"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    server = FakeHub(tmp_path / "hub")
    server.run_jobs = False
    yield server
    server.close()


@pytest.fixture
def space(
    host: ModelHost, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Launched]:
    """A studio on a Space where nothing runs in the background."""
    # The tiny backbone as one that the hub has, which a job could load.
    spec = host.wait_ready().spec
    monkeypatch.setitem(catalog.CATALOG, spec.name, spec.model_copy(update={"source": "someone/tiny"}))
    connect = lambda token: HubSearches(token, hub.url)  # noqa: E731
    build = hub_page.build
    monkeypatch.setattr(hub_page, "build", lambda core, sweeps: build(core, sweeps, connect))
    app = HubApp("app", "hush", hub.url)
    with launched(tmp_path / "studio", host, app, no_search=True, space=True) as running:
        yield running


def signed_in(token: str = TOKEN, seconds: float = 7200) -> dict[str, str]:
    return {"cookie": f"{COOKIE}={int(time.time() + seconds)}.{token}"}


def typed(**values: object) -> list[Any]:
    prompts = "\n".join(f"a photograph of fox {i}" for i in range(20))
    given = {**USUAL, "rewards": ["clipscore"], "judges": [], "prompts": prompts, **values}
    return [given[name] for name in USUAL]


def call(space: Launched, name: str, data: list[Any], headers: dict[str, str]) -> tuple[bool, Any]:
    events = space.app.fns.items()
    wanted = f"HubHandlers.{name}"
    number = [index for index, event in events if getattr(event.fn, "__qualname__", "") == wanted][-1]
    with space.client() as client:
        client.headers.update(headers)
        return space.call(client, number, data)


def test_a_visitor_starts_looks_at_stops_and_resumes_a_search_of_their_own(
    space: Launched, hub: FakeHub, tmp_path: Path
) -> None:
    start = ["", "t4-small", *typed(title="Foxes", images=400)]
    worked, told = call(space, "on_start", start, {})
    assert not worked and "Sign in with your hub account" in str(told)
    assert hub.repos == {}
    worked, told = call(space, "on_start", start, signed_in())
    assert worked, told
    [(repo, content)] = hub.repos.items()
    [job] = hub.jobs.values()
    assert content.private and job.owner == "ann" and job.spec["flavor"] == "t4-small"
    assert job.spec["timeoutSeconds"] <= 7200 - hub_page.SPARE  # it ends before the token does
    assert told[0]["value"] == repo and "Foxes" in told[1] and "works on a machine of the hub" in told[1]
    assert json.loads(content.files["job.json"])["budget"]["images"] == 400

    # What the job sends is what the page shows.
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "config.json").write_bytes(content.files["config.json"])
    with RunFolder(folder) as run:
        run.append(
            SessionRecord(
                time="2026-11-01T12:00:00Z", pid=1, host="the machine of the job", generation=0, versions={},
                fingerprint="", labels=[], images_limit=40, minutes_limit=None, generations_limit=None,
            )
        )  # fmt: skip
    content.files[JOURNAL] = (folder / JOURNAL).read_bytes()
    worked, told = call(space, "on_look", [repo], signed_in())
    assert worked and "began on the machine of the job" in told[3]

    worked, told = call(space, "on_stop", [repo], signed_in())
    assert worked and "interrupted" in told[0], told
    worked, told = call(space, "on_resume", [repo, "", *typed()], signed_in())
    assert worked, told
    assert [each.spec["flavor"] for each in hub.jobs.values()] == ["t4-small", "t4-small"]

    # Others see nothing of it, and nothing of it is kept here.
    worked, told = call(space, "on_look", [repo], signed_in("hf_bob"))
    assert not worked and "no such search" in str(told)
    worked, told = call(space, "on_load", [], signed_in("hf_bob"))
    assert worked and told[0]["choices"] == []
    worked, told = call(space, "on_load", [], signed_in())
    assert worked and told[0]["value"] == repo
    stored = [path for path in (tmp_path / "studio").rglob("*") if path.is_file()]
    assert not any(TOKEN.encode() in path.read_bytes() for path in stored)
    assert not any("foxes" in path.name for path in stored)


def test_without_a_valid_sign_in_nothing_is_asked_of_the_hub(space: Launched, hub: FakeHub) -> None:
    for headers in ({}, signed_in(seconds=-1), {"cookie": f"{COOKIE}=x.{TOKEN}"}):
        worked, told = call(space, "on_load", [], headers)
        assert worked and "Sign in with your hub account" in told[1]
        assert "login/huggingface?for=jobs" in told[1]
        for name, data in (("on_look", ["ann/x"]), ("on_stop", ["ann/x"])):
            worked, told = call(space, name, data, headers)
            assert not worked and "Sign in with your hub account" in str(told)
        worked, _ = call(space, "on_tick", ["ann/x"], headers)
        assert worked and hub.asked == []


def test_a_search_may_start_from_a_file(space: Launched, hub: FakeHub, tmp_path: Path) -> None:
    core = space.core
    [bent, *_] = core.calibrations.entries()
    bent.calibration.save(tmp_path / "bent.json")
    assert space.studio.starts is not None
    handlers = hub_page.HubHandlers(core, space.studio.starts, lambda token: HubSearches(token, hub.url))
    visitor = core.visitors.new_id()
    chosen = handlers.on_upload(visitor, str(tmp_path / "bent.json"), "layer")
    worked, told = call(
        space, "on_start", [visitor, "", *typed(start=chosen.value, members="start")], signed_in()
    )
    assert worked, told
    [repo] = hub.repos.values()
    begun = json.loads(repo.files["config.json"])
    assert begun["start_from"] != "base" and begun["start"][0][0] != 1.0


def test_a_hub_without_credit_is_told(space: Launched, hub: FakeHub) -> None:
    hub.credit = False
    worked, told = call(space, "on_start", ["", "", *typed()], signed_in())
    assert not worked and "accounts with credit" in str(told)
    assert TOKEN not in str(told)
    worked, told = call(space, "on_start", ["", "a100x8", *typed()], signed_in())
    assert not worked and "not in the list" in str(told)
    assert hub.jobs == {}


def gradio_request(headers: dict[str, str], session: dict[str, Any] | None = None) -> Any:
    import gradio as gr

    sent = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {"type": "http", "headers": sent}
    if session is not None:
        scope["session"] = session
    return gr.Request(Request(scope))


def test_the_token_of_a_request_comes_from_its_cookie_or_from_gradios_session() -> None:
    found = read_hub_token(gradio_request(signed_in()))
    assert found is not None and found.token == TOKEN and 7100 < found.seconds <= 7200
    assert TOKEN not in repr(found)
    session = {"oauth_info": {"access_token": "hf_x", "expires_at": time.time() + 60}}
    found = read_hub_token(gradio_request({}, session))
    assert found is not None and found.token == "hf_x"
    session["oauth_info"]["expires_at"] = time.time() - 1
    assert read_hub_token(gradio_request({}, session)) is None
    assert read_hub_token(None) is None
    for value in ("", ".", "1.", ".x", "99999999999999999999.x", "1.x"):
        assert read_hub_token(gradio_request({"cookie": f"{COOKIE}={value}"})) is None


def test_the_hubs_answer_to_a_sign_in_is_kept_in_the_browser_only_where_jobs_are_allowed() -> None:
    told = {"access_token": "hf_x", "expires_in": 3600, "scope": "openid profile jobs contribute-repos"}
    answer = Response()
    keep_hub_token(answer, told)
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=") and "hf_x" in cookie
    for word in ("HttpOnly", "Secure", "SameSite=lax", "Max-Age=3600", "Path=/"):
        assert word in cookie
    for other in ({"scope": "openid profile"}, {"access_token": None}, {"access_token": "x" * 5000}):
        answer = Response()
        keep_hub_token(answer, told | other)
        assert "set-cookie" not in answer.headers
    answer = Response()
    drop_hub_token(answer)
    assert "Max-Age=0" in answer.headers["set-cookie"]
