"""The page Library: into a pipeline folder, to the hub and from it; who may, and what a page may name."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

import calibri
from calibri.calibration.artifact import Calibration
from calibri.calibration.hub import CARD, FILE
from calibri.calibration.reading import parse_calibration
from calibri.errors import ArtifactError, CalibriError
from studio.access.hub_token import COOKIE
from studio.calibrations import export_file
from studio.core import Core
from studio.library.folding import FOLDER, Folding
from studio.library.form import BASE, render_pair
from studio.library.page import Handlers
from studio.library.thumbnails import PROMPT, SEED
from studio.library.travel import describe_push, pull, push
from studio.library.travel_page import TravelHandlers
from studio.settings import Settings
from tests.fake_hub import FakeHub, Repository, open_hub
from tests.studio.asking import request_of

OWNERS, VISITORS = "hf_ann", "hf_zoe"  # tokens: of this machine, of somebody who signed in with the hub
HERE = request_of()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with open_hub(tmp_path, monkeypatch, OWNERS) as server:
        yield server


@pytest.fixture
def folding(stocked: Core) -> Iterator[Folding]:
    made = Folding(stocked.host, stocked.settings.data / FOLDER)
    yield made
    made.close()


def in_demo(core: Core) -> Core:
    """The same studio, public: only organisers change what is shared."""
    settings = Settings(backbone="tiny", data=core.settings.data, demo=True, auth="ann:secret")
    return Core(settings, core.host, core.calibrations, assets=core.assets)


def signed_in_with_the_hub(token: str = VISITORS) -> gr.Request:
    return request_of(cookie=f"{COOKIE}=9999999999.{token}")


# into a pipeline folder


def test_plain_diffusers_paints_from_the_folder_what_the_studio_paints(
    stocked: Core, folding: Folding, tiny_folder: Path
) -> None:
    handlers = TravelHandlers(stocked, folding)
    assert handlers.show_fold() == ""
    handlers.fold("studio/bent", HERE)
    assert folding.wait()
    words = folding.state.words
    assert folding.state.phase == "done" and f"lies in {FOLDER}/bent, in the data folder" in words
    assert str(stocked.settings.data) not in words and handlers.tick() == str(folding.state.revision)

    def paint(pipe: DiffusionPipeline) -> np.ndarray:
        pipe.set_progress_bar_config(disable=True)
        call = {"height": 32, "width": 32, "num_inference_steps": 3, "max_sequence_length": 16}
        generator = torch.Generator().manual_seed(3)
        return pipe("a red cube", generator=generator, output_type="np", **call).images[0]

    beside = DiffusionPipeline.from_pretrained(tiny_folder)
    with calibri.load_calibration(beside, stocked.calibrations.get("studio/bent").calibration):
        calibrated = paint(beside)
    folded = paint(DiffusionPipeline.from_pretrained(folding.folder / "bent"))
    assert np.abs(folded - calibrated).max() < 1e-5 < np.abs(calibrated - paint(beside)).max()
    handlers.fold("studio/bent", HERE)  # a folder is never written over
    assert folding.wait() and f"{FOLDER}/bent-2," in folding.state.words


def test_what_cannot_be_folded_is_said_at_once(stocked: Core, folding: Folding) -> None:
    bent = stocked.calibrations.get("studio/bent").calibration
    with pytest.raises(ArtifactError, match="an ensemble of 2 members cannot be folded"):
        folding.start(stocked.calibrations.get("studio/pair").calibration)
    with pytest.raises(ArtifactError, match=r"is for FLUX.1-dev, but tiny is loaded"):
        folding.start(bent.model_copy(update={"backbone": "FLUX.1-dev"}))
    heavy = bent.members[0].model_copy(update={"weight": 1.5})
    with pytest.raises(ArtifactError, match=r"a positive member of weight 1\.5 cannot be folded"):
        folding.start(bent.model_copy(update={"members": (heavy,)}))
    with pytest.raises(gr.Error, match="Choose a calibration first"):
        TravelHandlers(stocked, folding).fold("", HERE)
    with pytest.raises(gr.Error, match="Nothing runs in the background here"):
        TravelHandlers(stocked, None).fold("studio/bent", HERE)
    assert not folding.folder.exists() and folding.state.phase == "none"


def test_a_fold_that_fails_or_is_ended_leaves_nothing_behind(
    stocked: Core, folding: Folding, monkeypatch: pytest.MonkeyPatch
) -> None:
    bent = stocked.calibrations.get("studio/bent").calibration
    with monkeypatch.context() as full:
        full.setattr("calibri.sampling.fold_folder.data_size", lambda size: "much")
        full.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
        folding.start(bent)
        assert folding.wait()
    assert folding.state.phase == "failed" and "of the disk are free" in folding.state.words
    folding.start(bent)
    folding.close()  # a studio that closes does not wait for the rest
    assert folding.state.phase in ("none", "done")
    assert [path.name for path in folding.folder.iterdir() if path.name.startswith(".")] == []


# to the hub


def test_a_push_says_before_what_it_writes_and_is_private(
    stocked: Core, hub: FakeHub, caplog: pytest.LogCaptureFixture
) -> None:
    entry = stocked.calibrations.get("studio/bent")
    steps = stocked.host.wait_ready().spec.steps
    render_pair(stocked, stocked.visitors.new_id(), entry.id, BASE, PROMPT, SEED, steps)
    before = describe_push(stocked, entry, "ann/bent", True, HERE)
    assert f"Push writes {FILE}, {CARD} and 2 pictures in pictures/ to ann/bent" in before
    assert "the token of this machine" in before and "A new repository is private" in before
    assert "owner/bent" in describe_push(stocked, entry, "", True, HERE)
    assert "A new repository is public" in describe_push(stocked, entry, "ann/bent", False, HERE)
    assert hub.asked == []
    with caplog.at_level(logging.DEBUG):
        told = TravelHandlers(stocked, None).push(entry.id, " ann/bent ", True, HERE)
    repo = hub.repos["ann/bent"]
    assert repo.private and set(repo.files) == {
        FILE,
        CARD,
        "pictures/01-base.png",
        "pictures/02-calibrated.png",
    }
    assert f"href='{hub.url}/ann/bent'" in told and "“Bent” is at" in told
    assert Calibration.from_json(repo.files[FILE].decode()).hash == entry.calibration.hash
    assert OWNERS not in caplog.text + told + repo.files[CARD].decode()
    TravelHandlers(stocked, None).push(entry.id, "ann/open", False, HERE)
    assert not hub.repos["ann/open"].private


def test_nobody_pushes_with_the_owners_token_but_the_owner(stocked: Core, hub: FakeHub) -> None:
    public = in_demo(stocked)
    entry, stranger = public.calibrations.get("studio/bent"), request_of()
    with pytest.raises(CalibriError, match="Only the organisers"):
        push(public, entry, "ann/bent", True, stranger)
    with pytest.raises(CalibriError, match="only its organisers"):
        pull(public, "ann/bent", stranger)
    folding = Folding(public.host, public.settings.data / FOLDER)
    with pytest.raises(gr.Error, match="Only the organisers"):
        TravelHandlers(public, folding).fold("studio/bent", stranger)
    # A studio that others reach, without accounts.
    far = request_of(client="192.168.0.7", host="studio.lan:7860")
    with pytest.raises(CalibriError, match="Other machines can reach this studio"):
        push(stocked, entry, "ann/bent", True, far)
    assert "Only the organisers" in describe_push(public, entry, "ann/bent", True, stranger)
    assert hub.asked == [] and folding.state.phase == "none"
    # Who signed in with the hub pushes in their own name, and still changes nothing here.
    visitor = signed_in_with_the_hub()
    assert "your hub account" in describe_push(public, entry, "zoe/bent", True, visitor)
    assert push(public, entry, "zoe/bent", True, visitor) == f"{hub.url}/zoe/bent"
    with pytest.raises(CalibriError, match="only its organisers"):
        pull(public, "zoe/bent", visitor)
    assert {authorization for _, _, authorization in hub.asked} == {f"Bearer {VISITORS}"}
    # An organiser of the public studio has the machine's.
    assert push(public, entry, "ann/bent", True, request_of(public, "ann")).endswith("ann/bent")


@pytest.mark.parametrize(
    "name",
    [
        "",
        None,
        7,
        "bent",
        "/etc/passwd",
        "../../etc",
        "ann/../bent",
        "file:///etc/passwd",
        "http://127.0.0.1:9/ann/bent",
        "//evil.example/ann/bent",
        "evil.example:80/x",
        "ann/bent/more",
        "ann/bent@../../x",
        "ann/bent@/x",
        "ann/bent\n",
        "a" * 400 + "/b",
    ],
)
def test_a_page_names_repositories_and_nothing_else(stocked: Core, hub: FakeHub, name: object) -> None:
    given = f"{name}x" if name == "ann/bent\n" else name  # spaces around a name are nothing
    entry = stocked.calibrations.get("studio/bent")
    for call in (lambda: push(stocked, entry, given, True, HERE), lambda: pull(stocked, given, HERE)):
        with pytest.raises(ArtifactError, match="Expected a repository of the hub as owner/name"):
            call()
    assert hub.asked == []


# from the hub


def test_what_lies_on_the_hub_lands_in_the_library(stocked: Core, hub: FakeHub) -> None:
    entry = stocked.calibrations.get("studio/bent")
    push(stocked, entry, "ann/bent", True, HERE)
    found = pull(stocked, "ann/bent@main", HERE)
    assert found.calibration.hash == entry.calibration.hash
    assert (found.title, found.calibration.found["hub"]) == ("Bent 2", "ann/bent@main")
    vector = "\n".join(f"{name} = 1.25" for name in entry.calibration.names)
    hub.repos["ann/words"] = Repository(True, files={FILE: vector.encode()})
    assert pull(stocked, "ann/words", HERE).title == "words"
    shown = Handlers(stocked, None).show_change(found.id, BASE, "Saved.")
    assert shown[0] == found.id and "Bent 2" in shown[4]


@pytest.mark.parametrize(
    "repo, words",
    [
        ("ann/none", "not on the hub, or private"),
        ("bob/gated", "its owner grants access on its page"),
        ("ann/empty", f"holds no {FILE}"),
        ("ann/empty@v9", "has no such revision"),
        ("ann/other", "is no calibration"),
        ("ann/far", "expected scales from -4 to 4"),
    ],
)
def test_what_cannot_be_opened_is_a_sentence_and_nothing_is_saved(
    stocked: Core, hub: FakeHub, repo: str, words: str
) -> None:
    far = stocked.calibrations.get("studio/bent").calibration
    member = far.members[0].model_copy(update={"scales": (9.0,) * len(far.names)})
    far = far.model_copy(update={"members": (member,)})
    hub.repos |= {
        "bob/gated": Repository(False, gated=True),
        "ann/empty": Repository(True),
        "ann/other": Repository(True, files={FILE: b"{"}),
        "ann/far": Repository(True, files={FILE: far.to_json().encode()}),
    }
    with pytest.raises(ArtifactError, match=words) as refused:
        pull(stocked, repo, HERE)
    assert "/tmp" not in str(refused.value)
    assert [e.title for e in stocked.calibrations.entries()] == ["Bent", "Pair"]


# as a file


@pytest.mark.parametrize("form, name", [("json", "pair.json"), ("text", "pair.txt"), ("csv", "pair.csv")])
def test_a_file_of_each_form_comes_in_again(stocked: Core, form: str, name: str) -> None:
    pair, backbone = stocked.calibrations.get("studio/pair"), stocked.host.wait_ready()
    found_name, text = Handlers(stocked, None).export(pair.id, form)
    found = parse_calibration(text, backbone.sites, backbone="tiny")
    assert found_name == name and found.members[0].scales == pair.calibration.members[0].scales
    assert found.is_ensemble == (form == "json")


def test_another_form_is_refused(stocked: Core) -> None:
    with pytest.raises(ArtifactError, match="Expected json, text, csv"):
        export_file(stocked.calibrations.get("studio/pair"), "../x")
