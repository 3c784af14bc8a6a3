"""The pictures of a study, rendered on a real pipeline."""

from __future__ import annotations

import json
from io import BytesIO
from random import Random

import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from calibri.calibration.artifact import Calibration, Member
from calibri.errors import StudyError
from calibri.sampling.request import RenderRequest
from studio.machine.host import ModelHost
from studio.studies.http import routes
from studio.studies.planning import FIRST_SEED, LAST_SEED, NewStudy
from studio.studies.protocol import Protocol
from studio.studies.studies import open_studies
from tests.tiny import tiny_flux


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tiny_flux(folder)
    made = ModelHost(device="cpu", dtype="float32", batch_size=4)
    made.load(str(folder), wait=True)
    return made


@pytest.fixture
def studies(tmp_path, host):
    made = open_studies(tmp_path / "data", host)
    yield made
    made.close()


def spec(host: ModelHost, prompts: int = 3, **protocol) -> NewStudy:
    backbone = host.wait_ready()
    layout = backbone.layout("block")
    names = layout.names
    one = Calibration(
        backbone=backbone.spec.name,
        granularity="block",
        names=names,
        members=(Member(scales=(1.3,) * len(names)),),
    )
    many = Calibration(
        backbone=backbone.spec.name,
        granularity="block",
        names=names,
        members=(
            Member(scales=(1.1,) * len(names), weight=1.5),
            Member(scales=(0.9,) * len(names), weight=-0.5, condition="negative"),
        ),
    )
    return NewStudy(
        name="rendered",
        backbone=backbone.spec.name,
        arms=(
            {"label": "base", "steps": 2},
            {"label": "calibrated", "kind": "calibrated", "steps": 2, "calibration": one.to_json()},
            {"label": "ensemble", "kind": "ensemble", "steps": 2, "calibration": many.to_json()},
        ),
        prompts=tuple({"text": f"a red cube {i}"} for i in range(prompts)),
        protocol=Protocol(gold_rate=0.1, repeat_rate=0.1, **protocol),
        seed=3,
    )


def read_pixels(data: bytes) -> np.ndarray:
    with Image.open(BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def rendered(studies, study) -> None:
    studies.renders.start(study.id)
    done = studies.renders.wait(study.id, 120)
    assert done.phase == "done", done.error


def test_every_pair_gets_its_two_pictures_and_the_study_can_open(studies, host):
    study = studies.create(spec(host))
    rendered(studies, study)
    pairs = studies.store.pairs(study.id)
    assert {p.kind for p in pairs} == {"real", "gold", "repeat"}
    assert all(
        p.is_rendered and studies.images.has(p.image_x) and studies.images.has(p.image_y) for p in pairs
    )
    assert all(p.image_x != p.image_y for p in pairs)
    assert studies.set_status(study.id, "open").status == "open"


def test_both_pictures_of_a_pair_have_one_size_and_no_metadata(studies, host):
    study = studies.create(spec(host))
    rendered(studies, study)
    for pair in studies.store.pairs(study.id):
        x, y = studies.images.open(pair.image_x), studies.images.open(pair.image_y)
        assert x.size == y.size
        assert studies.images.read(pair.image_x).count(b"tEXt") == 0


def test_an_arm_renders_with_its_negative_prompt_embedded_guidance_and_size(studies, host):
    common = {"steps": 2, "guidance": 3, "width": 16, "height": 16}
    named = {"label": "all", **common, "negative": "blue", "embedded": 1.5}
    plain, against = {"label": "plain", **common}, {"label": "against", **common, "negative": "blue"}
    new = spec(host, prompts=1).model_dump() | {"arms": (plain, against, named)}
    study = studies.create(NewStudy.model_validate(new))
    arms = {arm.label: arm for arm in studies.store.arms(study.id)}
    assert (arms["all"].negative, arms["all"].embedded, arms["against"].embedded) == ("blue", 1.5, None)
    rendered(studies, study)
    pair = next(
        p for p in studies.store.pairs(study.id) if (p.arm_x, p.arm_y) == (arms["against"].id, arms["all"].id)
    )
    for sha, more in ((pair.image_x, {}), (pair.image_y, {"embedded_guidance": 1.5})):
        asked = RenderRequest.of(
            pair.prompt, pair.seed, 2, guidance=3, width=16, height=16, negative_prompt="blue", **more
        )
        [shown] = host.render([asked])
        assert np.array_equal(read_pixels(studies.images.read(sha)), np.asarray(shown.image))
    assert len({p.image_x for p in studies.store.pairs(study.id) if p.kind == "real"}) == 2


def test_rendering_goes_on_where_it_was_stopped(studies, host):
    study = studies.create(spec(host, prompts=8))
    steps = studies.renders.run(study.id)
    first, second = next(steps), next(steps)
    steps.close()
    assert (first[0], second[0]) == (0, 8)
    hung = [p for p in studies.store.pairs(study.id) if p.is_rendered]
    assert {p.kind for p in hung} == {"real", "repeat"}  # what is there shows at once
    assert len({i for p in hung for i in (p.image_x, p.image_y)}) <= 8
    again = studies.renders.run(study.id)
    assert next(again)[0] == 8
    *_, last = again
    assert last[0] == last[1]
    assert all(p.is_rendered for p in studies.store.pairs(study.id))


def test_a_second_study_of_the_same_pictures_renders_nothing(studies, host):
    one = studies.create(spec(host))
    rendered(studies, one)
    two = studies.create(spec(host).model_copy(update={"name": "again"}))
    done, total, _ = next(studies.renders.run(two.id))
    assert done == total


def test_a_lost_picture_is_rendered_again(studies, host):
    study = studies.create(spec(host))
    rendered(studies, study)
    pair = studies.store.pairs(study.id)[0]
    before = read_pixels(studies.images.path(pair.image_x).read_bytes()).astype(int)
    studies.images.path(pair.image_x).unlink()
    assert next(studies.renders.run(study.id))[0] < next(studies.renders.run(study.id))[1]
    rendered(studies, study)
    # Alone in its batch it may differ in a rounding, and then has another hash.
    [again] = [p.image_x for p in studies.store.pairs(study.id) if p.id == pair.id]
    assert studies.images.has(again)
    after = read_pixels(studies.images.path(again).read_bytes()).astype(int)
    assert np.abs(after - before).max() <= 1


def test_renders_at_guessed_seeds_do_not_tell_which_arm_made_a_picture(studies, host):
    """The attack: prompts are on the rater's page, the study's seed is guessed, anybody can render.

    Pictures that come over HTTP are compared with renders of the base at the guessed seeds.
    """
    study = studies.create(spec(host))
    rendered(studies, study)
    studies.set_status(study.id, "open")
    shown = []
    with TestClient(Starlette(routes=routes(studies))) as client:
        for number in range(3):
            body = {"study": study.id, "rater": f"{number:032x}"}
            for showing in client.post("/ballot/consent", json=body).json()["showings"]:
                for side in ("left", "right"):
                    answer = client.get(f"/ballot/picture/{showing['token']}/{side}")
                    shown.append((showing["prompt"], read_pixels(answer.content)))

    def render(prompt: str, seed: int) -> np.ndarray:
        [made] = host.render([RenderRequest.of(prompt, seed, 2)])
        return read_pixels(studies.images.view(studies.images.put(made.image)))

    random = Random(study.seed)
    guessed = [random.randrange(FIRST_SEED, LAST_SEED) for _ in range(6)]
    texts = {prompt for prompt, _ in shown}
    assert not any(
        np.array_equal(render(prompt, seed), pixels)
        for seed in guessed
        for prompt in texts
        for text, pixels in shown
        if text == prompt
    )
    true = {p.prompt: p.seed for p in studies.store.pairs(study.id) if p.kind == "real"}
    whole = [np.array_equal(render(text, true[text]), pixels) for text, pixels in shown if text in true]
    assert any(whole)  # with the right seed the same comparison does find the base


def test_an_unrendered_study_cannot_open(studies, host):
    study = studies.create(spec(host))
    with pytest.raises(StudyError, match="no pictures yet"):
        studies.set_status(study.id, "open")


def test_another_backbone_is_refused_with_a_sentence(studies, host):
    made = spec(host).model_copy(update={"backbone": "FLUX.1-dev", "arms": spec(host).arms[:1] * 1})
    other = json.loads(made.model_dump_json())
    other["arms"] = [{"label": "a", "steps": 1}, {"label": "b", "steps": 2}]
    study = studies.create(NewStudy.model_validate(other))
    studies.renders.start(study.id)
    done = studies.renders.wait(study.id, 60)
    assert done.phase == "failed"
    assert "renders FLUX.1-dev" in done.error
