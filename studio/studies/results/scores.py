"""What rewards say of a study's pictures: scored in the background, held against people's choices."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from calibri.errors import CalibriError, StudyError
from calibri.words import without_paths
from studio.machine.background import Background
from studio.studies.storage.picture_store import ImageStore
from studio.studies.storage.study_store import StudyPair, StudyStore

if TYPE_CHECKING:
    from PIL.Image import Image

    from calibri.analysis.comparison import Agreement
    from calibri.rewards.base import Reward

log = logging.getLogger(__name__)

FILE = "study-scores.db"  # scores that were computed once, in the data folder
Key = tuple[str, str]  # hash of a picture, prompt


@dataclass(frozen=True)
class StudyPicture:
    """A picture of a study and the prompt of its pair."""

    images: ImageStore
    sha256: str
    prompt: str

    def open(self) -> Image:
        """The picture, RGB. Raises PictureGone."""
        return self.images.open(self.sha256)


@dataclass(frozen=True)
class Scored:
    """How far the scoring of a study is, and what it has found. `now`: the reward under way. `missing`:
    pictures whose files are missing or damaged. `scores`: reward → picture and prompt → score.
    """

    names: tuple[str, ...]
    total: int = 0
    done: int = 0
    now: str = ""
    missing: int = 0
    error: str = ""
    scores: Mapping[str, Mapping[Key, float]] = field(default_factory=dict)
    agreements: Sequence[Agreement] = ()


class _Stopped(Exception):
    """The studio closes."""


def hung_pairs(pairs: Iterable[StudyPair]) -> dict[str, tuple[Key, Key]]:
    """Real pairs that have their pictures: id → (picture and prompt of x, of y)."""
    return {
        pair.id: ((pair.image_x, pair.prompt), (pair.image_y, pair.prompt))
        for pair in pairs
        if pair.kind == "real" and pair.image_x and pair.image_y
    }


def pair_scores(
    pairs: Mapping[str, tuple[Key, Key]], scores: Mapping[str, Mapping[Key, float]]
) -> dict[str, dict[str, tuple[float, float]]]:
    """Reward → pair → (score of x, score of y), of pairs both of whose pictures were scored."""
    return {
        name: {id: (each[x], each[y]) for id, (x, y) in pairs.items() if x in each and y in each}
        for name, each in scores.items()
    }


class StudyScores:
    """Scores the pictures of one study after another with rewards. Safe to call from any thread."""

    def __init__(self, store: StudyStore, images: ImageStore, data: Path) -> None:
        self._store, self._images, self._file = store, images, data / FILE
        self._background = Background("study-scores")
        self._lock = threading.Lock()
        self._found: dict[str, Scored] = {}

    def find(self, study: str) -> Scored | None:
        """What is known of a study since the studio started."""
        return self._found.get(study)

    def is_busy(self, study: str) -> bool:
        """Whether this study's pictures are being scored."""
        found = self._found.get(study)
        return self._background.busy and found is not None and bool(found.now)

    def start(self, study: str, names: Sequence[str], load: Callable[[str], Reward]) -> None:
        """Score all pictures of a study in the background. `load`: name → reward; it may be slow.

        Raises StudyError for no rewards, for a study without pictures, and while pictures are being scored.
        """
        known = self._store.get(study)
        if not names:
            raise StudyError("Choose at least one reward.")
        wanted = {key for keys in hung_pairs(self._store.pairs(known.id)).values() for key in keys}
        if not wanted:
            raise StudyError("This study has no pictures yet. Render them first.")
        pictures = [StudyPicture(self._images, *key) for key in sorted(wanted)]
        with self._lock:
            if not self._background.start(lambda: self._work(known.id, pictures, load)):
                raise StudyError("Pictures are being scored already. Wait until that is done.")
            earlier = self._found.get(known.id)
            kept = {} if earlier is None else dict(earlier.scores)
            every = tuple(dict.fromkeys(names))
            self._found[known.id] = Scored(every, len(pictures), now=every[0], scores=kept)

    def _work(self, study: str, pictures: list[StudyPicture], load: Callable[[str], Reward]) -> None:
        with self._lock:  # until `start` has written what is to be done
            names = self._found[study].names
        try:
            self._score(study, names, pictures, load)
        except _Stopped:
            self._change(study, now="")
        except CalibriError as error:
            self._change(study, now="", error=without_paths(str(error)))
        except Exception:
            self._change(
                study, now="", error="Something unexpected happened. The log of the studio says what."
            )
            raise

    def _score(
        self, study: str, names: Sequence[str], pictures: list[StudyPicture], load: Callable[[str], Reward]
    ) -> None:
        from calibri.analysis.comparison import agree, score_pictures
        from calibri.rewards.cache import ScoreCache

        whole = [each for each in pictures if self._images.is_whole(each.sha256)]
        self._change(study, total=len(whole), missing=len(pictures) - len(whole))
        keys = [(each.sha256, each.prompt) for each in whole]

        def tell(done: int) -> None:
            if self._background.closed:
                raise _Stopped
            self._change(study, done=done)

        cache = ScoreCache(self._file)
        try:
            for name in names:
                self._change(study, now=name, done=0)
                scores = score_pictures(load(name), whole, cache, tell)
                found = dict(zip(keys, scores.tolist(), strict=True))
                self._change(study, scores={**self._found[study].scores, name: found})
        finally:
            cache.close()
        import numpy as np

        columns = {
            name: np.array([each[key] for key in keys]) for name, each in self._whole(study, keys).items()
        }
        self._change(study, agreements=tuple(agree(columns, [prompt for _, prompt in keys])), now="")

    def _whole(self, study: str, keys: list[Key]) -> dict[str, Mapping[Key, float]]:
        """The rewards that have scored all these pictures."""
        scores = self._found[study].scores
        return {name: each for name, each in scores.items() if all(key in each for key in keys)}

    def _change(self, study: str, **values: object) -> None:
        with self._lock:
            self._found[study] = replace(self._found[study], **values)  # type: ignore[arg-type]  # its fields

    def wait(self, seconds: float = 60.0) -> bool:
        """Block until nothing is being scored. Returns whether that is so."""
        return self._background.wait(seconds)

    def close(self) -> None:
        """Stop between two batches, and wait for that."""
        self._background.close()
