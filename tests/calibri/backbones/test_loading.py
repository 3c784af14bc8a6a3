"""Loading a backbone: from a folder, with its defaults, and what is refused."""

import json

import pytest
import torch

from calibri.backbones.catalog import known_backbones, resolve
from calibri.backbones.loading import load_backbone
from calibri.errors import BackboneError
from tests.tiny import tiny_backbone, tiny_flux


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("backbones") / "tiny-flux"
    tiny_flux(path)
    return path


def test_a_folder_loads_with_its_own_defaults(folder):
    backbone = load_backbone(folder, device="cpu")
    assert (backbone.spec.name, backbone.spec.steps, backbone.spec.height) == ("tiny", 2, 32)
    assert backbone.dtype == torch.float32
    assert len(backbone.sites) == len(backbone.layout("gate").names) == 11
    assert len(backbone.layout("block").names) == 5


def test_the_dtype_is_what_was_asked(folder):
    assert load_backbone(folder, device="cpu", dtype="bfloat16").dtype == torch.bfloat16


def test_decoding_picture_by_picture_changes_no_picture(folder):
    vae = load_backbone(folder, device="cpu").pipeline.vae
    latents = torch.randn(
        5, vae.config.latent_channels, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float32
    )
    assert vae.use_slicing
    with torch.inference_mode():
        by_itself = vae.decode(latents).sample
        vae.disable_slicing()
        together = vae.decode(latents).sample
    torch.testing.assert_close(by_itself, together, atol=1e-5, rtol=0)


def test_the_fingerprint_is_that_of_the_weights(folder):
    loaded = load_backbone(folder, device="cpu")
    assert loaded.fingerprint == tiny_backbone().fingerprint
    assert loaded.fingerprint != tiny_backbone(seed=1).fingerprint
    assert loaded.fingerprint != load_backbone(folder, device="cpu", dtype="bfloat16").fingerprint


def test_a_lora_is_loaded_and_changes_the_fingerprint(folder, tmp_path):
    from diffusers import FluxPipeline
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipeline = tiny_flux()
    pipeline.transformer.add_adapter(LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False))
    state = get_peft_model_state_dict(pipeline.transformer)
    FluxPipeline.save_lora_weights(tmp_path, transformer_lora_layers=state)
    plain = load_backbone(folder, device="cpu")
    tuned = load_backbone(folder, device="cpu", lora=tmp_path / "pytorch_lora_weights.safetensors")
    assert tuned.fingerprint != plain.fingerprint
    assert tuned.sites == plain.sites
    with pytest.raises(BackboneError, match="LoRA"):
        load_backbone(folder, device="cpu", lora=folder / "model_index.json")


def test_known_names_are_found_in_any_case():
    assert resolve("flux.1-DEV").name == "FLUX.1-dev"
    assert resolve("black-forest-labs/FLUX.1-dev").guidance == 3.5
    assert known_backbones()[0] == "tabletop"


def test_a_hub_id_is_taken_as_it_is():
    spec = resolve("someone/Some-Flux")
    assert (spec.name, spec.source, spec.transformer) == ("Some-Flux", "someone/Some-Flux", None)


def test_a_folder_without_defaults_has_those_of_flux(folder, tmp_path):
    (tmp_path / "model_index.json").write_text("{}")
    assert resolve(tmp_path).steps == 28


@pytest.mark.parametrize(
    "name, words",
    [("FLUX1-dev", "did you mean FLUX.1-dev"), ("no such thing", "expected tabletop"), ("", "")],
)
def test_unknown_names_are_errors_with_what_there_is(name, words):
    with pytest.raises(BackboneError) as caught:
        resolve(name)
    assert words in str(caught.value)


def test_a_folder_that_is_no_pipeline_is_named(tmp_path):
    with pytest.raises(BackboneError, match=r"model_index\.json"):
        load_backbone(tmp_path)


def test_wrong_defaults_are_named(folder, tmp_path):
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / "calibri.json").write_text(json.dumps({"steps": 0}))
    with pytest.raises(BackboneError, match=r"calibri\.json: steps"):
        resolve(tmp_path)


def test_an_unsupported_pipeline_is_refused_before_its_weights_are_read(tmp_path):
    index = {"_class_name": "BriaPipeline", "transformer": ["diffusers", "BriaTransformer2DModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(BackboneError, match="BriaTransformer2DModel is not supported"):
        load_backbone(tmp_path)
    index = {"_class_name": "FluxFillPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(BackboneError, match="FluxFillPipeline cannot be rendered with: expected a FluxPip"):
        load_backbone(tmp_path)


def test_a_pipeline_without_a_transformer_is_refused(tmp_path):
    index = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(BackboneError, match="without a transformer"):
        load_backbone(tmp_path)


def test_damaged_weights_are_one_line(folder, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "transformer" / "diffusion_pytorch_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(BackboneError, match="cannot be loaded") as caught:
        load_backbone(copy, device="cpu")
    assert "\n" not in str(caught.value)


def test_compiling_for_a_cpu_without_a_compiler_says_what_to_install(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(BackboneError, match=r"needs a C\+\+ compiler and Python"):
        load_backbone(folder, device="cpu", compile=True)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"device": "gpu"}, "device 'gpu'"),
        ({"dtype": "int8"}, "dtype 'int8'"),
        ({"device": "cpu", "offload": "model"}, "needs a CUDA device"),
        ({"device": "cpu", "quantisation": "4bit"}, "needs a CUDA device"),
        ({"device": "cpu", "offload": "disk"}, "expected model, sequential or group"),
        ({"device": "cpu", "quantisation": "2bit"}, "expected 8bit, 4bit"),
    ],
)
def test_options_that_cannot_be_are_refused(folder, options, words):
    with pytest.raises(BackboneError, match=words):
        load_backbone(folder, **options)
