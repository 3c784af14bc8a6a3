"""Whatever a program sends to any event is answered with a sentence, and no trace is logged."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from tests.studio.conftest import load_host
from tests.studio.launched import Launched, launched

CALLS = 110  # about half of the events in each studio, all between them
SENTENCE = re.compile(r"[A-Za-z]{3}.*")
TRACE = re.compile(r"Traceback|File \"|unexpected happened")

ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    10**30,
    -1.5,
    1e308,
    "",
    "x",
    "\x00",
    "a" * 5000,
    "../../etc/passwd",
    "<script>alert(1)</script>",
    [],
    [[]],
    [None],
    ["a", 1, {}],
    {},
    {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
    {"path": 3},
    {"__type__": "update", "value": 1},
    {"a": {"b": [1]}},
    [[1, 2], [3]],
    "0-9999999, 3-1",
    "double[0-99999999] = 1",
)


@pytest.fixture(scope="module", params=[True, False], ids=["public", "private"])
def studio(request, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    host = load_host(tiny_folder)  # of its own: a call may load another backbone
    settings = {"demo": True, "auth": "ann:open:sesame", "rate": 1000} if request.param else {}
    with launched(tmp_path_factory.mktemp("fuzzed"), host, **settings) as made:
        yield made


def spoil(draw: Random, usual: list[Any]) -> list[Any]:
    """What a fresh page would send, with one or two odd values; sometimes all of them, or one too few."""
    values = [None if callable(value) or hasattr(value, "size") else value for value in usual]
    for at in draw.sample(range(len(values)), min(len(values), draw.choice([1, 1, 2, 99]))):
        values[at] = draw.choice(ODD)
    return values[: len(values) - draw.choice([0, 0, 0, 0, 0, 0, 0, 1])]


def test_no_call_of_any_event_is_unhandled(studio: Launched, caplog, capfd) -> None:
    draw = Random(18)
    numbers = sorted(studio.app.fns)
    wrong: list[Any] = []
    answers = {True: 0, False: 0}
    if studio.core.settings.demo:
        numbers.reverse()
    calls = numbers[:CALLS]
    with caplog.at_level(logging.INFO), studio.client() as client:
        for count, number in enumerate(calls):
            if count % 60 == 0:
                client.cookies.clear()
                assert client.get("/").status_code == 200
            fn = studio.app.fns[number]
            if not fn.fn:
                continue
            values = spoil(draw, [getattr(block, "value", None) for block in fn.inputs])
            worked, answer = studio.call(client, number, values)
            answers[worked] += 1
            if not worked and (TRACE.search(str(answer)) or not SENTENCE.search(str(answer))):
                wrong.append((fn.name, values, answer))
    assert wrong == []
    assert min(answers.values()) > CALLS // 20, answers
    out, err = capfd.readouterr()
    for text in (caplog.text, out, err):
        assert not TRACE.search(text), text[-3000:]


def test_no_call_of_a_named_endpoint_is_unhandled(studio: Launched, caplog, capfd) -> None:
    """As programs call them: POST /call/NAME, then the stream of its answer; and direct calls."""
    draw = Random(18)
    with caplog.at_level(logging.INFO), studio.client() as client:
        client.get("/")
        info = client.get("/gradio_api/info").json()["named_endpoints"]
        assert {"/render", "/compare", "/start_search", "/list_calibrations"} <= set(info)
        for name, endpoint in info.items():
            for _ in range(8):
                length = max(0, len(endpoint["parameters"]) + draw.choice([0, 0, 0, -1, 1]))
                data = [draw.choice(ODD) for _ in range(length)]
                check(client.post(f"/gradio_api/call{name}", json={"data": data}), client, name)
                answer = client.post(f"/gradio_api/run{name}", json={"data": data})
                assert answer.status_code in (404, 422, 429) and SENTENCE.search(answer.text), answer.text
        for path in ("call/nothing", "run/nothing", "api/nothing", "call/v2/nothing"):
            answer = client.post(f"/gradio_api/{path}", json={"data": []})
            assert answer.status_code == 404 and "no such event" in answer.text
    out, err = capfd.readouterr()
    for text in (caplog.text, out, err):
        assert not TRACE.search(text), text[-3000:]


def check(answer: httpx.Response, client: httpx.Client, name: str) -> None:
    assert answer.status_code in (200, 422, 429), answer.text
    if answer.status_code != 200:
        assert SENTENCE.search(answer.text)
        return
    told = client.get(f"/gradio_api/call{name}/{answer.json()['event_id']}").text
    assert re.search(r"event: (complete|error)", told) and not TRACE.search(told), told


BODIES: dict[str, tuple[bytes, int]] = {
    "no JSON": (b"{", 400),
    "no text": (b"\xff\xfe", 400),
    "too deep": (b'{"data":' + b"[" * 40 + b"]" * 40 + b"}", 400),
    "very deep": (b"[" * 100_000, 400),
    "digits": (b'{"data": [' + b"9" * 5000 + b"]}", 400),
    "half a character": (b'{"data": ["\\ud800"], "fn_index": 1, "session_hash": "a"}', 400),
    "a list": (b"[]", 422),
    "no data": (b'{"fn_index": 1, "session_hash": "a"}', 422),
    "data that is none": (b'{"data": 3, "fn_index": 1, "session_hash": "a"}', 422),
    "no such event": (b'{"data": [], "fn_index": 99999, "session_hash": "a"}', 404),
    "a negative event": (b'{"data": [], "fn_index": -1, "session_hash": "a"}', 404),
    "an event that is text": (b'{"data": [], "fn_index": "1", "session_hash": "a"}', 422),
    "a session that is a number": (b'{"data": [], "fn_index": 1, "session_hash": 3}', 422),
    "a long session": (b'{"data": [], "fn_index": 1, "session_hash": "' + b"a" * 65 + b'"}', 422),
    "no session": (b'{"data": [], "fn_index": 1}', 400),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_no_call_is_refused_in_a_sentence(studio: Launched, name: str, caplog, capfd) -> None:
    body, status = BODIES[name]
    headers = {"content-type": "application/json"}
    with studio.client() as client, caplog.at_level(logging.INFO):
        joined = client.post("/gradio_api/queue/join", content=body, headers=headers)
        assert joined.status_code == status and SENTENCE.search(joined.text), joined.text
        for path in (
            "run/predict",
            "api/predict",
            "call/render",
            "call/v2/render",
            "component_server",
            "reset",
        ):
            answer = client.post(f"/gradio_api/{path}", content=body, headers=headers)
            known = answer.status_code == 500 and "Expected" in answer.json()["error"]  # Gradio's way
            assert known or answer.status_code < 500, (path, answer.status_code, answer.text)
    out, err = capfd.readouterr()
    assert not TRACE.search(caplog.text + out + err)
