"""Who may organise: hiding a button protects nothing, so every endpoint is called as a rater could."""

from __future__ import annotations

import dataclasses

import gradio as gr
import pytest
from starlette.testclient import TestClient

from calibri.errors import CalibriError
from studio.core import Core
from studio.settings import Settings
from studio.shell.app import Studio, launch_options
from studio.studies.pages import manage, results
from studio.studies.studies import Studies
from tests.studio.asking import request_of

OUTSIDE = (
    {"demo": True},
    {"host": "0.0.0.0"},
    {"share": True},
    {"host": "192.168.1.2"},
    {"root_path": "/studio"},
)


def core_of(world, **settings) -> Core:
    return Core(settings=Settings(data=world.folder, **settings), host=None, calibrations=None)


@pytest.mark.parametrize("settings", OUTSIDE)
def test_a_visitor_from_outside_is_no_organiser(world, settings):
    core = core_of(world, **settings)
    assert not core.rights.may_organise(None)
    with pytest.raises(CalibriError, match="Only the organisers"):
        core.rights.study_organisers_only(None)


@pytest.mark.parametrize("settings", OUTSIDE)
def test_who_signed_in_is(world, settings):
    core = core_of(world, **settings)
    core.rights.study_organisers_only(request_of(core, "ada", host="studio.example.org"))
    with pytest.raises(CalibriError, match="Only the organisers"):
        core_of(world, **settings).rights.study_organisers_only(request_of(core, "ada"))  # another's session


def test_at_a_studio_that_nobody_else_can_reach_everybody_is(world):
    core_of(world).rights.study_organisers_only(None)
    for host in ("127.0.0.1:7860", "localhost", "[::1]:7860", "studio.localhost:80"):
        core_of(world).rights.study_organisers_only(request_of(host=host, origin=f"http://{host}"))


@pytest.mark.parametrize(
    "asked",
    [
        {"host": "studio.example.org"},
        {"x_forwarded_for": "203.0.113.5"},
        {"x_forwarded_proto": "https"},
        {"x_forwarded_host": "studio.example.org"},
        {"forwarded": "for=203.0.113.5"},
        {"x_real_ip": "203.0.113.5"},
        {"via": "1.1 proxy"},
        {"origin": "https://studio.example.org"},
        {"referer": "https://studio.example.org/studies"},
        {"origin": "null"},
        {"client": "203.0.113.5"},
        {"http_version": "1.0"},
        {"host": ""},
        {"host": "127.0.0.1.example.org"},
        {"host": "localhost.example.org:7860"},
    ],
)
def test_whoever_comes_through_a_proxy_is_no_organiser(world, asked):
    """The studio listens at 127.0.0.1; what a proxy at the root of a domain adds or passes on tells it."""
    core = core_of(world)
    assert core.rights.may_organise(request_of())
    assert not core.rights.may_organise(request_of(**asked))
    assert core.rights.may_organise(request_of(core, "ada", **asked))


def call_everything(core: Core, studies: Studies, study: str) -> list[str]:
    """What every endpoint of the organiser's pages answers when it is called by its index, without a page."""
    with gr.Blocks() as app:
        results.build(core, studies)
        manage.build(core, studies)
    app.queue(api_open=True)  # what the queue would answer, without the queue
    served = gr.routes.App.create_app(app, app_kwargs=launch_options(Studio(core, studies))["app_kwargs"])
    answers = []
    with TestClient(served, base_url="http://127.0.0.1", client=("127.0.0.1", 50_000)) as client:
        for number, fn in 2 * list(
            app.fns.items()
        ):  # the first round opens the pages, which fills the choices
            asked = [
                study if i == 0 and isinstance(c, gr.Dropdown) else None for i, c in enumerate(fn.inputs)
            ]
            body = {"data": asked, "fn_index": number, "session_hash": "rater"}
            answers.append(client.post("/gradio_api/run/predict", json=body).text)
    return answers


def test_no_endpoint_tells_or_does_anything_for_a_rater(world, core):
    study = world.study(prompts=2)
    world.rater(study).join().vote_all()
    public = dataclasses.replace(core, settings=Settings(data=world.folder, demo=True, backbone="tiny"))
    tables = [f"SELECT * FROM {t} ORDER BY ALL" for t in ("studies", "vote_events")]
    before = [world.studies.db.read(t) for t in tables]
    answers = call_everything(public, world.studies, study.id)
    assert len(answers) > 15
    for word in ("base-arm", "calibrated-arm", study.protocol.hash, "votes read"):
        assert not [a for a in answers if word in a]
    assert [world.studies.db.read(t) for t in tables] == before
    assert any(
        "base-arm" in a for a in call_everything(core, world.studies, study.id)
    )  # for an organiser they answer
