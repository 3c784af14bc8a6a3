"""Reward models: each in memory once, whoever asks, and one call at a time."""

from __future__ import annotations

import logging
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from calibri.errors import RewardError
from calibri.rewards.base import RewardInfo
from studio.machine.host import ModelHost
from studio.machine.rewards import SHOWN_FOR, RewardModels


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
