"""Files that cannot be opened: one sentence at once, nothing waits, nothing is lost in silence."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from calibri.errors import StudyError
from calibri.words import count
from studio.studies import commands
from studio.studies.cli import main
from studio.studies.http import routes
from studio.studies.pages.manage import draw_card
from studio.studies.storage.database import Database, connect, migrate
from studio.studies.storage.opening import DamagedFile, FileInUse, find_owner
from studio.studies.studies import open_studies
from tests.studio.studies.conftest import World

VOTES = """
import os, sys
from pathlib import Path
from tests.studio.studies.conftest import World
world = World(Path(sys.argv[1]))
rater = world.rater(world.study(prompts=30)).join()
for number in range(20):
    rater.vote("left")
    if number == 14:
        world.studies.snapshots.take("auto")
os.kill(os.getpid(), 9)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """The data folder of a studio that was killed after 20 votes; a snapshot has 15 of them."""
    folder = tmp_path_factory.mktemp("killed") / "data"
    done = subprocess.run([sys.executable, "-c", VOTES, str(folder)], timeout=240, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (folder / "votes.duckdb.wal").stat().st_size > 10_000
    return folder


@pytest.fixture
def folder(killed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(killed, tmp_path / "data"))


def flip(data: bytes) -> bytes:
    at = len(data) * 3 // 4
    return data[:at] + bytes(b ^ 0xFF for b in data[at : at + 16]) + data[at + 16 :]


REFUSED = {"bits flipped": flip, "zeros at the end": lambda data: data[:-200] + bytes(200)}
DROPPED = {"cut by 100 bytes": lambda data: data[:-100], "cut by half": lambda data: data[: len(data) // 2]}


def damage(folder: Path, how) -> None:
    log = folder / "votes.duckdb.wal"
    log.write_bytes(how(log.read_bytes()))


@pytest.mark.parametrize("how", REFUSED)
def test_a_damaged_log_is_refused_with_what_to_do_and_nothing_is_changed(folder, how):
    damage(folder, REFUSED[how])
    before = {p.name: p.read_bytes() for p in folder.glob("votes.*")}
    with pytest.raises(DamagedFile, match=r"calibri study --data .* repair.*newest snapshot \(.*-auto\)"):
        open_studies(folder, None).open()
    assert {p.name: p.read_bytes() for p in folder.glob("votes.*")} == before
    assert not list(folder.glob(".*"))


def test_raters_and_organisers_read_a_sentence_where_the_log_is_damaged_and_no_path(folder):
    damage(folder, flip)
    studies = open_studies(folder, None)
    with TestClient(Starlette(routes=routes(studies)), raise_server_exceptions=False) as client:
        for body in ({"rater": "ab" * 16}, {"study": "any", "rater": "ab" * 16}):
            answer = client.post("/ballot/look", json=body)
            assert answer.status_code == 409
            assert "votes.duckdb.wal" in answer.json()["text"]
            assert str(folder) not in answer.text
    studies.close()


@pytest.mark.parametrize("how", REFUSED)
def test_repair_keeps_what_can_be_read_and_adds_the_newest_snapshot(folder, how, capsys):
    damage(folder, REFUSED[how])
    assert main(["--data", str(folder), "list"]) == 1
    assert "repair" in capsys.readouterr().err
    assert main(["--data", str(folder), "repair"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert 0 < told["votes_read"] < 20
    assert told["votes_read"] + told["votes_added"] >= 15
    assert told["changes_dropped"] > 0
    assert (folder / told["old_files"] / "votes.duckdb.wal").is_file()
    studies = open_studies(folder, None)
    [study] = studies.store.all()
    assert studies.votes.count(study.id) == told["votes_read"] + told["votes_added"]
    studies.close()
    assert main(["--data", str(folder), "repair"]) == 1
    assert "nothing to repair" in capsys.readouterr().err


@pytest.mark.parametrize("how", DROPPED)
def test_changes_that_the_database_drops_in_silence_are_told_with_the_newest_snapshot(folder, how):
    damage(folder, DROPPED[how])
    studies = open_studies(folder, None)
    studies.open()
    [(votes,)] = studies.db.read("SELECT count(*) FROM votes")
    assert votes < 20
    told = studies.tell_dropped()
    [kept] = folder.glob("votes.duckdb.wal.damaged-*")
    assert kept.name in told
    if votes < 15:
        assert f"has {count(15 - votes, 'vote')} more" in told
        assert str(folder) not in told
        [name] = re.findall(r"`calibri study restore (.*?)`", told)
        commands.run(studies, "restore", {"folder": name})
        assert studies.db.read("SELECT count(*) FROM votes") == [(15,)]
    else:
        assert "No snapshot has more votes" in told
    for study in studies.store.all():
        assert "Lost votes" in draw_card(studies, study)
    studies.close()
    again = open_studies(folder, None)
    again.open()
    assert again.tell_dropped() == ""  # told once
    again.close()


def test_a_kill_alone_loses_nothing_and_nothing_is_told(folder):
    studies = open_studies(folder, None)
    studies.open()
    assert studies.db.read("SELECT count(*) FROM votes") == [(20,)]
    assert studies.tell_dropped() == ""
    assert not list(folder.glob("*damaged*"))
    studies.close()


CORRUPT = [b"", b"not a database" * 500, bytes(12288)]


@pytest.mark.parametrize("content", CORRUPT[1:])
def test_a_file_that_is_no_database_is_refused_and_repaired_from_the_snapshot(folder, content, capsys):
    (folder / "votes.duckdb").write_bytes(content)
    with pytest.raises(DamagedFile, match="is damaged, or is no file of votes"):
        open_studies(folder, None).open()
    assert main(["--data", str(folder), "repair"]) == 0
    assert json.loads(capsys.readouterr().out)["votes_added"] == 15


def break_migration(folder: Path) -> None:
    """A table of that name is in the way of the last migration."""
    connection = connect(folder / "votes.duckdb")
    migrate(connection)
    connection.execute("DELETE FROM schema_version WHERE version = (SELECT max(version) FROM schema_version)")
    connection.close()


def test_votes_never_wait_for_a_database_that_cannot_be_migrated(tmp_path):
    break_migration(tmp_path)
    db, outcomes = Database(tmp_path / "votes.duckdb"), []

    def write() -> None:
        try:
            db.write(lambda t: t.run("INSERT INTO raters VALUES ('a', 'b', 'local', now()::TIMESTAMP)"))
        except StudyError as error:
            outcomes.append(str(error))

    for _ in range(3):
        with pytest.raises(StudyError, match="Migration 0005"):
            db.read("SELECT 1")
        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        thread.join(30)
        assert not thread.is_alive()
    assert len(outcomes) == 3
    db.close()
    duckdb.connect(str(tmp_path / "votes.duckdb")).close()  # and no connection was left open


HOLD = """
import sys
from pathlib import Path
from studio.studies.storage.database import Database
Database(Path(sys.argv[1])).read("SELECT 1")
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that has the votes open."""
    path = tmp_path / "data" / "votes.duckdb"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "open\n"
    yield process
    process.communicate()


@pytest.mark.skipif(os.name != "posix", reason="Windows does not say which process")
def test_a_second_owner_is_told_the_first_one_s_process_id(holder, tmp_path):
    assert find_owner(tmp_path / "data" / "votes.duckdb") == holder.pid
    with pytest.raises(FileInUse, match=rf"process id {holder.pid}\)"):
        open_studies(tmp_path / "data", None).open()


def test_a_folder_whose_name_holds_the_word_lock_is_not_taken_for_one_in_use(tmp_path):
    folder = tmp_path / "flux-blocks-lock"
    folder.mkdir()
    (folder / "votes.duckdb").write_bytes(b"not a database" * 500)
    with pytest.raises(DamagedFile):
        open_studies(folder, None).open()


START = """
import json, sys
from pathlib import Path
from studio.settings import Settings
from studio.shell.start import run_studio
for folder in sys.argv[1:]:
    print("code", run_studio(Settings(data=Path(folder), no_search=True, port=0)), flush=True)
"""


def test_the_studio_refuses_to_start_with_a_sentence(holder, killed, tmp_path):
    """Folders: in use, damaged, not to be migrated, not to be written in."""
    used, damaged, old, closed = (tmp_path / name for name in ("used", "damaged", "old", "closed"))
    used.symlink_to(tmp_path / "data", target_is_directory=True)
    damage(Path(shutil.copytree(killed, damaged)), flip)
    old.mkdir()
    break_migration(old)
    closed.write_text("a file where the folder should be")
    done = subprocess.run(
        [sys.executable, "-c", START, str(used), str(damaged), str(old), str(closed)],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.stdout.split() == ["code", "1"] * 4, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("The studio cannot start.")]
    for line, words in zip(lines, (f"process id {holder.pid}", "repair", "Migration 0005", "data folder")):
        assert words in line
    assert len(lines) == 4
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/proc/self").exists() and os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    folder = Path("/proc/calibri") if os.geteuid() == 0 else tmp_path / "read-only"
    if os.geteuid():
        folder.mkdir(mode=0o500)
    with pytest.raises(StudyError, match="Nothing can be written in the folder"):
        open_studies(folder, None).open()


def test_two_worlds_after_each_other_share_a_folder(tmp_path):
    first = World(tmp_path / "data")
    first.study(prompts=1)
    first.studies.close()
    second = World(tmp_path / "data")
    assert len(second.studies.store.all()) == 1
    second.studies.close()


def test_a_study_that_cannot_be_read_hides_no_other(world):
    from studio.studies import commands
    from studio.ui.elements import list_unreadable

    good, bad = world.study(name="good"), world.study(name="bad")
    world.studies.db.write(
        lambda t: t.run("UPDATE studies SET protocol = ? WHERE id = ?", ['{"a": ' + "9" * 5000 + "}", bad.id])
    )
    assert [study.id for study in world.studies.store.all()] == [good.id]
    [(name, why)] = world.studies.store.unreadable()
    assert name == "bad" and "its protocol cannot be read" in why
    listed = commands.run(world.studies, "list", {})
    assert [each["name"] for each in listed["studies"]] == ["good"]
    assert listed["unreadable"] == [{"name": "bad", "why": why}]
    assert "bad" in list_unreadable(world.studies.store.unreadable())
