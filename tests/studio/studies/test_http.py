"""The bytes that a rater's browser gets and sends, over the routes of the running studio."""

from __future__ import annotations

import json
import logging
import struct
from io import BytesIO

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from studio.quick_vote.votes import open_quick_study
from studio.studies import commands
from studio.studies.http import LARGEST_BODY, routes
from studio.studies.planning import NewStudy
from tests.studio.studies.conftest import World, calibration, hang_pictures, picture, rows

RATER = "ab" * 16
SECRETS = ("base-arm", "calibrated-arm", "gold", "repeat", "left_is_x", "arm_x", "image_x", "winner")


@pytest.fixture
def client(world):
    with TestClient(Starlette(routes=routes(world.studies)), raise_server_exceptions=False) as made:
        yield made


def post(client, what: str, study="", **more):
    return client.post(f"/ballot/{what}", json={"study": study, "rater": RATER, **more})


def join(client, study) -> dict:
    return post(client, "consent", study.id).json()


def cast(client, study, view, side="left", **more):
    answers = {q["id"]: side for q in view["questions"]}
    return post(client, "cast", study.id, token=view["showings"][0]["token"], answers=answers, **more)


def test_a_whole_visit(client, world):
    study = world.study(prompts=3)
    assert post(client, "look", study.id).json()["stage"] == "welcome"
    view = join(client, study)
    for done in range(3):
        assert view["done"] == done
        view = cast(client, study, view).json()
    assert view["stage"] == "end"
    assert len(rows(world)) == 3
    assert post(client, "undo", study.id).json()["stage"] == "vote"


def test_the_only_open_study_needs_no_name(client, world):
    study = world.study()
    assert post(client, "look").json()["study"] == study.id


def test_several_open_studies_are_offered(client, world):
    one, two = world.study(name="one"), world.study(name="two")
    world.study(name="by invitation", access="invite")
    offered = post(client, "look").json()
    assert {s["id"] for s in offered["studies"]} == {one.id, two.id}


def test_nothing_open_is_a_sentence(client, world):
    assert "No study is open" in post(client, "look").json()["text"]


def test_no_answer_names_an_arm_a_check_or_a_file(client, world):
    study = world.study(prompts=12, gold_rate=0.3, repeat_rate=0.3, repeat_gap=1)
    shas = {p.image_x for p in world.studies.store.pairs(study.id)}
    said = [post(client, "look", study.id).text]
    view = join(client, study)
    while view["stage"] == "vote":
        said.append(json.dumps(view))
        view = cast(client, study, view).json()
    said += [json.dumps(view), post(client, "undo", study.id).text]
    everything = "".join(said)
    assert len(said) > 8
    for word in (*SECRETS, *shas, f"{study.id}:"):
        assert word not in everything


def chunks(data: bytes) -> list[bytes]:
    found, at = [], 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        found.append(data[at + 4 : at + 8])
        at += 12 + length
    return found


def test_both_pictures_are_png_of_one_size_without_metadata(client, world):
    study = world.study()
    token = join(client, study)["showings"][0]["token"]
    left, right = (client.get(f"/ballot/picture/{token}/{side}") for side in ("left", "right"))
    for answer in (left, right):
        assert answer.content[:8] == b"\x89PNG\r\n\x1a\n"
        assert set(chunks(answer.content)) == {b"IHDR", b"IDAT", b"paDd", b"IEND"}
    assert left.content[16:33] == right.content[16:33]  # width, height, depth, colour type
    assert left.content != right.content


def test_headers_of_both_pictures_are_the_same(client, world):
    study = world.study()
    token = join(client, study)["showings"][0]["token"]
    heads = [dict(client.get(f"/ballot/picture/{token}/{side}").headers) for side in ("left", "right")]
    assert heads[0] == heads[1]
    assert not {"etag", "last-modified", "content-disposition"} & set(heads[0])


def test_no_picture_of_a_study_is_told_by_its_length(client, world):
    """One arm paints noise, the other one flat pictures, and so do gold pairs: all come in as many bytes."""
    study, images = world.draft(prompts=8, gold_rate=0.3), world.studies.images
    pairs = [p for p in world.studies.store.pairs(study.id) if p.kind != "repeat"]
    flat = {p.id: images.put(Image.new("RGB", (16, 16), (n, n, n))) for n, p in enumerate(pairs)}
    noise = {p.id: images.put(picture(1000 + n)) for n, p in enumerate(pairs)}
    world.studies.store.hang([(p.id, flat[p.id], noise[p.id]) for p in pairs])
    assert max(len(images.view(f)) for f in flat.values()) < min(len(images.view(n)) for n in noise.values())
    world.studies.set_status(study.id, "open")
    answers, view = [], join(client, study)
    while view["stage"] == "vote":
        token = view["showings"][0]["token"]
        answers += [client.get(f"/ballot/picture/{token}/{side}") for side in ("left", "right")]
        view = cast(client, study, view).json()
    assert {p.kind for p in pairs} == {"real", "gold"}
    assert len(answers) > 16
    assert len({len(a.content) for a in answers}) == len({a.headers["content-length"] for a in answers}) == 1
    for answer in answers:
        with Image.open(BytesIO(answer.content)) as image:
            image.load()


def test_lengths_stay_the_same_after_a_restart_and_in_the_preview(client, world):
    study = world.study(prompts=3)
    token = join(client, study)["showings"][0]["token"]
    before = len(client.get(f"/ballot/picture/{token}/left").content)
    preview = post(client, "look", study.id, preview=world.studies.previews.code(study.id), token="")
    shown = preview.json()["showings"][0]["token"]
    assert len(client.get(f"/ballot/picture/{shown}/left").content) == before
    world.reopen()
    with TestClient(Starlette(routes=routes(world.studies))) as other:
        assert len(other.get(f"/ballot/picture/{token}/right").content) == before


def test_a_picture_has_a_new_name_for_every_showing(client, world):
    study = world.study(prompts=1)
    one = join(client, study)["showings"][0]["token"]
    other = client.post("/ballot/consent", json={"study": study.id, "rater": "cd" * 16}).json()
    assert one != other["showings"][0]["token"]


@pytest.mark.parametrize(
    "path", ["0" * 32 + "/left", "x/left", "..%2f..%2fvotes.duckdb/left", "0" * 32 + "/arm_x"]
)
def test_pictures_that_are_none(client, world, path):
    world.study()
    assert client.get(f"/ballot/picture/{path}").status_code == 404


def test_refusals_have_a_message_and_are_logged(client, world, caplog):
    study = world.study()
    view = join(client, study)
    cast(client, study, view)
    with caplog.at_level(logging.WARNING):
        answer = cast(client, study, view, "right")
    assert answer.status_code == 409
    assert answer.json()["error"] == "used"
    assert "voted on this pair already" in answer.json()["text"]
    assert "vote refused (used)" in caplog.text
    assert [v["side"] for v in rows(world)] == ["left"]


def test_a_megabyte_is_not_even_read(client, world):
    study = world.study(comments=True)
    view = join(client, study)
    answer = cast(client, study, view, comment="a" * 1_000_000)
    assert answer.status_code == 413
    assert rows(world) == []


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{", b"\xff\xfe", b'"a"', b"[" * (LARGEST_BODY - 1)])
def test_a_body_that_is_no_vote(client, body):
    answer = client.post("/ballot/cast", content=body)
    assert answer.status_code == 400
    assert answer.json()["text"]


@pytest.mark.parametrize("study", [["a"], {"a": 1}, 7, "nowhere", "'; DROP TABLE votes; --"])
def test_a_study_that_is_none(client, world, study):
    world.study(name="one")
    world.study(name="two")
    assert post(client, "look", study).status_code == 404
    assert world.studies.db.read("SELECT count(*) FROM votes") == [(0,)]


def test_an_unexpected_error_shows_no_trace(client, world, monkeypatch, caplog):
    study = world.study()

    def broken(*_):
        raise RuntimeError("secret detail")

    monkeypatch.setattr(world.studies.voting, "look", broken)
    answer = post(client, "look", study.id)
    assert answer.status_code == 500
    assert "secret" not in answer.text


def test_html_in_a_prompt_reaches_the_page_as_data_alone(client, world):
    evil = "<img src=x onerror=alert(1)></script><b>"
    spec = NewStudy(
        name="evil",
        arms=({"label": "a"}, {"label": "b", "kind": "calibrated", "calibration": calibration()}),
        prompts=({"text": evil},),
        protocol={"least_view_ms": 0},
    )
    study = world.studies.create(spec)
    hang_pictures(world.studies, study.id)
    world.studies.set_status(study.id, "open")
    answer = post(client, "consent", study.id)
    assert answer.json()["showings"][0]["prompt"] == evil
    assert answer.headers["content-type"].startswith("application/json")
    assert evil not in client.get(f"/ballot?study={study.id}").text


def test_the_page_without_gradio_is_one_small_file(client):
    answer = client.get("/ballot")
    assert answer.status_code == 200
    assert len(answer.content) < 40_000
    assert "http://" not in answer.text.replace("http://www.w3.org", "")
    assert "https://" not in answer.text


def test_the_page_without_gradio_may_speak_to_this_studio_alone(client):
    policy = client.get("/ballot").headers["content-security-policy"]
    for rule in ("default-src 'none'", "img-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"):
        assert rule in policy


def test_a_preview_shows_the_page_and_stores_nothing(client, world):
    study = world.draft(prompts=2)
    code = world.studies.previews.code(study.id)
    assert post(client, "look", study.id, preview=code).json()["stage"] == "welcome"
    view = post(client, "consent", study.id, preview=code).json()
    token = view["showings"][0]["token"]
    assert client.get(f"/ballot/picture/{token}/left").status_code == 200
    view = cast(client, study, view, preview=code).json()
    view = cast(client, study, view, preview=code).json()
    assert view["stage"] == "end"
    for table in ("votes", "assignments", "raters"):
        assert world.studies.db.read(f"SELECT count(*) FROM {table}") == [(0,)]


def test_a_preview_needs_its_code(client, world):
    study = world.draft()
    assert post(client, "look", study.id, preview="0" * 32).status_code == 403


# the organiser's commands


def command(client, world: World, name: str, key: str | None = None, **values):
    key = commands.secret(world.studies.key()) if key is None else key
    return client.post(
        "/ballot/organise",
        json={"command": name, "values": values},
        headers={"authorization": f"Bearer {key}"},
    )


@pytest.mark.parametrize("key", ["", "0" * 64, RATER])
@pytest.mark.parametrize("name", ["report", "export", "close", "show", "list"])
def test_a_rater_gets_no_results_and_closes_nothing(client, world, key, name, caplog):
    study = world.study()
    answer = command(client, world, name, key, study=study.id)
    assert answer.status_code == 403
    assert "base-arm" not in answer.text
    assert "wrong key" in caplog.text
    assert world.studies.store.get(study.id).status == "open"


def test_an_organiser_closes_and_gets_the_report(client, world):
    study = world.study(prompts=2)
    world.rater(study).join().vote_all()
    assert command(client, world, "close", study=study.id).json()["status"] == "closed"
    answer = command(client, world, "report", study=study.id, format="md")
    assert answer.headers["x-file-name"] == f"{study.id}.md"
    assert "# test" in answer.text


@pytest.mark.parametrize(
    "name, values",
    [("nonsense", {}), ("close", {}), ("close", {"study": "no", "other": 1}), ("create", {"spec": {}})],
)
def test_a_command_that_does_not_fit(client, world, name, values):
    answer = command(client, world, name, **values)
    assert answer.status_code == 409
    assert answer.json()["text"]


def test_the_quick_study_of_the_studio_s_owner_deals_to_nobody_else(client, world):
    made = open_quick_study(world.studies, "tabletop")
    view = client.post("/ballot/consent", json={"study": made.id, "rater": RATER}).json()
    assert view["stage"] == "end"
    assert view["showings"] == []
    assert post(client, "look").json()["stage"] == "choose"  # nor is it offered
