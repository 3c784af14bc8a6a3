"""A family of one's own, as docs/backbones.md shows it: its example is taken from the page and used."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import OvisImagePipeline, OvisImageTransformer2DModel
from transformers import Qwen3Config, Qwen3Model

import calibri
from calibri.backbones import sites as registry
from calibri.backbones.layouts import GRANULARITIES
from calibri.backbones.loading import load_backbone
from calibri.calibration.artifact import Calibration, Member
from calibri.errors import BackboneError
from calibri.sampling.hooks import ScaleHooks
from calibri.sampling.renderer import Renderer, RenderRequest
from tests import tiny_parts as parts
from tests.tiny_branches import scaled_by_hand
from tests.tiny_makers import flow
from tests.tiny_parts import WIDTH, filled

PAGE = Path(__file__).resolve().parents[3] / "docs" / "backbones.md"
CLASS = "OvisImageTransformer2DModel"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A tiny Ovis-Image, saved."""
    tokenizer = parts.byte_tokenizer()
    transformer = OvisImageTransformer2DModel(
        in_channels=16,
        out_channels=16,
        num_layers=2,
        num_single_layers=3,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(4, 4, 8),
    )
    pipeline = OvisImagePipeline(
        scheduler=flow(),
        vae=parts.vae_kl(),
        text_encoder=filled(Qwen3Model(Qwen3Config(**parts.decoder_config(tokenizer, 1))), 7),
        tokenizer=tokenizer,
        transformer=filled(transformer, 0),
    )
    path = tmp_path_factory.mktemp("ovis")
    pipeline.save_pretrained(path)
    return path


@pytest.fixture
def example(tmp_path, monkeypatch) -> str:
    """The page's example, as a file that Python finds."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    [text] = [block for block in blocks if "PIPELINES" in block]
    assert len(text.splitlines()) < 40
    (tmp_path / "ovis_family.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "FAMILIES", dict(registry.FAMILIES))
    yield "ovis_family"
    sys.modules.pop("ovis_family", None)


def test_an_unknown_class_is_refused_with_the_known_ones_and_what_to_do(folder):
    words = rf"{CLASS} is not supported.*FluxTransformer2DModel.*ZImage.*register_family.*docs/backbones\.md"
    with pytest.raises(BackboneError, match=words):
        load_backbone(folder, device="cpu")


def test_the_pages_example_calibrates_and_renders(folder, example):
    calibri.register_family(CLASS, example)
    backbone = load_backbone(folder, device="cpu")
    assert [len(backbone.layout(g)) for g in GRANULARITIES] == [5, 7, 11]
    seen = []
    decoder = backbone.pipeline.vae.decoder
    handle = decoder.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    names = backbone.layout("block").names
    calibration = Calibration(
        granularity="block", names=names, members=(Member(scales=np.linspace(0.8, 1.2, len(names)).tolist()),)
    )
    asked = RenderRequest.of("a red cube", 1, 2, calibration=calibration, guidance=2.5, height=32, width=32)
    Renderer(backbone).render([asked])
    generator = torch.Generator().manual_seed(1)
    size = {"height": 32, "width": 32, "num_inference_steps": 2}
    with calibri.load_calibration(backbone.pipeline, calibration):
        backbone.pipeline("a red cube", guidance_scale=2.5, generator=[generator], **size)
    handle.remove()
    torch.testing.assert_close(seen[0], seen[1], atol=1e-5, rtol=1e-5)


def test_the_pages_sites_are_where_branches_end(folder, example):
    calibri.register_family(CLASS, example)
    backbone, calls = load_backbone(folder, device="cpu"), []
    handle = backbone.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(kwargs), with_kwargs=True
    )
    backbone.pipeline("a", guidance_scale=1.0, height=32, width=32, num_inference_steps=1)
    handle.remove()
    values = np.random.default_rng(0).normal(1, 0.3, len(backbone.sites))
    with torch.no_grad():
        with ScaleHooks(backbone.transformer, backbone.sites) as hooks:
            hooks.set(values)
            hooked = backbone.transformer(**calls[0])[0]
        with scaled_by_hand(backbone.transformer, "flux", backbone.sites, values):
            torch.testing.assert_close(backbone.transformer(**calls[0])[0], hooked, atol=1e-5, rtol=1e-5)


def test_an_installed_package_makes_its_families_known(example, tmp_path):
    (tmp_path / "ovis-1.0.dist-info").mkdir()
    (tmp_path / "ovis-1.0.dist-info" / "METADATA").write_text("Name: ovis\nVersion: 1.0\n")
    entry = f"[calibri.families]\n{CLASS} = {example}\n"
    (tmp_path / "ovis-1.0.dist-info" / "entry_points.txt").write_text(entry)
    found = registry.sites_of_config(CLASS, {"num_layers": 1, "num_single_layers": 1})
    assert [site.name for site in found][-1] == "single.0.fused"


def test_a_class_that_is_known_is_not_given_away(example):
    with pytest.raises(BackboneError, match=r"known already.*calibri\.backbones\.flux"):
        calibri.register_family("FluxTransformer2DModel", example)
    calibri.register_family(CLASS, "no_module_of_this_name")
    with pytest.raises(BackboneError, match="expected its table in the module no_module_of_this_name"):
        registry.family_of(CLASS)
