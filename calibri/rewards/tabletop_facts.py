"""`tabletop-facts` and `tabletop-keep`: does the picture show what the prompt asks for? After GenEval
(arXiv 2310.11513).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL.Image import Image

from calibri.rewards.base import check_counts
from calibri.rewards.tabletop_weights import as_rgbs, check_open, load
from calibri.tabletop.captions import Facts
from calibri.tabletop.nets import GRID, KINDS
from calibri.tabletop.prompts import facts_in
from calibri.tabletop.reward_nets import in_batches


class FactsJudge:
    """Mean probability of the facts that a prompt asks for: each (colour, shape) pair is there, and the
    count is right.
    """

    weights: str = "facts"

    def __init__(self, device: str = "cpu") -> None:
        self._device = device
        self._net: torch.nn.Module | None
        self._net, self.info = load(self.weights, device)

    def close(self) -> None:
        """Frees the memory."""
        self._net = None

    def _seen(self, images: Sequence[Image]) -> np.ndarray:
        """(n, kinds + 4 + 2·kinds): probabilities of pairs, of counts 0 … 3, then each pair's place (x, y)
        in [0, 1].
        """

        net = check_open(self._net, self.info.name)

        def run(x: torch.Tensor) -> torch.Tensor:
            seen, count, where = net(x)
            weight = where.flatten(2).softmax(2)
            at = (torch.arange(GRID * GRID, device=x.device) % GRID + 0.5) / GRID
            down = (torch.arange(GRID * GRID, device=x.device) // GRID + 0.5) / GRID
            return torch.cat([seen.sigmoid(), count.softmax(1), weight @ at, weight @ down], 1)

        return in_batches(as_rgbs(images), self._device, run)

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> np.ndarray:
        """(n,) float64 in [0, 1]. A prompt that names no colour-shape pair asks for nothing: 0.5, a
        constant.
        """
        check_counts(images, prompts, self.info.name)
        if not images:
            return np.zeros(0)
        seen = self._seen(images)
        return np.array(
            [_mean_fact(row, facts_in(prompt)) for row, prompt in zip(seen, prompts, strict=True)]
        )

    def all_right(self, images: Sequence[Image], prompts: Sequence[str]) -> np.ndarray:
        """(n,) bool: every asked pair is there, the count is right, and the two named solids stand as asked
        (GenEval).
        """
        check_counts(images, prompts, self.info.name)
        seen = self._seen(images)
        return np.array(
            [_all_right(row, facts_in(prompt)) for row, prompt in zip(seen, prompts, strict=True)]
        )


class KeepReward(FactsJudge):
    """A detector of its own, with other pictures and seed than the judge's, so that a search can be made to
    keep facts.
    """

    weights = "keep"


def _asked(row: np.ndarray, facts: Facts) -> np.ndarray:
    """Probability of each asked fact: the pairs, then the count."""
    pairs = [row[KINDS.index(kind)] for kind in facts.kinds]
    return np.array([*pairs, row[len(KINDS) + facts.count]])


def _mean_fact(row: np.ndarray, facts: Facts | None) -> float:
    return 0.5 if facts is None else float(_asked(row, facts).mean())


def _all_right(row: np.ndarray, facts: Facts | None) -> bool:
    if facts is None or not (_asked(row, facts) > 0.5).all():
        return False
    if facts.relation is None or len(facts.kinds) < 2:
        return True
    places = row[len(KINDS) + 4 :].reshape(2, len(KINDS))
    order = places[:, [KINDS.index(kind) for kind in facts.kinds]]
    # In the picture x grows to the right and y downwards, and what is in front stands lower.
    steps = np.diff(order[0]) if facts.relation in ("left of", "right of") else -np.diff(order[1])
    return bool((steps > 0).all() if facts.relation in ("left of", "in front of") else (steps < 0).all())
