"""A part of the form of a new study: who may vote, beside those with an invite link."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from pydantic import ValidationError

from calibri.errors import StudyError, sentence
from studio.core import Core
from studio.studies.pages.rules import write_protocol
from studio.studies.protocol import PANEL_IDS, Panel, Protocol
from studio.ui.elements import show_remark
from studio.ui.errors import guard
from studio.ui.events import IN_ORDER

NO_SIGN_IN = (
    "Raters of this study would have to sign in with a Hugging Face account, and this studio has no such "
    "sign-in: it is there on a Space with hf_oauth in its header."
)


@dataclass(frozen=True)
class RatersPart:
    """The components. `note`: what is wrong with a code or an address that is being typed."""

    hub: gr.Checkbox
    panel: gr.Checkbox
    code: gr.Textbox
    return_to: gr.Textbox
    note: gr.HTML


def lay_out(has_hub: bool) -> RatersPart:
    """Make the components inside the current Blocks. `has_hub`: whether people can sign in with the hub."""
    hub = gr.Checkbox(
        False, label="Only raters signed in with Hugging Face", visible=has_hub, elem_id="new-hub"
    )
    with gr.Accordion("Raters from a panel", open=False, elem_id="new-panel"):
        panel = gr.Checkbox(
            False,
            label=f"The link brings their id ({', '.join(PANEL_IDS)})",
            elem_id="new-panel-on",
        )
        code = gr.Textbox("", label="Completion code", max_length=100, elem_id="new-panel-code")
        return_to = gr.Textbox(
            "", label="Address to return to", placeholder="https://", max_length=500, elem_id="new-panel-back"
        )
        note = gr.HTML("")
    return RatersPart(hub, panel, code, return_to, note)


def wire(part: RatersPart, preset: gr.Dropdown, invited: gr.Checkbox, rules: gr.Code) -> None:
    """Connect them to the form's protocol."""
    part.hub.input(guard(ask_for_account), [rules, part.hub], [rules, invited], **IN_ORDER)
    invited.input(lambda: False, [], part.hub, **IN_ORDER)
    typed: list[Any] = [part.panel, part.code, part.return_to]
    gr.on([field.input for field in typed], guard(set_panel), [rules, *typed], [rules, part.note], **IN_ORDER)
    preset.input(lambda: [False, False, ""], [], [part.hub, part.panel, part.note], **IN_ORDER)


def ask_for_account(rules: str, wanted: bool) -> list[Any]:
    """(protocol as JSON, whether only invited raters vote) with or without a hub account asked for."""
    fields = _read(rules)
    access = "hub" if wanted else "open" if fields["access"] == "hub" else fields["access"]
    return [_write({**fields, "access": access}), access == "invite"]


def set_panel(rules: str, wanted: bool, code: str, return_to: str) -> list[str]:
    """(protocol as JSON, what is wrong with what was typed). Names of ids stay those of the protocol."""
    fields = _read(rules)
    if not wanted:
        return [_write({**fields, "panel": None}), ""]
    before = fields["panel"] or Panel().model_dump()
    try:
        made = Panel.model_validate({**before, "code": code or "", "return_to": (return_to or "").strip()})
    except ValidationError as error:
        return [
            _write({**fields, "panel": before}),
            show_remark(f"Not taken yet: {sentence(error, 'panel')}."),
        ]
    return [_write({**fields, "panel": made.model_dump()}), ""]


def check_access(protocol: Protocol, core: Core) -> None:
    """Raises StudyError for a study in which nobody could vote."""
    if protocol.access == "hub" and core.hub_app is None:
        raise StudyError(NO_SIGN_IN)


def _read(rules: str) -> dict[str, Any]:
    try:
        return Protocol.model_validate_json(str(rules or "")).model_dump()
    except ValidationError as error:
        raise StudyError(sentence(error, "protocol")) from None


def _write(fields: dict[str, Any]) -> str:
    return write_protocol(Protocol.model_validate(fields))
