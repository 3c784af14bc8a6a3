"""The visitor's own token of the hub, for what they let this Space do in their name: jobs of theirs.

It is in the visitor's browser only, in a cookie that scripts cannot read, since they signed in with the hub.
It comes with each request and is not stored, shown or logged here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradio import Request
    from starlette.responses import Response

COOKIE = "__Host-calibri-hub"  # browsers take this name over TLS only, and for this host only
LONGEST = 30 * 24 * 3600  # seconds that the hub lets a token of a Space live
LONGEST_TOKEN = 3000  # characters; a cookie holds 4,096


@dataclass(frozen=True)
class HubToken:
    """`seconds`: until it expires."""

    token: str = field(repr=False)
    seconds: float


def read_hub_token(request: Request | None) -> HubToken | None:
    """The token of whoever sends this request; None without a sign-in, and after its end."""
    if request is None:
        return None
    info = (
        _session(request).get("oauth_info") or {}
    )  # as gr.OAuthToken reads it, where Gradio signs people in
    token, end = info.get("access_token"), info.get("expires_at")
    if not token:
        stamp, _, token = dict(request.cookies).get(COOKIE, "").partition(".")
        end = int(stamp) if stamp.isdigit() and len(stamp) < 16 else 0
    left = (float(end) if end is not None else time.time() + LONGEST) - time.time()
    return HubToken(str(token), left) if token and left > 0 else None


def keep_hub_token(response: Response, told: dict[str, Any]) -> None:
    """Give the browser the token in the hub's answer to a sign-in (`access_token`, `expires_in`, `scope`), to
    send with its requests. Nothing for a token without the scope `jobs`: this studio has no use for it."""
    token, seconds = told.get("access_token"), told.get("expires_in")
    if not isinstance(token, str) or not 0 < len(token) <= LONGEST_TOKEN or not token.isascii():
        return
    if "jobs" not in str(told.get("scope", "")).split():
        return
    life = int(min(max(seconds, 0), LONGEST)) if isinstance(seconds, int | float) else 8 * 3600
    value = f"{int(time.time()) + life}.{token}"
    response.set_cookie(COOKIE, value, max_age=life, path="/", secure=True, httponly=True, samesite="lax")


def drop_hub_token(response: Response) -> None:
    """For the end of a session."""
    response.set_cookie(COOKIE, "", max_age=0, path="/", secure=True, httponly=True, samesite="lax")


def _session(request: Request) -> dict[str, Any]:
    scope = getattr(getattr(request, "request", None), "scope", None)
    found = scope.get("session") if isinstance(scope, dict) else None
    return found if isinstance(found, dict) else {}
