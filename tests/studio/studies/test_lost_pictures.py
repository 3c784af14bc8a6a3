"""A picture file that is gone or damaged: raters go on, the organiser hears of it and renders it again."""

from __future__ import annotations

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from studio.machine.host import ModelHost
from studio.studies.http import routes
from studio.studies.pages.manage import draw_card
from studio.studies.storage.picture_store import PictureGone
from studio.studies.studies import open_studies
from tests.studio.studies.conftest import rows
from tests.studio.studies.test_study_renders import rendered, spec
from tests.tiny import tiny_flux

RATER = "ab" * 16


def delete(path) -> None:
    path.unlink()


def cut(path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def swap(path) -> None:
    Image.new("RGB", (32, 32)).save(path, "PNG")  # a PNG, but another picture


def make_folder(path) -> None:
    path.unlink()
    path.mkdir()


FAULTS = [delete, cut, flip, swap, make_folder]


def lose(images, sha256: str, fault) -> None:
    """The stored file, and with it the enlarged one that raters get."""
    fault(images.path(sha256))
    for suffix in (".view.png", ".view.txt"):
        images.path(sha256).with_suffix(suffix).unlink(missing_ok=True)


def post(client, what: str, study, **more):
    return client.post(f"/ballot/{what}", json={"study": study.id, "rater": RATER, **more})


@pytest.mark.parametrize("fault", FAULTS)
def test_a_rater_skips_a_lost_pair_whatever_the_study_offers_and_goes_on(world, fault):
    study = world.study(prompts=3, extra_answers=(), least_view_ms=60_000)
    with TestClient(Starlette(routes=routes(world.studies))) as client:
        view = post(client, "consent", study).json()
        token = view["showings"][0]["token"]
        pair = world.studies.db.records(
            "SELECT p.* FROM pairs p JOIN assignments a ON a.pair = p.id WHERE a.token = ?", [token]
        )[0]
        lose(world.studies.images, pair["image_x"], fault)
        answers = [client.get(f"/ballot/picture/{token}/{side}") for side in ("left", "right")]
        assert sorted(a.status_code for a in answers) == [200, 410]
        assert "Skip this pair" in max(answers, key=lambda a: a.status_code).json()["text"]
        view = post(client, "cast", study, token=token, answers={"preference": "skip"}).json()
        assert (view["stage"], view["done"]) == ("vote", 1)
    assert [(v["pair"], v["winner"]) for v in rows(world)] == [(pair["id"], "skip")]
    card = draw_card(world.studies, study)
    assert "1 picture is missing or damaged" in card
    assert pair["prompt"] in card[card.index("Lost pictures") :]
    assert world.studies.analysis(study.id)


@pytest.mark.parametrize("fault", [cut, flip, swap])
def test_an_enlarged_picture_that_is_damaged_is_made_again(world, fault):
    study = world.study(prompts=2)
    images = world.studies.images
    sha256 = world.studies.store.pairs(study.id)[0].image_x
    before = images.view(sha256)
    fault(images.path(sha256).with_suffix(".view.png"))
    assert images.view(sha256) == before
    assert images.common_length([sha256]) == images.common_length([sha256])


def test_an_organiser_is_told_of_every_lost_file_before_a_rater_meets_it(world):
    study = world.study(prompts=5)
    pairs = world.studies.store.pairs(study.id)
    assert world.studies.watch.check(study.id) == []
    for pair, fault in zip(pairs, FAULTS):
        lose(world.studies.images, pair.image_y, fault)
    lost = world.studies.watch.check(study.id)
    assert {(p.prompt, p.seed, p.arm) for p in lost} == {(p.prompt, p.seed, "calibrated-arm") for p in pairs}
    assert "5 pictures" in draw_card(world.studies, study)


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tiny_flux(folder)
    made = ModelHost(device="cpu", dtype="float32", batch_size=4)
    made.load(str(folder), wait=True)
    return made


def test_lost_pictures_of_an_open_study_are_rendered_again_and_raters_see_them(tmp_path, host):
    studies = open_studies(tmp_path / "data", host)
    study = studies.create(spec(host))
    rendered(studies, study)
    studies.set_status(study.id, "open")
    pairs = [p for p in studies.store.pairs(study.id) if p.kind != "repeat"]
    with TestClient(Starlette(routes=routes(studies))) as client:
        token = post(client, "consent", study).json()["showings"][0]["token"]
        before = [client.get(f"/ballot/picture/{token}/{side}").content for side in ("left", "right")]
        kept = studies.images.read(pairs[-1].image_y)
        for sha256 in {p.image_x for p in pairs} | {p.image_y for p in pairs[:-1]}:
            lose(studies.images, sha256, flip)
        assert client.get(f"/ballot/picture/{token}/left").status_code == 410
        rendered(studies, study)
        assert [client.get(f"/ballot/picture/{token}/{side}").content for side in ("left", "right")] == before
    assert studies.images.read(pairs[-1].image_y) == kept
    assert studies.watch.check(study.id) == []
    assert "Lost pictures" not in draw_card(studies, study)
    studies.close()


def test_another_backbone_s_weights_do_not_mend_an_open_study(tmp_path, host, tmp_path_factory):
    studies = open_studies(tmp_path / "data", host)
    study = studies.create(spec(host))
    rendered(studies, study)
    studies.set_status(study.id, "open")
    studies.db.write(lambda t: t.run("UPDATE renders SET recipe = 'other ' || recipe"))
    lose(studies.images, studies.store.pairs(study.id)[0].image_x, delete)
    studies.renders.start(study.id)
    done = studies.renders.wait(study.id, 60)
    assert (done.phase, "other weights" in done.error) == ("failed", True)
    studies.close()


def test_reading_a_lost_picture_says_what_is_wrong_without_its_path(world):
    study = world.study(prompts=2)
    for pair, fault, word in zip(world.studies.store.pairs(study.id), (delete, flip), ("missing", "damaged")):
        lose(world.studies.images, pair.image_x, fault)
        with pytest.raises(PictureGone, match=word) as caught:
            world.studies.images.read(pair.image_x)
        assert str(world.folder) not in str(caught.value)
