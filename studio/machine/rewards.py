"""Rewards and judges: which there are, and those in memory, each loaded once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from calibri.errors import CalibriError

if TYPE_CHECKING:
    from PIL.Image import Image

    from calibri.rewards.base import Reward

log = logging.getLogger(__name__)

#: Shown under pictures of this backbone, in this order. Other backbones: rewards that were chosen by name.
SHOWN_FOR = {"tabletop": ("tabletop-align", "tabletop-quality", "tabletop-judge", "tabletop-facts")}

JUDGES = ("tabletop-judge", "tabletop-facts")  # reported at the end of a search that did not optimise them
REWARDS = ("tabletop-align", "tabletop-quality", "tabletop-keep:2")


def _load(name: str) -> Any:
    from calibri.rewards.base import load_reward  # torch

    return load_reward(name)


class RewardModels:
    """Rewards for searches and sweeps, each loaded once on each device."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, str], Reward] = {}

    def load(self, name: str, device: str) -> Reward:
        """The reward of that name. Raises RewardError."""
        from calibri.rewards.base import load_reward  # torch

        if (name, device) not in self._loaded:
            self._loaded[name, device] = load_reward(name, device)
        return self._loaded[name, device]


class Scorer:
    """Scores pictures with the rewards that fit a backbone. `loader(name) -> Reward`. Safe to call from any
    thread."""

    def __init__(self, loader: Callable[[str], Any] = _load) -> None:
        self._loader = loader
        self._lock = threading.Lock()
        self._loaded: dict[str, Any] = {}

    def names_for(self, backbone: str) -> tuple[str, ...]:
        return SHOWN_FOR.get(backbone, ())

    def _reward(self, name: str) -> Any | None:
        """The reward, or None where it is not to be had; that is logged once and remembered."""
        if name not in self._loaded:
            try:
                self._loaded[name] = self._loader(name)
            except (CalibriError, OSError, ImportError) as error:
                log.warning("reward %s is left out: %s", name, error)
                self._loaded[name] = None
        return self._loaded[name]

    def warm(self, backbone: str) -> None:
        """Load what `score` will need."""
        with self._lock:
            for name in self.names_for(backbone):
                self._reward(name)

    def score(self, backbone: str, images: Sequence[Image], prompts: Sequence[str]) -> list[dict[str, float]]:
        """One dictionary an image: reward name (without the world's name) → score, higher is better."""
        rows: list[dict[str, float]] = [{} for _ in images]
        with self._lock:
            for name in self.names_for(backbone):
                reward = self._reward(name)
                if reward is None:
                    continue
                short = name.removeprefix(f"{backbone}-")
                for row, value in zip(rows, reward.score(list(images), list(prompts))):
                    row[short] = float(value)
        return rows


def known_rewards() -> list[str]:
    """What the field for rewards offers."""
    from calibri.rewards.base import known_rewards as known

    names = list(known())
    return [*dict.fromkeys([*(n for n in REWARDS), *names])]


def rewards_shown(backbone: str) -> Sequence[str]:
    """Rewards that a measurement of the speed scores with."""
    return [name for name in SHOWN_FOR.get(backbone, ()) if name not in JUDGES]
