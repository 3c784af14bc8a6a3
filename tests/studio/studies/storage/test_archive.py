"""A second place for votes and studies: folder or hub, lost data folders, places that cannot be reached."""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pytest

from calibri.errors import StudyError
from studio.settings import read_settings
from studio.studies.protocol import Panel
from studio.studies.storage.archive import LEFT_OUT, PART, SHIPPED, Archive
from studio.studies.storage.archive_places import FolderPlace, HubPlace, open_place
from studio.studies.studies import Studies, open_studies
from studio.studies.voting.identity import Who
from tests.studio.studies.conftest import Clock, Rater, make_draft


class Home:
    """A studio's data folder with an archive, whose worker waits until it is asked."""

    def __init__(self, folder: Path, where: str, every: float = 3600) -> None:
        self.folder, self.clock = folder, Clock()
        self.studies: Studies = open_studies(folder, None, clock=self.clock, random=Random(4), archive=where)
        assert self.studies.archive is not None
        self.archive: Archive = self.studies.archive
        self.archive._every = every
        self.told = self.archive.begin()

    def study(self, *args: Any, **protocol: Any) -> str:
        made = make_draft(self.studies, *args, **protocol)
        return self.studies.set_status(made.id, "open").id

    def rater(self, study: str, number: int = 0) -> Rater:
        who = Who("anonymous", f"rater{number:020d}")
        return Rater(self.studies, study, who, clock=self.clock).join()

    def rows(self, table: str) -> list[dict[str, Any]]:
        return self.studies.db.records(f"SELECT * FROM {table} ORDER BY ALL")

    def close(self) -> None:
        self.studies.close()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path / "data", str(tmp_path / "kept"))
    yield made
    made.close()


def parts(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def same_data(one: Home, other: Home) -> None:
    for table in set(SHIPPED) - {"assignments"}:
        assert one.rows(table) == other.rows(table), table
    state = (
        "SELECT token, pair, rater, left_is_x, number FROM assignments WHERE state = 'voted' ORDER BY token"
    )
    assert one.studies.db.read(state) == other.studies.db.read(state)


# bringing back


def test_a_lost_data_folder_comes_back(home: Home, tmp_path: Path) -> None:
    study = home.study(prompts=5)
    first = home.rater(study)
    first.vote("left")
    first.vote("left")
    home.archive.sync()
    first.view = home.studies.voting.undo(study, first.who)
    home.archive.sync()
    first.vote("right")
    home.rater(study, 1).vote_all()
    home.studies.votes.invalidate(home.rows("votes")[0]["id"], "a test")
    home.archive.sync()
    other = Home(tmp_path / "new", str(tmp_path / "kept"))
    assert "1 study and 7 votes came back" in other.told
    same_data(home, other)
    assert [row["valid"] for row in other.studies.votes.rows(study)].count(False) == 1
    analysed = [home.studies.analysis(study).tables, other.studies.analysis(study).tables]
    assert analysed[0] == analysed[1]
    other.close()


def test_with_its_key_raters_go_on_where_they_were(home: Home, tmp_path: Path) -> None:
    study = home.study(prompts=5)
    home.rater(study).vote("left")
    home.archive.sync()
    (tmp_path / "new").mkdir()
    shutil.copy(home.folder / "studies.key", tmp_path / "new" / "studies.key")
    other = Home(tmp_path / "new", str(tmp_path / "kept"))
    again = other.rater(study)
    assert again.view.done == 1
    again.vote_all()
    assert len(other.rows("votes")) == 5
    other.close()


def test_the_newest_state_of_a_study_counts(home: Home, tmp_path: Path) -> None:
    study = home.study(prompts=2)
    home.archive.sync()
    home.studies.set_status(study, "closed")
    home.archive.sync()
    other = Home(tmp_path / "new", str(tmp_path / "kept"))
    assert other.studies.store.get(study).status == "closed"
    other.close()


def test_what_came_back_is_not_shipped_again(home: Home, tmp_path: Path) -> None:
    study = home.study(prompts=3)
    home.rater(study).vote_all()
    home.archive.sync()
    before = parts(tmp_path / "kept")
    other = Home(tmp_path / "new", str(tmp_path / "kept"))
    other.archive.sync()
    assert parts(tmp_path / "kept") == before
    later = other.rater(study, 7)
    later.vote("left")
    other.archive.sync()
    new = sorted(set(parts(tmp_path / "kept")) - set(before))
    assert min(int(name[:8]) for name in new) > max(int(name[:8]) for name in before)
    [votes] = [name for name in new if "-votes-" in name]
    assert duckdb.sql(f"SELECT count(*) FROM '{tmp_path / 'kept' / votes}'").fetchall() == [(1,)]
    other.close()


def test_a_data_folder_with_studies_is_not_filled(home: Home, tmp_path: Path, caplog) -> None:
    home.study(prompts=2, name="first")
    home.archive.sync()
    quiet = open_studies(tmp_path / "new", None)
    make_draft(quiet, name="second")
    quiet.close()
    with caplog.at_level(logging.WARNING):
        other = Home(tmp_path / "new", str(tmp_path / "kept"))
    assert [s.name for s in other.studies.store.all()] == ["second"]
    assert "another data folder" in caplog.text
    other.close()


def test_a_damaged_part_is_left_out_and_named(home: Home, tmp_path: Path, caplog) -> None:
    study = home.study(prompts=6)
    rater = home.rater(study)
    rater.vote()
    home.archive.sync()
    rater.vote()
    home.archive.sync()
    bad = sorted((tmp_path / "kept").glob("*-votes-*"))[-1]
    bad.write_bytes(bad.read_bytes()[:-9] + b"nonsense!")
    with caplog.at_level(logging.ERROR):
        other = Home(tmp_path / "new", str(tmp_path / "kept"))
    assert len(other.rows("votes")) == 1 and bad.name in caplog.text
    other.close()


def test_a_key_that_is_given_is_made_again_where_the_disk_is_lost(tmp_path: Path) -> None:
    text = "a long text that nobody guesses"
    codes = []
    for name in ("one", "two"):
        studies = open_studies(tmp_path / name, None, key_text=text)
        codes.append(studies.voting.identities.make_invite("a-study", 3))
        assert text.encode() not in (tmp_path / name / "studies.key").read_bytes()
        studies.close()
    assert codes[0] == codes[1]
    kept = open_studies(tmp_path / "one", None, key_text="another text that nobody guesses")
    assert kept.voting.identities.make_invite("a-study", 3) == codes[0]  # the folder's own counts
    kept.close()


# what parts are


def test_parts_are_only_added_and_named_by_their_bytes(home: Home, tmp_path: Path) -> None:
    study = home.study(prompts=4)
    rater = home.rater(study)
    seen: dict[str, bytes] = {}
    for number in range(3):
        rater.vote()
        home.archive.sync()
        now = parts(tmp_path / "kept")
        assert seen.items() <= now.items() and len(now) > len(seen)
        seen = now
        home.archive.sync()
        assert parts(tmp_path / "kept") == seen, number
    for name, data in seen.items():
        found = PART.fullmatch(name)
        assert found and hashlib.sha256(data).hexdigest().startswith(found[3])
    votes = sorted((tmp_path / "kept").glob("*-votes-*"))
    assert [duckdb.sql(f"SELECT count(*) FROM '{p}'").fetchall()[0][0] for p in votes] == [1, 1, 1]
    assert (tmp_path / "kept" / "README.md").is_file()


def test_no_secret_and_no_name_is_shipped(home: Home, tmp_path: Path) -> None:
    study = home.study(prompts=2, panel=Panel())
    who = Who("panel", "PROLIFIC_PID=5f0c1a", (("PROLIFIC_PID", "5f0c1a"),))
    Rater(home.studies, study, who, clock=home.clock).join().vote_all()
    assert home.rows("panel_ids")
    home.archive.sync()
    everything = [
        str(duckdb.sql(f"SELECT * FROM '{path}'").fetchall())
        for path in (tmp_path / "kept").glob("*.parquet")
    ]
    key = (home.folder / "studies.key").read_bytes()
    assert everything and not [text for text in everything if "5f0c1a" in text or key.hex() in text]
    for path in (tmp_path / "kept").iterdir():
        assert key not in path.read_bytes()
    assert {PART.fullmatch(name)[2] for name in parts(tmp_path / "kept")} <= set(SHIPPED)
    assert set(LEFT_OUT) == {"panel_ids"}


def test_after_a_migration_the_whole_table_is_shipped(home: Home, tmp_path: Path) -> None:
    study = home.study(prompts=3)
    home.rater(study).vote_all()
    home.archive.sync()
    state = home.folder / "archive" / "state" / "votes.parquet"
    duckdb.sql(f"COPY (SELECT * EXCLUDE (number) FROM '{state}') TO '{state}.old' (FORMAT parquet)")
    Path(f"{state}.old").replace(state)
    home.rater(study, 1).vote()
    home.archive.sync()
    newest = sorted((tmp_path / "kept").glob("*-votes-*"))[-1]
    assert duckdb.sql(f"SELECT count(*), count(number) FROM '{newest}'").fetchall() == [(4, 4)]


# the worker


def wait_for(what: Any) -> None:
    end = time.monotonic() + 20
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_worker_ships_by_itself_and_at_the_end(tmp_path: Path) -> None:
    home = Home(tmp_path / "data", str(tmp_path / "kept"), every=0.05)
    study = home.study(prompts=3)
    rater = home.rater(study)
    home.archive.ship_soon()
    rater.vote()
    wait_for(lambda: list((tmp_path / "kept").glob("*-votes-*")))
    home.archive._every = 3600
    rater.vote()
    home.close()
    other = Home(tmp_path / "new", str(tmp_path / "kept"))
    assert len(other.rows("votes")) == 2
    other.close()


def test_closing_a_study_ships_at_once(home: Home, tmp_path: Path) -> None:
    study = home.study(prompts=2)
    home.rater(study).vote_all()
    home.studies.set_status(study, "closed")
    wait_for(lambda: list((tmp_path / "kept").glob("*-votes-*")))


# places that cannot be reached


def test_an_archive_that_cannot_be_reached_at_the_start_fills_the_folder_later(
    home: Home, tmp_path: Path
) -> None:
    study = home.study(prompts=3)
    home.rater(study).vote_all()
    home.archive.sync()
    place = tmp_path / "mount"
    place.write_text("not mounted yet")
    other = Home(tmp_path / "new", str(place))
    assert "not shipped just now" in other.told and other.rows("studies") == []
    other.close()
    again = Home(tmp_path / "new", str(place))  # the wish outlives a restart
    make_draft(again.studies, name="made meanwhile")
    place.unlink()
    shutil.copytree(tmp_path / "kept", place)
    assert "1 study and 3 votes" in again.archive.sync()
    assert {s.name for s in again.studies.store.all()} == {"test", "made meanwhile"}
    assert any("-studies-" in name for name in set(parts(place)) - set(parts(tmp_path / "kept")))
    again.close()


def test_parts_wait_while_the_folder_cannot_be_written(home: Home, tmp_path: Path, caplog) -> None:
    study = home.study(prompts=3)
    home.archive.sync()
    kept = tmp_path / "kept"
    kept.rename(tmp_path / "away")
    kept.write_text("in the way")
    rater = home.rater(study)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            rater.vote()
            home.archive._try()
    assert "wait here" in home.archive.tell()
    assert caplog.text.count("cannot be used") == 1  # said once, not every five minutes
    kept.unlink()
    (tmp_path / "away").rename(kept)
    rater.vote()
    home.archive._try()
    assert "all was shipped" in home.archive.tell()
    other = Home(tmp_path / "new", str(kept))
    same_data(home, other)
    other.close()


# options


def test_a_folder_or_a_repository() -> None:
    assert isinstance(open_place("ann/votes"), HubPlace)
    assert isinstance(open_place("./ann/votes"), FolderPlace)
    assert isinstance(open_place("/mnt/votes"), FolderPlace)
    with pytest.raises(StudyError, match="owner/name"):
        open_place("ann/votes@main")


def test_the_option_and_its_variable() -> None:
    assert read_settings([], {}).archive == ""
    assert read_settings([], {"CALIBRI_ARCHIVE": "ann/votes"}).archive == "ann/votes"
    assert read_settings(["--archive", "./kept"], {"CALIBRI_ARCHIVE": "ann/votes"}).archive == "./kept"


def test_a_short_key_is_refused_and_not_repeated(capsys) -> None:
    with pytest.raises(SystemExit):
        read_settings([], {"CALIBRI_STUDIES_KEY": "hushhush"})
    said = capsys.readouterr().err
    assert "20 characters" in said and "hushhush" not in said
    assert "a long text" not in repr(read_settings(["--studies-key", "a long text that is long"], {}))


def test_without_the_option_nothing_is_made(tmp_path: Path) -> None:
    studies = open_studies(tmp_path / "data", None)
    make_draft(studies)
    studies.close()
    assert studies.archive is None and not (tmp_path / "data" / "archive").exists()
