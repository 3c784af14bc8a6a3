"""Moves that a newer one overtakes: Gradio sends the last answer of every handler once more when it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep

import pytest

from studio.machine.host import ModelHost
from studio.machine.queue import Priority
from studio.scales.edits import get_place
from studio.visitors import Visitors
from tests.studio.launched import PATIENCE, Launched, launched


@pytest.fixture(scope="module")
def studio(host: ModelHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    with launched(tmp_path_factory.mktemp("superseded"), host) as made:
        yield made


def event_of(studio: Launched, elem_id: str) -> int:
    """The number of the event that a click on this button triggers."""
    button = next(b for b in studio.app.blocks.values() if getattr(b, "elem_id", "") == elem_id)
    [number] = [n for n, fn in studio.app.fns.items() if (button._id, "click") in fn.targets]
    return number


def wait_for(condition) -> None:
    end = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < end
        sleep(0.02)


def test_the_end_of_an_overtaken_move_takes_nothing_back(studio: Launched) -> None:
    visitor = Visitors.new_id()
    stronger, undo = event_of(studio, "stronger"), event_of(studio, "undo")
    data = [visitor, "a red cube", 0, 2]
    place = get_place(studio.core, visitor)
    with studio.client() as client, ThreadPoolExecutor(2) as pool:
        with studio.core.host.hold(Priority.INTERACTIVE, "the test"):
            older = pool.submit(studio.call, client, stronger, data)
            wait_for(lambda: place.desk is not None and studio.core.host.status.waiting == 1)
            newer = pool.submit(studio.call, client, undo, data)
            worked, answer = older.result(PATIENCE)
            assert worked
            # nothing but the figure of the bars, as it is now (a gr.State is never sent: None)
            told = [v for v in answer if isinstance(v, str) or (v and not v.keys() <= {"__type__", "props"})]
            assert len(told) == 1 and json.loads(told[0])["data"][0]["type"] == "bar", told
        worked, answer = newer.result(PATIENCE)
        assert worked and any("path" in str(value) for value in answer)  # its pictures


def test_no_page_drops_what_is_typed_or_picked_while_it_answers(studio: Launched) -> None:
    """Gradio's default for everything but `change` is `once`: what comes during an answer is lost."""
    follows = {"input", "change", "release"}
    lost = [
        (getattr(studio.app.blocks[component], "label", ""), event, fn.name)
        for fn in studio.app.fns.values()
        for component, event in fn.targets
        if event in follows and fn.trigger_mode == "once"
    ]
    assert lost == []
    dropped = [
        (fn.name, fn.concurrency_id)
        for fn in studio.app.fns.values()
        if fn.concurrency_id == "people" and fn.api_visibility == "private" and fn.trigger_mode != "multiple"
    ]
    assert dropped == []  # a second press of what renders calls the first one off
    modes = {"library-left": set(), "cell-base-1": set()}
    for fn in studio.app.fns.values():
        for part in fn.outputs:
            if part.elem_id in modes:
                modes[part.elem_id].add(fn.trigger_mode)
    assert modes == {"library-left": {"multiple"}, "cell-base-1": {"multiple"}}  # the newest takes over
