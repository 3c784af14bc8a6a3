"""What a reward is, and how one is found by name.

A new reward of this project is one file here and one entry of the catalogue; others come by
`register_reward`.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from calibri.errors import CalibriError, RewardError, SearchError, sentence
from calibri.plugins import Plugin, find_plugins, import_place
from calibri.rewards import own
from calibri.rewards.catalog import BITS, CATALOG, DTYPES, Kind, RewardSpec, Role

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

_NAME = re.compile(r"[\w.-]+")  # the command line writes name:weight,name:weight
_PLACE = re.compile(r"[\w.]+:\w+")
_DEVICE = re.compile(r"auto|[a-z]+(:\d+)?")


class RewardInfo(BaseModel):
    """What a reward says of itself. A `judge` is for measuring: a search refuses it unless it is named on
    purpose.

    `kind`: `bt`, whose differences are log odds after division by a temperature, or a `probability` in
    [0, 1]. `temperature`: in the reward's units, None where it is not known. `source`: where its weights
    come from. `weights`: what identifies their content. `revision`: all that a score depends on besides
    picture and prompt; empty where it is not known, and then its scores are not kept. `size`: bytes of the
    files. `memory`: dtype → bytes that it needs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    role: Role
    version: str
    description: str
    range_hint: tuple[float, float]
    kind: Kind = "bt"
    temperature: float | None = Field(default=None, gt=0)
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
    """Names that `load_reward` takes: this project's, registered ones, those of packages, admitted files."""
    return tuple(dict.fromkeys([*CATALOG, *_REGISTERED, *_installed(), *own.admitted()]))


def unusable_rewards() -> dict[str, str]:
    """Name → what is wrong with it, of entry points that name no reward. Imports those of other packages."""
    found = {}
    for plugin in find_plugins(GROUP):
        if plugin.name in CATALOG:
            found[f"{plugin.name} of {plugin.package}"] = "a reward of this project has its name"
        elif plugin.problem or not _NAME.fullmatch(plugin.name):
            wrong = plugin.problem or "expected a name of letters, digits, '.', '_' and '-'"
            found[plugin.name] = f"{plugin.package}: {wrong}"
        else:
            try:
                if not callable(plugin.load()):
                    found[plugin.name] = f"{plugin.place} is no class and no function"
            except CalibriError as error:
                found[plugin.name] = str(error)
    return found


def load_reward(
    name: str, source: str | Path | None = None, device: str = "cpu", dtype: str = "auto"
) -> Reward:
    """The reward of that name, its weights on `device`, any that torch knows (`cuda:1`).

    `name`: one of `known_rewards()`, or one in a file: `./my_reward.py:MyReward`, `./old_reward.toml`.
    `source`: a hub id (`owner/name`, `owner/name@revision`) or a folder in the published layout instead of
    the catalogue's, or `http(s)://host:port`, where `calibri rewards serve` has it. `dtype`: auto (bfloat16
    on CUDA for the large ones, else float32), float32, bfloat16, float16; some take 8bit and 4bit on CUDA.
    What is not in the hub's cache is downloaded, with progress.

    Raises RewardError for an unknown name, for one that cannot be imported, for what is no reward, or
    without weights: unknown, gated, offline, damaged, too big for the memory.
    """
    if name not in known_rewards() and own.is_file_name(name):
        return _load(name, own.File.open(name).load, source, device, dtype)
    if source is not None and own.is_address(source):
        return _load(name, _remote(name), source, "cpu", "auto")
    return load_known(name, source, device, dtype)


def load_known(
    name: str, source: str | Path | None = None, device: str = "cpu", dtype: str = "auto"
) -> Reward:
    """As load_reward, but of `known_rewards()` alone, and of addresses those that this process admitted: for
    what a page or a program from elsewhere sent. That must choose no file that is run and nobody who gets
    the token.
    """
    if source is not None and own.is_address(source):
        if not own.is_admitted(str(source)):
            raise RewardError(
                f"{name[:80]}: expected a folder or a hub id: addresses are given to commands alone"
            )
        return _load(name, _remote(name), source, "cpu", "auto")
    factory: RewardFactory | str | None
    if name in CATALOG:
        factory = CATALOG[name].place
    elif name in _REGISTERED:
        factory = _REGISTERED[name]
    elif name in _installed():
        factory = _installed()[name].place
    elif name in own.admitted():
        factory = own.admitted()[name].load
    elif own.is_file_name(name):
        raise RewardError(
            f"expected the name of a reward, got the file {name[:80]}: files are run by commands and "
            "programs alone"
        )
    else:
        raise RewardError(f"unknown reward {name!r}; known are {', '.join(known_rewards())}")
    return _load(
        name, _imported(name, factory) if isinstance(factory, str) else factory, source, device, dtype
    )


def _remote(name: str) -> RewardFactory:
    from calibri.rewards.remote import RemoteReward

    return functools.partial(RemoteReward, name="" if name == "remote" else name)


def _load(name: str, factory: RewardFactory, source: str | Path | None, device: str, dtype: str) -> Reward:
    options: dict[str, Any] = {} if source is None else {"source": source}
    if dtype != "auto":
        options["dtype"] = dtype
    if options and not takes(factory, device, options):
        raise RewardError(f"{name} takes no {' and no '.join(options)}: expected the device alone")
    return check_reward(name, factory(device, **options))


def check_reward(name: str, reward: Reward) -> Reward:
    """The reward. RewardError for an object that is none."""
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


def takes(factory: RewardFactory, device: str, options: dict[str, Any]) -> bool:
    """Whether a factory can be called with these."""
    try:
        inspect.signature(factory).bind(device, **options)
    except TypeError:
        return False
    return True


@functools.cache
def _installed() -> dict[str, Plugin]:
    found = find_plugins(GROUP)
    return {plugin.name: plugin for plugin in found if not plugin.problem and _NAME.fullmatch(plugin.name)}


def _imported(name: str, place: str) -> RewardFactory:
    try:
        factory: RewardFactory = import_place(place)
    except CalibriError as error:
        raise RewardError(f"{name}: {error}") from error
    return factory


def check_counts(images: Sequence[Image], prompts: Sequence[str], name: str) -> None:
    """RewardError unless there is one prompt for each image."""
    if len(images) != len(prompts):
        raise RewardError(
            f"{name}: expected one prompt for each image, got {len(images)} images, {len(prompts)} prompts"
        )


def need_packages(spec: RewardSpec) -> None:
    """Raises RewardError that names the packages which are not installed."""
    if spec.missing:
        raise RewardError(
            f"{spec.name} needs {', '.join(spec.missing)}, not installed here: "
            f"pip install {' '.join(spec.missing)}"
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
        """`tabletop-align`, `tabletop-keep:2` or `my_reward.py:MyReward:2`. Raises SearchError."""
        name, weight = own.split_weight(text.strip())
        try:
            return cls(name=name, weight=float(weight) if weight else 1.0)
        except ValueError as error:
            raise SearchError(f"a reward is written name or name:weight, got {text!r}") from error

    @property
    def text(self) -> str:
        return self.name if self.weight == 1 else f"{self.name}:{self.weight:g}"


class RewardLoading(Frozen):
    """How the rewards of a search are loaded. `sources`: name → folder or hub id, where that is not the
    catalogue's. `device`, `dtype`: as `load_reward` takes them; auto is the backbone's device. 8bit and 4bit
    are for the rewards that take them, the others stay at auto.
    """

    sources: dict[str, str] = {}
    device: str = "auto"
    dtype: str = "auto"

    @field_validator("device")
    @classmethod
    def _check_device(cls, device: str) -> str:
        if not _DEVICE.fullmatch(device):
            raise ValueError(f"expected auto, cpu, cuda, cuda:1 or mps, got {device!r}")
        return device

    @field_validator("dtype")
    @classmethod
    def _check_dtype(cls, dtype: str) -> str:
        if dtype not in ("auto", *DTYPES, *BITS):
            raise ValueError(f"expected auto, {', '.join((*DTYPES, *BITS))}, got {dtype!r}")
        return dtype

    @classmethod
    def read(cls, sources: dict[str, str], device: str | None, dtype: str | None) -> RewardLoading:
        """From what was typed; None and "" are auto. Raises RewardError with what does not fit."""
        try:
            return cls(sources=sources, device=device or "auto", dtype=dtype or "auto")
        except ValidationError as error:
            raise RewardError(f"rewards: {sentence(error)}") from None

    def of(self, names: Iterable[str]) -> RewardLoading:
        """What of this concerns these rewards."""
        wanted = set(names)
        return self.model_copy(update={"sources": {k: v for k, v in self.sources.items() if k in wanted}})

    def check(self, names: Iterable[str]) -> None:
        """Raises RewardError for what can be told before anything is loaded: a source for a reward that is
        not named, a package that is missing, a dtype that none of them takes.
        """
        names = list(dict.fromkeys(names))
        strange = [name for name in self.sources if name not in names]
        if strange:
            raise RewardError(f"a source is given for {strange[0]}, expected one of {', '.join(names)}")
        specs = [CATALOG[name] for name in names if name in CATALOG]
        for spec in specs:
            if not own.is_address(self.sources.get(spec.name, "")):
                need_packages(spec)
        if self.dtype in BITS and not any(self.dtype in spec.memory for spec in specs):
            takes = ", ".join(name for name, spec in CATALOG.items() if self.dtype in spec.memory)
            raise RewardError(f"{self.dtype} is for {takes} alone, got {', '.join(names)}")

    def load(self, names: Iterable[str], device: object) -> dict[str, Reward]:
        """name → reward, each once; `device`: of the backbone. Raises RewardError."""
        names = list(dict.fromkeys(names))
        self.check(names)
        return {name: self.load_one(name, device) for name in names}

    def load_one(self, name: str, device: object) -> Reward:
        """One of them. Raises RewardError."""
        where, dtype = self.place(name, device)
        return load_known(name, self.sources.get(name), where, dtype)

    def place(self, name: str, device: object) -> tuple[str, str]:
        """Device and dtype of one reward. Rewards that know no dtype are left alone: the option is for those
        beside them.
        """
        spec = CATALOG.get(name)
        plain = spec is None or len(spec.memory) < 2
        foreign = spec is not None and self.dtype in BITS and self.dtype not in spec.memory
        where = str(device) if self.device == "auto" else self.device
        return where, "auto" if plain or foreign else self.dtype
