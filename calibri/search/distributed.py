"""The same scores from many processes: batches spread over Ray actors, each with a backbone and its rewards.

A batch is the unit of work and the same as in one process, so the scores do not depend on who renders it. The
batch of a lost worker is rendered again by another one. Ray is an extra: `pip install calibri-studio[ray]`.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calibri.errors import SearchError
from calibri.memory import keep_freed_memory
from calibri.rewards.base import RewardInfo
from calibri.rewards.own import paths_of
from calibri.rewards.scoring import Progress, SearchStopped, batches
from calibri.search.config import SearchConfig
from calibri.threads import shorten_thread_waits

if TYPE_CHECKING:
    from calibri.sampling.request import RenderRequest

TRIES = 3
NO_RAY = "--ray needs Ray, which is not installed: pip install 'calibri-studio[ray]'"


class Worker:
    """One actor: a backbone, its rewards, and nothing that outlives a batch.

    `options`: how the backbone is loaded, a LoadOptions as JSON. `threads`: of torch on a CPU. Sums come out
    the same only with the same number of threads, so all workers have it. `files`: of rewards that are files,
    name → path. `make`: for backbones and rewards that have no name, a function → (backbone, rewards by
    name). `loading`: a RewardLoading's fields. `scores`: a file in which workers keep scores.
    """

    def __init__(
        self,
        backbone: str,
        rewards: Sequence[str],
        batch_size: int,
        options: dict[str, Any],
        threads: int,
        make: Callable[[], tuple[Any, dict[str, Any]]] | None = None,
        loading: dict[str, Any] | None = None,
        files: dict[str, str] | None = None,
        scores: str | None = None,
    ) -> None:
        shorten_thread_waits()
        import torch

        from calibri.sampling.renderer import Renderer

        torch.set_num_threads(threads)
        keep_freed_memory()
        if make is not None:
            self.backbone, self.rewards = make()
        else:
            from calibri.backbones.loading import load_backbone
            from calibri.backbones.options import LoadOptions
            from calibri.rewards.base import RewardLoading
            from calibri.rewards.own import admit_addresses, admit_paths

            how = RewardLoading(**(loading or {}))
            admit_paths(files or {})
            admit_addresses(how.sources.values())
            self.backbone = load_backbone(backbone, options=LoadOptions.from_json(options))
            self.rewards = how.load(rewards, self.backbone.device)
        if scores is not None:
            from calibri.rewards.cache import ScoreCache, cached

            self.rewards = cached(self.rewards, ScoreCache(scores))
        self.renderer = Renderer(self.backbone, batch_size=batch_size)

    def about(self) -> dict[str, Any]:
        """What this worker loaded."""
        judges = [name for name, reward in self.rewards.items() if reward.info.role == "judge"]
        revisions = {name: reward.info.revision for name, reward in self.rewards.items()}
        fingerprint = self.backbone.fingerprint
        infos = {name: reward.info.model_dump() for name, reward in self.rewards.items()}
        return {"rewards": revisions, "judges": judges, "fingerprint": fingerprint, "infos": infos}

    def process(self) -> int:
        """Its process id."""
        return os.getpid()

    def score(self, batch: list[dict[str, Any]], names: list[str]) -> list[list[float]]:
        """Scores of one batch of plain requests, (len(batch), len(names))."""
        from calibri.rewards.scoring import score_batch

        requests = [unpacked(plain, self.backbone) for plain in batch]
        return score_batch(self.renderer, self.rewards, requests, names).tolist()


# Fields of a request that are plain values.
PLAIN = ("prompt", "seed", "steps", "height", "width", "guidance", "negative_prompt", "loras")


def packed(request: RenderRequest) -> dict[str, Any]:
    """A request as plain values, so that no code travels with it."""
    members = request.members
    return {
        **{name: getattr(request, name) for name in PLAIN},
        "members": None if members is None else [member.model_dump(mode="json") for member in members],
        "granularity": None if request.layout is None else request.layout.granularity,
    }


def unpacked(plain: dict[str, Any], backbone: Any) -> RenderRequest:
    """The inverse of `packed`, on a worker's own backbone."""
    from calibri.calibration.artifact import Member
    from calibri.sampling.request import RenderRequest

    members = plain["members"]
    return RenderRequest(
        **{name: plain[name] for name in PLAIN},
        members=None if members is None else tuple(Member(**each) for each in members),
        layout=None if plain["granularity"] is None else backbone.layout(plain["granularity"]),
    )


def gpus_of_worker(*devices: str) -> int:
    """How many GPUs a worker sees: up to the highest that these devices name, `cuda:1` two of them."""
    numbers = [re.fullmatch(r"(auto|cuda)(?::(\d+))?", device) for device in devices]
    return max((int(found[2] or 0) + 1 for found in numbers if found), default=0)


def gpu_share(gpus: int, workers: int, needed: int) -> float:
    """Of each worker: what it needs, or less where there is less; Ray knows parts of one GPU alone."""
    share = gpus / workers
    return float(min(needed, share if share < 1 else int(share)))


class RayScorer:
    """A Scorer over Ray actors.

    Raises SearchError if a batch fails on `TRIES` workers one after the other; errors that a reward or the
    renderer raises are the batch's own and come through at once.
    """

    def __init__(self, ray: Any, make_actor: Callable[[], Any], workers: int, batch_size: int) -> None:
        self._ray = ray
        self._make_actor = make_actor
        self.batch_size = batch_size
        self.actors = [make_actor() for _ in range(workers)]
        about = ray.get([actor.about.remote() for actor in self.actors])
        prints = {each["fingerprint"] for each in about}
        if len(prints) > 1:
            raise SearchError(
                "the workers loaded different weights of the backbone: their scores would not compare"
            )
        if any(each["rewards"] != about[0]["rewards"] for each in about):
            raise SearchError(
                "the workers loaded different weights of a reward: their scores would not compare"
            )
        self.revisions = dict(about[0]["rewards"])
        self.known = tuple(self.revisions)
        self.judges = frozenset(about[0]["judges"])
        self.infos = {name: RewardInfo(**info) for name, info in about[0]["infos"].items()}
        self.fingerprint = prints.pop()

    @classmethod
    @contextmanager
    def connected(
        cls,
        config: SearchConfig,
        address: str = "local",
        *,
        workers: int | None = None,
        threads: int = 1,
        make: Callable[[], tuple[Any, dict[str, Any]]] | None = None,
        scores: Path | None = None,
    ) -> Iterator[RayScorer]:
        """Workers on a cluster at `address`, or on a cluster of this machine's own ("local"), closed
        afterwards. `scores`: a file in which the workers of a machine keep scores.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise SearchError(NO_RAY) from error
        if workers is not None and workers < 1:
            raise SearchError(f"--workers must be 1 or more, got {workers}")
        if address == "local":
            ray.init(
                num_cpus=workers,
                object_store_memory=80 * 2**20,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        else:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        try:
            gpus = int(ray.cluster_resources().get("GPU", 0))
            own = config.reward_loading.device
            needed = gpus_of_worker(config.device, "cpu" if own == "auto" else own)
            count = workers or gpus // max(1, needed) or 2
            actor = ray.remote(num_cpus=0, num_gpus=gpu_share(gpus, count, needed))(Worker)
            names = list(config.reward_names)

            def make_actor() -> Any:
                return actor.remote(
                    config.backbone,
                    names,
                    config.batch_size,
                    config.load_options.to_json(),
                    threads,
                    make,
                    config.reward_loading.model_dump(),
                    paths_of(names),
                    None if scores is None else str(scores.absolute()),
                )

            yield cls(ray, make_actor, count, config.batch_size)
        finally:
            ray.shutdown()

    def __call__(
        self,
        requests: Sequence[RenderRequest],
        names: Sequence[str],
        *,
        stop: Callable[[], bool] | None = None,
        progress: Progress | None = None,
    ) -> np.ndarray:
        work = [[packed(request) for request in batch] for batch in batches(requests, self.batch_size)]
        results: list[list[list[float]] | None] = [None] * len(work)
        waiting = deque(range(len(work)))
        failures = [0] * len(work)
        idle = deque(range(len(self.actors)))
        running: dict[Any, tuple[int, int]] = {}  # task → (batch, actor)
        done, stopped = 0, False
        while waiting or running:
            stopped = stopped or (stop is not None and stop())
            if stopped:
                waiting.clear()
            while waiting and idle:
                number, place = waiting.popleft(), idle.popleft()
                running[self.actors[place].score.remote(work[number], list(names))] = (number, place)
            if not running:
                break
            finished, _ = self._ray.wait(list(running), num_returns=1, timeout=0.5)
            for task in finished:
                number, place = running.pop(task)
                try:
                    results[number] = self._ray.get(task)
                    done += len(work[number])
                    if progress is not None:
                        progress(done, len(requests))
                except self._ray.exceptions.RayActorError as error:
                    failures[number] += 1
                    if failures[number] >= TRIES:
                        raise SearchError(
                            f"a batch was lost with {TRIES} workers, one after the other: {error}"
                        ) from error
                    self.actors[place] = self._make_actor()
                    waiting.appendleft(number)
                except self._ray.exceptions.RayTaskError as error:
                    raise (error.cause if isinstance(error.cause, Exception) else error) from error
                idle.append(place)
        if stopped and any(result is None for result in results):
            raise SearchStopped("stopped between two batches")
        rows = [row for result in results if result is not None for row in result]
        scores = np.array(rows, dtype=np.float64).reshape(len(requests), len(names))
        return scores if math.prod(scores.shape) else np.empty((len(requests), len(names)))
