"""Which (prompt, seed) pairs a search uses when. Pure functions of the config, so that a resumed run sees
the same.
"""

from __future__ import annotations

import numpy as np

from calibri.rewards.scoring import Pair
from calibri.search.config import SearchConfig

# One stream of random numbers for each purpose, so that no change of one moves another.
_PROMPTS, _SEEDS, _ORDER, _SAMPLES = 1, 2, 3, 4
_ROLES = {"search": 0, "validation": 1, "held-out": 2}


def _state(*key: int) -> int:
    return int(np.random.SeedSequence(key).generate_state(1)[0] >> 1)  # 31 bits: every backbone takes them


def _order(n: int, *key: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key))).permutation(n)


class PairSource:
    """Pairs for the buckets of a search and for its validation and final judgement."""

    def __init__(self, config: SearchConfig) -> None:
        self.config = config
        self._orders: dict[tuple[int, ...], np.ndarray] = {}

    def _permutation(self, n: int, *key: int) -> np.ndarray:
        full = (self.config.seed, *key)
        if full not in self._orders:
            self._orders[full] = _order(n, *full)
        return self._orders[full]

    def pair(self, index: int, role: str = "search") -> Pair:
        """The pair of number `index`: every prompt once before any comes twice, each pair with a seed of
        its own.
        """
        prompts = {
            "search": self.config.prompts,
            "validation": self.config.validation_prompts,
            "held-out": self.config.held_out_prompts,
        }[role]
        code = _ROLES[role]
        order = self._permutation(len(prompts), _PROMPTS, code, index // len(prompts))
        prompt = prompts[order[index % len(prompts)]]
        return Pair(prompt=prompt, seed=_state(self.config.seed, _SEEDS, code, index))

    def pairs(self, count: int, role: str) -> list[Pair]:
        """The first `count` pairs of a role."""
        return [self.pair(i, role) for i in range(count)]

    def bucket(self, generation: int) -> list[int]:
        """Numbers of the pairs of one generation: the pool in a new order each time that it is used up."""
        size, pool = self.config.bucket, self.config.pool
        places = range(generation * size, (generation + 1) * size)
        if not pool:
            return list(places)
        whole = pool - pool % size  # a bucket never holds a pair twice
        return [
            int(self._permutation(pool, _ORDER, p // whole)[p % whole]) if p >= whole else p for p in places
        ]

    def base_samples(self, index: int) -> list[Pair]:
        """The base's pictures to compare with on pair `index`: the pair itself, then other seeds of its
        prompt.
        """
        first = self.pair(index)
        if self.config.objective != "win-rate":
            return [first]
        others = range(1, self.config.base_samples)
        seeds = [_state(self.config.seed, _SAMPLES, index, sample) for sample in others]
        return [first, *(Pair(prompt=first.prompt, seed=seed) for seed in seeds)]
