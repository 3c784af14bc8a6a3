"""The preview for organisers: the rater's own page on the study's first pairs. Nothing is stored."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

from studio.studies.storage.study_store import StudyPair, StudyStore
from studio.studies.voting.ballots import Refused, View, make_ballot

SHOWN = 3  # pairs
AHEAD = 2  # as in voting: the pair on screen and the next one


class Previews:
    """Works for studies in any state. `key()`: secret bytes that sign the preview's address.

    `picture(study, sha256)`: a picture as raters get it.
    """

    def __init__(
        self, studies: StudyStore, picture: Callable[[str, str], bytes], key: Callable[[], bytes]
    ) -> None:
        self._studies, self._picture, self._key = studies, picture, key
        self._shown: dict[str, tuple[str, str, str]] = {}  # token → study, left, right

    def code(self, study: str) -> str:
        """The signature in the preview's address."""
        return hmac.new(self._key(), f"preview:{study}".encode(), hashlib.sha256).hexdigest()[:32]

    def view(self, study: str, code: object, token: object = None) -> View:
        """The welcome (without `token`), then one pair after another: `token` is the one just answered."""
        if not isinstance(code, str) or not hmac.compare_digest(code.encode(), self.code(study).encode()):
            raise Refused("preview", "This preview link is not valid.")
        known = self._studies.get(study)
        protocol = known.protocol
        if token is None:
            return View("welcome", study, known.name, text=protocol.instruction, consent=protocol.consent)
        pairs = [p for p in self._studies.pairs(study) if p.kind == "real" and p.is_rendered][:SHOWN]
        tokens = [self._hang(code, number, pair) for number, pair in enumerate(pairs)]
        done = tokens.index(str(token)) + 1 if token in tokens else 0
        if done >= len(pairs):
            text = "End of the preview. No vote was stored." if pairs else "There are no pictures yet."
            return View("end", study, known.name, text=text)
        following = list(zip(tokens, pairs))[done : done + AHEAD]
        shown = tuple({"token": word, "prompt": pair.prompt} for word, pair in following)
        return make_ballot(study, known.name, protocol, shown, done=done, total=len(pairs))

    def _hang(self, code: str, number: int, pair: StudyPair) -> str:
        token = hashlib.sha256(f"{code}:{pair.id}".encode()).hexdigest()[:32]
        sides = (str(pair.image_x), str(pair.image_y))
        self._shown[token] = (pair.study, *(sides if number % 2 else sides[::-1]))
        return token

    def picture(self, token: str, side: str) -> bytes | None:
        """The PNG, or None for a token that is not of a preview."""
        if token not in self._shown or side not in ("left", "right"):
            return None
        study, left, right = self._shown[token]
        return self._picture(study, left if side == "left" else right)
