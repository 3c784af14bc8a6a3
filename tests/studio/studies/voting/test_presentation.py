"""How a protocol shows pairs and what it tells a rater at the end; hashes of older protocols stay."""

from __future__ import annotations

import json

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from studio.studies.http import routes
from studio.studies.protocol import LATER, PRESETS, QUICK, Protocol
from tests.studio.studies.conftest import rows


@pytest.mark.parametrize("protocol", [*PRESETS.values(), QUICK, Protocol()])
def test_fields_that_say_nothing_new_are_in_no_text_and_so_in_no_hash(protocol: Protocol) -> None:
    said = json.loads(protocol.to_json())
    assert not set(LATER) & set(said) and set(said) | set(LATER) == set(Protocol.model_fields)
    assert Protocol.model_validate_json(protocol.to_json()) == protocol


def test_what_is_chosen_is_hashed() -> None:
    plain = Protocol()
    changed = [Protocol(presentation="flip"), Protocol(own_result=True)]
    assert len({p.hash for p in [plain, *changed]}) == 3
    for protocol in changed:
        assert Protocol.model_validate_json(protocol.to_json()) == protocol


def test_the_page_is_told_to_flip_and_nothing_else_changes(world) -> None:
    study = world.study(name="flip", presentation="flip")
    other = world.study(name="beside")
    first, second = world.rater(study).join().view, world.rater(other).join().view
    assert (first.flip, second.flip) == (True, False)
    assert (first.questions, first.answers) == (second.questions, second.answers)


def test_a_rater_is_told_of_their_own_answers_at_the_end_only(world) -> None:
    study = world.study(prompts=4, own_result=True, repeat_rate=0.5, repeat_gap=1)
    rater = world.rater(study).join()
    for side in ("left", "left", "tie"):
        assert rater.view.result == ()
        rater.vote(side, response_ms=2000)
    while rater.view.stage == "vote":
        rater.vote("right", response_ms=4000)
    said = " ".join(rater.view.result)
    sides = [row["side"] for row in rows(world)]
    assert f"A {sides.count('left')} times" in said and "no difference 1 time" in said
    assert "Half of your answers took less than" in said and "Some pairs came twice" in said
    for secret in ("base-arm", "calibrated-arm", "gold"):
        assert secret not in said
    view = world.studies.voting.undo(study.id, rater.who)
    assert view.result == ()


def test_without_the_option_nothing_is_told(world) -> None:
    study = world.study(prompts=2)
    rater = world.rater(study).join()
    rater.vote_all("left")
    assert rater.view.stage == "end" and rater.view.result == ()


def test_the_result_says_the_same_whatever_the_arms_are(world) -> None:
    """Two raters who press the same keys read the same words, though their sides were tossed otherwise."""
    study = world.study(prompts=8, own_result=True)
    told = []
    for number in range(2):
        rater = world.rater(study, number).join()
        for key in ("left", "left", "right", "left", "tie", "right", "left", "left"):
            rater.vote(key)
        told.append(rater.view.result)
    left = "SELECT rater, list(left_is_x ORDER BY number) FROM assignments GROUP BY rater"
    assert len({str(sides) for _, sides in world.studies.db.read(left)}) == 2
    assert told[0] == told[1] != ()


def test_the_answer_to_a_preview_says_so_on_the_page(world) -> None:
    study = world.draft(prompts=2, presentation="flip")
    with TestClient(Starlette(routes=routes(world.studies))) as client:
        page = client.get(f"/ballot?study={study.id}").text
        body = {"study": study.id, "preview": world.studies.previews.code(study.id)}
        view = client.post("/ballot/consent", json=body).json()
    assert "Preview: nothing is counted" in page and view["flip"]
    assert rows(world) == []
