"""Reward models: each in memory once, whoever asks, and one call at a time."""

from __future__ import annotations

import json
import logging
import re
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from calibri.errors import RewardError
from calibri.memory import bytes_in_use
from calibri.rewards.base import RewardInfo, RewardLoading, load_reward
from calibri.rewards.catalog import CATALOG
from studio.machine.host import ModelHost
from studio.machine.offers import (
    REWARDS,
    SHOWN_FOR,
    describe_needs,
    offer_rewards,
    usual_judges,
    usual_rewards,
)
from studio.machine.rewards import RewardModels, RewardState


class Counting:
    """Gives 1 for every picture and notes how many calls ran at the same time."""

    def __init__(self, name: str) -> None:
        self.info = RewardInfo(name=name, role="reward", version="1", description="", range_hint=(0, 1))
        self.inside, self.most = 0, 0

    def score(self, images: list, prompts: list) -> np.ndarray:
        self.inside += 1
        self.most = max(self.most, self.inside)
        time.sleep(0.002)
        self.inside -= 1
        return np.ones(len(images))


@pytest.fixture
def backbone(host: ModelHost):
    """The tiny one under the name of the backbone whose pictures have rewards."""
    return SimpleNamespace(spec=SimpleNamespace(name="tabletop"), device=host.wait_ready().device)


def test_people_searches_and_sweeps_share_one_model(backbone) -> None:
    loaded: list[str] = []

    def load(name: str, device: str) -> Counting:
        loaded.append(name)
        time.sleep(0.02)
        return Counting(name)

    models = RewardModels(load)
    threads = [threading.Thread(target=models.warm, args=(backbone,)) for _ in range(3)]
    threads += [threading.Thread(target=models.load, args=("tabletop-align", "cpu")) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(loaded) == sorted(SHOWN_FOR["tabletop"])
    assert models.load("tabletop-align", "cpu") is models.load("tabletop-align", "cpu")
    ones = dict.fromkeys(("align", "quality", "judge", "facts"), 1.0)
    assert models.score(backbone, [None, None], ["a", "b"]) == [ones, ones]


def test_one_call_at_a_time() -> None:
    inner = Counting("shared")
    reward = RewardModels(lambda name, device: inner).load("shared", "cpu")
    threads = [threading.Thread(target=reward.score, args=([None], ["a"])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert inner.most == 1


def test_what_cannot_be_loaded_is_left_out_of_captions_and_refused_to_searches(backbone, caplog) -> None:
    def load(name: str, device: str) -> Counting:
        if name == "tabletop-judge":
            raise RewardError("no weights")
        return Counting(name)

    models = RewardModels(load)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert set(models.score(backbone, [None], ["a"])[0]) == {"align", "quality", "facts"}
    assert caplog.text.count("no weights") == 1
    with pytest.raises(RewardError, match="no weights"):
        models.load("tabletop-judge", "cpu")


# rewards of real models, tiny

GOLDEN = Path(__file__).parents[2] / "golden" / "rewards"


def sources(*names: str) -> RewardLoading:
    return RewardLoading(sources={name: str(GOLDEN / name) for name in names})


@pytest.fixture
def flux(host: ModelHost):
    return host.wait_ready()


@pytest.fixture
def picture():
    return Image.effect_noise((32, 32), 80).convert("RGB")


def wait_for(models: RewardModels, phase: str) -> RewardState:
    end = time.monotonic() + 60
    while not models.states() or models.states()[-1].phase != phase:
        assert time.monotonic() < end, models.states()
        time.sleep(0.01)
    return models.states()[-1]


def test_what_was_loaded_is_shown_under_pictures_of_other_backbones(flux, picture) -> None:
    models = RewardModels(loading=sources("pickscore"))
    assert models.score(flux, [picture], ["a fox"]) == [{}]
    models.begin_loading("pickscore", "cpu")
    state = wait_for(models, "ready")
    assert state.source == "pickscore" and state.grown.startswith("memory ") and "→" in state.grown
    [row] = models.score(flux, [picture], ["a fox"])
    alone = load_reward("pickscore", GOLDEN / "pickscore").score([picture], ["a fox"])
    assert row == {"pickscore": alone[0]}
    models.unload("pickscore")
    assert models.score(flux, [picture], ["a fox"]) == [{}] and models.states() == []


def test_unloading_gives_the_memory_back(tmp_path, picture) -> None:
    """On real weights of some 90 MB, of which nothing stays."""
    large_pickscore(tmp_path)
    models = RewardModels(loading=RewardLoading(sources={"pickscore": str(tmp_path)}))
    reward = models.load("pickscore", "cpu")
    reward.score([picture], ["a fox"])
    state = models.states()[0]
    size = 4 * reward.info.parameters
    assert size > 8e7 and state.after - state.before > 0.8 * size
    loaded = bytes_in_use()
    words = models.unload("pickscore")
    assert re.fullmatch(r"pickscore is unloaded: memory .+ → .+\.", words)
    assert loaded - bytes_in_use() > 0.8 * size
    with pytest.raises(RewardError, match="pickscore was unloaded"):
        reward.score([picture], ["a fox"])
    with pytest.raises(RewardError, match="not loaded"):
        models.unload("pickscore")


def large_pickscore(folder: Path) -> None:
    """PickScore with wider layers than the golden one: random weights of 16 bits, as a file."""
    import torch
    from safetensors.torch import save_file
    from transformers import CLIPConfig, CLIPModel

    config = json.loads((GOLDEN / "pickscore" / "config.json").read_text(encoding="utf-8"))
    for part in ("text_config", "vision_config"):
        config[part] |= {"hidden_size": 512, "intermediate_size": 4096}
    with torch.device("meta"):
        shapes = {name: t.shape for name, t in CLIPModel(CLIPConfig(**config)).state_dict().items()}
    draw = torch.Generator().manual_seed(0)
    tensors = {name: 0.02 * torch.randn(s, generator=draw) for name, s in shapes.items()}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(GOLDEN / "pickscore" / name, folder / name)
    save_file({k: t.half().contiguous() for k, t in tensors.items()}, folder / "model.safetensors")


def test_what_a_search_uses_is_not_unloaded() -> None:
    models = RewardModels(loading=sources("pickscore", "hpsv3"))
    with models.using(["pickscore", "hpsv3"], "cpu", "the search “Mine”") as loaded:
        assert list(loaded) == ["pickscore", "hpsv3"]
        assert {state.users for state in models.states()} == {("the search “Mine”",)}
        with pytest.raises(RewardError, match="pickscore cannot be unloaded while the search “Mine” uses it"):
            models.unload("pickscore")
        assert loaded["pickscore"].score([Image.new("RGB", (8, 8))], ["a"]).shape == (1,)
    assert "unloaded" in models.unload("pickscore")
    assert [state.name for state in models.states()] == ["hpsv3"]


def test_a_run_keeps_its_own_weights_and_takes_those_of_the_studio_where_it_names_none(tmp_path) -> None:
    other = tmp_path / "other"
    shutil.copytree(GOLDEN / "pickscore", other)
    models = RewardModels(loading=sources("pickscore"))
    usual = models.load("pickscore", "cpu")
    assert models.load("pickscore", "cpu", RewardLoading()) is usual
    own = models.load("pickscore", "cpu", RewardLoading(sources={"pickscore": str(other)}, dtype="bfloat16"))
    assert own is not usual and own.info.revision.endswith("bfloat16")
    assert [state.source for state in models.states()] == ["pickscore", "other"]
    assert [state.key.dtype for state in models.states()] == ["auto", "bfloat16"]


def test_one_reward_loads_at_a_time_and_what_fails_says_why(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    go = threading.Event()

    def load(name: str, device: str, **options) -> Counting:
        go.wait(20)
        raise RewardError(f"{name}: nothing in {tmp_path}/weights")

    models = RewardModels(load)
    models.begin_loading("pickscore", "cpu", "owner/name")
    assert wait_for(models, "loading").key.source == "owner/name"
    with pytest.raises(RewardError, match="pickscore is still loading"):
        models.begin_loading("hpsv2", "cpu")
    with pytest.raises(RewardError, match="still loading"):
        models.unload("pickscore")
    go.set()
    assert wait_for(models, "failed").error == "pickscore: nothing in weights"  # no folder of this machine
    models.close()


def test_scores_of_pictures_are_kept_over_restarts(tmp_path, flux, picture) -> None:
    scores = []
    for _ in range(2):
        models = RewardModels(loading=sources("pickscore"), scores=tmp_path / "scores.db")
        reward = models.load("pickscore", "cpu")
        scored: list[int] = []
        real = reward._reward.score
        reward._reward.score = lambda i, p, real=real, scored=scored: (scored.append(len(i)), real(i, p))[1]
        scores.append((models.score(flux, [picture], ["a fox"]), scored))
        models.close()
    assert scores[0][0] == scores[1][0] and scores[0][1] == [1] and scores[1][1] == []


def test_a_file_of_scores_that_cannot_be_used_is_left_out(tmp_path, flux, picture, caplog) -> None:
    (tmp_path / "scores.db").write_text("something else, and long enough to be no database at all" * 20)
    models = RewardModels(loading=sources("pickscore"), scores=tmp_path / "scores.db")
    with caplog.at_level(logging.WARNING):
        models.load("pickscore", "cpu")
    assert models.score(flux, [picture], ["a fox"])[0] and "scores are not kept" in caplog.text


# what is offered


def test_rewards_of_tabletop_are_offered_for_tabletop_alone() -> None:
    own = [name for _, name in offer_rewards("tabletop", RewardLoading())]
    assert own[0] == "tabletop-keep:2" and "tabletop-align" in own and "pickscore" in own
    for backbone in ("FLUX.1-dev", "SD3.5-large", "Qwen-Image", "tiny"):
        offered = [name for _, name in offer_rewards(backbone, RewardLoading())]
        assert "hpsv3" in offered and not [name for name in offered if name.startswith("tabletop")]
        assert usual_rewards(backbone, RewardLoading()) == [] and usual_judges(backbone) == []
        assert usual_rewards(backbone, sources("hpsv3", "pickscore")) == ["hpsv3", "pickscore"]
    assert usual_rewards("tabletop", sources("hpsv3")) == list(REWARDS)


def test_an_offer_says_what_is_missing(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    words = {name: label for label, name in offer_rewards("FLUX.1-dev", sources("pickscore"))}
    assert words["pickscore"] == "pickscore" and words["hpsv3"] == "hpsv3 (17 GB to download)"
    assert next(iter(words)) == "pickscore"  # what can be used at once comes first
    said = describe_needs(["pickscore", "hpsv3", "tabletop-align"], sources("pickscore"), cuda=True)
    assert said == [
        "pickscore: weights are here (pickscore).",
        "hpsv3: about 17 GB to download from MizzenAI/HPSv3, about 17 GB of memory.",
    ]
    monkeypatch.setitem(CATALOG, "mps", CATALOG["mps"].model_copy(update={"packages": ("nothing_here",)}))
    assert describe_needs(["mps"], RewardLoading()) == ["mps needs nothing_here: pip install nothing_here."]
