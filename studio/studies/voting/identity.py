"""Who votes: keyed hashes of what browsers present, and signed invite codes. Neither is stored."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from studio.studies.voting.ballots import Refused

RaterKind = Literal["anonymous", "hub", "invite", "local"]


@dataclass(frozen=True)
class Who:
    """A rater as they present themselves. `identity` is hashed with the studio's key and never stored."""

    kind: RaterKind
    identity: str


class Identities:
    """Hashes identities and signs invite codes. `key()`: the secret bytes of this data folder."""

    def __init__(self, key: Callable[[], bytes]) -> None:
        self._key = key

    def hash_rater(self, study: str, who: Who) -> str:
        """The id under which this rater's votes are stored; a different one in every study."""
        return self._sign(json.dumps([study, who.kind, who.identity]), 32)

    def make_invite(self, study: str, number: int) -> str:
        """The invite code of this number. Codes are signed, so none is stored."""
        return f"{number}-{self._sign_invite(study, number)}"

    def recognise(
        self, study: str, access: str, identity: object, invite: object = None, hub: object = None
    ) -> Who:
        """The rater behind what a browser sent. Raises Refused where `access` (Protocol) asks for more."""
        if isinstance(invite, str) and invite:
            number, dash, sign = invite[:80].partition("-")
            known = bool(dash) and number.isdecimal() and len(number) <= 9
            right = self._sign_invite(study, int(number)) if known else ""
            if not (known and hmac.compare_digest(sign.encode(), right.encode())):
                raise Refused("invite", "This invite link is not valid. Ask the organiser for a new one.")
            return Who("invite", str(int(number)))
        if access == "invite":
            raise Refused("invite", "This study is open by invitation only. Use the link you were sent.")
        if isinstance(hub, str) and hub:
            return Who("hub", hub)
        if access == "hub":
            raise Refused("hub", "This study asks you to sign in with your Hugging Face account first.")
        if not (isinstance(identity, str) and 16 <= len(identity) <= 64 and identity.isalnum()):
            raise Refused("identity", "Your browser did not say who votes. Reload the page.")
        return Who("anonymous", identity)

    def _sign_invite(self, study: str, number: int) -> str:
        return self._sign(f"invite:{study}:{number}", 20)

    def _sign(self, text: str, length: int) -> str:
        return hmac.new(self._key(), text.encode(), hashlib.sha256).hexdigest()[:length]
