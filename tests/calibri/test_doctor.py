"""`calibri doctor`, with a hub that grants, refuses, or is not there."""

import json
import re

import pytest

from calibri.backbones.sizes import read_folder, read_hub
from calibri.cli import main
from calibri.errors import BackboneError
from tests.fake_hub import FakeHub, Repository
from tests.tiny import tiny_flux


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny pipeline, saved."""
    place = tmp_path_factory.mktemp("tiny")
    tiny_flux(place)
    return place


@pytest.fixture
def hub(tmp_path, monkeypatch, folder):
    """A hub on loopback with the pipeline, for the account ann."""
    from huggingface_hub import constants, utils

    served = FakeHub(tmp_path / "hub")
    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    served.repos["ann/tiny"] = Repository(False, files=files)
    served.repos["bob/secret"] = Repository(True, files=files)
    monkeypatch.setattr(constants, "ENDPOINT", served.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", served.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_ann")
    utils.close_session()
    yield served
    served.close()
    utils.close_session()


def test_the_machine_alone(capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "s" * 30)
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "main memory:" in text and "torch 2." in text and "token for the hub: yes" in text
    assert "s" * 30 not in text
    assert main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["machine"]
    assert told["hub_token"] is True and told["cores"] >= 1 and told["packages"]["torch"]


def test_a_folder_in_every_mode_on_a_card(capsys, folder):
    assert main(["doctor", str(folder), "--memory", "12GB", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["backbone"]
    modes = {(m["dtype"], m["quantisation"], m["offload"]) for m in told["modes"]}
    offloads = ("", "model", "sequential", "group")
    assert modes == {(d, "", o) for d in ("float32", "bfloat16") for o in offloads} | {
        ("bfloat16", q, o) for q in ("8bit", "4bit") for o in ("", "model")
    }
    assert all(mode["fits"] for mode in told["modes"]) and told["suggested"] == {"dtype": "bfloat16"}
    assert told["time"] is None
    assert main(["doctor", str(folder), "--memory", "12GB"]) == 0
    text = capsys.readouterr().out
    assert "suggested for a card of 12 GB: bfloat16: about" in text
    assert re.search(r"bfloat16, model offload +\S+ MB", text)


def test_time_is_estimated_or_measured_and_says_which(capsys, folder):
    assert main(["doctor", str(folder), "--images", "1000", "--json"]) == 0
    guessed = json.loads(capsys.readouterr().out)["backbone"]["time"]
    assert guessed["how"].startswith("estimated from operations") and guessed["seconds"] > 0
    assert main(["doctor", str(folder), "--images", "1000", "--measure"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"a search of 1.000 images at 2 steps: about .* \(measured here\)", text)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--memory", "much"], "memory: expected such as 12GB"),
        (["--batch", "0"], "--batch: expected 1 or more"),
        (["--measure", "--memory", "12GB"], "--measure: expected a backbone that fits"),
    ],
)
def test_what_cannot_be_is_one_sentence(capsys, folder, arguments, words):
    assert main(["doctor", str(folder), *arguments]) == 1
    assert words in capsys.readouterr().err


def test_headers_on_the_hub_say_what_the_folder_says(hub, folder):
    found, own = read_hub("ann/tiny"), read_folder(folder)
    assert found.parts == own.parts and (found.width, found.token) == (own.width, own.token)


def test_a_refusal_says_what_to_do(hub, capsys, monkeypatch):
    with pytest.raises(BackboneError, match="bob/secret is not on the hub, or private: sign in"):
        read_hub("bob/secret")
    hub.gated = {"ann/tiny": 403}
    with pytest.raises(BackboneError, match=rf"ann/tiny is gated: accept its licence at {hub.url}/ann/tiny"):
        read_hub("ann/tiny")
    hub.gated = {"ann/tiny": 401}
    assert main(["doctor", "ann/tiny"]) == 0
    text = capsys.readouterr().out
    assert "`hf auth login`" in text and "hf_ann" not in text


def test_a_hub_that_is_not_there_leaves_the_table(hub, capsys):
    hub.close()
    assert main(["doctor", "black-forest-labs/FLUX.1-schnell", "--memory", "16GB"]) == 0
    text = capsys.readouterr().out
    assert "FLUX.1-schnell, by this version's table" in text and "the hub cannot be reached" in text
    assert main(["doctor", "somebody/unknown"]) == 0
    assert "the hub cannot be reached" in capsys.readouterr().out
