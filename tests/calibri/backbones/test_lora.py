"""LoRAs on a base: what is typed, what is loaded, what tells two bases apart, and what is refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from calibri.backbones.loading import load_backbone
from calibri.backbones.lora import LoraSource, names_of, parse_lora
from calibri.backbones.options import LoadOptions
from calibri.cli import main
from calibri.errors import BackboneError
from calibri.sampling.png import read_settings
from tests.tiny import tiny_flux
from tests.tiny_families import tiny_sd3
from tests.tiny_lora import fresh, write_kohya, write_lora


@pytest.mark.parametrize(
    ("text", "source", "strength"),
    [
        ("ink.safetensors", "ink.safetensors", 1),
        ("ink.safetensors:0.8", "ink.safetensors", 0.8),
        (" ink.safetensors:-1e-1 ", "ink.safetensors", -0.1),
        ("owner/name", "owner/name", 1),
        ("owner/name:2", "owner/name", 2),
        ("owner/name/ink.safetensors:0", "owner/name/ink.safetensors", 0),
        ("C:\\loras\\ink.safetensors", "C:\\loras\\ink.safetensors", 1),
        ("C:/loras/ink.safetensors:0.5", "C:/loras/ink.safetensors", 0.5),
        ("/a b/ink:v2.safetensors:0.5", "/a b/ink:v2.safetensors", 0.5),
    ],
)
def test_a_strength_stands_behind_the_last_colon(text, source, strength):
    assert parse_lora(text) == LoraSource(source, strength)


def test_a_file_whose_name_has_a_colon_is_that_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ink:0.5").touch()
    assert parse_lora("ink:0.5") == LoraSource("ink:0.5")


@pytest.mark.parametrize("last", ["", "strong", "nan", "inf", "1e999", "0,5", "0.5:x"])
def test_a_strength_is_a_finite_number(last):
    with pytest.raises(BackboneError, match="expected a finite number as its strength"):
        LoadOptions(loras=(f"ink.safetensors:{last}",)).check()


@pytest.mark.parametrize("text", ["", " ", ":0.5"])
def test_a_strength_alone_is_no_lora(text):
    with pytest.raises(BackboneError, match="expected FILE or FILE:STRENGTH"):
        parse_lora(text)


def test_names_are_short_plain_and_different():
    sources = [
        "a/Ink wash v1.2.safetensors",
        "b/Ink wash v1.2.safetensors",
        "owner/oil-lora/pytorch_lora_weights.safetensors",
        "owner/name",
        "lora.safetensors",
        "x_lora_B.safetensors",
    ]
    assert names_of([LoraSource(each) for each in sources]) == (
        "Ink-wash-v1-2",
        "Ink-wash-v1-2-2",
        "oil-lora",
        "name",
        "lora-1",
        "x-lora-B",
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("lora")
    pipeline = tiny_flux(path / "tiny")
    write_lora(path / "ink.safetensors", pipeline.transformer, lambda name: name.endswith("to_q"))
    write_lora(path / "oil.safetensors", pipeline.transformer, lambda name: name.endswith("to_q"), seed=1)
    return path


def test_the_fingerprint_tells_loras_and_strengths_apart(folder):
    ink, oil = (str(folder / f"{name}.safetensors") for name in ("ink", "oil"))
    copy = folder / "copy"
    copy.mkdir()
    (copy / "other-name.safetensors").write_bytes((folder / "ink.safetensors").read_bytes())

    def print_of(*loras):
        return load_backbone(folder / "tiny", device="cpu", lora=loras or None).fingerprint

    prints = [print_of(), print_of(ink), print_of(f"{ink}:0.5"), print_of(oil), print_of(ink, oil)]
    assert len(set(prints)) == 5
    assert (
        print_of(ink) == print_of(str(copy / "other-name.safetensors")) == print_of(f"{ink}:1.0") == prints[1]
    )
    assert print_of(f"{ink}:0") == prints[0]  # it does nothing
    both = load_backbone(folder / "tiny", device="cpu", lora=(ink, oil))
    assert both.fingerprint_with(()) == prints[0]
    assert both.fingerprint_with((("ink", 0.5),)) == prints[2]


def test_a_lora_of_kohyas_scripts_is_scaled_by_its_alphas(tmp_path):
    """α/r · B A: with alpha twice as large and half of the strength it is the same LoRA."""
    predictions = []
    for alpha, strength in ((2.0, 1.0), (4.0, 0.5), (4.0, 1.0)):
        file = write_kohya(tmp_path / f"kohya{alpha}.safetensors", 2, alpha)
        backbone = fresh("flux", f"{file}:{strength}")
        layer = backbone.transformer.get_submodule("transformer_blocks.1.ff.net.0.proj")
        with torch.no_grad():
            predictions.append(layer(torch.ones(1, 32)) - layer.base_layer(torch.ones(1, 32)))
    torch.testing.assert_close(predictions[0], predictions[1])
    assert not torch.allclose(predictions[0], predictions[2])


# what is refused, in a sentence


def refused(*texts):
    with pytest.raises(BackboneError) as error:
        fresh("flux", *map(str, texts))
    assert "\n" not in str(error.value) and str(texts[0].parent) not in str(error.value)
    return str(error.value)


def test_what_is_no_lora(tmp_path):
    weights, junk, empty = (tmp_path / f"{name}.safetensors" for name in ("weights", "junk", "empty"))
    save_file({"layer.weight": torch.zeros(2, 2)}, weights)
    junk.write_bytes(b"hello, this is no such file at all")
    empty.write_bytes(b"")
    assert refused(weights) == "weights.safetensors is no LoRA: expected tensors of one, got 'layer.weight'"
    assert refused(junk).startswith("junk.safetensors is no LoRA: expected a safetensors file")
    assert refused(empty).startswith("empty.safetensors is no LoRA: expected a safetensors file")
    assert "there is no LoRA 'absent.safetensors'" in refused(tmp_path / "absent.safetensors")
    assert "expected one .safetensors file of a LoRA, got empty.safetensors, junk" in refused(tmp_path)


def test_a_lora_of_another_family_of_a_deeper_or_wider_model(tmp_path):
    of_sd3 = write_lora(tmp_path / "sd3.safetensors", tiny_sd3().transformer)
    deep = write_lora(
        tmp_path / "deep.safetensors", tiny_flux(doubles=12).transformer, lambda name: name.endswith("to_q")
    )
    wide, strange = tmp_path / "wide.safetensors", tmp_path / "strange.safetensors"
    save_file(
        {
            f"transformer.transformer_blocks.0.attn.to_q.lora_{part}.weight": torch.ones(shape)
            for part, shape in (("A", (2, 64)), ("B", (64, 2)))
        },
        wide,
    )
    save_file(
        {
            f"transformer.blocks.0.att.lora_{part}.weight": torch.ones(shape)
            for part, shape in (("A", (2, 32)), ("B", (32, 2)))
        },
        strange,
    )
    assert "sd3.safetensors" in refused(of_sd3)
    assert "is one of another model: expected layers of this FluxTransformer2DModel, got" in refused(deep)
    assert "wide.safetensors does not fit this FluxTransformer2DModel: size mismatch" in refused(wide)
    assert "none of its layers is in this FluxTransformer2DModel" in refused(strange)


def test_a_lora_of_a_text_encoder_alone(tmp_path):
    file = write_lora(
        tmp_path / "text.safetensors",
        tiny_flux().text_encoder,
        lambda name: name.endswith("q_proj"),
        part="text_encoder",
    )
    assert "expected one of FluxTransformer2DModel, got one of a text encoder alone" in refused(file)


def test_a_control_lora_which_could_not_be_switched_off(tmp_path, folder):
    tensors = load_file(folder / "ink.safetensors")
    tensors["transformer.transformer_blocks.0.attn.norm_q.weight"] = torch.ones(16)
    save_file(tensors, tmp_path / "control.safetensors")
    assert "replaces norms of the model, as control LoRAs do" in refused(tmp_path / "control.safetensors")


def test_the_blocks_of_a_dora_have_no_strengths_of_their_own(tmp_path, folder):
    tensors = load_file(folder / "ink.safetensors")
    layers = {name.rpartition(".lora_A")[0] for name in tensors if "lora_A" in name}
    for layer in layers:
        tensors[f"{layer}.lora_magnitude_vector.weight"] = torch.ones(32)
    save_file(tensors, tmp_path / "dora.safetensors")
    backbone = fresh("flux", str(tmp_path / "dora.safetensors"))
    with pytest.raises(BackboneError, match=r"LoRA dora: expected one of matrices A and B.*got a DoRA"):
        backbone.use_lora_blocks()


def test_a_pipeline_without_a_loader(folder):
    with pytest.raises(BackboneError, match="PixArtAlphaPipeline takes no LoRA"):
        fresh("pixart-alpha", str(folder / "ink.safetensors"))


# commands


def test_render_records_the_lora_in_the_picture(folder, tmp_path, capsys):
    file = folder / "ink.safetensors"
    args = ["render", "a red cube", "--backbone", folder / "tiny", "--lora", f"{file}:0.5", "--device", "cpu"]
    assert main([*map(str, args), "--out", str(tmp_path / "out.png")]) == 0
    settings = read_settings(tmp_path / "out.png")
    [found] = settings["loras"]
    assert found.pop("sha256") == load_backbone(folder / "tiny", lora=file).loras.loaded[0].digest
    assert found == {"name": "ink", "file": "ink.safetensors", "strength": 0.5}
    assert str(folder) not in json.dumps(settings)
    assert settings["backbone_fingerprint"] == load_backbone(folder / "tiny", lora=f"{file}:0.5").fingerprint


def test_a_bad_strength_is_said_before_anything_is_loaded(capsys):
    assert main(["render", "x", "--lora", "ink.safetensors:strong"]) == 1
    assert (
        "ink.safetensors: expected a finite number as its strength, got 'strong'" in capsys.readouterr().err
    )
    assert main(["render", "x", "--lora-blocks"]) == 1
    assert "lora-blocks: expected a LoRA too (--lora FILE), got none" in capsys.readouterr().err
