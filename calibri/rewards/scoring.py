"""Render requests → scores, in batches whose boundaries depend on nothing but the requests."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

import numpy as np

from calibri.errors import RewardError, SearchError
from calibri.rewards.base import Frozen
from calibri.rewards.cache import CachedReward, cached, picture_hash

if TYPE_CHECKING:
    from calibri.rewards.base import Reward, RewardInfo
    from calibri.rewards.cache import ScoreCache
    from calibri.sampling.renderer import Renderer
    from calibri.sampling.request import RenderRequest

Progress = Callable[[int, int], None]
Turn = Callable[[], AbstractContextManager]


class SearchStopped(SearchError):
    """The user asked to stop between two batches."""


class Scorer(Protocol):
    """Anything that renders requests and scores the pictures: one process, or many."""

    known: tuple[str, ...]
    judges: frozenset[str]  # those among them that are for measuring, not for optimising
    revisions: dict[str, str]  # of all that are known, by name
    infos: dict[str, RewardInfo]  # what they say of themselves, by name

    def __call__(
        self,
        requests: Sequence[RenderRequest],
        names: Sequence[str],
        *,
        stop: Callable[[], bool] | None = None,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """Scores (len(requests), len(names)) float64, in the order of both; not checked for being finite.

        `names`: of rewards, each among `known`. `stop` is asked between batches; if it says yes,
        SearchStopped is raised. `progress(done, total)` in images.
        """
        ...


def batches(requests: Sequence[RenderRequest], size: int) -> list[Sequence[RenderRequest]]:
    """As few runs of at most `size` requests as hold them all, their lengths within one of each other.

    The unit of work: the same whoever renders it, so that results are the same too.
    """
    count = -(-len(requests) // size)
    ends = [len(requests) * k // count for k in range(count + 1)] if count else []
    return [requests[start:end] for start, end in itertools.pairwise(ends)]


def score_batch(
    renderer: Renderer,
    rewards: Mapping[str, Reward],
    batch: Sequence[RenderRequest],
    names: Sequence[str],
    turn: Turn = nullcontext,
) -> np.ndarray:
    """Scores of one batch, (len(batch), len(names)) float64; `turn` as in Renderer.render.

    Raises RewardError if a reward gives another count.
    """
    images = [rendered.image for rendered in renderer.render(batch, turn=turn)]
    prompts = [request.prompt for request in batch]
    columns = []
    hashes: list[bytes] | None = None  # once for all rewards
    for name in names:
        reward = rewards[name]
        if isinstance(reward, CachedReward):
            hashes = [picture_hash(image) for image in images] if hashes is None else hashes
            found = reward.score(images, prompts, hashes)
        else:
            found = reward.score(images, prompts)
        column = np.asarray(found, dtype=np.float64)
        if column.shape != (len(batch),):
            raise RewardError(f"reward {name} gave shape {column.shape} for {len(batch)} pictures")
        columns.append(column)
    return np.stack(columns, axis=1) if columns else np.empty((len(batch), 0))


class LocalScorer:
    """Scores with one backbone and its rewards in this process.

    `cache`: where scores are kept and found again, so that pictures that were scored before cost nothing.
    `turn`: makes a context manager that is held while one batch renders (a lock with priorities, say). Its
    pictures are scored after that.
    """

    def __init__(
        self,
        renderer: Renderer,
        rewards: Mapping[str, Reward],
        batch_size: int = 32,
        turn: Turn = nullcontext,
        cache: ScoreCache | None = None,
    ) -> None:
        if not rewards:
            raise SearchError("expected at least one reward, got none")
        self.renderer = renderer
        self.rewards = cached(rewards, cache)
        self.known = tuple(self.rewards)
        self.judges = frozenset(name for name, reward in self.rewards.items() if reward.info.role == "judge")
        self.infos = {name: reward.info for name, reward in self.rewards.items()}
        self.revisions = {name: info.revision for name, info in self.infos.items()}
        self.batch_size = batch_size
        self.turn = turn

    def __call__(
        self,
        requests: Sequence[RenderRequest],
        names: Sequence[str],
        *,
        stop: Callable[[], bool] | None = None,
        progress: Progress | None = None,
    ) -> np.ndarray:
        parts = [np.empty((0, len(names)))]
        done = 0
        for batch in batches(requests, self.batch_size):
            if stop is not None and stop():
                raise SearchStopped("stopped between two batches")
            parts.append(score_batch(self.renderer, self.rewards, batch, names, self.turn))
            done += len(batch)
            if progress is not None:
                progress(done, len(requests))
        return np.concatenate(parts)


class Pair(Frozen):
    """A prompt and a seed: with the steps they fix one picture of an arm."""

    prompt: str
    seed: int
