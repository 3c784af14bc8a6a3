"""What holds for every family, on a tiny random pipeline of its real class, loaded from a folder."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from inspect import signature

import numpy as np
import pytest
import torch

import calibri
from calibri.backbones.catalog import CATALOG
from calibri.backbones.layouts import GRANULARITIES, Layout
from calibri.backbones.loading import Backbone, load_backbone
from calibri.backbones.sites import every_site, sites_of
from calibri.calibration.artifact import Calibration, Member
from calibri.calibration.fold import fold
from calibri.errors import ArtifactError, BackboneError, RenderError
from calibri.sampling.ensemble import call_of, prediction_of
from calibri.sampling.hooks import ScaleHooks
from calibri.sampling.renderer import Renderer, RenderRequest
from tests.docs_of_backbones import tiny_of
from tests.tiny_branches import scaled_by_hand
from tests.tiny_pipelines import STEPS, TINY, opened

FAMILIES = pytest.mark.parametrize("name", TINY)
RENDERED = pytest.mark.parametrize("name", [name for name, tiny in TINY.items() if tiny.call is None])
PROMPTS = ["a red cube", "a hot rock", "an old cat"]  # of one length


@cache
def call_with(name: str) -> dict:
    """With what the pipeline calls the transformer for three pictures, at its first step."""
    if TINY[name].call is not None:
        return TINY[name].call(3)
    backbone, found = opened(name), []
    handle = backbone.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: found.append(call_of(module, args, kwargs)), with_kwargs=True
    )
    try:
        adapter, side = backbone.adapter, TINY[name].side
        adapter.prepare(side, side)
        backbone.pipeline(
            **adapter.call([adapter.encode(prompt) for prompt in PROMPTS]),
            height=side,
            width=side,
            num_inference_steps=STEPS,
            generator=[torch.Generator().manual_seed(seed) for seed in range(3)],
        )
    finally:
        handle.remove()
    return found[0]


def row_of(name: str, call: dict, i: int) -> dict:
    """The call for one of the three pictures alone."""
    facts = getattr(opened(name).adapter, "facts", None)
    dims = {kw: facts.dims.get(kept, 0) for kw, kept in facts.rows.items()} if facts else {}

    def chosen(kw, value):
        if isinstance(value, dict):
            return {key: chosen(key, each) for key, each in value.items()}
        dim = dims.get(kw, 0)
        if isinstance(value, torch.Tensor) and value.ndim > dim and value.shape[dim] == 3:
            return value.narrow(dim, i, 1)
        return value[i : i + 1] if isinstance(value, list) and len(value) == 3 else value

    return {kw: chosen(kw, value) for kw, value in call.items()}


def run(name: str, call: dict) -> torch.Tensor:
    copies = {kw: dict(value) if isinstance(value, dict) else value for kw, value in call.items()}
    with torch.no_grad():
        return prediction_of(opened(name).transformer(**copies))[0]


def all_sites(name: str):
    transformer = opened(name).transformer
    return every_site(type(transformer).__name__, transformer.config)


def draw(count: int, seed: int = 0, rows: tuple[int, ...] = ()) -> np.ndarray:
    return np.random.default_rng(seed).normal(1, 0.3, (*rows, count))


@FAMILIES
def test_scales_are_counted(name):
    backbone, tiny = opened(name), TINY[name]
    assert tuple(len(backbone.layout(g)) for g in GRANULARITIES) == tiny.counts
    further = all_sites(name)
    if tiny.extras is not None:
        assert tuple(len(Layout.from_sites(further, g)) for g in GRANULARITIES) == tiny.extras
    else:
        assert further == backbone.sites


def test_every_backbone_by_name_has_a_tiny_pipeline_of_its_class():
    for name, spec in CATALOG.items():
        tiny = tiny_of(name)
        assert type(opened(tiny).transformer).__name__ == spec.transformer[0], (name, tiny)


@FAMILIES
def test_all_ones_are_bit_identical(name):
    call, sites = call_with(name), all_sites(name)
    before = run(name, call)
    with ScaleHooks(opened(name).transformer, sites) as hooks:
        hooks.set(np.ones((3, len(sites))))
        assert torch.equal(run(name, call), before)
    assert torch.equal(run(name, call), before)


@FAMILIES
def test_a_vector_for_each_picture_equals_separate_forwards(name):
    call, sites = call_with(name), all_sites(name)
    rows = draw(len(sites), rows=(3,))
    with ScaleHooks(opened(name).transformer, sites) as hooks:
        hooks.set(rows)
        together = run(name, call)
        for i in range(3):
            hooks.set(rows[i])
            torch.testing.assert_close(
                run(name, row_of(name, call, i)), together[i : i + 1], atol=2e-5, rtol=1e-4
            )


@FAMILIES
def test_a_site_multiplies_what_its_branch_adds(name):
    call, sites = call_with(name), all_sites(name)
    transformer, values = opened(name).transformer, draw(len(sites), seed=1)
    with ScaleHooks(transformer, sites) as hooks:
        hooks.set(values)
        hooked = run(name, call)
    with scaled_by_hand(transformer, name, sites, values):
        torch.testing.assert_close(run(name, call), hooked, atol=2e-5, rtol=1e-4)


@FAMILIES
def test_every_site_is_alive(name):
    call, sites = row_of(name, call_with(name), 0), all_sites(name)
    before = run(name, call)
    with ScaleHooks(opened(name).transformer, sites) as hooks:
        for i, site in enumerate(sites):
            values = np.ones(len(sites))
            values[i] = 1.5
            hooks.set(values)
            assert (run(name, call) - before).abs().max() > 1e-5, site.name


@FAMILIES
def test_folding_equals_hooks_or_is_refused(name):
    call, transformer = call_with(name), opened(name).transformer
    folds = [site for site in all_sites(name) if site.fold is not None]
    if not TINY[name].folds:
        other = next(site for site in all_sites(name) if site.fold is None)
        with pytest.raises(ArtifactError, match=rf"{other.name}.*only this gate reads"):
            fold(transformer, [1.5], [other])
    values = draw(len(folds), seed=2)
    with ScaleHooks(transformer, folds) as hooks:
        hooks.set(values)
        hooked = run(name, call)
    before = {key: value.clone() for key, value in transformer.state_dict().items()}
    fold(transformer, values, folds)
    try:
        torch.testing.assert_close(run(name, call), hooked, atol=2e-5, rtol=1e-4)
    finally:
        transformer.load_state_dict(before)


# rendering


class Latents:
    """What the decoder is given inside, all pictures in one tensor."""

    def __init__(self, backbone: Backbone) -> None:
        self.decoder, self.seen = backbone.pipeline.vae.decoder, []

    def __enter__(self):
        self.handle = self.decoder.register_forward_pre_hook(lambda module, args: self.seen.append(args[0]))
        return self

    def __exit__(self, *error):
        self.handle.remove()

    @property
    def all(self) -> torch.Tensor:
        return torch.cat(self.seen)


def rendered(name: str, *requests: RenderRequest) -> torch.Tensor:
    backbone = opened(name)
    with Latents(backbone) as latents:
        Renderer(backbone).render(requests)
    return latents.all


def stock(name: str, prompt: str, seed: int, **settings) -> torch.Tensor:
    """The stock pipeline's latents for a prompt in words."""
    backbone, side = opened(name), TINY[name].side
    adapter = backbone.adapter
    adapter.prepare(side, side)
    settings = {**stock_settings(name), **settings}
    if "max_sequence_length" in signature(backbone.pipeline.__call__).parameters:
        settings["max_sequence_length"] = adapter.tokens
    with Latents(backbone) as latents:
        backbone.pipeline(
            prompt=prompt,
            height=side,
            width=side,
            num_inference_steps=STEPS,
            generator=[torch.Generator().manual_seed(seed)],
            **settings,
        )
    return latents.all


def stock_settings(name: str) -> dict:
    facts = getattr(opened(name).adapter, "facts", None)
    if facts is not None:
        guided = {} if facts.guidance is None else {"guidance_scale": facts.guidance}
        return {**facts.call, **facts.off, **guided}
    if name == "ideogram4":
        return {"guidance_scale": 1.0, "guidance_schedule": None}
    return {"guidance_scale": 1.0} if name == "sd3" else {"true_cfg_scale": 1.0}


def request(
    name: str, prompt: str = PROMPTS[0], seed: int = 1, calibration=None, **settings
) -> RenderRequest:
    side = TINY[name].side
    return RenderRequest.of(prompt, seed, STEPS, calibration=calibration, height=side, width=side, **settings)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """To 1e-5 of the numbers' size."""
    size = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found / size, expected / size, atol=1e-5, rtol=0)


def calibration_of(name: str, *members: tuple[float, str], spread: float = 0.2) -> Calibration:
    names = opened(name).layout("layer").names
    random = np.random.default_rng(0)
    scales = [random.normal(1, spread, len(names)).tolist() for _ in members]
    return Calibration(
        granularity="layer",
        names=names,
        members=tuple(
            Member(scales=each, weight=weight, condition=condition)
            for each, (weight, condition) in zip(scales, members, strict=True)
        ),
    )


def second(name: str) -> str:
    """The condition of an ensemble's second member."""
    return "negative" if TINY[name].negatives else "positive"


@RENDERED
def test_the_base_is_what_the_pipeline_paints(name):
    base = rendered(name, request(name))
    assert torch.isfinite(base).all() and float(base.std()) > 0.05
    close(base, stock(name, PROMPTS[0], 1))


@RENDERED
def test_one_member_is_what_the_pipeline_paints_with_it(name):
    calibration = calibration_of(name, (1.0, "positive"))
    found = rendered(name, request(name, calibration=calibration))
    with calibri.load_calibration(opened(name).pipeline, calibration):
        close(found, stock(name, PROMPTS[0], 1))
    assert not torch.allclose(found, rendered(name, request(name)), atol=1e-3)


@RENDERED
def test_guidance_as_an_ensemble_is_the_pipelines_own(name):
    guided = TINY[name].guided
    found = rendered(name, request(name, guidance=2.5))
    assert not torch.allclose(found, rendered(name, request(name)), atol=1e-4)
    if guided is not None:
        close(found, stock(name, PROMPTS[0], 1, **guided(2.5)))


@RENDERED
def test_a_picture_does_not_depend_on_its_batch(name):
    """Prompts of other lengths, members, guidance: all in one batch, and each alone."""
    pair = calibration_of(name, (1.5, "positive"), (-0.5, second(name)))
    asked = [
        request(name, "a small blue house on a hill by the sea", seed=3),
        request(name, guidance=2.0),
        request(name, calibration=pair, seed=2),
    ]
    backbone = opened(name)
    together = Renderer(backbone).render(asked)
    for one, batched in zip(asked, together, strict=True):
        [alone] = Renderer(backbone).render([one])
        a, b = (np.asarray(each.image).astype(int) for each in (alone, batched))
        assert np.abs(a - b).max() <= 1


@RENDERED
def test_an_ensemble_beside_a_pipeline_is_that_of_the_renderer(name):
    pair = calibration_of(name, (1.5, "positive"), (-0.5, second(name)))
    found = rendered(name, request(name, calibration=pair))
    with calibri.load_calibration(opened(name).pipeline, pair):
        close(found, stock(name, PROMPTS[0], 1))
        guided = TINY[name].guided
        if guided is not None and second(name) == "negative":
            with pytest.raises(RenderError, match="the pipeline guides too"):
                stock(name, PROMPTS[0], 1, **guided(2.5))


def test_negative_members_are_refused_where_guidance_is_another_transformer():
    pair = calibration_of("ideogram4", (1.5, "positive"), (-0.5, "negative"))
    with pytest.raises(RenderError, match="ideogram4 guides with a transformer of its own"):
        rendered("ideogram4", request("ideogram4", calibration=pair))
    with pytest.raises(RenderError, match="Ideogram4Pipeline guides with a transformer of its own"):
        calibri.load_calibration(opened("ideogram4").pipeline, pair)


def test_further_sites_are_asked_for_behind_the_name(tmp_path):
    TINY["sana"].make().save_pretrained(tmp_path / "sana")
    (tmp_path / "sana" / "calibri.json").write_text('{"name": "sana", "max_sequence_length": 64}')
    backbone = load_backbone(f"{tmp_path / 'sana'}+cross", device="cpu")
    assert (backbone.spec.name, backbone.spec.extras) == ("sana+cross", ("cross",))
    layout = backbone.layout("block")
    assert layout.names == ("block.0", "cross.0", "block.1", "cross.1")
    wide = Calibration(granularity="block", names=layout.names, members=(Member(scales=(1, 0.5, 1, 1)),))
    side = TINY["sana"].side
    asked = RenderRequest.of("a red cube", 1, STEPS, calibration=wide, height=side, width=side)
    with Latents(backbone) as latents:
        Renderer(backbone).render([asked])
    # Beside a pipeline the calibration's names say what it needs.
    with calibri.load_calibration(opened("sana").pipeline, wide):
        close(latents.all, stock("sana", "a red cube", 1))
    # A calibration without further sites leaves them at 1.
    narrow = Calibration(
        granularity="block", names=("block.0", "block.1"), members=(Member(scales=(1.2, 1)),)
    )
    with Latents(backbone) as latents:
        Renderer(backbone).render([replace(asked, members=narrow.members, names=narrow.names)])
    close(latents.all, rendered("sana", request("sana", calibration=narrow)))


def test_further_sites_that_are_not_there_are_named(tmp_path):
    with pytest.raises(BackboneError, match="no further sites 'cross': expected one of: none"):
        sites_of(opened("flux").transformer, ("cross",))
    with pytest.raises(BackboneError, match="no further sites 'refiners': expected one of: cross"):
        sites_of(opened("sana").transformer, ("refiners",))


def test_a_part_that_a_repository_lacks_comes_from_another_place(tmp_path):
    """HiDream's Llama, say."""
    pipeline = TINY["hidream"].make()
    for part in ("text_encoder_4", "tokenizer_4"):
        getattr(pipeline, part).save_pretrained(tmp_path / "llama")
    whole = opened("hidream")
    pipeline.register_modules(text_encoder_4=None, tokenizer_4=None)
    pipeline.save_pretrained(tmp_path / "hidream")
    values = {"name": "hidream", "max_sequence_length": TINY["hidream"].tokens}
    parts = {part: str(tmp_path / "llama") for part in ("text_encoder_4", "tokenizer_4")}
    (tmp_path / "hidream" / "calibri.json").write_text(json.dumps({**values, "parts": parts}))
    backbone = load_backbone(tmp_path / "hidream", device="cpu")
    found, expected = (each.adapter.encode("a red cube") for each in (backbone, whole))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    parts["tokenizer_4"] = str(tmp_path / "absent")
    (tmp_path / "hidream" / "calibri.json").write_text(json.dumps({**values, "parts": parts}))
    with pytest.raises(BackboneError, match="tokenizer_4 cannot be loaded"):
        load_backbone(tmp_path / "hidream", device="cpu")
