"""Raters who sign in with the hub: the choice in the form, the way there and back, one vote set an account.

The hub is the server of test_space.py, which speaks its sign-in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest

from calibri.errors import StudyError
from studio.access.hub import Begun, read_cookie
from studio.access.signin import SESSION
from studio.core import Core
from studio.machine.host import ModelHost
from studio.settings import HubApp
from studio.studies.pages.raters_part import check_access
from studio.studies.protocol import Protocol
from studio.studies.storage.study_store import Study
from tests.studio.access.test_space import Hub
from tests.studio.launched import Launched, launched
from tests.studio.studies.conftest import World, make_draft


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    made = Hub()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="module")
def space(host: ModelHost, hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    app = HubApp("app", "hush", hub.url)
    folder = tmp_path_factory.mktemp("raters")
    with launched(folder, host, app, no_search=True, demo=True, organisers="ann") as made:
        yield made


@pytest.fixture(scope="module")
def study(space: Launched) -> Study:
    studies = space.studio.studies
    return studies.set_status(make_draft(studies, prompts=3, access="hub").id, "open")


def ask(client: httpx.Client, study: Study, what: str, **more: Any) -> httpx.Response:
    return client.post(f"/ballot/{what}", json={"study": study.id, "rater": "ab" * 16, **more})


def sign_in(space: Launched, hub: Hub, client: httpx.Client, account: str, wanted: str) -> httpx.Response:
    hub.account = {"sub": account, "preferred_username": f"name-{account}"}
    begun = client.get(f"/login/huggingface?next={quote(wanted, safe='')}")
    assert begun.status_code == 303
    scope = parse_qs(urlsplit(begun.headers["location"]).query)["scope"][0]
    assert scope == "openid profile"  # nothing that a rater need not give
    return client.get(hub.authorise(begun.headers["location"]).removeprefix(space.url))


def vote(client: httpx.Client, study: Study, view: dict[str, Any]) -> dict[str, Any]:
    answers = {q["id"]: "left" for q in view["questions"]}
    return ask(client, study, "cast", token=view["showings"][0]["token"], answers=answers).json()


def test_a_rater_signs_in_comes_back_and_votes(space: Launched, hub: Hub, study: Study) -> None:
    wanted = f"ballot?study={study.id}"
    with space.client() as client:
        refused = ask(client, study, "look")
        assert refused.status_code == 403
        assert refused.json()["error"] == "hub" and refused.json()["signin"] == "/login/huggingface"
        back = sign_in(space, hub, client, "41", wanted)
        assert back.status_code == 303 and back.headers["location"] == f"../{wanted}"
        assert ask(client, study, "look").json()["stage"] == "welcome"
        view = vote(client, study, ask(client, study, "consent").json())
        assert view["done"] == 1
        client.post("/signout")
        assert ask(client, study, "look").status_code == 403
    with space.client() as elsewhere:  # the same account in another browser
        sign_in(space, hub, elsewhere, "41", wanted)
        again = elsewhere.post("/ballot/look", json={"study": study.id, "rater": "cd" * 16}).json()
        assert again["done"] == 1 and again["showings"] == view["showings"]
        assert vote(elsewhere, study, vote(elsewhere, study, again))["stage"] == "end"
    found = space.studio.studies.db.records("SELECT rater, pair FROM votes WHERE study = ?", [study.id])
    assert len(found) == 3 and len({v["rater"] for v in found}) == 1


def test_another_account_is_another_rater_and_no_name_is_stored(
    space: Launched, hub: Hub, study: Study
) -> None:
    db = space.studio.studies.db
    before = db.read("SELECT count(*) FROM raters")[0][0]
    with space.client() as client:
        sign_in(space, hub, client, "77", f"vote?study={study.id}")
        assert ask(client, study, "consent").json()["done"] == 0
    kinds = db.read("SELECT DISTINCT kind FROM raters")
    assert db.read("SELECT count(*) FROM raters")[0][0] == before + 1 and kinds == [("hub",)]
    stored = json.dumps(db.records("SELECT * FROM raters"), default=str)
    assert "name-77" not in stored and '"77"' not in stored


def test_an_account_that_votes_organises_nothing(space: Launched, hub: Hub, study: Study) -> None:
    with space.client() as client:
        sign_in(space, hub, client, "41", f"ballot?study={study.id}")
        assert [name for name in client.cookies if name.startswith(SESSION)]
        assert "does not organise" in client.get("/signin").text


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example/ballot?study=a",
        "//evil.example",
        "ballot?study=a#x",
        "ballot/../signin?x",
        "../ballot?study=a",
        "studies?study=a",
        "ballot?study=a\r\nset-cookie: a=b",
        "ballot?" + "a" * 1001,
        "ballot",
    ],
)
def test_no_other_place_is_gone_to(space: Launched, hub: Hub, wanted: str) -> None:
    with space.client() as client:
        back = sign_in(space, hub, client, "41", wanted)
        assert back.headers["location"] == "../signin"


def test_the_cookie_of_a_sign_in_is_read_as_it_was_written() -> None:
    begun = Begun("state", "verifier", "vote?study=a-b&PROLIFIC_PID=x.y")
    assert read_cookie(begun.write()) == begun
    assert read_cookie("state.verifier") == Begun("state", "verifier", "")
    forged = Begun("state", "verifier", "https://evil.example")
    assert read_cookie(forged.write()).place == ""
    for broken in ("", ".", "a.b.***", "a.b.4"):
        assert read_cookie(broken).place == ""


def test_without_the_hub_s_sign_in_nobody_is_sent_there(tmp_path: Path, core: Core) -> None:
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

    from studio.studies.http import routes

    world = World(tmp_path / "studies")
    study = world.study(prompts=1, access="hub")
    with TestClient(Starlette(routes=routes(world.studies))) as client:
        answer = client.post("/ballot/look", json={"study": study.id, "rater": "ab" * 16}).json()
    assert answer["error"] == "hub" and "signin" not in answer
    world.studies.close()
    with pytest.raises(StudyError, match="no such sign-in"):
        check_access(Protocol(access="hub"), core)


def test_the_choice_is_in_the_form_where_people_can_sign_in(space: Launched) -> None:
    boxes = [b for b in space.app.blocks.values() if getattr(b, "elem_id", "") == "new-hub"]
    assert [box.visible for box in boxes] == [True]
