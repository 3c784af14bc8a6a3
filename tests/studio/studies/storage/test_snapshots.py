"""Copies of the votes: nothing acknowledged is missing from them, and bringing back makes no duplicates."""

from __future__ import annotations

import shutil
import threading
from datetime import datetime, timedelta

import pytest

from calibri.errors import StudyError
from studio.studies.storage import snapshots
from studio.studies.storage.database import Database
from tests.studio.studies.conftest import World, rows


def test_closing_takes_a_snapshot_that_restores_into_an_empty_studio(world, tmp_path):
    study = world.study(prompts=3)
    world.rater(study).join().vote_all()
    world.studies.set_status(study.id, "closed")
    before = rows(world)
    other = World(tmp_path / "other")
    new = other.studies.restore(next(world.studies.snapshots.folder.glob("*-close")))
    assert new["votes"] == 3
    assert rows(other) == before
    assert other.studies.store.get(study.id).status == "closed"
    other.studies.close()


def test_restoring_twice_or_over_what_is_there_adds_nothing(world):
    study = world.study(prompts=3)
    rater = world.rater(study).join()
    rater.vote()
    folder = world.studies.snapshots.take("test")
    rater.vote()
    before = rows(world)
    for _ in range(2):
        assert set(world.studies.restore(folder).values()) == {0}
    assert rows(world) == before


def test_a_vote_taken_back_since_the_snapshot_does_not_come_back(world):
    study = world.study(prompts=3)
    rater = world.rater(study).join()
    rater.vote("left")
    folder = world.studies.snapshots.take("test")
    rater.view = world.studies.voting.undo(study.id, rater.who)
    world.studies.restore(folder)
    assert rows(world) == []
    rater.vote("right")
    world.studies.restore(folder)
    assert [v["side"] for v in rows(world)] == ["right"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 2, 1)])
def test_snapshots_in_any_order_give_the_newest_state(world, tmp_path, order):
    study = world.study(prompts=3)
    rater = world.rater(study).join()
    rater.vote("left")
    folders = [world.studies.snapshots.take("one")]
    rater.view = world.studies.voting.undo(study.id, rater.who)
    folders.append(world.studies.snapshots.take("two"))
    rater.vote("right")
    rater.vote("left")
    folders.append(world.studies.snapshots.take("three"))
    other = World(tmp_path / "other")
    other.folder.mkdir()
    shutil.copy(world.folder / "studies.key", other.folder / "studies.key")
    for at in order:
        other.studies.restore(folders[at])
    assert rows(other) == rows(world)
    states = "SELECT token, state FROM assignments WHERE state IN ('voted', 'undone') ORDER BY token"
    assert other.studies.db.read(states) == world.studies.db.read(states)
    again = other.rater(study).join()
    assert again.view.done == 2
    other.studies.close()


def test_a_newer_snapshot_over_an_older_file_asks_nobody_twice(world, tmp_path):
    study = world.study(prompts=3)
    rater = world.rater(study).join()
    before = world.studies.snapshots.take("before")
    rater.vote("left")
    after = world.studies.snapshots.take("after")
    other = World(tmp_path / "other")
    other.folder.mkdir()
    shutil.copy(world.folder / "studies.key", other.folder / "studies.key")
    other.studies.restore(before)
    again = other.rater(study).join()
    other.studies.restore(after)
    again.join()
    assert again.view.done == 1
    assert again.vote_all() == 2
    assert len(rows(other)) == 3
    other.studies.close()


def test_votes_go_on_after_a_restore(world):
    study = world.study(prompts=3)
    rater = world.rater(study).join()
    rater.vote()
    world.studies.restore(world.studies.snapshots.take("test"))
    assert rater.vote_all() == 2


def test_a_snapshot_follows_every_n_votes(tmp_path):
    world = World(tmp_path / "data", every=3)
    study = world.study(prompts=6)
    world.rater(study).join().vote_all()
    world.studies.close()
    kept = list((tmp_path / "data" / "snapshots").glob("*-auto"))
    assert 1 <= len(kept) <= 2
    assert not list((tmp_path / "data" / "snapshots").glob(".*"))


def test_old_automatic_snapshots_go_and_those_of_a_close_stay(world):
    study = world.study(prompts=1)
    world.studies.set_status(study.id, "closed")
    for _ in range(7):
        world.studies.snapshots.take("auto")
    names = [p.name for p in world.studies.snapshots.folder.iterdir()]
    assert sum(n.endswith("-auto") for n in names) == 5
    assert sum(n.endswith("-close") for n in names) == 1


def test_a_folder_that_is_no_snapshot(world, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(StudyError, match="no snapshot"):
        world.studies.restore(tmp_path / "empty")


def test_a_backup_while_people_vote_is_whole(world, tmp_path):
    study = world.study(prompts=12)
    raters = [world.rater(study, i).join() for i in range(2)]
    threads = [threading.Thread(target=r.vote_all, args=("left",)) for r in raters]
    for thread in threads:
        thread.start()
    path = world.studies.backup(tmp_path / "copy.duckdb")
    for thread in threads:
        thread.join()
    copy = Database(path)
    [(votes, known)] = copy.read(
        "SELECT count(*), count(a.token) FILTER (WHERE a.state = 'voted') "
        "FROM votes LEFT JOIN assignments a USING (token)"
    )
    assert votes == known
    copy.close()
    assert len(rows(world)) == 24


def test_a_backup_overwrites_nothing(world, tmp_path):
    world.study(prompts=1)
    path = world.studies.backup(tmp_path / "copy.duckdb")
    with pytest.raises(StudyError, match="exists already"):
        world.studies.backup(path)


def test_a_missing_table_of_an_older_snapshot_is_no_error(world):
    study = world.study(prompts=2)
    world.rater(study).join().vote()
    folder = world.studies.snapshots.take("test")
    shutil.copytree(folder, folder.with_name("older"))
    (folder.with_name("older") / "renders.parquet").unlink()
    assert "renders" not in world.studies.restore(folder.with_name("older"))


def test_a_snapshot_after_the_clock_was_set_back_is_kept_and_is_the_newest(world, monkeypatch):
    """The clock ran a month ahead while five snapshots were taken, and was then put right."""
    ahead = datetime(2027, 1, 1)
    study = world.study(prompts=6)
    rater = world.rater(study).join()
    for hour in range(6):
        monkeypatch.setattr(snapshots, "now", lambda hour=hour: ahead + timedelta(hours=hour))
        world.studies.snapshots.take("auto")
    monkeypatch.setattr(snapshots, "now", lambda: datetime(2026, 11, 29))
    rater.vote("left")
    new = world.studies.snapshots.take("auto")
    assert new.exists()
    assert world.studies.snapshots.latest() == new
    assert len(list(new.parent.glob("*-auto"))) == 5


def test_snapshots_of_earlier_versions_come_before_those_with_a_number(world):
    world.study(prompts=1)
    taken = [world.studies.snapshots.take("auto") for _ in range(5)]
    for old in taken[:4]:
        (old / snapshots.NUMBER).unlink()
    assert world.studies.snapshots.latest() == taken[4]
    world.studies.snapshots.take("auto")
    assert not taken[0].exists()
