"""What a reward is, and how one is found by name. A new reward is one file here and one line in `_WHERE`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from calibri.errors import RewardError, SearchError

if TYPE_CHECKING:
    from PIL.Image import Image


Role = Literal["reward", "judge"]


class RewardInfo(BaseModel):
    """What a reward says of itself. A `judge` is for measuring: a search refuses it unless it is named on
    purpose.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    role: Role
    version: str
    description: str
    range_hint: tuple[float, float]


class Reward(Protocol):
    """Scores images for prompts."""

    info: RewardInfo

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> np.ndarray:
        """(n,) float64, higher is better. images: n RGB pictures of any size; prompts: n texts."""
        ...


# name → (module, class)
_WHERE = {
    "tabletop-align": ("calibri.rewards.tabletop_align", "AlignReward"),
    "tabletop-quality": ("calibri.rewards.tabletop_preference", "QualityReward"),
    "tabletop-judge": ("calibri.rewards.tabletop_preference", "QualityJudge"),
    "tabletop-keep": ("calibri.rewards.tabletop_facts", "KeepReward"),
    "tabletop-facts": ("calibri.rewards.tabletop_facts", "FactsJudge"),
}


def known_rewards() -> tuple[str, ...]:
    """Names that `load_reward` takes."""
    return tuple(_WHERE)


def load_reward(name: str, device: str = "cpu") -> Reward:
    """The reward of that name, its weights on `device`. RewardError: unknown name or no weights."""
    if name not in _WHERE:
        raise RewardError(f"unknown reward {name!r}; known are {', '.join(_WHERE)}")
    module, cls = _WHERE[name]
    return getattr(importlib.import_module(module), cls)(device)


def check_counts(images: Sequence[Image], prompts: Sequence[str], name: str) -> None:
    """RewardError unless there is one prompt for each image."""
    if len(images) != len(prompts):
        raise RewardError(
            f"{name}: expected one prompt for each image, got {len(images)} images, {len(prompts)} prompts"
        )


class Frozen(BaseModel):
    """A record that never changes and takes no field that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RewardTerm(Frozen):
    """One reward of the objective; `weight` counts in units of the reward's spread on the base."""

    name: str = Field(min_length=1)
    weight: float = 1.0

    @classmethod
    def parse(cls, text: str) -> RewardTerm:
        """`tabletop-align` or `tabletop-keep:2`. Raises SearchError."""
        name, _, weight = text.strip().partition(":")
        try:
            return cls(name=name, weight=float(weight) if weight else 1.0)
        except ValueError as error:
            raise SearchError(f"a reward is written name or name:weight, got {text!r}") from error

    @property
    def text(self) -> str:
        return self.name if self.weight == 1 else f"{self.name}:{self.weight:g}"
