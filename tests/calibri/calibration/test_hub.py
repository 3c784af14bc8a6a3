"""Calibrations on a hub: the hub's own client against a server on loopback that speaks its API."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from PIL import Image

from calibri.calibration.artifact import Calibration, Member
from calibri.calibration.hub import CARD, FILE, is_hub_id, pull, push, write_card
from calibri.calibration.reading import read_calibration
from calibri.cli import main
from calibri.errors import ArtifactError
from tests.browser.running import free_port
from tests.fake_hub import FakeHub, Repository, open_hub, point_at

GAINS = {"pickscore": {"mean": 0.65, "low": 0.2, "high": 1.1, "n": 128}}
NAMES = (*(f"double.{i}" for i in range(19)), *(f"single.{i}" for i in range(38)))
MADE = Calibration(
    title="Warm | edges",
    backbone="FLUX.1-dev",
    granularity="block",
    names=NAMES,
    members=(Member(scales=(1.1,) * len(NAMES)),),
    found={"how": "search", "rewards": "pickscore", "images": 2644, "gains": GAINS},
)
SECRET = "hf_ann"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that the client's own settings name, with a cache of its own and the token of `ann`."""
    with open_hub(tmp_path, monkeypatch, SECRET) as server:
        yield server


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "warm.json"
    MADE.save(path)
    return path


def test_pushed_and_pulled_it_is_the_same(hub, file, tmp_path, capsys, caplog, monkeypatch) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "A red cube.png")
    picture = str(tmp_path / "A red cube.png")
    with caplog.at_level(logging.DEBUG):
        assert main(["push", str(file), "ann/warm", "--pictures", picture]) == 0
        monkeypatch.chdir(tmp_path)
        assert main(["pull", "ann/warm"]) == 1  # a file is never overwritten
        assert main(["pull", "ann/warm", "-o", "back.json"]) == 0
    repo = hub.repos["ann/warm"]
    assert repo.private and set(repo.files) == {FILE, CARD, "pictures/01-a-red-cube.png"}
    assert read_calibration("ann/warm").hash == Calibration.load(tmp_path / "back.json").hash == MADE.hash
    told = capsys.readouterr()
    assert f"is at {hub.url}/ann/warm" in told.out and "57 scales for FLUX.1-dev" in told.out
    everything = told.out + told.err + "".join(map(bytes.decode, (repo.files[FILE], repo.files[CARD])))
    assert SECRET not in everything and str(tmp_path) not in repo.files[CARD].decode()


def test_the_card_says_what_the_hub_reads_and_what_was_measured() -> None:
    card = write_card(MADE, ["01-a.png"])
    about = yaml.safe_load(card.split("---")[1])
    assert about["base_model"] == "black-forest-labs/FLUX.1-dev"
    assert (about["base_model_relation"], about["library_name"]) == ("adapter", "calibri")
    assert about["license"] == "other" and "license_name" in about
    assert "| pickscore | +0.650 | +0.200 to +1.100 | 128 |" in card
    assert "- images: 2644" in card and "![01-a.png](pictures/01-a.png)" in card
    assert "# Warm   edges" in card  # no mark of a title breaks the page


def test_a_second_push_is_a_second_commit_and_public_is_asked_for(hub, file) -> None:
    assert main(["push", str(file), "ann/open", "--public"]) == 0
    push(MADE.model_copy(update={"title": "Second"}), "ann/open")
    assert not hub.repos["ann/open"].private
    assert hub.repos["ann/open"].commits == ["Warm | edges", "Second"]


@pytest.mark.parametrize(
    "repo, words",
    [
        ("ann/none", "not on the hub, or private"),
        ("bob/secret", "not on the hub, or private"),
        ("ann/empty", f"holds no {FILE}"),
        ("warm", "expected a repository as owner/name"),
        ("../etc", "expected a repository as owner/name"),
        ("ann/empty@../../etc/passwd", "expected a repository as owner/name"),
        ("ann/empty@a/../b", "expected a repository as owner/name"),
        ("ann/empty@none", "has no such revision"),
        ("ann/ga..ted", "expected a repository as owner/name"),
        ("bob/gated", "its owner grants access on its page"),
        ("ann/huge", "at most 8388608 bytes"),
    ],
)
def test_what_cannot_be_pulled_is_a_sentence(hub, repo, words) -> None:
    push(MADE, "ann/empty")
    del hub.repos["ann/empty"].files[FILE]
    hub.repos["bob/secret"] = Repository(private=True)
    hub.repos["bob/gated"] = Repository(private=False, gated=True)
    hub.repos["ann/huge"] = Repository(private=True, files={FILE: b" " * (8 * 2**20 + 1)})
    with pytest.raises(ArtifactError, match=re.escape(words)):
        pull(repo)


def test_without_a_token_without_a_right_without_a_hub(hub, monkeypatch) -> None:
    hub.scopes.clear()
    with pytest.raises(ArtifactError, match="a token that may write") as refused:
        push(MADE, "ann/new")
    assert SECRET not in str(refused.value)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ArtifactError, match="hf auth login"):
        push(MADE, "ann/new")
    point_at(monkeypatch, f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ArtifactError, match="cannot be reached"):
        pull("ann/warm", token=SECRET)


def test_names_of_files_are_no_repositories(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / "warm").write_text("")
    assert not is_hub_id("ann/warm") and not is_hub_id("ann/other.json") and is_hub_id("ann/other@main")
