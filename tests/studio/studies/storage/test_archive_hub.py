"""An archive on the hub: private, given back, kept here while the hub is down; its token is nowhere."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_hub import FakeHub, Repository, open_hub, point_at
from tests.studio.studies.storage.test_archive import Home, same_data

TOKEN, REPO = "hf_ann", "ann/votes"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with open_hub(tmp_path, monkeypatch, TOKEN) as server:
        yield server


def test_the_hub_keeps_a_private_dataset_and_gives_it_back(
    hub: FakeHub, tmp_path: Path, capsys, caplog
) -> None:
    caplog.set_level(logging.DEBUG)
    home = Home(tmp_path / "data", REPO)
    study = home.study(prompts=3)
    home.rater(study).vote_all()
    home.archive.sync()
    repo = hub.repos[REPO]
    assert repo.private and "README.md" in repo.files
    commits = len(repo.commits)
    home.archive.sync()
    assert len(repo.commits) == commits  # nothing new, nothing sent
    other = Home(tmp_path / "new", REPO)
    assert "1 study and 3 votes came back" in other.told
    same_data(home, other)
    for each in (home, other):
        each.close()
    said = capsys.readouterr()
    assert TOKEN not in said.out + said.err + "".join(
        r.getMessage() for r in caplog.records if "calibri" in r.name or "studio" in r.name
    )
    assert not any(TOKEN.encode() in data for data in repo.files.values())
    assert not any(TOKEN in path for _, path, _ in hub.asked)
    files = [p for p in (tmp_path / "data").rglob("*") if p.is_file()]
    assert not any(TOKEN.encode() in p.read_bytes() for p in files)


def test_while_the_hub_is_down_parts_are_kept_and_shipped_later(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "data", REPO)
    study = home.study(prompts=4)
    home.close()
    before = set(hub.repos[REPO].files)
    point_at(monkeypatch, "http://127.0.0.1:9")  # nobody listens there
    home = Home(tmp_path / "data", REPO)
    home.rater(study).vote_all()
    told = home.archive._try()
    assert "cannot be reached" in told and "wait here" in told and TOKEN not in told
    home.studies.voting.undo(study, home.rater(study).who)  # voting goes on
    home.close()
    assert set(hub.repos[REPO].files) == before
    point_at(monkeypatch, hub.url)
    later = Home(tmp_path / "data", REPO)
    assert "all was shipped" in later.archive.tell()
    other = Home(tmp_path / "new", REPO)
    same_data(later, other)
    assert len(other.rows("votes")) == 3
    other.close()
    later.close()


def test_a_refused_token_is_told_without_it(hub: FakeHub, tmp_path: Path) -> None:
    hub.scopes = set()
    home = Home(tmp_path / "data", REPO)
    assert "token that may write" in home.told and TOKEN not in home.told
    home.study(prompts=1)  # the studio works all the same
    home.close()


def test_a_public_dataset_gets_nothing(hub: FakeHub, tmp_path: Path) -> None:
    hub.repos[REPO] = Repository(private=False)
    home = Home(tmp_path / "data", REPO)
    home.study(prompts=1)
    assert "is public" in home.archive._try()
    assert hub.repos[REPO].files == {}
    home.close()
