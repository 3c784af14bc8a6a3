"""A LoRA beside the scales, in every family whose pipeline takes one: a layer that it wraps moves no site."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch

from calibri.backbones.lora_sites import block_names, is_lora_scale, lora_layers, lora_sites
from calibri.backbones.sites import every_site, unwrapped
from calibri.sampling.ensemble import prediction_of
from calibri.sampling.hooks import ScaleHooks
from tests.calibri.backbones.test_families import call_with, draw, row_of
from tests.tiny import tiny_flux
from tests.tiny_branches import scaled_by_hand
from tests.tiny_lora import fresh, write_lora
from tests.tiny_pipelines import TINY

# Those whose pipelines have no loader: PixArt and Qwen-Image 2.1. FLUX.3 has no pipeline.
TAKES = [name for name in TINY if name not in ("pixart-alpha", "pixart-sigma", "qwen-2.1", "flux3")]
FAMILIES = pytest.mark.parametrize("name", TAKES)


@cache
def with_lora(name):
    """The tiny backbone with a LoRA of all its Linears, the modulations too."""
    with TemporaryDirectory() as folder:
        file = write_lora(Path(folder, "all.safetensors"), TINY[name].make().transformer, gain=0.2)
        return fresh(name, f"{file}:0.8", blocks=True)


def run(name, call):
    copies = {kw: dict(value) if isinstance(value, dict) else value for kw, value in call.items()}
    with torch.no_grad():
        return prediction_of(with_lora(name).transformer(**copies))[0]


def sites_with_lora(name):
    transformer = unwrapped(with_lora(name).transformer)
    return (*every_site(type(transformer).__name__, transformer.config), *lora_sites(transformer))


@FAMILIES
def test_no_site_is_a_layer_that_peft_puts_elsewhere(name):
    backbone = with_lora(name)
    modules = dict(backbone.transformer.named_modules())
    wrapped = {path for path, _ in lora_layers(backbone.transformer)}
    assert wrapped
    for site in backbone.sites:
        assert site.extra == "lora" or site.module not in wrapped, site.name
        assert all(path in modules for path in site.modules)


@FAMILIES
def test_all_ones_beside_a_lora_are_bit_identical(name):
    call, sites = call_with(name), sites_with_lora(name)
    before = run(name, call)
    with ScaleHooks(with_lora(name).transformer, sites) as hooks:
        hooks.set(np.ones((3, len(sites))))
        assert torch.equal(run(name, call), before)
    assert torch.equal(run(name, call), before)


@FAMILIES
def test_a_site_multiplies_what_its_branch_adds_with_the_lora_in_it(name):
    call, sites = call_with(name), [site for site in sites_with_lora(name) if site.extra != "lora"]
    transformer, values = with_lora(name).transformer, draw(len(sites), seed=1)
    with ScaleHooks(transformer, sites) as hooks:
        hooks.set(values)
        hooked = run(name, call)
    with scaled_by_hand(transformer, name, sites, values):
        torch.testing.assert_close(run(name, call), hooked, atol=5e-5, rtol=1e-4)


@FAMILIES
def test_strengths_in_blocks_multiply_the_loras_matrices(name):
    call, transformer = call_with(name), with_lora(name).transformer
    sites = lora_sites(transformer)
    assert all(is_lora_scale(site.name) for site in sites)
    values = draw(len(sites), seed=2)
    with ScaleHooks(transformer, sites) as hooks:
        hooks.set(values)
        hooked = run(name, call)
    plain = run(name, call)
    with torch.no_grad():
        for site, value in zip(sites, values, strict=True):
            for path in site.modules:
                transformer.get_submodule(path).weight.mul_(value)
    try:
        torch.testing.assert_close(run(name, call), hooked, atol=5e-5, rtol=1e-4)
    finally:
        with torch.no_grad():
            for site, value in zip(sites, values, strict=True):
                for path in site.modules:
                    transformer.get_submodule(path).weight.div_(value)
    assert not torch.allclose(hooked, plain, atol=1e-3)


@FAMILIES
def test_strengths_for_each_picture_equal_separate_forwards(name):
    call, sites = call_with(name), sites_with_lora(name)
    rows = draw(len(sites), rows=(3,))
    for column, site in enumerate(sites):  # layers that see the tokens of all pictures in one list
        if site.extra == "lora" and (site.name.endswith(".rest") or name == "hidream"):
            rows[:, column] = rows[0, column]
    with ScaleHooks(with_lora(name).transformer, sites) as hooks:
        hooks.set(rows)
        together = run(name, call)
        for i in range(3):
            hooks.set(rows[i])
            torch.testing.assert_close(
                run(name, row_of(name, call, i)), together[i : i + 1], atol=5e-5, rtol=1e-4
            )


@FAMILIES
def test_every_block_that_a_lora_touches_counts(name):
    call, transformer = row_of(name, call_with(name), 0), with_lora(name).transformer
    sites = lora_sites(transformer)
    blocks = block_names(type(transformer).__name__, transformer.config)
    told = [site.name.removeprefix("lora.all.") for site in sites]
    assert told[: len(blocks)] == list(blocks.values())
    before = run(name, call)
    with ScaleHooks(transformer, sites) as hooks:
        for i, site in enumerate(sites):
            values = np.ones(len(sites))
            values[i] = 0
            hooks.set(values)
            assert (run(name, call) - before).abs().max() > 1e-6, site.name


def test_a_block_is_known_by_its_whole_path(tmp_path):
    """Block 1 of twelve is not block 10 or 11, nor that of the other stack: a dictionary of diffusers, which
    looks for texts inside of paths, would hit them all."""

    def deep():
        return tiny_flux(doubles=12, singles=12)

    lora = write_lora(
        tmp_path / "deep.safetensors", deep().transformer, lambda path: path.endswith(("to_q", "to_k"))
    )
    backbone = fresh("flux", str(lora), blocks=True, make=deep)
    sites = [site for site in backbone.sites if site.extra == "lora"]
    assert [site.name for site in sites] == [
        *(f"lora.deep.double.{b}" for b in range(12)),
        *(f"lora.deep.single.{b}" for b in range(12)),
    ]
    one = next(site for site in sites if site.name == "lora.deep.double.1")
    assert one.modules == (
        "transformer_blocks.1.attn.to_q.lora_B.deep",
        "transformer_blocks.1.attn.to_k.lora_B.deep",
    )
    call, at = call_with("flux"), backbone.sites.index(one)

    def predict():
        with torch.no_grad():
            return prediction_of(backbone.transformer(**call))[0]

    values = np.ones(len(backbone.sites))
    values[at] = 0
    with ScaleHooks(backbone.transformer, backbone.sites) as hooks:
        hooks.set(values)
        hooked = predict()
    for path in one.modules:
        backbone.transformer.get_submodule(path).weight.data.zero_()
    assert torch.equal(predict(), hooked)
