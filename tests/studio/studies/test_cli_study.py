"""`calibri study`: on a closed file, and through the studio that has it open."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest
import uvicorn
from starlette.applications import Starlette

from calibri.errors import StudyError
from studio.studies.cli import ask_studio, main
from studio.studies.http import routes
from tests.studio.studies.conftest import calibration, hang_pictures, rows


@pytest.fixture
def files(tmp_path):
    (tmp_path / "mine.json").write_text(calibration(title="Mine"))
    (tmp_path / "prompts.txt").write_text("a red cube\na blue cone\n")
    return tmp_path


def call(capsys, data, *words: str) -> tuple[int, str, str]:
    code = main(["--data", str(data), *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def make(capsys, world, files) -> str:
    words = [
        "--name",
        "n",
        "--arm",
        "base",
        "--arm",
        f"mine={files}/mine.json",
        "--prompts",
        f"{files}/prompts.txt",
    ]
    code, out, err = call(capsys, world.folder, "create", *words)
    assert code == 0, err
    return json.loads(out)["id"]


def test_a_study_from_draft_to_report_on_a_closed_file(capsys, world, files, monkeypatch):
    monkeypatch.chdir(files)
    world.studies.close()
    study = make(capsys, world, files)
    assert call(capsys, world.folder, "open", study)[0] == 1  # nothing is rendered
    world.open()
    hang_pictures(world.studies, study)
    world.studies.close()
    assert json.loads(call(capsys, world.folder, "open", study)[1])["status"] == "open"
    assert json.loads(call(capsys, world.folder, "close", study)[1])["status"] == "closed"
    assert call(capsys, world.folder, "report", study, "--format", "md")[0] == 0
    assert (files / f"{study}.md").read_text().startswith("# n")
    assert call(capsys, world.folder, "export", study, "--format", "zip", "--out", "all.zip")[0] == 0
    assert (files / "all.zip").read_bytes()[:2] == b"PK"


def test_invite_links_are_printed(capsys, world, files):
    world.studies.close()
    study = make(capsys, world, files)
    links = json.loads(call(capsys, world.folder, "invite", study, "--count", "3")[1])["links"]
    assert len(set(links)) == 3


def test_an_error_is_a_sentence(capsys, world):
    world.study(prompts=1)
    world.studies.close()
    code, _, err = call(capsys, world.folder, "close", "nowhere")
    assert (code, err) == (1, "study: There is no such study.\n")


def test_a_data_folder_that_is_none(capsys, tmp_path):
    code, _, err = call(capsys, tmp_path / "no", "show", "x")
    assert code == 1
    assert "--data" in err


@pytest.fixture
def address(world):
    """The routes of the studio on a real port, with the file open."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(
        uvicorn.Config(Starlette(routes=routes(world.studies)), port=port, log_level="error")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


def test_the_running_studio_does_what_its_owner_asks(world, address):
    study = world.study(prompts=2)
    world.rater(study).join().vote_all()
    ask = lambda action, **values: ask_studio(world.folder, address, action, values)  # noqa: E731
    assert ask("show", study=study.id)["showings"] == 2
    assert ask("close", study=study.id)["status"] == "closed"
    name, data = ask("export", study=study.id, format="csv")
    assert name == f"{study.id}.csv"
    assert data.count(b"\n") == 3
    with pytest.raises(StudyError, match="cannot become closed"):
        ask("close", study=study.id)


def test_another_folder_s_key_opens_nothing(world, address, tmp_path):
    world.study()
    with pytest.raises(StudyError, match="Only the organiser"):
        ask_studio(tmp_path / "other", address, "list", {})


def test_no_studio_at_that_address(world):
    with pytest.raises(StudyError, match="no studio answers"):
        ask_studio(world.folder, "http://127.0.0.1:9", "list", {})


def test_arms_may_have_steps_of_their_own(capsys, world, tmp_path):
    prompts = tmp_path / "p.txt"
    prompts.write_text("a red cube\n")
    world.studies.close()
    asked = ["create", "--name", "steps", "--arm", "many@30", "--arm", "few", "--steps", "8"]
    code, out, err = call(capsys, world.folder, *asked, "--prompts", str(prompts))
    assert code == 0, err
    world.open()
    arms = {a.label: a.steps for a in world.studies.store.arms(json.loads(out)["id"]) if a.kind != "gold"}
    assert arms == {"many": 30, "few": 8}


def test_a_report_without_flagged_raters_says_so(capsys, world, tmp_path):
    study = world.study(prompts=14)
    world.rater(study, 1).join().vote_all("left")
    world.rater(study, 2).join().vote_all(seed=1)
    world.studies.set_status(study.id, "closed")
    world.studies.close()
    out = tmp_path / "r.md"
    asked = ["report", study.id, "--format", "md", "--out", str(out), "--without-flagged"]
    assert call(capsys, world.folder, *asked)[0] == 0
    assert "14 of 28 (without flagged raters)" in out.read_text()
    code, _, err = call(capsys, world.folder, "report", study.id, "--category", "none such")
    assert code == 1
    assert "No votes on category" in err


def test_a_vote_can_be_left_out_and_stays_in_the_exports(capsys, world, tmp_path):
    study = world.study(prompts=2)
    world.rater(study).join().vote_all()
    [first, _] = rows(world)
    world.studies.close()
    asked = ["invalidate", first["id"], "--reason", "pressed by a cat"]
    assert call(capsys, world.folder, *asked)[0] == 0
    code, _, err = call(capsys, world.folder, *asked)
    assert code == 1 and "already" in err
    out = tmp_path / "votes.jsonl"
    assert call(capsys, world.folder, "export", study.id, "--format", "jsonl", "--out", str(out))[0] == 0
    valid = {row["id"]: row["valid"] for row in map(json.loads, out.read_text().splitlines())}
    assert len(valid) == 2 and not valid[first["id"]]


@pytest.mark.parametrize("words", [["spec.json"], ["--name", "n", "--arm", "a", "--prompts", "none.txt"]])
def test_a_file_that_is_none_is_a_sentence(capsys, world, words):
    world.studies.close()
    code, _, err = call(capsys, world.folder, "create", *words)
    assert code == 1 and "expected" in err.lower()
