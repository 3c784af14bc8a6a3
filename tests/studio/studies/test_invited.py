"""People who are invited by name: their links, how far they came, and links that are taken back."""

from __future__ import annotations

import json

import gradio as gr
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from calibri.errors import StudyError
from studio.core import Core
from studio.settings import Settings
from studio.studies import commands
from studio.studies.cli import main
from studio.studies.http import routes
from studio.studies.pages import invited, manage
from studio.studies.storage.invite_store import FIRST_NAMED, read_names
from tests.studio.asking import request_of

PEOPLE = "Ann Example\n\n  Ben   <b>  \nAnn Example\n"


def invite(world, study: str, names: str = PEOPLE) -> list[str]:
    made = commands.run(world.studies, "invite", {"study": study, "names": names})
    assert isinstance(made, dict)
    return made["links"]


def states(world, study: str) -> dict[str, tuple[str, int]]:
    found = commands.run(world.studies, "invited", {"study": study})
    assert isinstance(found, dict)
    return {row["name"]: (row["state"], row["pairs_voted_on"]) for row in found["invited"]}


def code_of(link: str) -> str:
    return link.partition("invite=")[2]


@pytest.fixture
def ask(world):
    """What a browser with an invite code is answered."""
    with TestClient(Starlette(routes=routes(world.studies))) as client:

        def ask(what: str, study: str, link: str, **more: object) -> dict:
            body = {"study": study, "invite": code_of(link), **more}
            return client.post(f"/ballot/{what}", json=body).json()

        yield ask


def vote_all(ask, study: str, link: str, view: dict, most: int = 100) -> dict:
    while view["stage"] == "vote" and most:
        answers = {q["id"]: "left" for q in view["questions"]}
        view = ask("cast", study, link, token=view["showings"][0]["token"], answers=answers)
        most -= 1
    return view


def test_a_pasted_list_makes_a_link_for_each_person_once(world) -> None:
    study = world.study(access="invite").id
    links = invite(world, study)
    assert len(set(links)) == 2 and states(world, study) == {
        "Ann Example": ("invited", 0),
        "Ben <b>": ("invited", 0),
    }
    assert len(invite(world, study, "Ben <b>\nCleo")) == 1  # who has one is skipped
    world.reopen()
    assert list(states(world, study)) == ["Ann Example", "Ben <b>", "Cleo"]
    known = commands.run(world.studies, "invited", {"study": study})["invited"]
    assert [row["link"] for row in known][:2] == links


def test_nothing_of_a_link_but_its_number_is_stored(world) -> None:
    study = world.study(access="invite").id
    signs = [code_of(link).partition("-")[2] for link in invite(world, study)]
    stored = str(world.studies.db.records("SELECT * FROM invites"))
    assert "Ann Example" in stored and not any(sign in stored for sign in signs)


@pytest.mark.parametrize("names, words", [("", "got none"), (" \n ", "got none"), ("x" * 81, "81: xxx")])
def test_a_list_that_is_none_is_a_sentence(names: str, words: str) -> None:
    with pytest.raises(StudyError, match=words):
        read_names(names)


def test_the_state_follows_the_person(world, ask) -> None:
    study = world.study(prompts=3, access="invite").id
    ann, ben = invite(world, study)
    assert ask("look", study, ann)["stage"] == "welcome"
    assert states(world, study)["Ann Example"] == ("opened", 0)
    view = vote_all(ask, study, ann, ask("consent", study, ann), most=1)
    assert states(world, study)["Ann Example"] == ("voting", 1)
    assert vote_all(ask, study, ann, view)["stage"] == "end"
    assert states(world, study) == {"Ann Example": ("finished", 3), "Ben <b>": ("invited", 0)}
    ask("undo", study, ann)
    assert states(world, study)["Ann Example"] == ("voting", 2)
    world.studies.set_status(study, "closed")
    ask("look", study, ben)
    assert states(world, study)["Ben <b>"] == ("opened", 0)  # a closed study finishes nobody's work


def test_a_link_that_was_taken_back_opens_nothing_and_a_new_one_goes_on(world, ask) -> None:
    study = world.study(prompts=3, access="invite").id
    ann, _ = invite(world, study)
    vote_all(ask, study, ann, ask("consent", study, ann), most=2)
    commands.run(world.studies, "take-back", {"study": study, "number": FIRST_NAMED})
    assert states(world, study)["Ann Example"] == ("taken back", 2)
    refused = ask("look", study, ann)
    assert refused["error"] == "invite" and "taken back" in refused["text"]
    with pytest.raises(StudyError, match="already"):
        commands.run(world.studies, "take-back", {"study": study, "number": FIRST_NAMED})
    again = {"study": study, "number": FIRST_NAMED, "again": True}
    rows = commands.run(world.studies, "take-back", again)["invited"]
    new = rows[-1]["link"]
    assert new != ann and rows[0]["link"] is None and ask("look", study, ann)["error"] == "invite"
    view = ask("look", study, new)
    assert (view["stage"], view["done"]) == ("vote", 2)
    assert vote_all(ask, study, new, view)["stage"] == "end"
    assert rows[-1]["name"] == "Ann Example"
    [raters] = world.studies.db.read("SELECT count(*) FROM raters")
    assert raters == (1,)
    with pytest.raises(StudyError, match="newer link"):
        commands.run(world.studies, "take-back", again)


def test_a_number_that_nobody_was_given_opens_nothing_though_it_is_signed(world, ask) -> None:
    study = world.study(access="invite").id
    made = world.studies.voting.identities.make_invite(study, FIRST_NAMED + 7)
    assert ask("look", study, f"invite={made}")["error"] == "invite"
    with pytest.raises(StudyError, match="first"):
        commands.run(world.studies, "invite", {"study": study, "first": FIRST_NAMED})


def test_names_are_in_no_export_and_invites_survive_a_snapshot(world, tmp_path) -> None:
    study = world.study(prompts=2, access="invite").id
    invite(world, study)
    world.studies.set_status(study, "closed")
    for format in ("csv", "jsonl", "html", "md", "preferences"):
        assert "Ann Example" not in world.studies.export(study, format).read_text()
    assert b"Ann Example" not in world.studies.export(study, "zip").read_bytes()
    snapshot = world.studies.snapshots.latest()
    world.studies.db.write(lambda t: t.run("DELETE FROM invites"))
    world.studies.restore(snapshot)
    assert list(states(world, study)) == ["Ann Example", "Ben <b>"]


def test_the_page_lists_people_and_what_to_send_them(world) -> None:
    study = world.study(access="invite").id
    core = Core(settings=Settings(data=world.folder), host=None, calibrations=None)
    pages = manage.Handlers(core, world.studies)
    do, here = invited.InviteHandlers(core, world.studies, pages.write_invite), request_of()
    shown, _, who, texts, cleared, told = do.on_invite(study, PEOPLE, here)
    assert "Ben &lt;b&gt;" in shown and "2 links made" in told and cleared == ""
    assert texts.count("http://127.0.0.1:7860/vote?study=") == 2
    assert [words for words, _ in who.choices] == ["Ann Example (invited)", "Ben <b> (invited)"]
    ann = who.choices[0][1]
    assert do.on_pick(study, ann, here).startswith("Ann Example, please")
    assert do.on_tick(study, ann, shown, here)[0] == gr.skip()
    shown, _, who, texts, told = do.change(False)(study, ann, here)
    assert "taken back" in shown and texts.count("http") == 1 and "has ended" in told
    assert "taken back" in do.on_pick(study, who.value, here)
    shown, _, who, texts, told = do.change(True)(study, who.value, here)
    assert texts.count("http") == 2 and who.value == FIRST_NAMED + 2
    assert shown.count("Ann Example") == 1  # one row a person
    outside = request_of(host="studio.example.org")
    assert do.on_pick(study, ann, outside) == "" and "Ann" not in str(do.on_show(study, ann, outside)[0])


def test_calibri_study_invites_by_name_too(world, tmp_path, capsys) -> None:
    study = world.study(access="invite").id
    world.studies.close()
    names = tmp_path / "people.txt"
    names.write_text("\ufeffAnn\nBen\n", encoding="utf-8")
    where = ["--data", str(world.folder)]
    assert main([*where, "invite", study, "--names", str(names)]) == 0
    assert len(json.loads(capsys.readouterr().out)["links"]) == 2
    assert main([*where, "take-back", study, str(FIRST_NAMED), "--again"]) == 0
    capsys.readouterr()
    assert main([*where, "invited", study]) == 0
    rows = json.loads(capsys.readouterr().out)["invited"]
    assert [(row["name"], row["state"]) for row in rows] == [
        ("Ann", "taken back"),
        ("Ben", "invited"),
        ("Ann", "invited"),
    ]
