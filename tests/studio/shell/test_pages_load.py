"""Every page answers its loading, whatever state the newest study is in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr
import pytest

from studio.machine.host import ModelHost
from studio.shell.app import Studio, pages
from studio.studies.studies import Studies
from tests.studio.launched import Launched, launched
from tests.studio.studies.conftest import make_draft


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, host: ModelHost) -> Iterator[Launched]:
    with launched(tmp_path_factory.mktemp("pages"), host) as made:
        yield made


def loads(app: Launched) -> list[int]:
    """Numbers of the events that a page runs when it opens."""
    return [n for n, fn in app.app.fns.items() if any(event == "load" for _, event in fn.targets)]


def open_every_page(app: Launched) -> dict[int, object]:
    """The data of every load event by its number. Fails with the error of the first that fails."""
    with app.client() as client:
        answers = {number: app.call(client, number) for number in loads(app)}
    names = {number: app.app.fns[number].name for number in answers}
    failed = {names[number]: data for number, (worked, data) in answers.items() if not worked}
    assert not failed
    return {number: data for number, (_, data) in answers.items()}


def test_every_page_opens_in_each_state_of_the_newest_study(app: Launched) -> None:
    studies = app.studio.studies
    assert isinstance(studies, Studies)
    assert len(loads(app)) >= 9  # one a page at least
    open_every_page(app)
    study = make_draft(studies)
    open_every_page(app)
    studies.set_status(study.id, "open")
    assert "Its results stay hidden" in str(open_every_page(app))
    studies.set_status(study.id, "closed")
    assert "No votes yet" in str(open_every_page(app))


def test_where_nothing_runs_in_the_background_its_pages_are_left_out(app: Launched) -> None:
    background = {"Search", "Diagnose", "Two minutes"}
    all_of_them = [page.module.TITLE for page in pages(app.studio)]
    assert background <= set(all_of_them)
    left = [page.module.TITLE for page in pages(Studio(app.core, app.studio.studies))]
    assert left == [title for title in all_of_them if title not in background]


def defaults(fields: list[Any]) -> list[Any]:
    """What a fresh page would send of these fields."""
    values = [getattr(field, "value", None) for field in fields]
    return [value if isinstance(value, str | int | float | list | dict) else None for value in values]


def test_sliders_hold_the_steps_of_a_backbone_that_takes_more_than_they_showed(
    app: Launched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a slider would refuse at the next press."""
    backbone = app.core.host.wait_ready()
    monkeypatch.setattr(backbone, "spec", backbone.spec.model_copy(update={"steps": 150}))
    shown = {}
    with app.client() as client:
        for number, fn in app.app.fns.items():
            places = [
                place
                for place, field in enumerate(fn.outputs)
                if isinstance(field, gr.Slider) and field.label == "Steps"
            ]
            if not places or not any(event in ("load", "change") for _, event in fn.targets):
                continue
            worked, answer = app.call(client, number, defaults(fn.inputs))
            if not worked or not isinstance(answer, list):
                continue
            for place in places:
                update = answer[place]
                if isinstance(update, int):
                    assert update <= fn.outputs[place].maximum, fn.name
                elif isinstance(update, dict) and isinstance(update.get("value"), int):
                    assert update["value"] <= update.get("maximum", fn.outputs[place].maximum), fn.name
                    shown[fn.outputs[place]._id] = update["value"]
    assert sorted(shown.values())[-4:] == [150] * 4  # Compare, Scales, Diagnose, Library
