"""What changes by itself on a page also answers where the thing it shows was deleted a moment before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr
import pytest

from studio.machine.host import ModelHost
from tests.studio.launched import Launched, launched


@pytest.fixture(scope="module")
def studio(host: ModelHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    with launched(tmp_path_factory.mktemp("watches"), host) as made:
        yield made


def by_themselves(studio: Launched) -> list[int]:
    """Numbers of the events that a timer starts, and of those that follow a hidden word which it changed;
    without the filling of forms, which reads what was typed."""
    events, timers = studio.app.fns, {b._id for b in studio.app.blocks.values() if isinstance(b, gr.Timer)}
    timed = [number for number, fn in events.items() if any(target in timers for target, _ in fn.targets)]
    outputs = [block for number in timed for block in events[number].outputs]
    words = {(block._id, "change") for block in outputs if getattr(block, "visible", True) is not True}
    following = [number for number, fn in events.items() if words & set(fn.targets)]
    return [n for n in timed + following if events[n].fn.__name__ != "on_ready"]


def lists_what_is_made(field: Any) -> bool:
    """A choice that is filled with searches, sweeps or studies, and not with what always is the same."""
    return isinstance(field, gr.Dropdown) and not field.choices


def name_gone(field: Any) -> Any:
    if lists_what_is_made(field):
        return ["gone"] if field.multiselect else "gone"
    return getattr(field, "value", None)


def test_an_event_that_comes_by_itself_answers_for_what_is_gone(studio: Launched) -> None:
    tried = 0
    with studio.client() as client:
        for number in by_themselves(studio):
            fields = studio.app.fns[number].inputs
            if any(map(lists_what_is_made, fields)):
                worked, answer = studio.call(client, number, [name_gone(field) for field in fields])
                assert worked, (studio.app.fns[number].fn, answer)
                tried += 1
    assert tried > 8
