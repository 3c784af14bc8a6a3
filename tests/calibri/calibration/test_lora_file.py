"""A LoRA with other strengths in its blocks, as a file that plain diffusers reads, and in the weights."""

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from safetensors.torch import load_file, save_file

import calibri
from calibri.backbones.loading import load_backbone
from calibri.calibration.artifact import Calibration, Member
from calibri.calibration.lora_file import fuse_loras, save_lora
from calibri.cli import main
from calibri.errors import ArtifactError
from calibri.sampling.fold_folder import fold_to_folder
from calibri.sampling.renderer import Renderer, RenderRequest
from tests.calibri.sampling.test_renderer import close, pixels
from tests.tiny import PIXELS, TOKENS, tiny_flux
from tests.tiny_lora import fresh, write_kohya, write_lora

RED = "a red cube"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pipeline, two LoRAs of mixed ranks, one of kohya's, one that changes a text encoder too."""
    path = tmp_path_factory.mktemp("lora")
    pipeline = tiny_flux(path / "tiny")
    write_lora(
        path / "ink.safetensors", pipeline.transformer, rank=lambda name: 1 if "single" in name else 3, seed=1
    )
    write_lora(path / "oil.safetensors", pipeline.transformer, lambda name: name.endswith("to_v"), seed=2)
    write_kohya(path / "kohya.safetensors", 2, alpha=2.0)
    both = write_lora(path / "both.safetensors", pipeline.transformer, lambda name: "to_q" in name, seed=3)
    text = write_lora(
        path / "text.safetensors",
        pipeline.text_encoder,
        lambda name: name.endswith(("q_proj", "v_proj")),
        gain=4.0,
        part="text_encoder",
    )
    save_file({**load_file(both), **load_file(text)}, both)
    return path


def latents(pipeline, seed=2):
    seen = []
    handle = pipeline.vae.decoder.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
    try:
        pipeline(
            RED,
            num_inference_steps=2,
            height=PIXELS,
            width=PIXELS,
            max_sequence_length=TOKENS,
            generator=[torch.Generator().manual_seed(seed)],
        )
    finally:
        handle.remove()
    return torch.cat(seen)


def draw(backbone, seed=0, base=True):
    """A calibration that changes every scale, or those of LoRAs alone."""
    layout = backbone.layout("block")
    values = np.random.default_rng(seed).normal(1, 0.5, len(layout))
    scales = [
        v if base or name.startswith("lora.") else 1.0 for name, v in zip(layout.names, values, strict=True)
    ]
    return Calibration(
        title="drawn", granularity="block", names=layout.names, members=(Member(scales=tuple(scales)),)
    )


@pytest.mark.parametrize(
    "files", [["ink:0.7"], ["ink:0.7", "oil:-0.5"], ["kohya:1.3"], ["both:0.6"]], ids=str
)
def test_at_strength_one_plain_diffusers_paints_the_same_with_it(folder, tmp_path, files):
    texts = [str(folder / each.replace(":", ".safetensors:")) for each in files]
    backbone = load_backbone(folder / "tiny", lora=texts, lora_blocks=True)
    found = draw(backbone, base=False)
    with calibri.load_calibration(backbone.pipeline, found):
        expected = latents(backbone.pipeline)
    save_lora(backbone, found, tmp_path / "new.safetensors")

    plain = FluxPipeline.from_pretrained(folder / "tiny")
    plain.set_progress_bar_config(disable=True)
    before = latents(plain)
    plain.load_lora_weights(tmp_path / "new.safetensors")
    size = float(expected.abs().max())
    torch.testing.assert_close(latents(plain) / size, expected / size, atol=1e-5, rtol=0)
    assert not torch.allclose(before, expected, atol=1e-2)
    written = load_file(tmp_path / "new.safetensors")
    ranks = {len(value) for name, value in written.items() if "transformer" in name and "lora_A" in name}
    assert len(ranks) == 1  # no mixed ranks, whose strength versions of diffusers read in two ways


def test_a_strength_of_zero_in_a_block_leaves_its_layers_out(folder, tmp_path):
    backbone = load_backbone(folder / "tiny", lora=folder / "oil.safetensors", lora_blocks=True)
    layout = backbone.layout("block")
    scales = tuple(0.0 if name == "lora.oil.double.1" else 1.0 for name in layout.names)
    found = Calibration(granularity="block", names=layout.names, members=(Member(scales=scales),))
    assert save_lora(backbone, found, tmp_path / "new.safetensors") == 2 + 3 - 1
    assert not [name for name in load_file(tmp_path / "new.safetensors") if ".transformer_blocks.1." in name]


def test_the_command_writes_it(folder, tmp_path, capsys):
    backbone = load_backbone(folder / "tiny", lora=folder / "ink.safetensors", lora_blocks=True)
    found = draw(backbone).model_copy(update={"backbone": "tiny"})
    found.save(tmp_path / "found.json")
    args = [
        "export",
        tmp_path / "found.json",
        "--lora",
        f"{folder / 'ink.safetensors'}",
        "--backbone",
        folder / "tiny",
    ]
    assert main([*map(str, args), "--out", str(tmp_path / "new.safetensors")]) == 0
    out = capsys.readouterr().out
    assert "ink with the strengths of “drawn”" in out and "the scales of the base itself are not in it" in out
    save_lora(backbone, found, tmp_path / "same.safetensors")
    assert (tmp_path / "new.safetensors").read_bytes() == (tmp_path / "same.safetensors").read_bytes()
    assert main([*map(str, args)]) == 1
    assert "--out FILE.safetensors" in capsys.readouterr().err


def test_fused_weights_paint_what_the_lora_paints_beside_them(folder):
    backbone = fresh(
        "flux", f"{folder / 'ink.safetensors'}:0.7", str(folder / "oil.safetensors"), blocks=True
    )
    found = draw(backbone)
    [expected] = Renderer(backbone).render([RenderRequest.of(RED, 1, 2, calibration=found)])
    base = backbone.fingerprint_with(())
    fuse_loras(backbone, found)
    plain = found.without_loras()
    [fused] = Renderer(backbone).render([RenderRequest.of(RED, 1, 2, calibration=plain)])
    assert close(pixels(fused), pixels(expected))
    assert not len(backbone.loras) and backbone.fingerprint != base
    assert set(dict(backbone.transformer.named_parameters())) == set(
        dict(fresh("flux").transformer.named_parameters())
    )


def test_folding_fuses_the_lora_first(folder, tmp_path, capsys):
    backbone = load_backbone(folder / "tiny", lora=folder / "ink.safetensors", lora_blocks=True)
    found = draw(backbone).model_copy(update={"backbone": "tiny"})
    found.save(tmp_path / "found.json")
    with calibri.load_calibration(backbone.pipeline, found):
        expected = latents(backbone.pipeline)
    args = ["fold", tmp_path / "found.json", "--backbone", folder / "tiny", "--out", tmp_path / "out"]
    assert main([*map(str, args), "--lora", str(folder / "ink.safetensors")]) == 0
    assert "fused first: ink" in capsys.readouterr().out
    plain = FluxPipeline.from_pretrained(tmp_path / "out")
    plain.set_progress_bar_config(disable=True)
    size = float(expected.abs().max())
    torch.testing.assert_close(latents(plain) / size, expected / size, atol=1e-5, rtol=0)


def test_folding_is_refused_where_the_lora_is_not_there_or_changes_a_text_encoder(folder, tmp_path):
    backbone = load_backbone(folder / "tiny", lora=folder / "both.safetensors", lora_blocks=True)
    before = {name: value.clone() for name, value in backbone.transformer.state_dict().items()}
    with pytest.raises(ArtifactError, match="changes a text encoder cannot be fused"):
        fold_to_folder(backbone, draw(backbone), folder / "tiny", tmp_path / "out")
    assert all(torch.equal(before[name], value) for name, value in backbone.transformer.state_dict().items())
    with pytest.raises(ArtifactError, match="the LoRA 'both' in blocks, which is not in the weights"):
        calibri.fold(fresh("flux").pipeline, draw(backbone))


@pytest.mark.parametrize(
    ("name", "member", "match"),
    [
        ("new.bin", 1, "expected a file that ends in .safetensors"),
        ("new.safetensors", 2, "expected a member from 1 to 1, got 2"),
    ],
)
def test_what_cannot_be_written_is_refused(folder, tmp_path, name, member, match):
    backbone = fresh("flux", str(folder / "oil.safetensors"), blocks=True)
    with pytest.raises(ArtifactError, match=match):
        save_lora(backbone, draw(backbone), tmp_path / name, member)
    plain = fresh("flux")
    with pytest.raises(ArtifactError, match="expected a backbone with a LoRA"):
        save_lora(plain, draw(plain), tmp_path / "new.safetensors")
    assert not list(tmp_path.iterdir())


def test_one_member_of_a_calibration_after_its_hash_was_read():
    pair = Calibration(
        granularity="block", names=("double.0", "lora.a.rest"), members=(Member(scales=(1.0, 0.5)),) * 2
    )
    assert pair.hash != pair.only(0).hash != pair.without_loras().hash
