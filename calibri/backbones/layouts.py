"""Layouts: the ordered, named scales of one backbone at one granularity, and the sites that each one drives.

Lies beside the sites, because a layout belongs to a backbone. No torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from calibri.errors import LayoutError

if TYPE_CHECKING:
    from calibri.backbones.sites import Site

Granularity = Literal["block", "layer", "gate"]
GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)

_NAMES: dict[str, Callable[[Site], str]] = {
    "block": lambda site: site.block,
    "layer": lambda site: site.layer_name,
    "gate": lambda site: site.name,
}


def name_scale(site: Site, granularity: Granularity) -> str:
    """The scale that drives a site."""
    return _NAMES[granularity](site)


@dataclass(frozen=True)
class Layout:
    """Names of scales in order of depth, and for each the indices of its sites.

    `groups`: a partition of range(n_sites), one tuple for each name. `sites`: the sites themselves, if the
    layout was made from them; needed only to change the granularity.
    """

    granularity: Granularity
    names: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    sites: tuple[Site, ...] = ()

    def __post_init__(self) -> None:
        if self.granularity not in GRANULARITIES:
            raise LayoutError(f"granularity {self.granularity!r}: expected one of {', '.join(GRANULARITIES)}")
        if len(self.names) != len(self.groups):
            raise LayoutError(f"{len(self.names)} names for {len(self.groups)} groups of sites")
        if len(set(self.names)) != len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise LayoutError(f"the name {twice!r} comes twice in a layout")
        if sorted(i for group in self.groups for i in group) != list(range(self.n_sites)):
            raise LayoutError("every site must belong to exactly one scale of a layout")

    @classmethod
    def from_sites(cls, sites: Sequence[Site], granularity: Granularity) -> Layout:
        """Ties sites together. Raises LayoutError for an unknown granularity or for no sites."""
        if granularity not in GRANULARITIES:
            raise LayoutError(f"granularity {granularity!r}: expected one of {', '.join(GRANULARITIES)}")
        if not sites:
            raise LayoutError("a layout needs at least one site")
        groups: dict[str, list[int]] = {}
        for index, site in enumerate(sites):
            groups.setdefault(_NAMES[granularity](site), []).append(index)
        return cls(granularity, tuple(groups), tuple(tuple(g) for g in groups.values()), tuple(sites))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def n_sites(self) -> int:
        """Sites that the scales drive together."""
        return sum(len(group) for group in self.groups)

    @cached_property
    def _scale_of_site(self) -> np.ndarray:
        index = np.empty(self.n_sites, dtype=np.intp)
        for scale, group in enumerate(self.groups):
            index[list(group)] = scale
        return index

    def checked(self, values: Sequence[float] | np.ndarray) -> np.ndarray:
        """(n_scales,) float64. Raises LayoutError for another length; names the scale that is not finite."""
        array = np.asarray(values, dtype=np.float64)
        if array.shape != (len(self.names),):
            raise LayoutError(
                f"expected {len(self.names)} scales at {self.granularity} granularity, got "
                + (f"{len(array)}" if array.ndim == 1 else f"an array of shape {array.shape}")
            )
        if not np.isfinite(array).all():
            where = int(np.flatnonzero(~np.isfinite(array))[0])
            raise LayoutError(f"{self.names[where]}: expected a finite number, got {array[where]}")
        return array

    def expand(self, values: Sequence[float] | np.ndarray) -> np.ndarray:
        """(n_scales,) → (n_sites,) float64: each site gets the scale that drives it."""
        return self.checked(values)[self._scale_of_site]

    def collapse(self, site_values: Sequence[float] | np.ndarray) -> np.ndarray:
        """(n_sites,) → (n_scales,) float64: the mean over each scale's sites."""
        array = np.asarray(site_values, dtype=np.float64)
        if array.shape != (self.n_sites,):
            raise LayoutError(f"expected {self.n_sites} values, one for each site, got shape {array.shape}")
        return np.array([array[list(group)].mean() for group in self.groups])

    def convert(self, values: Sequence[float] | np.ndarray, other: Layout) -> np.ndarray:
        """Scales of this layout as those of `other`, a layout of the same sites, float64.

        Exact towards a finer granularity; the mean over tied sites towards a coarser one.
        """
        if other.n_sites != self.n_sites:
            raise LayoutError(
                f"a layout of {self.n_sites} sites and one of {other.n_sites} do not fit together"
            )
        if self.sites and other.sites and self.sites != other.sites:
            raise LayoutError("these layouts belong to different backbones")
        if other.groups == self.groups:
            return self.checked(values)
        return other.collapse(self.expand(values))

    def at(self, granularity: Granularity) -> Layout:
        """The layout of the same sites at another granularity."""
        if granularity == self.granularity:
            return self
        if not self.sites:
            raise LayoutError(f"this layout does not know its sites, so it has no {granularity} form")
        return Layout.from_sites(self.sites, granularity)

    def is_extra(self, name: str) -> bool:
        """Whether a scale drives further sites alone, which are there because they were asked for."""
        group = self.groups[self.index(name)]
        return bool(self.sites) and all(self.sites[i].extra for i in group)

    def index(self, name: str) -> int:
        """The place of a scale. Raises LayoutError for an unknown name."""
        try:
            return self.names.index(name)
        except ValueError:
            raise LayoutError(
                f"no scale {name!r} at {self.granularity} granularity; they run from "
                f"{self.names[0]!r} to {self.names[-1]!r}"
            ) from None
