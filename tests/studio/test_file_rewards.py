"""Files that are run as rewards: no form, no endpoint and no background job of the studio loads one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from calibri.errors import RewardError, SearchError
from calibri.rewards.base import RewardLoading, RewardTerm, known_rewards
from calibri.search.config import Budget, SearchConfig
from calibri.search.form import SearchForm
from studio.diagnose.form import read_settings
from studio.diagnose.sweeps import Sweeps
from studio.machine.host import ModelHost
from studio.machine.offers import find_need, offer_rewards
from studio.machine.rewards import RewardModels
from studio.search.jobs import Searches

EVIL = """
import pathlib
pathlib.Path(__file__).with_name("ran").touch()
"""
PROMPTS = [f"a red cube {i}" for i in range(24)]


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every way to write a file that leaves a mark when it is run; checks that none was."""
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "evil.py").write_text(EVIL)
    (folder / "evil.toml").write_text('place = "evil.py:Evil"\n')
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CALIBRI_CACHE", str(tmp_path / "cache"))
    yield ["evil.py:Evil", "./evil.py:Evil", f"{folder}/evil.py:Evil", "./evil.toml", f"{folder}/evil.toml"]
    assert sorted(path.name for path in folder.iterdir()) == ["evil.py", "evil.toml"]
    assert not (tmp_path / "cache").exists()


def test_the_forms_refuse_files(evil: list[str], host: ModelHost) -> None:
    for name in evil:
        for typed in ([name], [f"{name}:2"], name):
            with pytest.raises(SearchError, match="rewards: expected some of"):
                SearchForm.read({"rewards": typed, "prompts": PROMPTS})
            with pytest.raises(SearchError, match="rewards: expected names of rewards, got a file"):
                read_settings(host, typed, 4, 1, "block", prompts="a red cube\na blue ball")
        with pytest.raises(SearchError, match="judges: expected some of"):
            SearchForm.read({"rewards": ["tabletop-align"], "judges": [name], "prompts": PROMPTS})


def test_the_models_of_the_studio_load_no_file(evil: list[str]) -> None:
    models = RewardModels()
    for name in evil:
        with pytest.raises(RewardError, match="files are run by commands and programs alone"):
            models.load(name, "cpu")


def test_a_sweep_of_a_file_fails(evil: list[str], host: ModelHost, tmp_path: Path) -> None:
    sweeps = Sweeps(tmp_path / "sweeps", host)
    try:
        from calibri.analysis.settings import SweepSettings

        asked = SweepSettings.parse(rewards=evil[1], prompts=PROMPTS[:2], pairs=2, steps=1, values=(0.5,))
        done = sweeps.wait(sweeps.start(asked).id)
        assert done.state == "failed" and "files are run by commands and programs alone" in done.error
    finally:
        sweeps.close()


def test_a_run_that_names_a_file_is_not_resumed_here(
    evil: list[str], host: ModelHost, tmp_path: Path
) -> None:
    """As one that somebody's command line began in the studio's folder, with sources or without."""
    searches = Searches(host, tmp_path / "runs", tmp_path)
    try:
        far = RewardLoading(sources={"remote": "http://127.0.0.1:9"})
        for name, loading, words in (
            (evil[0], RewardLoading(), "files are run by commands and programs alone"),
            (evil[0], RewardLoading(device="cpu"), "files are run by commands and programs alone"),
            ("remote", far, "addresses are given to commands alone"),
        ):
            config = SearchConfig.make(
                backbone=host.wait_ready().spec.name,
                rewards=(RewardTerm(name=name),),
                prompts=tuple(PROMPTS),
                reward_loading=loading,
            )
            status = searches.wait(searches.start(config, Budget(images=8)), 60)
            assert status.state == "failed" and words in status.error
    finally:
        searches.close()


def test_what_needs_a_command_line_is_not_offered() -> None:
    assert {"remote", "hpsv3-package"} <= set(known_rewards())
    for backbone in ("tabletop", "FLUX.1-dev"):
        offered = {name for _, name in offer_rewards(backbone, RewardLoading())}
        assert "pickscore" in offered and not {"remote", "hpsv3-package"} & offered


def test_a_reward_that_is_served_needs_nothing_here() -> None:
    loading = RewardLoading(sources={"hpsv3": "http://192.0.2.1:8790"})
    assert find_need("hpsv3", loading).words == ""
    assert ("hpsv3", "hpsv3") in offer_rewards("FLUX.1-dev", loading)
