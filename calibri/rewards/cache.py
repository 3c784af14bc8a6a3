"""Scores that were computed once: by picture, prompt and the reward's revision, in one file."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from calibri.errors import RewardError
from calibri.rewards.base import check_counts, close_reward

if TYPE_CHECKING:
    from PIL.Image import Image

    from calibri.rewards.base import Reward

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
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")  # a lost score is computed again
            with self._db:
                self._db.execute(
                    "CREATE TABLE IF NOT EXISTS scores (key BLOB PRIMARY KEY, score REAL NOT NULL) "
                    "WITHOUT ROWID"
                )
        except (sqlite3.Error, OSError) as error:
            raise RewardError(f"{self.path} cannot hold scores: {error}") from error

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
        found = self._cache.find(list(dict.fromkeys(keys)))
        new = {key: place for place, key in reversed(list(enumerate(keys))) if key not in found}
        if new:
            places = sorted(new.values())
            fresh = np.asarray(
                self._reward.score([images[i] for i in places], [prompts[i] for i in places]), np.float64
            )
            if fresh.shape != (len(places),):
                raise RewardError(f"{self.info.name} gave shape {fresh.shape} for {len(places)} pictures")
            computed = {keys[i]: float(score) for i, score in zip(places, fresh, strict=True)}
            self._cache.keep(computed)
            found |= computed
        return np.array([found[key] for key in keys], dtype=np.float64)

    def close(self) -> None:
        """Frees the reward's memory; the cache stays open."""
        close_reward(self._reward)
