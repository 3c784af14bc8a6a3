"""The editor of a protocol: words and JSON say the same, and nothing that was typed is lost."""

from __future__ import annotations

import json

import gradio as gr
import pytest

from calibri.errors import StudyError
from studio.studies.pages import rules
from studio.studies.protocol import PRESETS, Protocol

START = rules.write_protocol(rules.START)
FIELDS = rules.read_fields(rules.START)
QUESTIONS, CONSENT = 3, 5  # places of fields


def change(**places: object) -> list[object]:
    return [places.get(f"at{i}", value) for i, value in enumerate(FIELDS)]


@pytest.mark.parametrize("preset", PRESETS)
def test_fields_of_a_preset_say_what_its_json_says(preset: str) -> None:
    rules_text, known, *rest = rules.read_preset(preset)
    assert Protocol.model_validate_json(rules_text) == PRESETS[preset] and known == rules_text
    fields = rest[: len(FIELDS)]
    assert rules.check(rules.merge(rules_text, known, *fields)) == PRESETS[preset]


def test_questions_are_lines_with_or_without_a_name() -> None:
    sharper = "Which one is sharper?"
    text = f"preference: Which one do you like better?\n\n{sharper}\n 3 hands or more?\n{sharper}"
    assert rules.read_questions(text) == [
        {"id": "preference", "text": "Which one do you like better?"},
        {"id": "which_one_is_sharper", "text": "Which one is sharper?"},
        {"id": "q_3_hands_or_more", "text": "3 hands or more?"},
        {"id": "which_one_is_sharper_2", "text": "Which one is sharper?"},
    ]
    made = rules.check(rules.merge(START, START, *change(at3=text)))
    assert [q.text for q in made.questions][1] == "Which one is sharper?"


def test_the_json_follows_what_is_typed_and_the_preview_escapes_it() -> None:
    consent = "I agree.\n<script>alert(1)</script>"
    text, known, checked, preview = rules.on_edit(START, START, *change(at5=consent, at6=True))
    said = json.loads(text)
    assert (said["consent"], said["presentation"]) == (consent, "flip") and text == known
    assert "complete: 2 questions" in checked
    assert "Preview: nothing is counted" in preview and "<script>" not in preview


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"at3": ""}, "questions"),
        ({"at3": "a: x"}, "questions"),
        ({"at3": "\n".join(f"Question number {i}?" for i in range(6))}, "questions"),
        ({"at3": "a: Which one?\na: Which other?"}, "different ids"),
        ({"at5": ""}, "consent"),
        ({"at4": "x" * 2001}, "instruction"),
        ({"at1": 0}, "cap"),
    ],
)
def test_what_does_not_fit_is_told_beside_it_and_the_json_stays(changed: dict, words: str) -> None:
    text, known, checked, preview = rules.on_edit(START, START, *change(**changed))
    assert text == known == preview == gr.skip() and words in checked


def test_fields_follow_the_json() -> None:
    said = {**json.loads(START), "consent": "Fine by me.", "cap": 12}
    known, *rest = rules.on_rules(json.dumps(said))
    fields, told = rest[: len(FIELDS)], rest[len(FIELDS) :]
    assert (fields[1], fields[CONSENT]) == (12, "Fine by me.") and json.loads(known) == said
    assert "complete" in told[0]
    *kept, told, _ = rules.on_rules("{")
    assert kept == [gr.skip()] * 9 and "expected JSON" in told


def test_nothing_is_lost_where_the_button_is_pressed_before_an_answer_came() -> None:
    typed = json.dumps({**json.loads(START), "gold_rate": 0.25, "consent": "From the JSON."})
    both = rules.check(rules.merge(typed, START, *change(at3="Which one is it?")))
    assert (both.gold_rate, both.consent) == (0.25, "From the JSON.")
    assert [q.text for q in both.questions] == ["Which one is it?"]


def test_a_way_in_that_the_box_does_not_know_stays() -> None:
    hub = rules.write_protocol(rules.START.model_copy(update={"access": "hub"}))
    fields = rules.read_fields(rules.check(json.loads(hub)))
    assert rules.merge(hub, hub, *fields)["access"] == "hub"
    fields[2] = True
    assert rules.merge(hub, hub, *fields)["access"] == "invite"


def test_what_is_no_protocol_is_a_sentence() -> None:
    for text in ("", "[]", "nonsense", "[" * 100_000):
        with pytest.raises(StudyError, match="protocol: expected"):
            rules.merge(text, START, *FIELDS)
