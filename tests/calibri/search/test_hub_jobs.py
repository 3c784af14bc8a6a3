"""Searches as jobs of the hub: its own client against a hub on loopback, whose jobs are real processes."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from calibri.errors import BackboneError, SearchError
from calibri.search.config import Budget, SearchConfig
from calibri.search.hub_code import list_requirements, make_command, pack_code
from calibri.search.hub_jobs import HubSearches, check_portable, suggest_flavor
from calibri.search.hub_work import Work
from calibri.search.journal import JOURNAL, read_journal
from calibri.search.records import GenerationRecord, ResultRecord
from tests.fake_hub import FakeHub
from tests.small_search import make_small

TOKEN = "hf_ann"
SMALL = {
    "backbone": "tabletop",
    "rewards": ({"name": "tabletop-quality"},),
    "steps": 1,
    "device": "cpu",
    "convergence": "none",
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    server = FakeHub(tmp_path / "hub")
    yield server
    server.close()


def config(**values: object) -> SearchConfig:
    return make_small(**{**SMALL, **values})


def light() -> SearchConfig:
    """A search whose code comes without weights."""
    return config(backbone="black-forest-labs/FLUX.1-dev", rewards=({"name": "clipscore"},))


def wait(searches: HubSearches, hub: FakeHub, repo: str, seconds: float = 240.0) -> str:
    end = time.monotonic() + seconds
    while (found := searches.find(repo)).runs:
        assert time.monotonic() < end, log_of(hub)
        time.sleep(0.5)
    return found.stage


def log_of(hub: FakeHub) -> str:
    return "\n".join(job.out.read_text(encoding="utf-8") for job in hub.jobs.values() if job.out)


def generations(folder: Path) -> list[GenerationRecord]:
    return [record for record in read_journal(folder) if isinstance(record, GenerationRecord)]


@pytest.mark.slow
def test_a_search_runs_as_a_job_is_stopped_and_goes_on_in_a_new_job_on_the_same_trajectory(
    hub: FakeHub, tmp_path: Path
) -> None:
    searches = HubSearches(TOKEN, hub.url)
    begun = searches.start(config(), Budget(generations=500), title="Small one", flavor="t4-small")
    assert begun.repo.startswith("ann/calibri-search-small-one-")
    assert hub.repos[begun.repo].private
    first = hub.jobs["job0"]
    assert first.spec["flavor"] == "t4-small" and first.spec["timeoutSeconds"] == 6 * 3600
    assert first.spec["secrets"] == {"HF_TOKEN": TOKEN}
    assert first.process is not None
    with pytest.raises(SearchError, match="runs already"):
        searches.resume(begun.repo)
    while "GenerationRecord" not in log_of(hub):
        assert first.process.poll() is None, log_of(hub)
        time.sleep(0.2)
    assert searches.stop(begun.repo).stage == "CANCELED"
    first.process.wait(120)
    before = hub.repos[begun.repo].files[JOURNAL]
    assert searches.fetch(begun.repo, tmp_path / "early") == ""
    done = len(generations(tmp_path / "early"))
    assert done >= 1
    again = searches.resume(begun.repo, budget=Budget(generations=done + 1))
    assert again.note.requirements == begun.note.requirements
    assert wait(searches, hub, begun.repo) == "COMPLETED", log_of(hub)
    assert searches.fetch(begun.repo, tmp_path / "late") == ""
    assert hub.repos[begun.repo].files[JOURNAL].startswith(before)
    assert isinstance(read_journal(tmp_path / "late")[-1], ResultRecord)
    assert len(generations(tmp_path / "late")) == done + 1
    assert searches.list_repos() == [begun.repo]
    # The token went to the hub as authorization and as the jobs' secret, and nowhere else.
    stored = [
        *hub.repos[begun.repo].files.values(),
        log_of(hub).encode(),
        str(first.spec["command"]).encode(),
    ]
    assert not any(TOKEN.encode() in data for data in stored)
    assert {authorization for _, _, authorization in hub.asked} <= {f"Bearer {TOKEN}", ""}
    assert not any(TOKEN in path for _, path, _ in hub.asked)


def test_what_a_job_cannot_do_is_told_in_its_repository(hub: FakeHub, tmp_path: Path) -> None:
    from huggingface_hub import HfApi

    hub.run_jobs = False
    searches = HubSearches(TOKEN, hub.url)
    begun = searches.start(config(device="cuda:9"), Budget(generations=1))
    work = Work(HfApi(endpoint=hub.url, token=TOKEN), begun.repo, tmp_path / "job")
    with pytest.raises(BackboneError) as caught:
        work.run()
    work.tell(str(caught.value))
    assert "cuda:9" in searches.fetch(begun.repo, tmp_path / "run")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"credit": False}, "accounts with credit"),
        ({"scopes": {"contribute-repos"}}, "scopes jobs and contribute-repos"),
        ({"scopes": {"jobs"}}, "scopes jobs and contribute-repos"),
    ],
)
def test_what_the_hub_refuses_is_a_sentence_and_leaves_nothing(
    hub: FakeHub, change: dict[str, object], words: str
) -> None:
    for name, value in change.items():
        setattr(hub, name, value)
    with pytest.raises(SearchError, match=words) as caught:
        HubSearches(TOKEN, hub.url).start(light(), Budget(generations=1))
    assert TOKEN not in str(caught.value)
    assert hub.repos == {} and hub.jobs == {}


def test_a_search_of_another_account_is_not_there(hub: FakeHub) -> None:
    hub.run_jobs = False
    begun = HubSearches(TOKEN, hub.url).start(light(), Budget(generations=1))
    other = HubSearches("hf_bob", hub.url)
    assert other.list_repos() == []
    for ask in (other.find, other.stop, other.resume):
        with pytest.raises(SearchError, match="no such search"):
            ask(begun.repo)


def test_a_hub_that_does_not_answer_is_a_sentence(hub: FakeHub) -> None:
    searches = HubSearches(TOKEN, "http://127.0.0.1:9")
    with pytest.raises(SearchError, match="could not be reached"):
        searches.start(light(), Budget(generations=1))


def test_a_job_ends_while_its_token_is_valid(hub: FakeHub) -> None:
    hub.run_jobs = False
    searches = HubSearches(TOKEN, hub.url)
    searches.start(light(), Budget(minutes=20), most_seconds=3000.5)
    searches.start(light(), Budget(minutes=20))
    assert [job.spec["timeoutSeconds"] for job in hub.jobs.values()] == [3000, 20 * 60 + 1800]
    with pytest.raises(SearchError, match="Sign in again"):
        searches.start(light(), Budget(minutes=20), most_seconds=10)


def test_folders_of_this_machine_are_refused(tmp_path: Path, tiny_folder: Path) -> None:
    with pytest.raises(SearchError, match="backbone: expected a name of the catalogue"):
        check_portable(config(backbone=str(tiny_folder)))
    with pytest.raises(SearchError, match="the source of tabletop-quality"):
        check_portable(config(reward_loading={"sources": {"tabletop-quality": str(tmp_path)}}))
    check_portable(config())
    assert suggest_flavor(config()) == "cpu-upgrade"
    assert suggest_flavor(config(backbone="black-forest-labs/FLUX.1-dev")) == "l40sx1"


def test_the_packed_code_is_the_same_file_every_time_and_only_what_is_needed() -> None:
    packed = pack_code(config())
    assert packed == pack_code(config())
    names = zipfile.ZipFile(io.BytesIO(packed)).namelist()
    assert "calibri/search/hub_work.py" in names
    assert any(name.startswith("calibri/_assets/tabletop/") for name in names)
    assert not any(name.startswith(("calibri/_assets/screenshots", "studio")) for name in names)
    assert len(pack_code(light())) < 1_000_000


def test_the_command_names_exact_versions() -> None:
    wanted = list_requirements()
    assert all("==" in each and "+" not in each for each in wanted)
    command = make_command(wanted)
    assert command[:2] == ["uv", "run"] and command[-2] == "-c"
    assert [command[i + 1] for i, part in enumerate(command) if part == "--with"] == list(wanted)


def test_a_sending_that_fails_does_not_end_the_search(hub: FakeHub, tmp_path: Path) -> None:
    from huggingface_hub import HfApi

    (tmp_path / JOURNAL).write_text("{}\n", encoding="utf-8")
    work = Work(HfApi(endpoint=hub.url, token=TOKEN), "ann/gone", tmp_path, every=0.0)
    work._try_to_send()
    work._send_at_last()
    work.tell("why")
    assert hub.repos == {}
