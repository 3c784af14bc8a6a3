"""Named invites on the page Studies: whom, how far each one came, what to send them. For organisers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from calibri.errors import StudyError
from calibri.words import count
from studio.core import Core
from studio.studies import commands
from studio.studies.storage.invite_store import Invite, read_names
from studio.studies.studies import Studies
from studio.ui.elements import offers, show_remark
from studio.ui.errors import guard
from studio.ui.events import IN_ORDER, QUEUED, WATCHES
from studio.ui.templates import fill_template

NOTHING = "The people whom you invite will appear here, and how far each one has come."
INFO = (
    "One on each line. Names stay in this list: votes, reports and exports hold keyed hashes. You see how "
    "far each person came, so tell them so."
)
CHOOSE = "Choose a study first."
TEXT = "{name}, please help to compare pictures. This link is yours alone: {link}"
Links = Callable[[Invite, gr.Request], str]


@dataclass(frozen=True)
class Card:
    """The components. `last`: the list as it was drawn."""

    names: gr.Textbox
    invite: gr.Button
    told: gr.HTML
    shown: gr.HTML
    who: gr.Dropdown
    text: gr.Textbox
    back: gr.Button
    again: gr.Button
    texts: gr.Textbox
    last: gr.State

    @property
    def outputs(self) -> list[Any]:
        return [self.shown, self.last, self.who, self.texts]


def lay_out() -> Card:
    """Make the components inside the current Blocks."""
    with gr.Row():
        with gr.Column(scale=1, min_width=240):
            names = gr.Textbox(
                label="Names of people to invite", info=INFO, lines=4, max_lines=12, elem_id="invite-names"
            )
            invite = gr.Button("Invite them", size="md", elem_id="invite-people")
            told = gr.HTML("", elem_id="invite-told")
        with gr.Column(scale=2, min_width=320):
            shown = gr.HTML(fill_template("studies/pages/invited.html", rows=[], nothing=NOTHING))
            with gr.Row(equal_height=True):
                who = gr.Dropdown([], label="Person", elem_id="invite-who", filterable=False, scale=2)
                back = gr.Button("Take the link back", size="md", min_width=130, elem_id="invite-back")
                again = gr.Button("Make a new link", size="md", min_width=130, elem_id="invite-again")
            text = gr.Textbox(
                label="Text for this person",
                lines=2,
                interactive=False,
                buttons=["copy"],
                elem_id="invite-text",
            )
            texts = gr.Textbox(
                label="Texts for all",
                lines=3,
                max_lines=10,
                interactive=False,
                buttons=["copy"],
                elem_id="invite-texts",
            )
    return Card(names, invite, told, shown, who, text, back, again, texts, gr.State(""))


def wire(card: Card, study: gr.Dropdown, core: Core, studies: Studies, write: Links) -> None:
    """Connect it. `write(invite, request)`: the whole link of an invite."""
    do = InviteHandlers(core, studies, write)
    card.invite.click(
        guard(do.on_invite), [study, card.names], [*card.outputs, card.names, card.told], **QUEUED
    )
    shown = [study, card.who]
    for button, again in ((card.back, False), (card.again, True)):
        changed = button.click(do.change(again), shown, [*card.outputs, card.told], **QUEUED)
        changed.success(do.on_pick, shown, card.text, **QUEUED)
    gr.on([study.change, card.who.input], do.on_pick, shown, card.text, **IN_ORDER)
    study.change(do.on_show, shown, card.outputs, **QUEUED)
    gr.Timer(3).tick(do.on_tick, [*shown, card.last], card.outputs, **WATCHES)


class InviteHandlers:
    """What the card's events call. Each asks for the organiser's rights itself."""

    def __init__(self, core: Core, studies: Studies, write: Links) -> None:
        self._core, self._studies, self._write = core, studies, write

    def on_invite(self, chosen: str | None, names: str, request: gr.Request) -> list[Any]:
        """Invite the people of a pasted list."""
        self._core.rights.study_organisers_only(request)
        if not chosen:
            raise StudyError(CHOOSE)
        wanted = read_names(names or "")
        made = commands.run(self._studies, "invite", {"study": chosen, "names": names})
        assert isinstance(made, dict)
        fresh, old = len(made["links"]), len(wanted) - len(made["links"])
        told = f"{count(fresh, 'link')} made." + (f" {old} had one already." if old else "")
        return [*self.on_show(chosen, None, request), "", show_remark(told)]

    def change(self, again: bool) -> Callable[..., list[Any]]:
        """The handler that takes a person's link back or, with `again`, makes a new one."""

        @guard
        def on_change(chosen: str | None, who: object, request: gr.Request) -> list[Any]:
            self._core.rights.study_organisers_only(request)
            invite = self._find(chosen, who)
            if invite is None:
                raise StudyError("Choose a person first.")
            values = {"study": invite.study, "number": invite.number, "again": again}
            commands.run(self._studies, "take-back", values)
            told = (
                f"{invite.name} has a new link and goes on with it; the old one has ended."
                if again
                else f"The link of {invite.name} has ended. Votes that came through it stay."
            )
            newest = max(i.number for i in self._list(invite.study) if i.rater == invite.rater)
            drawn, last, people, texts = self.on_show(chosen, newest, request)
            chooser = gr.Dropdown(people.choices, value=newest)
            return [drawn, last, chooser, texts, show_remark(told)]

        return on_change

    def on_pick(self, chosen: str | None, who: object, request: gr.Request) -> str:
        """The text to send to the chosen person."""
        if not self._core.rights.may_organise(request):
            return ""
        invite = self._find(chosen, who)
        if invite is None:
            return ""
        if invite.taken_back is not None:
            return f"The link of {invite.name} was taken back. Make a new one to invite them again."
        return self._write_text(invite, request)

    def on_show(self, chosen: str | None, who: object, request: gr.Request) -> list[Any]:
        """The values of `Card.outputs` for this study."""
        if not chosen or not self._core.rights.may_organise(request):
            rows: list[Any] = []
        else:
            rows = commands.list_invited(self._studies, chosen)
        newest = {invite.rater: invite.number for invite, *_ in rows}
        shown = [row for row in rows if newest[row[0].rater] == row[0].number]  # one row a person
        drawn = fill_template(
            "studies/pages/invited.html",
            rows=[
                {
                    "name": invite.name,
                    "state": state,
                    "done": done,
                    "link": "" if invite.taken_back else self._write(invite, request),
                }
                for invite, state, done in shown
            ],
            nothing=NOTHING,
        )
        alive = [invite for invite, *_ in shown if invite.taken_back is None]
        people = [(f"{invite.name} ({state})", invite.number) for invite, state, _ in shown]
        first = people[0][1] if people else None
        texts = "\n\n".join(self._write_text(invite, request) for invite in alive)
        return [drawn, drawn, offers(people, who if who is not None else "?", first), texts]

    def on_tick(self, chosen: str | None, who: object, before: str, request: gr.Request) -> list[Any]:
        """Draw again where somebody has gone on since `before`."""
        known = self._studies.store.find(chosen) if self._core.rights.may_organise(request) else None
        if known is None:
            return [gr.skip()] * 4
        made = self.on_show(known.id, who, request)
        return made if made[0] != before else [gr.skip()] * 4

    def _list(self, study: str) -> list[Invite]:
        return self._studies.voting.guests.invites.all(study)

    def _find(self, chosen: str | None, who: object) -> Invite | None:
        if not chosen or not isinstance(who, int | float):
            return None
        return self._studies.voting.guests.invites.find(chosen, int(who))

    def _write_text(self, invite: Invite, request: gr.Request) -> str:
        return TEXT.format(name=invite.name, link=self._write(invite, request))
