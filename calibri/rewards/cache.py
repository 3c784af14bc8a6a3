"""Scores that were computed once: by picture, prompt and the reward's revision, in one file."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from calibri.errors import RewardError
from calibri.rewards.base import check_counts, close_reward

if TYPE_CHECKING:
    from PIL.Image import Image

    from calibri.rewards.base import Reward

log = logging.getLogger(__name__)

_WAIT = 30.0  # seconds for another process that is writing
_AT_ONCE = 500  # keys in one question
_LANES = 4096
_ODD, _HALF = np.uint64(0x9E3779B97F4A7C15), np.uint64(32)


def picture_hash(image: Image) -> bytes:
    """32 bytes that stand for what a picture shows: its mode, size, palette and pixels; not its file."""
    digest = hashlib.sha256(f"{image.mode} {image.width}×{image.height} ".encode())
    if image.mode in ("P", "PA"):
        digest.update(bytes(image.getpalette() or ()))
    digest.update(_folded(image.tobytes()))
    return digest.digest()


def _folded(pixels: bytes) -> bytes:
    """The bytes, or 32 KiB that stand for them.

    SHA-256 of all would be most of the time that a known score takes. So 4,096 lanes of 64 bits take the
    pixels in turn, and are what is hashed. A step is a bijection of its lane, so one change always shows;
    two hide each other by chance alone, once in 2⁶⁴.
    """
    words = np.frombuffer(pixels, np.uint8)
    if len(words) <= 8 * _LANES:
        return pixels
    if rest := len(words) % (8 * _LANES):
        words = np.pad(words, (0, 8 * _LANES - rest))
    lanes, turned = np.arange(_LANES, dtype=np.uint64), np.empty(_LANES, np.uint64)
    for row in words.view(np.uint64).reshape(-1, _LANES):
        lanes ^= row
        lanes *= _ODD
        np.right_shift(lanes, _HALF, out=turned)
        lanes ^= turned
    return lanes.tobytes()


def score_key(picture: bytes, prompt: str, revision: str) -> bytes:
    """32 bytes that stand for one score: of the picture with this hash, a prompt, a reward's revision."""
    digest = hashlib.sha256(picture)
    digest.update(hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest())
    digest.update(revision.encode())
    return digest.digest()


class ScoreCache:
    """Scores in an SQLite file, which several threads and processes may share.

    A score that is kept is exactly the one that was computed. Scores that are not finite are not kept.
    """

    def __init__(self, path: str | Path) -> None:
        """`path`: the file, made when it is not there. Raises RewardError for one that holds something
        else.
        """
        self.path = Path(path)
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=_WAIT, check_same_thread=False)
            self._use_wal()
            self._db.execute("PRAGMA synchronous = NORMAL")  # a lost score is computed again
            with self._db:
                self._db.execute(
                    "CREATE TABLE IF NOT EXISTS scores (key BLOB PRIMARY KEY, score REAL NOT NULL) "
                    "WITHOUT ROWID"
                )
        except (sqlite3.Error, OSError) as error:
            raise RewardError(f"{self.path} cannot hold scores: {error}") from error

    def _use_wal(self) -> None:
        """SQLite does not wait for others while it changes the mode: of several processes that open a new
        file at once, all but one have to ask again.
        """
        end = time.monotonic() + _WAIT
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)

    def find(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        """key → score of those that are there."""
        found: dict[bytes, float] = {}
        with self._lock:
            for start in range(0, len(keys), _AT_ONCE):
                part = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(part))
                with closing(self._db.cursor()) as cursor:
                    rows = cursor.execute(f"SELECT key, score FROM scores WHERE key IN ({marks})", part)
                    found.update(rows)
        return found

    def keep(self, scores: dict[bytes, float]) -> None:
        """Keeps those that are finite."""
        rows = [(key, float(score)) for key, score in scores.items() if np.isfinite(score)]
        if not rows:
            return
        with self._lock, self._db:
            self._db.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?)", rows)

    def __len__(self) -> int:
        with self._lock:
            return int(self._db.execute("SELECT count(*) FROM scores").fetchone()[0])

    def forget(self, most: int) -> None:
        """Drops all scores where there are more than `most`: they are computed again when somebody asks."""
        if len(self) > most:
            with self._lock, self._db:
                self._db.execute("DELETE FROM scores")

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()


class CachedReward:
    """A reward that computes each score once. Without a revision it computes all, as nothing tells when
    its scores would change.
    """

    def __init__(self, reward: Reward, cache: ScoreCache) -> None:
        self.info = reward.info
        self._reward, self._cache = reward, cache

    def score(
        self, images: Sequence[Image], prompts: Sequence[str], hashes: Sequence[bytes] | None = None
    ) -> np.ndarray:
        """As Reward.score. The pictures that are new are scored together, each once. `hashes`: their
        `picture_hash`, where several rewards score the same pictures.
        """
        if not self.info.revision:
            return self._reward.score(images, prompts)
        check_counts(images, prompts, self.info.name)
        revision = f"{self.info.name} {self.info.revision}"
        hashes = [picture_hash(image) for image in images] if hashes is None else hashes
        keys = [score_key(each, prompt, revision) for each, prompt in zip(hashes, prompts, strict=True)]
        found = self._find(list(dict.fromkeys(keys)))
        new = {key: place for place, key in reversed(list(enumerate(keys))) if key not in found}
        if new:
            places = sorted(new.values())
            fresh = np.asarray(
                self._reward.score([images[i] for i in places], [prompts[i] for i in places]), np.float64
            )
            if fresh.shape != (len(places),):
                raise RewardError(f"{self.info.name} gave shape {fresh.shape} for {len(places)} pictures")
            computed = {keys[i]: float(score) for i, score in zip(places, fresh, strict=True)}
            self._keep(computed)
            found |= computed
        return np.array([found[key] for key in keys], dtype=np.float64)

    def _find(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        try:
            return self._cache.find(keys)
        except sqlite3.Error as error:
            log.warning("known scores could not be read: %s", error)
            return {}

    def _keep(self, scores: dict[bytes, float]) -> None:
        try:
            self._cache.keep(scores)
        except sqlite3.Error as error:  # a full disk, say: whoever asked has the scores all the same
            log.warning("scores could not be kept: %s", error)

    def close(self) -> None:
        """Frees the reward's memory; the cache stays open."""
        close_reward(self._reward)


def uncached(reward: Reward) -> Reward:
    """The reward that computes, to measure how long that takes."""
    return reward._reward if isinstance(reward, CachedReward) else reward


def cached(rewards: Mapping[str, Reward], cache: ScoreCache | None) -> dict[str, Reward]:
    """The same rewards, each score computed once; as they are without a cache."""
    if cache is None:
        return dict(rewards)
    return {
        name: reward if isinstance(reward, CachedReward) else CachedReward(reward, cache)
        for name, reward in rewards.items()
    }
