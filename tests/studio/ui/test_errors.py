"""What a page says where an event has no answer: a stop is no error, and programs get the words."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gradio as gr
import httpx
import pytest

from calibri.errors import CalibriError, NoneBetter, PromptError, RenderCancelled, RenderError
from studio.access.limits import LimitError
from studio.compare.form import FormError
from studio.machine.queue import HostError
from studio.ui.blocks import LightSession, StudioBlocks, WrongValues
from studio.ui.errors import guard
from studio.visitors import Overtaken
from tests.browser.running import free_port

#: what the handler raises → title, level, a part of the words
CASES: dict[str, tuple[Exception, str, str, str]] = {
    "a stop": (RenderCancelled("called off"), "Stopped", "info", "Stopped."),
    "a typo": (FormError({"seed": "Seed: expected a whole number, got 'x'"}), "Not done", "warning", "'x'"),
    "a refusal": (RenderError("steps: expected 1, got 0"), "Not done", "warning", "got 0"),
    "prompts": (PromptError("expected at least 10 prompts"), "Not done", "warning", "10 prompts"),
    "overtaken": (Overtaken("newer"), "", "silent", "newer"),
    "busy": (HostError("a search runs"), "Not now", "warning", "a search runs"),
    "a limit": (LimitError("at most 4 rows"), "Not now", "warning", "at most 4"),
    "an answer": (NoneBetter("No cell is better"), "Nothing better", "info", "No cell is better"),
    "any other of ours": (CalibriError("a sentence"), "Not done", "warning", "a sentence"),
    "Gradio's own": (gr.Error("Value 3 is greater than 2."), "Not done", "warning", "greater than 2"),
    "a fault": (ZeroDivisionError("secret"), "Unexpected", "error", "look for"),
}


def fail(error: Exception) -> Callable[[str], str]:
    def handler(text: str) -> str:
        raise error

    return handler


def fail_later(error: Exception) -> Callable[[str], Iterator[str]]:
    def handler(text: str) -> Iterator[str]:
        yield "first"
        raise error

    return handler


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with StudioBlocks() as app:
        field = gr.Textbox()
        for error, *_ in CASES.values():
            for make in (fail, fail_later):
                field.change(guard(make(error)), field, field)  # as pages do
                field.change(make(error), field, field)  # a page that forgot it
    app.queue()
    _, url, _ = app.launch(server_port=free_port(), prevent_thread_lock=True, quiet=True, _frontend=False)
    yield url.rstrip("/")
    app.close(verbose=False)


def messages(url: str, number: int) -> list[dict[str, Any]]:
    """Everything that the server sends for one event."""
    session, told = secrets.token_hex(6), []
    body = {"data": ["x"], "fn_index": number, "session_hash": session}
    with httpx.Client(base_url=url, timeout=60) as client:
        assert client.post("/gradio_api/queue/join", json=body).status_code == 200
        with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
            for line in stream.iter_lines():
                told.append(json.loads(line[5:]) if line.startswith("data:") else {})
                if told[-1].get("msg") == "process_completed":
                    return told
    raise AssertionError("the stream ended without an answer")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("way", range(4))
def test_an_event_without_an_answer_has_a_message_of_its_own_title(address: str, name: str, way: int) -> None:
    _, title, level, words = CASES[name]
    told = messages(address, 4 * list(CASES).index(name) + way)
    logs = [message for message in told if message.get("msg") == "log"]
    assert [(log["title"], log["level"]) for log in logs] == [(title, level)][level == "silent" :]
    assert all(words in log["log"] for log in logs)
    end = told[-1]
    assert end["success"] is False  # what would follow a success does not
    assert end["output"]["visible"] is False and words in end["output"]["error"]  # programs read it
    assert "secret" not in json.dumps(told)


def test_a_list_is_no_choice_of_a_dropdown_of_one() -> None:
    with StudioBlocks() as app:
        one, many = gr.Dropdown(["a"]), gr.Dropdown(["a"], multiselect=True)
        gr.Button().click(lambda *values: len(values), [one, many], gr.Number())
    [event] = app.fns.values()

    def given(*values: Any) -> list[Any]:
        job = app.preprocess_data(event, list(values), LightSession(app))
        with ThreadPoolExecutor(1) as thread:  # this one has a loop, where a browser was open before
            return thread.submit(asyncio.run, job).result()

    assert given("a", ["a"]) == ["a", ["a"]] and given(None, []) == [None, []]
    for wrong in ([], ["a"]):
        with pytest.raises(WrongValues, match="Expected one choice, got a list"):
            given(wrong, [])
