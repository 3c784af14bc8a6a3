"""`calibri search --on hf-jobs`, against a hub on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

from calibri.backbones.catalog import resolve
from calibri.cli import main
from calibri.commands import on_hub
from calibri.commands.on_hub import Unloaded, read_target
from calibri.errors import SearchError
from calibri.search.hub_jobs import HubSearches
from calibri.search.journal import JOURNAL, RunFolder
from calibri.search.records import EventRecord
from tests.fake_hub import FakeHub, Job

BASE = [
    "search",
    "--on",
    "hf-jobs:l4x1",
    "--backbone",
    "FLUX.1-dev",
    "--reward",
    "clipscore",
    "--images",
    "50",
]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Its jobs are no processes: tests write what they would send. It is the hub of the command."""
    server = FakeHub(tmp_path / "hub")
    server.run_jobs = False
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_TOKEN", "hf_ann")
    monkeypatch.setattr(on_hub, "HubSearches", lambda token: HubSearches(token, server.url))
    monkeypatch.setattr(on_hub, "POLL", 0.0)
    yield server
    server.close()


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join(f"a photograph of fox {i}" for i in range(20)), encoding="utf-8")
    return path


def write_as_the_job(hub: FakeHub, folder: Path, *, fails: bool = False) -> None:
    """The first look at the job sends what a whole job would have sent."""

    def tell(self: Job) -> str:
        [repo] = hub.repos.values()
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_bytes(repo.files["config.json"])
        with RunFolder(folder) as run:
            run.append(EventRecord(time="", text="A job worked here."))
        if fails:
            repo.files["failure.txt"] = b"no such weights\n"
        repo.files[JOURNAL] = (folder / JOURNAL).read_bytes()
        return "ERROR" if fails else "COMPLETED"

    states = iter(["RUNNING"])

    def stage(self: Job) -> str:
        return next(states, None) or tell(self)

    hub.stage_of = stage


def test_a_search_is_begun_on_the_hub_and_followed(
    hub: FakeHub, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_as_the_job(hub, tmp_path / "job")
    out = tmp_path / "first run"
    assert main([*BASE, "--prompts", str(prompts), "--out", str(out), "--json"]) == 0
    [(repo, _)] = hub.repos.items()
    assert repo.startswith("ann/calibri-search-first-run-")
    printed = capsys.readouterr()
    assert "A job worked here." in json.loads(printed.out.splitlines()[-1])["text"]
    assert repo in printed.err and "hf_ann" not in printed.out + printed.err
    [job] = hub.jobs.values()
    assert job.spec["flavor"] == "l4x1"
    assert "hf_ann" not in "".join(p.read_text(encoding="utf-8") for p in out.glob("*.json*"))
    # The folder is the run's, and says which search it mirrors.
    assert main(["search", "--on", "hf-jobs", "--resume", str(out), "--images", "60"]) == 0
    assert [each.spec["flavor"] for each in hub.jobs.values()] == ["l4x1", "l4x1"]


def test_a_job_that_fails_says_why(
    hub: FakeHub, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_as_the_job(hub, tmp_path / "job", fails=True)
    out = tmp_path / "run"
    assert main([*BASE, "--prompts", str(prompts), "--out", str(out)]) == 1
    assert "the job ended early (no such weights)" in capsys.readouterr().err


def test_what_does_not_fit_is_refused_before_anything_is_sent(
    hub: FakeHub, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    begin = [*BASE, "--prompts", str(prompts), "--out", str(tmp_path / "run")]
    for more, words in (
        (["--on", "cloud"], "expected hf-jobs or hf-jobs:FLAVOR"),
        (["--ray"], "leave out --ray"),
        (["--reward-source", f"clipscore={tmp_path}"], "the source of clipscore"),
    ):
        assert main([*begin, *more]) == 1
        assert words in capsys.readouterr().err
    assert main(["search", "--on", "hf-jobs", "--resume", str(tmp_path / "nothing")]) == 1
    assert "owner/name" in capsys.readouterr().err
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert main(begin) == 1
    assert "HF_TOKEN" in capsys.readouterr().err
    assert hub.repos == {} and hub.jobs == {}


def test_a_layout_is_known_without_weights() -> None:
    assert len(Unloaded(resolve("FLUX.1-dev")).layout("gate").names) == 114


def test_targets() -> None:
    assert [read_target(text) for text in ("hf-jobs", "hf-jobs:a10g-small")] == ["", "a10g-small"]
    for text in ("hf-jobs:", "hf-jobs:A B", "here"):
        with pytest.raises(SearchError, match="--on"):
            read_target(text)
