"""What a reward is, and how one is found by name.

A new reward of this project is one file here and one line in `_WHERE`; others come by `register_reward`.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from calibri.errors import RewardError, SearchError

if TYPE_CHECKING:
    from PIL.Image import Image

_NAME = re.compile(r"[\w.-]+")  # the command line writes name:weight,name:weight
_PLACE = re.compile(r"[\w.]+:\w+")

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


RewardFactory = Callable[[str], Reward]  # from the device that its weights go to
GROUP = "calibri.rewards"  # of entry points: what other packages bring

_WHERE = {
    "tabletop-align": "calibri.rewards.tabletop_align:AlignReward",
    "tabletop-quality": "calibri.rewards.tabletop_preference:QualityReward",
    "tabletop-judge": "calibri.rewards.tabletop_preference:QualityJudge",
    "tabletop-keep": "calibri.rewards.tabletop_facts:KeepReward",
    "tabletop-facts": "calibri.rewards.tabletop_facts:FactsJudge",
}
_REGISTERED: dict[str, RewardFactory | str] = {}


def register_reward(name: str, factory: RewardFactory | str, *, replace: bool = False) -> None:
    """Makes a reward of your own known to this process: searches, `load_reward` and the studio find it.

    `factory`: a function or class that is called with the device (`cpu`, `cuda` …) and gives a Reward, or
    `package.module:Class`, which is imported when the reward is loaded. `replace`: take the place of one
    that was registered before.

    An installed package needs no call: it declares an entry point of the group `calibri.rewards`. So do
    rewards that Ray workers or another process must find.

    Raises RewardError for a name that is taken or that the command line could not write, or for a factory
    that is neither of the two.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise RewardError(f"expected a name of letters, digits, '.', '_' and '-', got {name!r}")
    if name in _WHERE or (not replace and name in known_rewards()):
        raise RewardError(f"expected a new name for a reward, got {name!r}, which is there already")
    if not (callable(factory) or (isinstance(factory, str) and _PLACE.fullmatch(factory))):
        raise RewardError(f"expected a function, a class or 'package.module:Class', got {factory!r}")
    _REGISTERED[name] = factory


def known_rewards() -> tuple[str, ...]:
    """Names that `load_reward` takes: this project's, then registered ones, then those of packages."""
    return tuple(dict.fromkeys([*_WHERE, *_REGISTERED, *_installed()]))


def load_reward(name: str, device: str = "cpu") -> Reward:
    """The reward of that name, its weights on `device`.

    Raises RewardError for an unknown name, for one that cannot be imported, for what is no reward, or
    without weights.
    """
    factory = _WHERE.get(name) or _REGISTERED.get(name) or _installed().get(name)
    if factory is None:
        raise RewardError(f"unknown reward {name!r}; known are {', '.join(known_rewards())}")
    if isinstance(factory, str):
        factory = _imported(name, factory)
    reward = factory(device)
    if not isinstance(getattr(reward, "info", None), RewardInfo) or not callable(
        getattr(reward, "score", None)
    ):
        raise RewardError(
            f"{name}: expected an object with `info`, a RewardInfo, and `score(images, prompts)`, "
            f"got {type(reward).__name__}"
        )
    return reward


@functools.cache
def _installed() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=GROUP) if _NAME.fullmatch(point.name)}


def _imported(name: str, place: str) -> RewardFactory:
    module, _, attribute = place.partition(":")
    try:
        factory: RewardFactory = getattr(importlib.import_module(module.strip()), attribute.strip())
    except (ImportError, AttributeError) as error:
        raise RewardError(f"{name}: {place} cannot be imported: {error}") from error
    return factory


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
