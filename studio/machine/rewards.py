"""Rewards and judges: which there are, and those in memory, each loaded once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from calibri.errors import CalibriError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from calibri.backbones.loading import Backbone
    from calibri.rewards.base import Reward

log = logging.getLogger(__name__)

#: Shown under pictures of this backbone, in this order. Other backbones: rewards that were chosen by name.
SHOWN_FOR = {"tabletop": ("tabletop-align", "tabletop-quality", "tabletop-judge", "tabletop-facts")}

JUDGES = ("tabletop-judge", "tabletop-facts")  # reported at the end of a search that did not optimise them
REWARDS = ("tabletop-align", "tabletop-quality", "tabletop-keep:2")


def _load(name: str, device: str) -> Reward:
    from calibri.rewards.base import load_reward  # torch

    return load_reward(name, device=device)


class SharedReward:
    """A reward that several threads may call: one at a time, as its tokenizer may not be shared."""

    def __init__(self, reward: Reward) -> None:
        self.info = reward.info
        self._reward, self._lock = reward, threading.Lock()

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> np.ndarray:
        """As Reward.score."""
        with self._lock:
            return self._reward.score(images, prompts)

    def close(self) -> None:
        """As Reward.close, once nobody scores with it."""
        from calibri.rewards.base import close_reward

        with self._lock:
            close_reward(self._reward)


class RewardModels:
    """The rewards of people's pictures, searches and sweeps, each loaded once on each device.

    `loader(name, device) -> Reward`. Safe to call from any thread.
    """

    def __init__(self, loader: Callable[[str, str], Reward] = _load) -> None:
        self._loader = loader
        self._loading = threading.Lock()
        self._loaded: dict[tuple[str, str], Reward] = {}
        self._left_out: set[tuple[str, str]] = set()

    def load(self, name: str, device: str) -> Reward:
        """The reward of that name. Raises RewardError."""
        key = name, device
        if key not in self._loaded:
            with self._loading:
                if key not in self._loaded:
                    self._loaded[key] = SharedReward(self._loader(name, device))
        return self._loaded[key]

    def _find(self, name: str, device: str) -> Reward | None:
        """The reward, or None where it cannot be loaded; that is logged once and remembered."""
        if (name, device) in self._left_out:
            return None
        try:
            return self.load(name, device)
        except (CalibriError, OSError, ImportError) as error:
            log.warning("reward %s is left out: %s", name, error)
            self._left_out.add((name, device))
            return None

    def warm(self, backbone: Backbone) -> None:
        """Load what `score` will need."""
        for name in SHOWN_FOR.get(backbone.spec.name, ()):
            self._find(name, str(backbone.device))

    def score(
        self, backbone: Backbone, images: Sequence[Image], prompts: Sequence[str]
    ) -> list[dict[str, float]]:
        """The rewards shown under pictures of this backbone: one dictionary an image, reward name (without
        the world's name) → score, higher is better."""
        rows: list[dict[str, float]] = [{} for _ in images]
        for name in SHOWN_FOR.get(backbone.spec.name, ()):
            reward = self._find(name, str(backbone.device))
            if reward is not None:
                short = name.removeprefix(f"{backbone.spec.name}-")
                for row, value in zip(rows, reward.score(list(images), list(prompts))):
                    row[short] = float(value)
        return rows


def known_rewards() -> list[str]:
    """What the field for rewards offers."""
    from calibri.rewards.base import known_rewards as known

    return list(dict.fromkeys([*REWARDS, *known()]))


def rewards_shown(backbone: str) -> Sequence[str]:
    """Rewards that a measurement of the speed scores with."""
    return [name for name in SHOWN_FOR.get(backbone, ()) if name not in JUDGES]
