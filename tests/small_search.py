"""A search of a few pictures of a tiny pipeline, and a reward of real pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from calibri.rewards.base import RewardInfo
from calibri.search.config import SearchConfig

PROMPTS = tuple(f"red {i}" for i in range(6))

SMALL: dict[str, Any] = {
    "rewards": ({"name": "redness"},),
    "prompts": PROMPTS,
    "validation_prompts": ("a blue ball", "a blue cone"),
    "held_out_prompts": ("a green ball", "a green cone"),
    "steps": 2,
    "bucket": 2,
    "pool": 8,
    "validation_pairs": 4,
    "held_out_pairs": 4,
    "popsize": 4,
    "batch_size": 4,
}


def make_small(preset: str = "default", **values: object) -> SearchConfig:
    """The config of such a search, but for `values`."""
    return SearchConfig.make(preset, **{**SMALL, **values})


class Redness:
    """How red a picture is on average, in [0, 1]: a small reward of real pixels."""

    info = RewardInfo(name="redness", role="reward", version="1", description="mean red", range_hint=(0, 1))

    def score(self, images, prompts):
        return np.array([np.asarray(image, dtype=np.float64)[..., 0].mean() / 255 for image in images])


class Blueness(Redness):
    """How blue a picture is on average."""

    info = RewardInfo(name="blueness", role="reward", version="1", description="mean blue", range_hint=(0, 1))

    def score(self, images, prompts):
        return np.array([np.asarray(image, dtype=np.float64)[..., 2].mean() / 255 for image in images])
