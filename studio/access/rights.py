"""Who may do what: organisers, signed-in people, visitors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibri.errors import CalibriError
from studio.access.signin import Signin
from studio.settings import Settings

if TYPE_CHECKING:
    from gradio import Request


class Rights:
    """What the people of a studio with these settings may do. Handlers ask themselves: hiding a button
    protects nothing."""

    def __init__(self, settings: Settings, signin: Signin) -> None:
        self._settings, self._signin = settings, signin

    def username(self, request: Request | None) -> str | None:
        """Who signed in, or None. Every handler that asks for rights asks here: a public studio does not use
        Gradio's own sign-in, which knows no visitors without an account."""
        if request is None:
            return None
        if self._settings.demo:
            return self._signin.organiser(request.cookies)
        return request.username

    def organisers_only(self, username: str | None) -> None:
        """Refuse what only an organiser may do in demo mode. Every handler that changes something shared
        asks."""
        if self._settings.demo and not username:
            raise CalibriError(
                "On this public studio only its organisers can do that, after signing in at /signin. "
                "Your own copy can do everything."
            )

    def may_organise(self, username: str | None) -> bool:
        """Whether this visitor may make studies and see results: whoever signed in, or anybody at a studio
        that no other machine can reach.
        """
        settings = self._settings
        local = settings.host in ("127.0.0.1", "localhost", "::1") and not settings.root_path
        outside = settings.demo or settings.share or not local  # root_path: a proxy lets others in
        return bool(username) or not outside

    def study_organisers_only(self, username: str | None) -> None:
        """Every handler that makes, changes or tells of studies asks: raters may reach the same server."""
        if not self.may_organise(username):
            raise CalibriError(
                "Only the organisers of this studio can do that, after signing in. Other machines can reach "
                "this studio: start it with --auth NAME:PASSWORD; raters vote at /ballot without an account."
            )
