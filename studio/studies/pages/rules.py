"""The editor of a protocol in the form of a new study: questions and texts in words, everything as JSON."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import gradio as gr
from pydantic import ValidationError

from calibri.errors import StudyError, sentence
from calibri.words import count
from studio.studies.protocol import PRESETS, Protocol
from studio.ui.elements import show_remark
from studio.ui.errors import guard
from studio.ui.events import IN_ORDER
from studio.ui.templates import fill_template

START = PRESETS["side-by-side"]
NAMED = re.compile(r"([a-z][a-z0-9_]{0,30}):\s*(.*)")
LONGEST_ID = 30
ANSWERS = {
    "left": "A is better",
    "right": "B is better",
    "tie": "No difference",
    "both_bad": "Both are bad",
    "skip": "Skip",
}
STYLE = (
    "<style>.rules-preview { border: 1px solid var(--border-color-primary); border-radius: 6px; padding: 8px "
    "12px; } .rules-preview .banner { background: #E69F00; color: #1c1c1c; font-weight: 650; text-align: "
    "center; border-radius: 4px; } .rules-preview p { margin: 6px 0; }</style>"
)


@dataclass(frozen=True)
class Editor:
    """The components. `rules`: the protocol as JSON; `known`: the JSON that the other fields show."""

    preset: gr.Dropdown
    votes: gr.Number
    cap: gr.Number
    invited: gr.Checkbox
    questions: gr.Textbox
    instruction: gr.Textbox
    consent: gr.Textbox
    flip: gr.Checkbox
    own: gr.Checkbox
    rules: gr.Code
    known: gr.Textbox
    checked: gr.HTML
    preview: gr.HTML

    @property
    def fields(self) -> list[Any]:
        """In the order of `read_fields`."""
        texts = [self.questions, self.instruction, self.consent]
        return [self.votes, self.cap, self.invited, *texts, self.flip, self.own]

    @property
    def inputs(self) -> list[Any]:
        """What `merge` takes."""
        return [self.rules, self.known, *self.fields]

    @property
    def told(self) -> list[Any]:
        return [self.checked, self.preview]


def lay_out() -> Editor:
    """Make the components inside the current column."""
    votes, cap, invited, questions, instruction, consent, flip, own = read_fields(START)
    made: dict[str, Any] = {
        "preset": gr.Dropdown(list(PRESETS), value=START.preset, label="Protocol", elem_id="new-preset")
    }
    with gr.Row():
        made["votes"] = gr.Number(votes, label="Raters a pair (0: no limit)", precision=0, minimum=0)
        made["cap"] = gr.Number(cap, label="Most pairs a rater", precision=0, minimum=1)
    made["invited"] = gr.Checkbox(invited, label="Only raters with an invite link", elem_id="new-invited")
    with gr.Accordion("Questions and texts", open=False, elem_id="new-texts"):
        made["questions"] = gr.Textbox(
            questions,
            label="Questions",
            info="One on each line, five at most; in front of a colon, its name in tables and files",
            lines=3,
            max_lines=6,
            elem_id="new-questions",
        )
        made["instruction"] = gr.Textbox(
            instruction, label="What raters read first", lines=3, max_lines=10, elem_id="new-instruction"
        )
        made["consent"] = gr.Textbox(
            consent, label="What they agree to", lines=3, max_lines=10, elem_id="new-consent"
        )
        made["flip"] = gr.Checkbox(
            flip, label="Both pictures in one place, to flip between", elem_id="new-flip"
        )
        made["own"] = gr.Checkbox(
            own, label="Raters see a summary of their own answers at the end", elem_id="new-own"
        )
        preview = gr.HTML(STYLE + draw_preview(START), elem_id="new-preview")
    checked = gr.HTML(tell_fine(START), elem_id="new-checked")
    text = write_protocol(START)
    with gr.Accordion("All fields of the protocol", open=False):
        made["rules"] = gr.Code(text, language="json", label="Protocol", elem_id="new-rules")
    known = gr.Textbox(text, visible="hidden", elem_id="new-known")
    return Editor(**made, known=known, checked=checked, preview=preview)


def wire(editor: Editor) -> None:
    """Connect it. What does not fit is told beside it, not in a message for each key."""
    written = [editor.rules, editor.known]
    editor.preset.input(
        guard(read_preset), editor.preset, [*written, *editor.fields, *editor.told], **IN_ORDER
    )
    edits = [field.input for field in editor.fields]
    gr.on(edits, on_edit, editor.inputs, [*written, *editor.told], **IN_ORDER)
    editor.rules.input(on_rules, editor.rules, [editor.known, *editor.fields, *editor.told], **IN_ORDER)


# what the handlers do


def read_preset(name: str) -> list[Any]:
    """The protocol of a preset as JSON, twice, the other fields, and what is told of it."""
    if not isinstance(name, str) or name not in PRESETS:
        raise StudyError(f"Expected one of {', '.join(PRESETS)}, got {str(name)[:40]!r}.")
    chosen = PRESETS[name]
    text = write_protocol(chosen)
    return [text, text, *read_fields(chosen), *tell(chosen)]


def on_edit(rules: str, known: str, *fields: Any) -> list[Any]:
    """JSON that follows the other fields; where they do not fit, why, and the JSON stays."""
    try:
        made = check(merge(rules, known, *fields))
    except StudyError as error:
        return [gr.skip(), gr.skip(), show_remark(str(error)), gr.skip()]
    text = write_protocol(made)
    return [text, text, *tell(made)]


def on_rules(rules: str) -> list[Any]:
    """Fields that follow the JSON; where it does not fit, why, and they stay."""
    try:
        made = check(_read_object(rules))
    except StudyError as error:
        return [*[gr.skip()] * 9, show_remark(str(error)), gr.skip()]
    return [rules, *read_fields(made), *tell(made)]


def merge(rules: str, known: str, *fields: Any) -> dict[str, Any]:
    """The JSON with every field that was changed since the fields and `known` were the same.

    So nothing is lost where somebody presses the button before an answer has come.
    """
    said = _read_object(rules)
    before = read_fields(check(_read_object(known)))
    names = ("votes_per_pair", "cap", "access", "questions", "instruction", "consent")
    for name, value, old in zip((*names, "presentation", "own_result"), fields, before, strict=True):
        if value != old:
            said[name] = _read_field(name, value, said)
    return said


def _read_field(name: str, value: Any, said: dict[str, Any]) -> Any:
    """What a field means in the JSON."""
    if name == "votes_per_pair":
        return int(value) if value else None
    if name == "cap":
        return int(value or 0)
    if name == "access":
        other = said.get("access", "open")
        return "invite" if value else "open" if other == "invite" else other
    if name == "questions":
        return read_questions(value or "")
    if name == "presentation":
        return "flip" if value else "side-by-side"
    return bool(value) if name == "own_result" else value or ""


def read_questions(text: str) -> list[dict[str, str]]:
    """Questions, one on each line, `name: text` or a text alone, which gets a name made from it."""
    found: list[dict[str, str]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        named = NAMED.fullmatch(line)
        taken = [question["id"] for question in found]
        if named is not None:
            found.append({"id": named[1], "text": named[2]})
        else:
            found.append({"id": _name_question(line, taken), "text": line})
    return found


def _name_question(text: str, taken: list[str]) -> str:
    words = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    name = (words if words[:1].isalpha() else f"q_{words}")[: LONGEST_ID - 2].strip("_")
    free, number = name, 2
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free


def check(said: dict[str, Any]) -> Protocol:
    """The protocol. Raises StudyError that names the field."""
    try:
        return Protocol.model_validate(said)
    except ValidationError as error:
        raise StudyError(sentence(error, "protocol")) from None


def _read_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(str(text or ""))
    except (ValueError, RecursionError) as error:
        raise StudyError(f"protocol: expected JSON, got something else ({error})") from None
    if not isinstance(found, dict):
        raise StudyError(f"protocol: expected a JSON object, got {str(found)[:40]!r}")
    return found


def read_fields(protocol: Protocol) -> list[Any]:
    """What the fields show of a protocol, in the order of `Editor.fields`."""
    return [
        protocol.votes_per_pair or 0,
        protocol.cap,
        protocol.access == "invite",
        "\n".join(f"{question.id}: {question.text}" for question in protocol.questions),
        protocol.instruction,
        protocol.consent,
        protocol.presentation == "flip",
        protocol.own_result,
    ]


def write_protocol(protocol: Protocol) -> str:
    """A protocol as the form shows it."""
    return json.dumps(protocol.model_dump(mode="json"), indent=1, ensure_ascii=False)


def tell(protocol: Protocol) -> list[str]:
    """The values of `Editor.told`."""
    return [tell_fine(protocol), STYLE + draw_preview(protocol)]


def tell_fine(protocol: Protocol) -> str:
    """That a protocol passes its checks."""
    return show_remark(f"The protocol is complete: {count(len(protocol.questions), 'question')}.")


def draw_preview(protocol: Protocol) -> str:
    """What raters will read."""
    answers = [ANSWERS[side] for side in protocol.sides]
    return fill_template("studies/pages/rules.html", protocol=protocol, answers=answers)
