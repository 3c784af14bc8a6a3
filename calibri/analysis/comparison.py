"""Rewards beside each other: on the same pictures, and beside what people chose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from calibri.errors import RewardError
from calibri.preference import (
    Correlation,
    NoData,
    Rate,
    Vote,
    count_undecided,
    predicted_share,
    rank_correlation,
)

if TYPE_CHECKING:
    from PIL.Image import Image

    from calibri.rewards.base import Reward
    from calibri.rewards.cache import ScoreCache

BATCH = 16  # pictures opened at once


class Pictured(Protocol):
    """A picture that can be opened, and its prompt."""

    @property
    def prompt(self) -> str: ...

    def open(self) -> Image: ...


@dataclass(frozen=True)
class Summary:
    """Mean and spread (standard deviation) of one reward's scores."""

    reward: str
    mean: float
    spread: float


@dataclass(frozen=True)
class Agreement:
    """Two rewards on the same pictures. `overall`, `within` prompts: rank correlations. `largest`: of the
    differences of their scores, on picture number `at`; it means something where both have one scale.
    """

    a: str
    b: str
    overall: Correlation | NoData
    within: Correlation | NoData
    largest: float
    at: int


@dataclass(frozen=True)
class Prediction:
    """How a reward predicts people's choices. `undecided`: choices between two pictures that it scores alike,
    each half a hit.
    """

    reward: str
    rate: Rate | NoData
    undecided: int


def score_pictures(
    reward: Reward,
    pictures: Sequence[Pictured],
    cache: ScoreCache | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """(n,) float64: the reward's scores, of a few pictures at a time. Raises RewardError for one that is not
    finite.
    """
    from calibri.rewards.cache import CachedReward

    scorer = reward if cache is None else CachedReward(reward, cache)
    found: list[np.ndarray] = []
    for start in range(0, len(pictures), BATCH):
        part = pictures[start : start + BATCH]
        scores = np.asarray(scorer.score([p.open() for p in part], [p.prompt for p in part]), np.float64)
        if scores.shape != (len(part),) or not np.isfinite(scores).all():
            raise RewardError(
                f"{reward.info.name}: expected {len(part)} finite scores, got {scores.tolist()}"
            )
        found.append(scores)
        progress(start + len(part))
    return np.concatenate(found) if found else np.zeros(0)


def summarise(scores: Mapping[str, np.ndarray]) -> list[Summary]:
    """Mean and spread of each reward, in their order."""
    return [Summary(name, float(each.mean()), float(each.std())) for name, each in scores.items()]


def agree(scores: Mapping[str, np.ndarray], prompts: Sequence[str]) -> list[Agreement]:
    """Every two rewards, in their order. scores: reward → (n,), of the pictures whose prompts these are."""
    found = []
    for a, b in combinations(scores, 2):
        gaps = np.abs(scores[a] - scores[b])
        at = int(gaps.argmax())
        both = scores[a], scores[b]
        overall = rank_correlation(*both, prompts)
        within = rank_correlation(*both, prompts, within=True)
        found.append(Agreement(a, b, overall, within, float(gaps[at]), at))
    return found


def predict(
    votes: Sequence[Vote], scores: Mapping[str, Mapping[str, tuple[float, float]]]
) -> list[Prediction]:
    """How well each reward tells what people chose, the best first. scores: reward → pair → (of x, of y).

    `votes`: on one question. What counts is what `predicted_share` counts.
    """
    found = [
        Prediction(name, predicted_share(votes, each), count_undecided(votes, each))
        for name, each in scores.items()
    ]
    return sorted(found, key=lambda p: -p.rate.value if isinstance(p.rate, Rate) else 1.0)


def describe(value: Correlation | Rate | NoData) -> dict[str, Any]:
    """As JSON values; of no data the reason."""
    if isinstance(value, NoData):
        return {"no_data": value.reason}
    names = ("value", "low", "high", "n", "prompts", "method", "level")
    return {name: getattr(value, name) for name in names if hasattr(value, name)}
