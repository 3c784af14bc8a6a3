"""Who may do what: organisers, signed-in people, visitors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibri.errors import CalibriError
from studio.access.origins import is_local
from studio.access.signin import Signin
from studio.settings import Settings

if TYPE_CHECKING:
    from gradio import Request


class Rights:
    """What the people of a studio with these settings may do. Handlers ask themselves, with the request that
    they handle: hiding a button protects nothing. No request: this process asks, for whoever started it."""

    def __init__(self, settings: Settings, signin: Signin) -> None:
        self._settings, self._signin = settings, signin

    def username(self, request: Request | None) -> str | None:
        """Who signed in and organises, or None. Gradio's own sign-in is not used: it knows no visitors
        without an account, and takes as many guesses as are sent."""
        return None if request is None else self._signin.organiser(request.cookies)

    def organisers_only(self, request: Request | None) -> None:
        """Refuse what only an organiser may do in demo mode. Every handler that changes something shared
        asks."""
        if self._settings.demo and not self.username(request):
            raise CalibriError(
                "On this public studio only its organisers can do that, after signing in at /signin. "
                "Your own copy can do everything."
            )

    def may_organise(self, request: Request | None) -> bool:
        """Whether this visitor may make studies and see results: whoever signed in, or somebody at the
        machine of a studio that no other machine can reach."""
        return bool(self.username(request)) or (not self._settings.demo and self._is_here(request))

    def study_organisers_only(self, request: Request | None) -> None:
        """Every handler that makes, changes or tells of studies asks: raters may reach the same server."""
        if not self.may_organise(request):
            raise CalibriError(
                "Only the organisers of this studio can do that, after signing in. Other machines can reach "
                "this studio: start it with --auth NAME:PASSWORD; raters vote at /ballot without an account."
            )

    def _is_here(self, request: Request | None) -> bool:
        if request is None:
            return is_local(self._settings, {"host": "localhost"}, "127.0.0.1")
        client, inner = request.client, request.request
        version = inner.scope.get("http_version", "1.1") if inner is not None else "1.1"
        return is_local(self._settings, request.headers, client.host if client else "", version)
