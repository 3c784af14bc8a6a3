"""Who sends a request, as far as limits count: a cookie, an address, and whether it is an organiser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from studio.access.limits import STRANGER
from studio.access.signin import Signin
from studio.settings import Settings


class Caller(NamedTuple):
    """`visitor`: the key of the cookie; that of the address where there is none. `address`: which a proxy
    tells, so that it can be forged: what is counted by address is counted for all together as well."""

    visitor: str
    address: str
    organiser: bool = False


class Callers:
    """Reads cookies and addresses. Where nobody limits anybody, everybody is an organiser."""

    def __init__(self, settings: Settings, signin: Signin) -> None:
        self._limited, self._signin = settings.demo, signin

    def know(self, cookies: Mapping[str, str], address: str) -> Caller:
        if not self._limited:
            return Caller("", address, True)
        visitor = self._signin.visitor(cookies)
        if visitor == STRANGER:
            visitor = f"address {address}"
        return Caller(visitor, address, bool(self._signin.organiser(cookies)))
