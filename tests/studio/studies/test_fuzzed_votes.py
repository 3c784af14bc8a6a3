"""Anything that a program may send to the raters' routes is answered below 500, with a sentence."""

from __future__ import annotations

import json
import logging
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.testclient import TestClient

from studio.studies import commands
from studio.studies.http import LARGEST_BODY, routes
from studio.studies.voting.rates import Rates
from tests.studio.studies.conftest import World

RATER = "ab" * 16
FIELDS = ("study", "rater", "token", "answers", "invite", "preview", "response_ms", "shown_ms", "comment")
POSTS = ("look", "consent", "cast", "undo")

texts = st.text(st.characters(), max_size=60) | st.sampled_from(
    ["\ud800", "a\udfff", "\x00", "'; --", "\ufeff", "٧-a"]
)
numbers = st.integers(-(10**30), 10**30) | st.floats()
plain = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("fuzzed") / "data")
    yield made
    made.studies.close()


@pytest.fixture(scope="module")
def study(world):
    return world.study(prompts=300, comments=True, cap=1000)


@pytest.fixture(scope="module")
def client(world):
    rates = Rates(clock=iter(range(10**9)).__next__)  # each request a second later
    with TestClient(Starlette(routes=routes(world.studies, rates)), raise_server_exceptions=False) as made:
        yield made


def check(answer, world: World) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert re.search(r"[a-z]{3}.*\.$", answer.json()["text"])
    for word in (str(world.folder), "Traceback", "duckdb"):
        assert word not in answer.text


@settings(max_examples=500, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_vote_is_answered_by_500_or_without_a_sentence(world, study, client, data):
    what = data.draw(st.sampled_from(POSTS))
    view = client.post("/ballot/consent", json={"study": study.id, "rater": RATER}).json()
    token = view["showings"][0]["token"] if view.get("showings") else "0" * 32
    body = {
        "study": study.id,
        "rater": RATER,
        "token": token,
        "answers": {"preference": data.draw(st.sampled_from(["left", "skip", "middle"]))},
    }
    body |= data.draw(st.dictionaries(st.sampled_from(FIELDS), values, max_size=3))
    check(client.post(f"/ballot/{what}", content=json.dumps(body)), world)


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(body=st.binary(max_size=200), token=texts, side=texts)
def test_bytes_and_addresses_that_are_none(world, study, client, body, token, side):
    from urllib.parse import quote

    check(client.post("/ballot/cast", content=body), world)
    path = "/".join(quote(part.encode("utf-8", "surrogatepass"), safe="") or "x" for part in (token, side))
    answer = client.get(f"/ballot/picture/{path}")
    assert answer.status_code in (404, 405)


@pytest.mark.parametrize(
    "body, status",
    [
        (b'{"study": "\\ud800"}', 400),
        (b'{"comment": "' + b"a" * LARGEST_BODY + b'"}', 413),
        (b'{"a":' * 1000 + b"1" + b"}" * 1000, 400),
        (b'{"a":' * 20 + b"1" + b"}" * 20, 400),
        (b"[" * 8000, 400),
        (b'{"response_ms": ' + b"9" * 5000 + b"}", 400),
    ],
)
def test_what_no_vote_looks_like_is_refused_with_a_sentence(world, study, client, body, status, caplog):
    with caplog.at_level(logging.ERROR):
        answer = client.post("/ballot/cast", content=body)
    assert answer.status_code == status
    assert answer.json()["text"].endswith((".", "it."))
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"command": ["a"], "values": {}}',
        b'{"command": "list", "values": "a"}',
        b'{"command": "\\ud800", "values": {}}',
        b"null",
    ],
)
def test_a_command_that_is_none_is_refused_with_a_sentence(world, client, body):
    key = {"authorization": f"Bearer {commands.secret(world.studies.key())}"}
    answer = client.post("/ballot/organise", content=body, headers=key)
    assert (answer.status_code, answer.json()["error"]) == (400, "json")


def test_no_answer_tells_where_the_data_lies(world, client):
    key = {"authorization": f"Bearer {commands.secret(world.studies.key())}"}
    gone = world.folder / "nowhere" / "snapshot"
    answer = client.post(
        "/ballot/organise", json={"command": "restore", "values": {"folder": str(gone)}}, headers=key
    )
    assert answer.status_code == 409
    assert str(world.folder) not in answer.text
