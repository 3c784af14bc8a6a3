"""Signing in with a hub account, where a Space asks for that (`hf_oauth: true` in its header).

OpenID's authorization code flow with PKCE (RFC 7636), at the addresses that the hub documents for Spaces.
What comes of it is a session like that of any other sign-in: the hub's tokens are not kept here. Who signs in
for jobs of their own is asked for that right, and their browser keeps the token (studio.access.hub_token).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
import secrets
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx
from starlette.requests import Request

from calibri.errors import CalibriError
from calibri.search.hub_jobs import SCOPES
from studio.access.sessions import Person
from studio.settings import HubApp

log = logging.getLogger(__name__)

BEGIN, CALLBACK = "/login/huggingface", "/login/callback"
STATE_SECONDS = 600
FOR_JOBS = "jobs-"  # in front of the state of a sign-in for jobs
PATIENCE = 20.0  # seconds for an answer of the hub
#: Pages of raters, to which they come back from the hub; no other place is taken from an address.
PLACE = re.compile(r"(?:ballot|vote)\?[\w=&%.,:+~-]{0,1000}", re.ASCII)
ORGANISING_ROLES = ("admin", "write")  # of members, where an organisation organises


class HubError(CalibriError):
    """The hub, or what was sent in its name, did not sign anybody in."""


class Begun(NamedTuple):
    """What the cookie of a sign-in says. `place`: a rater's page to come back to, or empty."""

    state: str
    verifier: str
    place: str

    def write(self) -> str:
        """The value of the cookie."""
        packed = base64.urlsafe_b64encode(self.place.encode()).rstrip(b"=").decode()
        return ".".join((self.state, self.verifier, *([packed] if packed else [])))


def read_cookie(cookie: str) -> Begun:
    """What `Begun.write` wrote; empty parts for anything else."""
    state, verifier, packed = (*cookie.split("."), "", "", "")[:3]
    try:
        place = base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)).decode()
    except ValueError:
        place = ""
    return Begun(state, verifier, place if PLACE.fullmatch(place) else "")


def begin(app: HubApp, request: Request) -> tuple[str, str]:
    """(address at the hub, value of the cookie that the way back is checked with)."""
    jobs = request.query_params.get("for") == "jobs"
    state, verifier = (FOR_JOBS if jobs else "") + secrets.token_urlsafe(24), secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    asked = {
        "response_type": "code",
        "client_id": app.client_id,
        "redirect_uri": way_back(app, request),
        "scope": choose_scopes(app, jobs=jobs),
        "state": state,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    wanted = request.query_params.get("next", "")
    begun = Begun(state, verifier, wanted if PLACE.fullmatch(wanted) else "")
    return f"{app.provider}/oauth/authorize?{urlencode(asked)}", begun.write()


def is_for_jobs(cookie: str) -> bool:
    """Whether this sign-in was begun for jobs."""
    return cookie.startswith(FOR_JOBS)


def choose_scopes(app: HubApp, *, jobs: bool) -> str:
    """What the hub asks of a person: the rights that jobs need only of those who want to start some."""
    return " ".join(scope for scope in app.scopes.split() if jobs or scope not in SCOPES)


async def finish(
    app: HubApp, request: Request, cookie: str, organisers: list[str]
) -> tuple[Person, dict[str, Any]]:
    """Who the hub says it is, and its answer with the token. Raises HubError."""
    state, verifier, _ = read_cookie(cookie)
    given = request.query_params
    if not (state and verifier and hmac.compare_digest(given.get("state", "").encode(), state.encode())):
        raise HubError("This sign-in was not begun in this browser, or too long ago. Begin once more.")
    if given.get("error") or not given.get("code"):
        raise HubError("The hub did not sign you in. Begin once more.")
    form = {
        "grant_type": "authorization_code",
        "code": given["code"],
        "redirect_uri": way_back(app, request),
        "client_id": app.client_id,
        "code_verifier": verifier,
    }
    try:
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            answer = await client.post(
                f"{app.provider}/oauth/token", data=form, auth=(app.client_id, app.client_secret)
            )
            told = {"scope": choose_scopes(app, jobs=is_for_jobs(cookie))} | answer.raise_for_status().json()
            answer = await client.get(
                f"{app.provider}/oauth/userinfo", headers={"authorization": f"Bearer {told['access_token']}"}
            )
            return read_person(answer.raise_for_status().json(), organisers), told
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        log.warning("the hub signed nobody in: %s", type(error).__name__)
        raise HubError("The hub did not say who you are. Try again in a minute.") from error


def read_person(told: dict[str, Any], organisers: list[str]) -> Person:
    """The hub's account, and whether it organises: itself, or as a member who may write in an organisation
    that does. Raises KeyError, TypeError for what is no answer of the hub."""
    name, account = str(told["preferred_username"]), str(told["sub"])
    if not (name and account):
        raise KeyError("sub")
    may = {n.lower() for n in organisers}
    groups = [o for o in told.get("orgs") or () if isinstance(o, dict)]
    through = any(
        str(group.get("preferred_username") or group.get("name", "")).lower() in may
        and group.get("roleInOrg") in ORGANISING_ROLES
        for group in groups
    )
    return Person(name, name.lower() in may or through, account)


def way_back(app: HubApp, request: Request) -> str:
    """Where the hub sends the browser afterwards."""
    if app.host:
        return f"https://{app.host}{CALLBACK}"
    return f"{request.url.scheme}://{request.url.netloc}{request.scope.get('root_path', '')}{CALLBACK}"
