"""What a reward is, and how one is found by name.

A new reward of this project is one file here and one entry of the catalogue; others come by
`register_reward`.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from calibri.errors import RewardError, SearchError
from calibri.rewards.catalog import CATALOG, Kind, Role

if TYPE_CHECKING:
    from PIL.Image import Image

_NAME = re.compile(r"[\w.-]+")  # the command line writes name:weight,name:weight
_PLACE = re.compile(r"[\w.]+:\w+")


class RewardInfo(BaseModel):
    """What a reward says of itself. A `judge` is for measuring: a search refuses it unless it is named on
    purpose.

    `kind`: `bt`, whose differences are log odds after division by a temperature, or a `probability` in
    [0, 1]. `source`: where its weights come from. `weights`: what identifies their content. `revision`: all
    that a score depends on besides picture and prompt; empty where it is not known, and then its scores are
    not kept. `size`: bytes of the files. `memory`: dtype → bytes that it needs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    role: Role
    version: str
    description: str
    range_hint: tuple[float, float]
    kind: Kind = "bt"
    licence: str = ""
    source: str = ""
    weights: str = ""
    revision: str = ""
    size: int = Field(default=0, ge=0)
    memory: dict[str, int] = {}
    parameters: int = Field(default=0, ge=0)


class Reward(Protocol):
    """Scores images for prompts."""

    info: RewardInfo

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> np.ndarray:
        """(n,) float64, higher is better. images: n pictures of any size; prompts: n texts."""
        ...

    def close(self) -> None:
        """Frees the memory; scoring afterwards is an error. Own rewards may leave it out."""
        ...


RewardFactory = Callable[..., Reward]  # from the device; source and dtype as keywords, where it takes them
GROUP = "calibri.rewards"  # of entry points: what other packages bring

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
    if name in CATALOG or (not replace and name in known_rewards()):
        raise RewardError(f"expected a new name for a reward, got {name!r}, which is there already")
    if not (callable(factory) or (isinstance(factory, str) and _PLACE.fullmatch(factory))):
        raise RewardError(f"expected a function, a class or 'package.module:Class', got {factory!r}")
    _REGISTERED[name] = factory


def known_rewards() -> tuple[str, ...]:
    """Names that `load_reward` takes: this project's, then registered ones, then those of packages."""
    return tuple(dict.fromkeys([*CATALOG, *_REGISTERED, *_installed()]))


def load_reward(
    name: str, source: str | Path | None = None, device: str = "cpu", dtype: str = "auto"
) -> Reward:
    """The reward of that name, its weights on `device`, any that torch knows (`cuda:1`).

    `source`: a hub id (`owner/name`, `owner/name@revision`) or a folder in the published layout instead of
    the catalogue's. `dtype`: auto (bfloat16 on CUDA for the large ones, else float32), float32, bfloat16,
    float16; some take 8bit and 4bit on CUDA. What is not in the hub's cache is downloaded, with progress.

    Raises RewardError for an unknown name, for one that cannot be imported, for what is no reward, or
    without weights: unknown, gated, offline, damaged, too big for the memory.
    """
    place: RewardFactory | str | None = CATALOG[name].place if name in CATALOG else None
    factory = place or _REGISTERED.get(name) or _installed().get(name)
    if factory is None:
        raise RewardError(f"unknown reward {name!r}; known are {', '.join(known_rewards())}")
    if isinstance(factory, str):
        factory = _imported(name, factory)
    options: dict[str, Any] = {} if source is None else {"source": source}
    if dtype != "auto":
        options["dtype"] = dtype
    if options and not _takes(factory, device, options):
        raise RewardError(f"{name} takes no {' and no '.join(options)}: expected the device alone")
    reward = factory(device, **options)
    if not isinstance(getattr(reward, "info", None), RewardInfo) or not callable(
        getattr(reward, "score", None)
    ):
        raise RewardError(
            f"{name}: expected an object with `info`, a RewardInfo, and `score(images, prompts)`, "
            f"got {type(reward).__name__}"
        )
    return reward


def close_reward(reward: Reward) -> None:
    """Frees what a reward holds; rewards of other people's making need not know how."""
    close = getattr(reward, "close", None)
    if callable(close):
        close()


def _takes(factory: RewardFactory, device: str, options: dict[str, Any]) -> bool:
    try:
        inspect.signature(factory).bind(device, **options)
    except TypeError:
        return False
    return True


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


class RewardLoading(Frozen):
    """How the rewards of a search are loaded. `sources`: name → folder or hub id, where that is not the
    catalogue's. `device`, `dtype`: as `load_reward` takes them; auto is the backbone's device.
    """

    sources: dict[str, str] = {}
    device: str = "auto"
    dtype: str = "auto"

    def load(self, names: Iterable[str], device: object) -> dict[str, Reward]:
        """name → reward, each once; `device`: of the backbone. Raises RewardError."""
        names = list(dict.fromkeys(names))
        strange = [name for name in self.sources if name not in names]
        if strange:
            raise RewardError(f"a source is given for {strange[0]}, expected one of {', '.join(names)}")
        where = str(device) if self.device == "auto" else self.device
        return {name: self._load(name, where) for name in names}

    def _load(self, name: str, device: str) -> Reward:
        own = name not in CATALOG or CATALOG[name].backbone is not None
        # Rewards that know no dtype are left alone: the option is for those beside them.
        return load_reward(name, self.sources.get(name), device, "auto" if own else self.dtype)
