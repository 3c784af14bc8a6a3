"""Which rewards the pages offer for a backbone, and what each of them needs. Loads no model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from calibri.rewards.base import RewardLoading, known_rewards
from calibri.rewards.catalog import CATALOG, fitting
from calibri.rewards.own import is_address
from calibri.rewards.sources import name_source
from calibri.words import data_size

#: Shown under pictures of this backbone, in this order. Other backbones: rewards that were loaded.
SHOWN_FOR = {"tabletop": ("tabletop-align", "tabletop-quality", "tabletop-judge", "tabletop-facts")}

JUDGES = ("tabletop-judge", "tabletop-facts")  # reported at the end of a search that did not optimise them
REWARDS = ("tabletop-align", "tabletop-quality", "tabletop-keep:2")


def fits(name: str, backbone: str) -> bool:
    """Whether a reward is made for pictures of this backbone; registered ones are for all."""
    return name not in CATALOG or CATALOG[name].fits(backbone)


def list_fitting(backbone: str) -> list[str]:
    """Names of the rewards that fit: the catalogue's, then registered ones."""
    own = [name for name in fitting(backbone) if CATALOG[name].offered]
    return [*own, *(name for name in known_rewards() if name not in CATALOG)]


class Need(NamedTuple):
    """What a reward needs. `place`: where its weights come from, for people. `there`: whether they are on
    this machine. `download`, `memory`: about how many bytes; 0 where it is not known. `missing`: packages.
    """

    name: str
    place: str
    there: bool
    download: int
    memory: int
    missing: tuple[str, ...]

    @property
    def words(self) -> str:
        """`hpsv3: 17 GB to download from MizzenAI/HPSv3, 17 GB of memory`; empty where it needs nothing."""
        if self.missing:
            return f"{self.name} needs {', '.join(self.missing)}: pip install {' '.join(self.missing)}"
        parts = []
        if not self.there:
            size = f"about {data_size(self.download)} " if self.download else ""
            parts.append(f"{size}to download from {self.place}")
        elif self.place:
            parts.append(f"weights are here ({self.place})")
        if self.memory:
            parts.append(f"about {data_size(self.memory)} of memory")
        return f"{self.name}: {', '.join(parts)}" if parts else ""


def find_need(name: str, loading: RewardLoading, cuda: bool = False) -> Need:
    """What this reward needs, loaded so. `cuda`: whether on a CUDA device."""
    from calibri.rewards.weights import is_cached

    spec = CATALOG.get(name)
    if spec is None:
        return Need(name, "", True, 0, 0, ())
    source = loading.sources.get(name, spec.source)
    if is_address(source):  # its weights are on another machine
        return Need(name, "", True, 0, 0, ())
    there = not source or is_cached(source)
    _, dtype = loading.place(name, "cpu")
    if dtype == "auto":
        dtype = "bfloat16" if spec.large and cuda else "float32"
    own = name in loading.sources  # its size is not known: what the published weights need says nothing
    memory = 0 if own else spec.memory.get(dtype, 0)
    return Need(name, name_source(source), there, 0 if own else spec.download, memory, spec.missing)


def offer_rewards(backbone: str, loading: RewardLoading) -> list[tuple[str, str]]:
    """(words, name) of the rewards that fit, those that can be used at once first."""
    needs = [find_need(name, loading) for name in list_fitting(backbone)]
    needs.sort(key=lambda need: (bool(need.missing), not need.there))
    weighted = [(name, name) for name in REWARDS if ":" in name and backbone in SHOWN_FOR]
    return weighted + [(_label(need), need.name) for need in needs]


def _label(need: Need) -> str:
    if need.missing:
        return f"{need.name} (needs {', '.join(need.missing)})"
    return need.name if need.there else f"{need.name} ({data_size(need.download)} to download)"


def usual_rewards(backbone: str, loading: RewardLoading) -> list[str]:
    """What a form holds at first: the embedded world's own, else those whose weights were named."""
    if backbone in SHOWN_FOR:
        return list(REWARDS)
    return [name for name in loading.sources if fits(name, backbone)]


def usual_judges(backbone: str) -> list[str]:
    """What is measured at the end of a search, unless it says otherwise."""
    return [name for name in JUDGES if name in SHOWN_FOR.get(backbone, ())]


def describe_needs(names: Iterable[str], loading: RewardLoading, cuda: bool = False) -> list[str]:
    """A sentence for each of these rewards that needs something."""
    needs = [find_need(name, loading, cuda).words for name in dict.fromkeys(names)]
    return [f"{words}." for words in needs if words]
