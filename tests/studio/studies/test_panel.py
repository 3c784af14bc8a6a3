"""Raters from a panel: the ids of their link, going on where one was, code and way back at the end."""

from __future__ import annotations

import csv
import io
import json
import zipfile

import pytest
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.testclient import TestClient

from studio.studies import commands
from studio.studies.http import routes
from studio.studies.pages.raters_part import ask_for_account, set_panel
from studio.studies.protocol import PRESETS, Panel, Protocol
from studio.studies.storage.panel_store import MOST_IDS
from tests.studio.studies.conftest import rows

BACK = "https://app.panel.example/submissions/complete?cc=C0DE42"
PANEL = Panel(code="C0DE42", return_to=BACK)
IDS = {"PROLIFIC_PID": "5f0c1a", "STUDY_ID": "st77", "SESSION_ID": "se01", "utm_source": "mail"}


@pytest.fixture
def client(world):
    with TestClient(Starlette(routes=routes(world.studies)), raise_server_exceptions=False) as made:
        yield made


class Browser:
    """One browser at one link."""

    def __init__(self, client, study, word: str, **panel: str) -> None:
        self.client, self.word = client, word
        self.sent = {"study": study.id, "rater": word * 16, **({"panel": panel} if panel else {})}

    def ask(self, what: str, **more):
        return self.client.post(f"/ballot/{what}", json={**self.sent, **more})

    def vote(self, view, side="left"):
        answers = {q["id"]: side for q in view["questions"]}
        return self.ask("cast", token=view["showings"][0]["token"], answers=answers).json()

    def vote_all(self, view):
        while view["stage"] == "vote":
            assert not view["code"] and not view["return_to"]
            view = self.vote(view)
        return view


def stored(world) -> set[tuple[str, str]]:
    return set(world.studies.db.read("SELECT name, value FROM panel_ids"))


def test_a_second_start_with_the_same_id_goes_on_where_it_was(client, world):
    study = world.study(prompts=3, panel=PANEL)
    first = Browser(client, study, "ab", **IDS)
    assert first.ask("look").json()["stage"] == "welcome"
    view = first.vote(first.ask("consent").json())
    again = Browser(client, study, "cd", **IDS).ask("look").json()
    assert (again["stage"], again["done"]) == ("vote", 1)
    assert again["showings"] == view["showings"]
    other = Browser(client, study, "ab", **{**IDS, "PROLIFIC_PID": "other"}).ask("look").json()
    assert other["stage"] == "welcome"


def test_the_ids_that_are_named_are_kept_and_no_others(client, world):
    study = world.study(prompts=2, panel=PANEL)
    browser = Browser(client, study, "ab", **IDS)
    browser.ask("look")
    assert stored(world) == set()  # nobody has agreed to anything yet
    browser.ask("consent")
    assert stored(world) == {(name, IDS[name]) for name in ("PROLIFIC_PID", "STUDY_ID", "SESSION_ID")}
    Browser(client, study, "cd", **{**IDS, "SESSION_ID": "se02"}).ask("look")
    assert ("SESSION_ID", "se02") in stored(world)


def test_many_visits_leave_a_bounded_number_of_ids(client, world):
    study = world.study(prompts=2, panel=PANEL)
    Browser(client, study, "ab", **IDS).ask("consent")
    for number in range(MOST_IDS + 8):
        Browser(client, study, f"{number:02d}", **{**IDS, "SESSION_ID": f"s{number}"}).ask("look")
    assert len(stored(world)) == MOST_IDS


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"STUDY_ID": "st77"},
        {"PROLIFIC_PID": ""},
        {"PROLIFIC_PID": "{{%PROLIFIC_PID%}}"},
        {"PROLIFIC_PID": "a" * 129},
        {"PROLIFIC_PID": "=1+1"},
        {"PROLIFIC_PID": "a\nb"},
        {"PROLIFIC_PID": "ok", "SESSION_ID": "<b>"},
    ],
)
def test_a_link_without_an_id_is_refused(client, world, sent):
    study = world.study(prompts=2, panel=PANEL)
    answer = Browser(client, study, "ab", **sent).ask("consent")
    assert answer.status_code == 403 and answer.json()["error"] == "panel"
    assert world.studies.db.read("SELECT count(*) FROM raters") == [(0,)]


@pytest.mark.parametrize("sent", [["PROLIFIC_PID"], "PROLIFIC_PID=a", 7, {"PROLIFIC_PID": ["a"]}])
def test_ids_that_are_no_texts_are_refused(client, world, sent):
    study = world.study(prompts=2, panel=PANEL)
    answer = client.post("/ballot/consent", json={"study": study.id, "rater": "ab" * 16, "panel": sent})
    assert answer.status_code == 403


def test_a_study_without_a_panel_reads_no_ids(client, world):
    study = world.study(prompts=2)
    Browser(client, study, "ab", **IDS).ask("consent")
    assert Browser(client, study, "cd", **IDS).ask("look").json()["stage"] == "welcome"
    assert stored(world) == set()


def test_the_first_of_several_names_says_who_it_is(client, world):
    study = world.study(prompts=3, panel=PANEL)
    worker = Browser(client, study, "ab", workerId="A1", assignmentId="3X")
    worker.vote(worker.ask("consent").json())
    again = Browser(client, study, "ef", workerId="A1", assignmentId="other").ask("look").json()
    assert again["done"] == 1
    same_word = Browser(client, study, "ef", participantId="A1").ask("look").json()
    assert same_word["stage"] == "welcome"  # another panel's A1


def test_the_code_and_the_way_back_stand_at_the_end_also_after_a_reload(client, world):
    study = world.study(prompts=3, panel=PANEL)
    browser = Browser(client, study, "ab", **IDS)
    welcome = browser.ask("look").json()
    assert "C0DE42" not in json.dumps(welcome) and "kept apart" in welcome["consent"]
    end = browser.vote_all(browser.ask("consent").json())
    assert (end["stage"], end["code"], end["return_to"]) == ("end", "C0DE42", BACK)
    world.reopen()
    with TestClient(Starlette(routes=routes(world.studies))) as later:
        browser.client = later
        assert browser.ask("look").json()["code"] == "C0DE42"
        again = browser.ask("undo").json()
        assert (again["stage"], again["code"]) == ("vote", "")
        assert browser.vote_all(again)["code"] == "C0DE42"
        world.studies.set_status(study.id, "closed")
        assert browser.ask("look").json()["code"] == "C0DE42"
        assert Browser(later, study, "cd", PROLIFIC_PID="late").ask("look").json()["code"] == ""


def test_whoever_voted_on_nothing_gets_no_code(client, world):
    study = world.study(prompts=1, votes_per_pair=1, panel=PANEL)
    first = Browser(client, study, "ab", PROLIFIC_PID="one")
    first.vote_all(first.ask("consent").json())
    late = Browser(client, study, "cd", PROLIFIC_PID="two").ask("consent").json()
    assert (late["stage"], late["code"]) == ("end", "")


def test_ids_are_in_no_export_but_the_one_that_is_asked_for(client, world):
    study = world.study(prompts=2, panel=PANEL)
    browser = Browser(client, study, "ab", **IDS)
    view = browser.ask("consent").json()
    browser.vote_all(browser.vote(view, "skip"))
    world.studies.set_status(study.id, "closed")
    for format in ("csv", "jsonl", "preferences", "html", "md"):
        text = world.studies.export(study.id, format).read_text()
        assert IDS["PROLIFIC_PID"] not in text and IDS["SESSION_ID"] not in text
    with zipfile.ZipFile(world.studies.export(study.id, "zip")) as whole:
        for name in whole.namelist():
            assert IDS["PROLIFIC_PID"].encode() not in whole.read(name)
    assert not [v for row in rows(world) for v in row.values() if v in IDS.values()]
    path = commands.run(world.studies, "participants", {"study": study.id})
    [line] = csv.DictReader(io.StringIO(path.read_text()))
    assert {name: line[name] for name in ("PROLIFIC_PID", "STUDY_ID", "SESSION_ID")} == {
        name: IDS[name] for name in ("PROLIFIC_PID", "STUDY_ID", "SESSION_ID")
    }
    assert (line["pairs"], line["skipped"]) == ("2", "1") and line["completed"]
    assert line["rater"] == rows(world)[0]["rater"]


def test_progress_says_who_came_from_the_panel(client, world):
    study = world.study(prompts=2, panel=PANEL)
    Browser(client, study, "ab", **IDS).ask("consent")
    assert [r["kind"] for r in world.studies.store.count_by_rater(study.id)] == ["panel"]


def test_a_snapshot_brings_ids_and_completions_back(client, world, tmp_path):
    from tests.studio.studies.conftest import World

    study = world.study(prompts=2, panel=PANEL)
    browser = Browser(client, study, "ab", **IDS)
    browser.vote_all(browser.ask("consent").json())
    folder = world.studies.snapshots.take("test")
    other = World(tmp_path / "other")
    assert other.studies.restore(folder)["completions"] == 1
    assert stored(other) == stored(world)
    other.studies.close()


@pytest.mark.parametrize(
    "address",
    [
        "http://panel.example/done",
        "javascript:alert(1)",
        "//panel.example",
        "https://",
        "https:///done",
        "https://user:pass@panel.example",
        "https://panel.example/a b",
        "https://panel.example\\@evil.example",
        "https://panel.example/\n",
        'https://panel.example/"onclick',
        "data:text/html,https://panel.example",
        "https://[::1",
    ],
)
def test_a_way_back_that_is_not_https(address):
    with pytest.raises(ValidationError, match="https"):
        Panel(return_to=address)


def test_names_that_the_studio_uses_itself():
    with pytest.raises(ValidationError, match="the studio's own"):
        Panel(ids=("invite",))
    with pytest.raises(ValidationError):
        Panel(also=("a-b",))


#: As they were before protocols knew of panels.
HASHES = {
    "side-by-side": "b8eed73975d4d8b5bf33e78939235096840028b58ea66c21e7cca50d4ca7f6c6",
    "five-per-pair": "baa1a88d4b8d9625329f88640fa1e5c683803df8d57005d4fd24d8600d3b001f",
    "consensus-3": "9e5b2446ead1f59a97fadef5cebf5d2f97feb3253b539e29b134442031ce8e4f",
}
PLAIN = "8da328faa1ee3d4537584ffe6a5300f84783e99e47b19350a02d1a8298f812f4"


def test_protocols_of_before_have_the_hashes_of_before():
    assert {name: PRESETS[name].hash for name in HASHES} == HASHES
    assert Protocol().hash == PLAIN
    assert "panel" not in Protocol().to_json()


def test_a_panel_is_part_of_the_hash_and_comes_back_whole():
    protocol = Protocol(panel=PANEL)
    assert protocol.hash != Protocol().hash
    assert Protocol.model_validate_json(protocol.to_json()) == protocol


# the form


def test_the_form_sets_a_panel_and_takes_it_away():
    rules = Protocol(cap=7).to_json()
    made, note = set_panel(rules, True, " CODE ", BACK)
    assert Protocol.model_validate_json(made) == Protocol(cap=7, panel=Panel(code="CODE", return_to=BACK))
    assert note == ""
    typing, note = set_panel(made, True, "CODE", "http")
    assert Protocol.model_validate_json(typing).panel.return_to == BACK  # the last whole one
    assert "https" in note
    assert Protocol.model_validate_json(set_panel(made, False, "CODE", BACK)[0]) == Protocol(cap=7)


def test_own_names_of_ids_stay():
    rules = Protocol(panel=Panel(ids=("pid",))).to_json()
    assert Protocol.model_validate_json(set_panel(rules, True, "X", "")[0]).panel.ids == ("pid",)


@pytest.mark.parametrize(
    "before, wanted, after, invited",
    [
        ("open", True, "hub", False),
        ("invite", True, "hub", False),
        ("hub", False, "open", False),
        ("invite", False, "invite", True),
    ],
)
def test_the_form_asks_for_hub_accounts(before, wanted, after, invited):
    rules, box = ask_for_account(Protocol(access=before).to_json(), wanted)
    assert (Protocol.model_validate_json(rules).access, box) == (after, invited)
