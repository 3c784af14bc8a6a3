"""Rewards and judges in memory: each loaded once, shared by people, searches and sweeps, and let go of."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from calibri.errors import CalibriError, RewardError
from calibri.memory import bytes_in_use, give_back_memory
from calibri.rewards.base import RewardLoading
from calibri.rewards.sources import complete_source, name_source
from calibri.words import data_size, without_paths
from studio.machine.background import Background
from studio.machine.offers import JUDGES, SHOWN_FOR, fits

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from calibri.backbones.loading import Backbone
    from calibri.rewards.base import Reward
    from calibri.rewards.cache import ScoreCache

log = logging.getLogger(__name__)

MOST_SCORES = 5_000_000  # that are kept over restarts: some 400 MB


def _load(name: str, device: str, **options: Any) -> Reward:
    from calibri.rewards.base import load_known  # torch

    return load_known(name, device=device, **options)  # never a file or an address that a page names


class SharedReward:
    """A reward that several threads may call: one at a time, as its tokenizer may not be shared."""

    def __init__(self, reward: Reward) -> None:
        self.info = reward.info
        self._reward: Reward | None = reward
        self._lock = threading.Lock()

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> np.ndarray:
        """As Reward.score. Raises RewardError after `close`."""
        with self._lock:
            if self._reward is None:
                raise RewardError(f"{self.info.name} was unloaded. Load it again to score with it.")
            return self._reward.score(images, prompts)

    def close(self) -> None:
        """As Reward.close, once nobody scores with it."""
        from calibri.rewards.base import close_reward

        with self._lock:
            if self._reward is not None:
                close_reward(self._reward)
            self._reward = None


class Key(NamedTuple):
    """What makes two loaded rewards different. `source`: empty for the published weights."""

    name: str
    source: str
    device: str
    dtype: str


@dataclass(frozen=True)
class RewardState:
    """One reward in memory, or on its way there.

    `started`: time.monotonic() at the start of the phase. `before`, `after`: bytes in use on its device when
    loading began and ended. `by_hand`: somebody loaded it to see its scores. `users`: what uses it now, in
    words.
    """

    key: Key
    phase: Literal["loading", "ready", "failed"]
    started: float = field(default_factory=time.monotonic)
    before: int = 0
    after: int = 0
    by_hand: bool = False
    error: str = ""
    users: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.key.name

    @property
    def source(self) -> str:
        """Where the weights come from if not from the published place, for people."""
        return name_source(self.key.source) if self.key.source else ""

    @property
    def grown(self) -> str:
        """What loading did to the memory of its device, in words."""
        if not self.after:
            return ""
        return f"memory {data_size(self.before)} → {data_size(self.after)}"


class RewardModels:
    """The rewards of people's pictures, searches and sweeps, each loaded once on each device.

    `loader(name, device, **options) -> Reward`, with `source` and `dtype` where they are not the usual ones.
    `loading`: how rewards are loaded unless a run says otherwise. `scores`: a file in which scores are kept,
    made when first needed; None keeps none. `shown_on`: the device of those shown under pictures; None for
    the backbone's. Safe to call from any thread.
    """

    def __init__(
        self,
        loader: Callable[..., Reward] = _load,
        loading: RewardLoading | None = None,
        scores: Path | None = None,
        *,
        shown_on: str | None = None,
    ) -> None:
        self._loader, self._shown_on = loader, shown_on
        self.loading = loading or RewardLoading()
        self._scores_path = scores
        self._scores: ScoreCache | None = None
        self._loading = threading.Lock()
        self._lock = threading.Lock()
        self._models: dict[Key, Reward] = {}
        self._states: dict[Key, RewardState] = {}
        self._users: list[tuple[Key, str]] = []
        self._left_out: set[str] = set()
        self._background = Background("load-reward")

    # what there is

    def states(self) -> list[RewardState]:
        """Every reward in memory or on its way, in the order in which they came."""
        with self._lock:
            users = list(self._users)
            return [
                replace(state, users=tuple(by for key, by in users if key == state.key))
                for state in self._states.values()
            ]

    def find_states(self, name: str) -> list[RewardState]:
        """Those of this reward."""
        return [state for state in self.states() if state.name == name]

    # loading

    def load(self, name: str, device: str, loading: RewardLoading | None = None) -> Reward:
        """The reward of that name. `loading`: a run's own. Raises RewardError."""
        return self._load(self._key(name, device, loading))

    def _key(self, name: str, device: str, loading: RewardLoading | None = None) -> Key:
        usual = self.loading
        own = usual if loading is None else loading
        where, dtype = own.place(name, device if usual.device == "auto" else usual.device)
        return Key(name, own.sources.get(name) or usual.sources.get(name, ""), where, dtype)

    def _load(self, key: Key, by_hand: bool = False) -> Reward:
        if key not in self._models:
            with self._loading:
                if key not in self._models:
                    self._read(key, by_hand)
        if by_hand:
            self._change(key, by_hand=True)
        return self._models[key]

    def _read(self, key: Key, by_hand: bool) -> None:
        """Take a reward's weights into memory, and note what that did to it."""
        options: dict[str, Any] = {"source": key.source} if key.source else {}
        if key.dtype != "auto":
            options["dtype"] = key.dtype
        give_back_memory()  # else freed memory is used again, and loading seems to take none
        before = bytes_in_use(key.device)
        with self._lock:
            self._states[key] = RewardState(key, "loading", before=before, by_hand=by_hand)
        try:
            reward = SharedReward(self._loader(key.name, key.device, **options))
        except Exception as error:
            words = without_paths(str(error)) if isinstance(error, CalibriError) else type(error).__name__
            self._change(key, phase="failed", error=words)
            raise
        self._models[key] = self._keep_scores(reward)
        self._left_out.discard(key.name)
        self._change(key, phase="ready", after=bytes_in_use(key.device))

    def _change(self, key: Key, **changes: Any) -> None:
        with self._lock:
            if (state := self._states.get(key)) is not None:
                started = time.monotonic() if "phase" in changes else state.started
                self._states[key] = replace(state, started=started, **changes)

    def _keep_scores(self, reward: Reward) -> Reward:
        """The reward with the scores that were computed before."""
        from calibri.rewards.cache import cached

        if self._scores is None and self._scores_path is not None:
            self._scores, self._scores_path = _open_scores(self._scores_path), None
        return cached({"": reward}, self._scores)[""]

    def begin_loading(self, name: str, device: str, source: str = "") -> None:
        """Load a reward in the background, to be shown under pictures. `source`: a hub id or a folder to take
        its weights from, from now on; empty for those that are set.

        Raises RewardError while another one is loading, for a source that does not fit or packages that are
        missing.
        """
        loading = self.loading.of([name])
        if source:
            loading = loading.model_copy(update={"sources": {name: complete_source(source)}})
        loading.check([name])
        if source:
            sources = self.loading.sources | loading.sources
            self.loading = self.loading.model_copy(update={"sources": sources})
        key = self._key(name, device)
        if not self._background.start(lambda: self._try(key)):
            busy = next((state.name for state in self.states() if state.phase == "loading"), "A reward")
            raise RewardError(f"{busy} is still loading. Wait until it is ready.")

    def _try(self, key: Key) -> None:
        try:
            self._load(key, by_hand=True)
        except (CalibriError, OSError, ImportError) as error:
            log.warning("reward %s could not be loaded: %s", key.name, without_paths(str(error)))

    def unload(self, name: str) -> str:
        """Free what a reward holds, on all devices. Returns what that did to the memory, in words.

        Raises RewardError while something uses it or loads it.
        """
        with self._lock:
            states = [state for state in self._states.values() if state.name == name]
            users = [by for key, by in self._users if key.name == name]
            if users:
                raise RewardError(
                    f"{name} cannot be unloaded while {users[0]} uses it. Stop that first, or wait until it "
                    "ends."
                )
            if any(state.phase == "loading" for state in states):
                raise RewardError(f"{name} is still loading. Unload it when it is ready.")
            if not states:
                raise RewardError(f"Expected a reward in memory, got {name}, which is not loaded.")
            for state in states:
                del self._states[state.key]
            models = [self._models.pop(state.key) for state in states if state.key in self._models]
            self._left_out.add(name)
        device = states[0].key.device
        before = bytes_in_use(device)
        while models:
            models.pop().close()
        give_back_memory()
        return f"{name} is unloaded: memory {data_size(before)} → {data_size(bytes_in_use(device))}."

    # using them

    @contextmanager
    def using(
        self, names: Sequence[str], device: str, by: str, loading: RewardLoading | None = None
    ) -> Iterator[dict[str, Reward]]:
        """Name → reward, loaded, and kept in memory until the end. `by`: what uses them, in words: `the
        search “Mine”`. `loading`: as in `load`. Raises RewardError."""
        uses = [(self._key(name, device, loading), by) for name in dict.fromkeys(names)]
        with self._lock:
            self._users += uses
        try:
            yield {key.name: self._load(key) for key, _ in uses}
        finally:
            with self._lock:
                for use in uses:
                    self._users.remove(use)

    def _find(self, name: str, device: str) -> Reward | None:
        """The reward, or None where it was unloaded or cannot be loaded, which is logged once."""
        if name in self._left_out:
            return None
        try:
            return self.load(name, device)
        except (CalibriError, OSError, ImportError) as error:
            log.warning("reward %s is left out: %s", name, error)
            self._left_out.add(name)
            return None

    def warm(self, backbone: Backbone) -> None:
        """Load what `score` will need."""
        for name in SHOWN_FOR.get(backbone.spec.name, ()):
            self._find(name, self._shown_on or str(backbone.device))

    def score(
        self, backbone: Backbone, images: Sequence[Image], prompts: Sequence[str]
    ) -> list[dict[str, float]]:
        """The rewards shown under pictures of this backbone: one dictionary an image, reward name (without
        the world's name) → score, higher is better."""
        rows: list[dict[str, float]] = [{} for _ in images]
        for name, reward in self._shown(backbone).items():
            short = name.removeprefix(f"{backbone.spec.name}-")
            try:
                scores = reward.score(list(images), list(prompts))
            except CalibriError as error:  # unloaded meanwhile, or a picture that it does not take
                log.warning("reward %s is left out of captions: %s", name, error)
                continue
            for row, value in zip(rows, scores):
                row[short] = float(value)
        return rows

    def _shown(self, backbone: Backbone) -> dict[str, Reward]:
        """The backbone's own rewards; of others those that were loaded, by hand where it has own ones."""
        usual = SHOWN_FOR.get(backbone.spec.name, ())
        device = self._shown_on or str(backbone.device)
        own = {name: self._find(name, device) for name in usual}
        shown = {name: reward for name, reward in own.items() if reward is not None}
        for state in self.states():
            wanted = state.phase == "ready" and (state.by_hand or not usual)
            if wanted and state.name not in usual and fits(state.name, backbone.spec.name):
                reward = self._models.get(state.key)
                if reward is not None:
                    shown.setdefault(state.name, reward)
        return shown

    def close(self) -> None:
        """Wait for what is loading, and close the file of scores."""
        self._background.close()
        if self._scores is not None:
            self._scores.close()


def _open_scores(path: Path) -> ScoreCache | None:
    """The file of scores; None where it cannot be used, which is logged."""
    from calibri.rewards.cache import ScoreCache

    try:
        scores = ScoreCache(path)
        scores.forget(MOST_SCORES)
        return scores
    except CalibriError as error:
        log.warning("scores are not kept: %s", without_paths(str(error)))
        return None


def rewards_shown(backbone: str) -> Sequence[str]:
    """Rewards that a measurement of the speed scores with."""
    return [name for name in SHOWN_FOR.get(backbone, ()) if name not in JUDGES]
