"""Pictures as raters get them: named by a showing's token and a side, all of a study with the same length."""

from __future__ import annotations

from collections.abc import Callable

from studio.studies.storage.database import Database
from studio.studies.storage.picture_store import ImageStore, PictureGone
from studio.studies.storage.study_store import StudyPair
from studio.studies.voting.ballots import Refused, read_token


class ShownPictures:
    """Knows the pictures of open showings in memory and finds all others in the tables.

    `on_lost(study, sha256)` is told of files that cannot be read.
    """

    def __init__(
        self, db: Database, images: ImageStore, on_lost: Callable[[str, str], None] = lambda study, sha: None
    ) -> None:
        self._db, self._images, self._on_lost = db, images, on_lost
        self._open: dict[str, tuple[str, str, str]] = {}  # token → study, left, right
        self._fetched: dict[str, set[str]] = {}  # open token → sides that a browser fetched
        self._seen: dict[str, list[str]] = {}  # study → tokens of which both sides were
        self._lengths: dict[str, int] = {}  # study → bytes of each of its pictures

    def keep(self, token: str, pair: StudyPair, left_is_x: bool) -> None:
        """Remember a showing whose pictures a browser asks for next."""
        sides = (str(pair.image_x), str(pair.image_y))
        self._open[token] = (pair.study, *(sides if left_is_x else sides[::-1]))

    def drop(self, token: str) -> None:
        """Forget a showing that is over."""
        self._open.pop(token, None)
        self._fetched.pop(token, None)

    def take_seen(self, study: str) -> list[str]:
        """Tokens of which both pictures were fetched since the last call."""
        return self._seen.pop(study, [])

    def _note_fetched(self, study: str, token: str, side: str) -> None:
        sides = self._fetched.setdefault(token, set())
        if len(sides) < 2:
            sides.add(side)
            if len(sides) == 2:
                self._seen.setdefault(study, []).append(token)

    def measure_again(self, study: str) -> None:
        """The study's pictures changed: find them, and their common length, again when next asked."""
        self._lengths.pop(study, None)
        for token in [token for token, known in list(self._open.items()) if known[0] == study]:
            self._open.pop(token, None)

    def read(self, token: object, side: object) -> bytes:
        """The PNG on one side, for whoever holds the token. Raises Refused for unknown ones, PictureGone."""
        if side not in ("left", "right"):
            raise Refused("side", "There is no such picture.")
        word = read_token(token)
        known = self._open.get(word)
        if known is not None:
            study, *sides = known
            data = self.read_padded(study, sides[side == "right"])
            self._note_fetched(study, word, str(side))
            return data
        rows = self._db.read(
            "SELECT a.study, CASE WHEN a.left_is_x = ? THEN p.image_x ELSE p.image_y END, a.state "
            "FROM assignments a JOIN pairs p ON p.id = a.pair WHERE a.token = ?",
            [side == "left", word],
        )
        if not rows or rows[0][2] in ("undone", "dropped"):
            raise Refused("token", "There is no such picture.")
        study, sha256, state = rows[0]
        data = self.read_padded(study, sha256)
        if state == "issued":
            self._note_fetched(study, word, str(side))
        return data

    def read_padded(self, study: str, sha256: str) -> bytes:
        """A picture of this study as browsers get it, with as many bytes as all others of the study."""
        if study not in self._lengths:
            rows = self._db.read("SELECT image_x, image_y FROM pairs WHERE study = ?", [study])
            self._lengths[study] = self._images.common_length({sha for row in rows for sha in row if sha})
        try:
            return self._images.padded_view(sha256, self._lengths[study])
        except PictureGone:
            self._on_lost(study, sha256)
            raise
