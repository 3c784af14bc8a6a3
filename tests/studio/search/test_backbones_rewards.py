"""What the page Search makes of the backbone and of rewards with weights of one's own."""

from __future__ import annotations

import dataclasses
import html
from pathlib import Path

import pytest

from calibri.backbones.catalog import resolve
from calibri.errors import SearchError
from calibri.prompts import SPLITS, prompt_set
from calibri.rewards.base import RewardLoading
from studio.core import Core
from studio.diagnose.sweeps import Sweeps
from studio.machine.rewards import RewardModels
from studio.search.estimate import estimate
from studio.search.form import read_page, suit, usual_values
from studio.search.jobs import Searches
from studio.search.view import setting_words
from tests.studio.search.test_search import PROMPTS, start, with_

GOLDEN = Path(__file__).parents[2] / "golden" / "rewards"


@pytest.mark.parametrize(
    ("name", "steps"),
    [("tabletop", 8), ("FLUX.1-dev", 15), ("FLUX.1-schnell", 4), ("SD3.5-medium", 40), ("Qwen-Image", 50)],
)
def test_a_search_opens_at_the_backbones_steps_and_flux_at_the_papers(name: str, steps: int) -> None:
    assert usual_values(name, resolve(name))["steps"] == steps


def test_fields_that_nobody_changed_follow_the_backbone(stocked: Core) -> None:
    old = usual_values("tabletop", resolve("tabletop"))
    stocked.rewards.loading = RewardLoading(sources={"pickscore": "owner/name"})
    now = suit(stocked, old, old)
    assert now == {"rewards": ["pickscore"], "judges": [], "steps": 2}  # those of the tiny one
    typed = old | {"rewards": ["tabletop-align", "hpsv3:2"], "judges": ["clipscore"], "steps": 30}
    assert suit(stocked, typed, old) == {"rewards": ["hpsv3:2"], "judges": ["clipscore"], "steps": 30}


def test_a_search_keeps_how_its_rewards_are_loaded(stocked: Core, sweeps: Sweeps, visitor: str) -> None:
    sources = {name: str(GOLDEN / name) for name in ("pickscore", "hpsv2", "mps")}
    stocked.rewards.loading = RewardLoading(sources=sources, device="cpu")
    order = read_page(stocked, sweeps, visitor, with_(rewards=["pickscore"], judges=["hpsv2"]))
    wanted = {name: sources[name] for name in ("pickscore", "hpsv2")}
    assert order.config.reward_loading == RewardLoading(sources=wanted, device="cpu")
    words = setting_words(order.config)
    assert (
        words["Weights of rewards"] == "pickscore: pickscore, hpsv2: hpsv2" and words["Rewards on"] == "cpu"
    )
    assert str(GOLDEN) not in str(words)


def test_a_search_with_rewards_of_a_folder_ends_and_uses_those_in_memory(
    stocked: Core, sweeps: Sweeps, visitor: str, tmp_path: Path
) -> None:
    loading = RewardLoading(sources={"pickscore": str(GOLDEN / "pickscore")})
    rewards = RewardModels(loading=loading, scores=tmp_path / "scores.db")
    core = dataclasses.replace(stocked, rewards=rewards)
    jobs = Searches(core.host, tmp_path / "own", tmp_path / "assets", rewards)
    run = start(core, jobs, sweeps, visitor, rewards=["pickscore"], images=100)
    assert jobs.status(run).state == "done", jobs.status(run).error
    [state] = rewards.states()
    assert state.source == "pickscore" and not state.users and (tmp_path / "scores.db").exists()
    jobs.close()
    rewards.close()


def test_the_size_of_pictures_is_checked_against_the_backbone(
    stocked: Core, sweeps: Sweeps, visitor: str
) -> None:
    made = read_page(stocked, sweeps, visitor, with_(size="32 x 64")).config
    assert (made.width, made.height) == (32, 64)
    assert read_page(stocked, sweeps, visitor, with_(size=" ")).config.width is None
    for size in ("32", "33x32", "9999x32", "axb", 5):
        with pytest.raises(SearchError, match="Size: expected WIDTHxHEIGHT in multiples of 16"):
            read_page(stocked, sweeps, visitor, with_(size=size))


def test_the_form_says_what_rewards_need_and_how_prompts_were_read(
    stocked: Core, searches: Searches, sweeps: Sweeps, visitor: str, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    typed = with_(rewards=["hpsv2"], prompts="prompt,category\n" + PROMPTS.replace("\n", ",x\n") + ",x")
    words = html.unescape(estimate(stocked, searches, sweeps, visitor, typed))
    assert "hpsv2: about 3.9 GB to download from xswu/HPSv2, about 4.3 GB of memory." in words
    assert "20 prompts of your own (CSV" in words
    words = html.unescape(estimate(stocked, searches, sweeps, visitor, with_(prompts="")))
    sizes = [len(prompt_set("general", split)) for split in SPLITS]
    assert f"“general”: {sizes[0]} to search on, {sizes[1]} to validate on, {sizes[2]} to judge on" in words
    assert "tiny reads 16 tokens: the end of" in words
