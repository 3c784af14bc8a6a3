"""`calibri info` approves nothing that loading would refuse, as far as it can be told without weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from calibri.backbones.catalog import DEFAULTS_FILE, BackboneSpec, backbone_name, resolve
from calibri.backbones.loading import load_backbone
from calibri.cli import main
from calibri.errors import BackboneError
from calibri.words import hub_id_of, shown_name


def edit_index(folder: Path, **changes: object) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def drop_weights(folder: Path, part: str) -> None:
    for path in (folder / part).glob("*.safetensors"):
        path.unlink()


def name_a_shard(folder: Path) -> None:
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"a": "diffusion_pytorch_model-00002-of-00002.safetensors"}}))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "another pipeline": (lambda f: edit_index(f, _class_name="FluxInpaintPipeline"), "cannot be rendered"),
    "no transformer": (lambda f: edit_index(f, transformer=[None, None]), "without a transformer"),
    "an unknown transformer": (lambda f: edit_index(f, transformer=["diffusers", "Strange2D"]), "Strange2D"),
    "no folder": (lambda f: shutil.rmtree(f / "vae"), "folder vae is not there"),
    "no tokenizer": (lambda f: shutil.rmtree(f / "tokenizer"), "folder tokenizer is not there"),
    "no weights": (lambda f: drop_weights(f, "transformer"), "transformer has no weights"),
    "no weights of the encoder": (lambda f: drop_weights(f, "text_encoder"), "text_encoder has no weights"),
    "a lost shard": (name_a_shard, "transformer lacks diffusion_pytorch_model-00002"),
    "a broken index": (lambda f: (f / "model_index.json").write_text("{"), "model_index.json"),
    "no config": (lambda f: (f / "vae" / "config.json").unlink(), "config.json"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_info_refuses_in_a_sentence_what_loading_refuses(tmp_path: Path, flux_folder, capsys, fault) -> None:
    spoil, words = FAULTS[fault]
    folder = tmp_path / "spoiled"
    shutil.copytree(flux_folder, folder)
    assert main(["info", str(folder)]) == 0
    spoil(folder)
    capsys.readouterr()
    assert main(["info", str(folder)]) == 1
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said and said.count("\n") == 1
    if fault != "no tokenizer":  # diffusers loads it, and rendering fails
        with pytest.raises(BackboneError):
            load_backbone(folder, device="cpu")


def test_a_single_file_is_told_what_is_expected(tmp_path: Path, capsys) -> None:
    path = tmp_path / "flux1-dev.safetensors"
    path.write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    for command in (["info", path], ["render", "a cube", "--backbone", path, "-o", tmp_path / "a.png"]):
        assert main([str(each) for each in command]) == 1
        assert "flux1-dev.safetensors is a single file: expected" in capsys.readouterr().err


SNAPSHOTS = {
    "models--black-forest-labs--FLUX.1-dev/snapshots/3de623fc3c33e44ffbe2bad470d0f45bccf2eb21": (
        "black-forest-labs/FLUX.1-dev",
        "FLUX.1-dev",
    ),
    "models--somebody--tiny-flux/snapshots/0f3a": ("somebody/tiny-flux", "tiny-flux"),
    "models--somebody--a--b/snapshots/0f3a/": ("somebody/a--b", "a--b"),
    "flux/snapshots/0f3a": ("", "0f3a"),
    "tiny": ("", "tiny"),
}


@pytest.mark.parametrize("place", SNAPSHOTS)
def test_a_snapshot_of_the_hubs_cache_is_called_as_its_model(tmp_path: Path, flux_folder, place) -> None:
    hub_id, name = SNAPSHOTS[place]
    folder = tmp_path / "hub" / place
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(flux_folder, folder)
    (folder / DEFAULTS_FILE).unlink()  # which would name it
    spec: BackboneSpec = resolve(folder)
    assert (hub_id_of(str(folder)), spec.name, spec.source) == (hub_id, name, str(folder.resolve()))
    assert backbone_name(str(folder)) == name and shown_name(str(folder)) == (hub_id or name)
    if hub_id:  # the same model, wherever it lies
        assert resolve(hub_id).name == name and resolve(hub_id).steps == spec.steps
