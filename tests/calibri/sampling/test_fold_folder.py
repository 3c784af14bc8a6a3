"""A folded pipeline as a folder: plain diffusers paints from it what Calibri paints with hooks."""

import json

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

import calibri
from calibri.backbones.loading import load_backbone
from calibri.calibration.artifact import Calibration, Member
from calibri.cli import main
from calibri.sampling.fold_folder import NOTE, stored_dtype
from tests.tiny import tiny_flux


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny FLUX whose transformer lies in several shards."""
    made = tmp_path_factory.mktemp("backbones") / "tiny"
    tiny_flux(made)
    pipeline = DiffusionPipeline.from_pretrained(made)
    for path in (made / "transformer").glob("*.safetensors"):
        path.unlink()
    pipeline.transformer.save_pretrained(made / "transformer", max_shard_size="40KB")
    assert len(list((made / "transformer").glob("*.safetensors"))) > 1
    return made


@pytest.fixture(scope="module")
def bent(folder, tmp_path_factory):
    layout = load_backbone(folder, device="cpu").layout("gate")
    scales = tuple(np.linspace(0.6, 1.5, len(layout.names)).tolist())
    fields = {"backbone": "tiny", "granularity": "gate", "names": layout.names}
    made = Calibration(title="Bent", members=(Member(scales=scales),), **fields)
    path = tmp_path_factory.mktemp("made") / "bent.json"
    made.save(path)
    return path


def test_plain_diffusers_paints_the_same_from_the_folder(folder, bent, tmp_path, capsys):
    out = tmp_path / "folded"
    assert main(["fold", str(bent), "--backbone", str(folder), "--out", str(out)]) == 0
    assert "“Bent” in its weights" in capsys.readouterr().out
    names = [sorted(p.name for p in (each / "transformer").iterdir()) for each in (folder, out)]
    assert names[0] == names[1]
    assert Calibration.load(out / NOTE).hash == Calibration.load(bent).hash

    def paint(pipe):
        pipe.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(3)
        call = {"height": 32, "width": 32, "num_inference_steps": 3, "max_sequence_length": 16}
        return pipe("a red cube", generator=generator, output_type="np", **call).images[0]

    with_hooks = DiffusionPipeline.from_pretrained(folder)
    base = paint(with_hooks)
    with calibri.load_calibration(with_hooks, bent):
        calibrated = paint(with_hooks)
    folded = paint(DiffusionPipeline.from_pretrained(out))
    assert np.abs(calibrated - base).max() > 0.01
    assert np.abs(folded - calibrated).max() < 1e-5


def test_the_weights_keep_their_dtype(folder, tmp_path):
    pipeline = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.bfloat16)
    pipeline.save_pretrained(tmp_path / "half")
    assert (stored_dtype(folder), stored_dtype(tmp_path / "half")) == ("float32", "bfloat16")


def test_what_cannot_be_folded_leaves_nothing_behind(folder, bent, tmp_path, capsys):
    found = Calibration.load(bent)
    member = found.members[0]
    pair = found.model_copy(update={"members": (member, Member(scales=member.scales, weight=-0.5))})
    (tmp_path / "pair.json").write_text(pair.to_json())
    argv = ["fold", str(tmp_path / "pair.json"), "--backbone", str(folder), "--out", str(tmp_path / "out")]
    assert main(argv) == 1
    assert "an ensemble of 2 members cannot be folded" in capsys.readouterr().err
    (tmp_path / "there").mkdir()
    assert main(["fold", str(bent), "--backbone", str(folder), "--out", str(tmp_path / "there")]) == 1
    assert "expected a new folder" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pair.json", "there"]
    assert json.loads((folder / "model_index.json").read_text())["_class_name"] == "FluxPipeline"
