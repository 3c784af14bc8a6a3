"""How many pictures the parts of a search render. A limit is kept, and too small a one is told before."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

from calibri.errors import SearchError
from calibri.search.pairs import PairSource

if TYPE_CHECKING:
    from calibri.search.config import SearchConfig

SPREAD_PAIRS = 64  # of the base, which rewards are divided by


def count_spread_pairs(config: SearchConfig) -> int:
    """Pairs that the base is measured on."""
    return max(2, min(SPREAD_PAIRS, config.pool) if config.pool else SPREAD_PAIRS)


def count_base(source: PairSource, indices: Sequence[int], known: Container[int] = ()) -> int:
    """Pictures of the base on these pairs, but for those whose scores are known."""
    missing = [i for i in dict.fromkeys(indices) if i not in known]
    return sum(len(source.base_samples(i)) for i in missing)


def count_generation(
    source: PairSource, candidates: int, indices: Sequence[int], known: Container[int] = ()
) -> int:
    """Pictures of one generation on these pairs, at most: a candidate that is the base itself takes none."""
    heat = source.config.race or len(indices)
    late = max(0, len(indices) - heat)
    painted = candidates * min(heat, len(indices)) + math.ceil(candidates / 2) * late
    return painted + count_base(source, indices, known)


def least_images(config: SearchConfig, scales: int) -> tuple[int, int]:
    """Pictures of the base, and of the first generation, of a search over a layout of `scales` scales."""
    source, pairs = PairSource(config), range(count_spread_pairs(config))
    return count_base(source, pairs), count_generation(
        source, config.candidates(scales), source.bucket(0), pairs
    )


def check_images(limit: int | None, base: int, generation: int) -> None:
    """Raises SearchError where a limit allows no generation."""
    if limit is not None and limit < base + generation:
        raise SearchError(
            f"images: expected at least {base + generation} for one generation ({base} of the base and "
            f"{generation} of candidates), got {limit}"
        )
