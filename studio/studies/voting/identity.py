"""Who votes: keyed hashes of what browsers present, and signed invite codes. Neither is stored."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from studio.studies.protocol import Panel
from studio.studies.voting.ballots import Refused

RaterKind = Literal["anonymous", "hub", "invite", "local", "panel"]
PanelIds = tuple[tuple[str, str], ...]  # name, value
_PANEL_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~:=+@-]{0,127}")


@dataclass(frozen=True)
class Who:
    """A rater as they present themselves. `identity` is hashed with the studio's key and never stored.
    `panel`: the ids of their panel's link, which are kept apart from votes."""

    kind: RaterKind
    identity: str
    panel: PanelIds = ()


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
        self,
        study: str,
        access: str,
        identity: object,
        invite: object = None,
        hub: object = None,
        panel: Panel | None = None,
        sent: object = None,
    ) -> Who:
        """The rater behind what a browser sent. Raises Refused where `access` (Protocol) asks for more.

        `panel`: how a panel's links are read; `sent`: what this one's link had.
        """
        ids = read_panel_ids(panel, sent)
        if isinstance(invite, str) and invite:
            number, dash, sign = invite[:80].partition("-")
            known = bool(dash) and number.isdecimal() and len(number) <= 9
            right = self._sign_invite(study, int(number)) if known else ""
            if not (known and hmac.compare_digest(sign.encode(), right.encode())):
                raise Refused("invite", "This invite link is not valid. Ask the organiser for a new one.")
            return Who("invite", str(int(number)), ids)
        if access == "invite":
            raise Refused("invite", "This study is open by invitation only. Use the link you were sent.")
        if isinstance(hub, str) and hub:
            return Who("hub", hub, ids)
        if access == "hub":
            raise Refused("hub", "This study asks you to sign in with your Hugging Face account first.")
        if panel is not None:
            own = next((f"{name}={value}" for name, value in ids if name in panel.ids), "")
            if not own:
                raise Refused("panel", "This study is for members of a panel. Use the link that it gave you.")
            return Who("panel", own, ids)
        if not (isinstance(identity, str) and 16 <= len(identity) <= 64 and identity.isalnum()):
            raise Refused("identity", "Your browser did not say who votes. Reload the page.")
        return Who("anonymous", identity)

    def _sign_invite(self, study: str, number: int) -> str:
        return self._sign(f"invite:{study}:{number}", 20)

    def _sign(self, text: str, length: int) -> str:
        return hmac.new(self._key(), text.encode(), hashlib.sha256).hexdigest()[:length]


def read_panel_ids(panel: Panel | None, sent: object) -> PanelIds:
    """The ids that the protocol names, in its order. Raises Refused for one that no panel gives."""
    if panel is None or not isinstance(sent, Mapping):
        return ()
    found = []
    for name in dict.fromkeys((*panel.ids, *panel.also)):
        value = sent.get(name, "")
        if value in ("", None):
            continue
        if not isinstance(value, str) or not _PANEL_VALUE.fullmatch(value):
            raise Refused(
                "panel", f"The link that brought you here has no {name} that can be read. Open it once more."
            )
        found.append((name, value))
    return tuple(found)
