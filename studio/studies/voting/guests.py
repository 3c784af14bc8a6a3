"""Who comes through a named invite: let in or not, and how far they came."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Literal

from studio.studies.storage.invite_store import FIRST_NAMED, Invite, InviteStore
from studio.studies.voting.ballots import Refused, View
from studio.studies.voting.identity import Who

State = Literal["invited", "opened", "voting", "finished", "taken back"]


def name_state(invite: Invite, votes: int) -> State:
    """How far an invited person came. `votes`: pairs that they voted on."""
    if invite.taken_back is not None:
        return "taken back"
    if invite.finished is not None:
        return "finished"
    if votes:
        return "voting"
    return "opened" if invite.opened is not None else "invited"


class Guests:
    """Asked for each request that comes with an invite. Links without a name are none of its business."""

    def __init__(self, invites: InviteStore, clock: Callable[[], datetime]) -> None:
        self.invites, self._clock = invites, clock

    def admit(self, study: str, who: Who) -> Who:
        """The rater behind a signed link. Raises Refused for one that was taken back, or that nobody has."""
        if who.kind != "invite" or int(who.identity) < FIRST_NAMED:
            return who
        invite = self.invites.find(study, int(who.identity))
        if invite is None:
            raise Refused("invite", "This invite link is not valid. Ask the organiser for a new one.")
        if invite.taken_back is not None:
            raise Refused("invite", "This invite link was taken back. Ask the organiser for a new one.")
        if invite.opened is None:
            self.invites.note(study, invite.number, opened=self._clock())
        return Who("invite", str(invite.rater))

    def note_view(self, study: str, who: Who, view: View) -> None:
        """Note whether there is something left to vote on for whoever got this view."""
        if who.kind != "invite" or int(who.identity) < FIRST_NAMED or view.stage not in ("vote", "end"):
            return
        ended = view.stage == "end"
        if ended and not view.done:  # the study was closed: that says nothing of this person
            return
        invite = self.invites.find_living(study, int(who.identity))
        if invite is not None and (invite.finished is not None) != ended:
            self.invites.note(study, invite.number, finished=self._clock() if ended else None)
