"""Other pipelines around the same transformers: from a picture, with a mask, with a ControlNet."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from diffusers import (
    FluxControlNetModel,
    FluxControlNetPipeline,
    FluxImg2ImgPipeline,
    FluxInpaintPipeline,
    QwenImageImg2ImgPipeline,
    SD3ControlNetModel,
    StableDiffusion3ControlNetPipeline,
    StableDiffusion3Img2ImgPipeline,
)
from PIL import Image

import calibri
from calibri import load_calibration
from calibri.errors import BackboneError, RenderError
from tests.tiny import PIXELS, TOKENS, fill, tiny_flux
from tests.tiny_families import assert_near, random_calibration, tiny_qwen, tiny_sd3


def from_pipe(cls, pipeline, **parts):
    found = cls(**{**pipeline.components, **parts})
    found.set_progress_bar_config(disable=True)
    return found


def flux_controlnet():
    pipeline = tiny_flux()
    net = FluxControlNetModel.from_transformer(
        pipeline.transformer, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2
    )
    fill(net, 5)
    parts = {n: p for n, p in pipeline.components.items() if n not in ("image_encoder", "feature_extractor")}
    found = FluxControlNetPipeline(**parts, controlnet=net)
    found.set_progress_bar_config(disable=True)
    return found


def sd3_controlnet():
    pipeline = tiny_sd3()
    net = SD3ControlNetModel.from_transformer(
        pipeline.transformer, num_layers=2, num_extra_conditioning_channels=0
    )
    fill(net, 5)
    parts = {n: p for n, p in pipeline.components.items() if n not in ("image_encoder", "feature_extractor")}
    found = StableDiffusion3ControlNetPipeline(**parts, controlnet=net)
    found.set_progress_bar_config(disable=True)
    return found


def picture(side):
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (side, side, 3), dtype=np.uint8))


FLUX = {"height": PIXELS, "width": PIXELS, "max_sequence_length": TOKENS}
SD3 = {"guidance_scale": 1.0, "max_sequence_length": TOKENS}
SIXTEEN = {"height": 16, "width": 16}
# name → how it is made, its arguments, and its own guidance of strength 3
VARIANTS = {
    "flux from a picture": (
        lambda: from_pipe(FluxImg2ImgPipeline, tiny_flux()),
        {**FLUX, "image": picture(PIXELS), "strength": 0.8},
        {"true_cfg_scale": 3.0},
    ),
    "flux with a mask": (
        lambda: from_pipe(FluxInpaintPipeline, tiny_flux()),
        {**FLUX, "image": picture(PIXELS), "mask_image": picture(PIXELS).convert("L"), "strength": 0.9},
        {"true_cfg_scale": 3.0},
    ),
    "flux with a ControlNet": (
        flux_controlnet,
        {**FLUX, "control_image": picture(PIXELS), "controlnet_conditioning_scale": 0.7},
        {"true_cfg_scale": 3.0},
    ),
    "sd3 from a picture": (
        lambda: from_pipe(StableDiffusion3Img2ImgPipeline, tiny_sd3()),
        {**SD3, **SIXTEEN, "image": picture(16), "strength": 0.8},
        {"guidance_scale": 3.0},
    ),
    "sd3 with a ControlNet": (
        sd3_controlnet,
        {**SD3, **SIXTEEN, "control_image": picture(16)},
        {"guidance_scale": 3.0},
    ),
    "qwen from a picture": (
        lambda: from_pipe(QwenImageImg2ImgPipeline, tiny_qwen()),
        {**SIXTEEN, "image": picture(16), "strength": 0.8, "true_cfg_scale": 1.0},
        {"true_cfg_scale": 3.0},
    ),
}


@pytest.fixture(params=VARIANTS, scope="module")
def variant(request):
    make, call, guided = VARIANTS[request.param]
    return make(), call, guided


def paint(pipe, call, **settings):
    """(1, 3, H, W) float32 in [0, 1]."""
    generator = [torch.Generator().manual_seed(1)]
    fixed = {"num_inference_steps": 3, "generator": generator, "output_type": "pt"}
    with torch.random.fork_rng():  # SD3's ControlNet draws its picture's latents without the generator
        torch.manual_seed(0)
        return pipe("a red cube", **fixed | call | settings).images


def test_hooks_on_any_pipeline_paint_what_the_folded_weights_paint(variant):
    pipe, call, guided = variant
    calibration = random_calibration(pipe, (1.0, "positive"))
    base = paint(pipe, call)
    with load_calibration(pipe, calibration):
        found = [paint(pipe, call), paint(pipe, call, negative_prompt="dull", **guided)]
    assert (found[0] - base).abs().max() > 1e-3
    whole, pipe.transformer = pipe.transformer, copy.deepcopy(pipe.transformer)
    calibri.fold(pipe, calibration)
    folded = [paint(pipe, call), paint(pipe, call, negative_prompt="dull", **guided)]
    pipe.transformer = whole
    for hooked, weights in zip(found, folded, strict=True):
        assert_near(hooked, weights)
    assert torch.equal(paint(pipe, call), base)


def test_all_ones_are_the_bits_of_the_base(variant):
    pipe, call, guided = variant
    base = paint(pipe, call, negative_prompt="dull", **guided)
    with load_calibration(pipe, random_calibration(pipe, (1.0, "positive"), spread=0.0)):
        assert torch.equal(paint(pipe, call, negative_prompt="dull", **guided), base)


def test_guidance_as_an_ensemble_is_the_pipelines_own_guidance(variant):
    """Weights g and 1 − g, all scales 1: classifier-free guidance, by members instead of the pipeline."""
    pipe, call, guided = variant
    expected = paint(pipe, call, negative_prompt="dull", **guided)
    ensemble = random_calibration(pipe, (3.0, "positive"), (-2.0, "negative"), spread=0.0)
    with load_calibration(pipe, ensemble, negative_prompt="dull"):
        found = paint(pipe, call)
        with pytest.raises(RenderError, match="Renderer"):
            paint(pipe, call, negative_prompt="dull", **guided)
    # SD3's ControlNet sees the negative prompt where the pipeline guides; members share its residuals.
    if not isinstance(pipe, StableDiffusion3ControlNetPipeline):
        assert_near(found, expected)


def test_a_member_split_in_two_is_the_member(variant):
    pipe, call, _ = variant
    alone = random_calibration(pipe, (1.0, "positive"))
    halves = tuple(alone.members[0].model_copy(update={"weight": weight}) for weight in (0.4, 0.6))
    with load_calibration(pipe, alone):
        expected = paint(pipe, call)
    with load_calibration(pipe, alone.model_copy(update={"members": halves})):
        found = paint(pipe, call)
    assert_near(found, expected)


def test_two_pipelines_that_share_a_transformer_are_calibrated_together():
    text = tiny_flux()
    image = from_pipe(FluxImg2ImgPipeline, text)
    call = VARIANTS["flux from a picture"][1]
    calibration = random_calibration(text, (1.1, "positive"))
    with load_calibration(image, calibration):
        expected = paint(image, call)
    base = paint(image, call)
    with load_calibration(text, calibration):
        assert torch.equal(paint(image, call), expected)
        with pytest.raises(RenderError, match="scaled already"), load_calibration(image, calibration):
            pass
        assert torch.equal(paint(image, call), expected)
    assert torch.equal(paint(image, call), base)


def test_a_pipeline_without_text_encoders_needs_embeddings_only():
    """Positive members never need a text encoder; negative ones say that they do."""
    whole = tiny_flux()
    tokens, pooled, _ = whole.encode_prompt("a red cube", max_sequence_length=TOKENS)
    bare = from_pipe(
        type(whole), whole, text_encoder=None, text_encoder_2=None, tokenizer=None, tokenizer_2=None
    )

    def paint_bare(pipe):
        embeddings = {"prompt_embeds": tokens, "pooled_prompt_embeds": pooled}
        generator = [torch.Generator().manual_seed(1)]
        fixed = {"num_inference_steps": 3, "generator": generator, "output_type": "pt"}
        return pipe(**fixed, **FLUX, **embeddings).images

    positive = random_calibration(whole, (0.6, "positive"), (0.4, "positive"))
    with load_calibration(whole, positive):
        expected = paint(whole, FLUX)
    with load_calibration(bare, positive):
        assert_near(paint_bare(bare), expected)
    with (
        pytest.raises(RenderError, match="cannot encode the negative prompt"),
        load_calibration(bare, random_calibration(whole, (1.6, "positive"), (-0.6, "negative"))),
    ):
        paint_bare(bare)


def test_negative_members_are_refused_where_a_prompt_is_encoded_with_a_picture():
    from diffusers import QwenImageEditPipeline

    whole = tiny_qwen()
    edit = QwenImageEditPipeline(
        scheduler=whole.scheduler,
        vae=whole.vae,
        text_encoder=whole.text_encoder,
        tokenizer=whole.tokenizer,
        processor=None,
        transformer=whole.transformer,
    )
    load_calibration(edit, random_calibration(whole, (1.0, "positive")))
    with pytest.raises(RenderError, match="Renderer"):
        load_calibration(edit, random_calibration(whole, (2.0, "positive"), (-1.0, "negative")))


def test_a_pipeline_without_a_transformer_says_so():
    flux = tiny_flux()
    calibration = random_calibration(flux, (1.0, "positive"))
    flux.transformer = None
    with pytest.raises(BackboneError, match="FluxPipeline has no transformer"):
        load_calibration(flux, calibration)


def test_a_pipeline_that_is_none_of_diffusers_runs_one_member_and_refuses_ensembles(flux_inputs):
    class Own:
        def __init__(self, transformer):
            self.transformer = transformer

        def __call__(self):
            with torch.no_grad():
                return self.transformer(**flux_inputs())[0]

    own = Own(tiny_flux().transformer)
    with load_calibration(own.transformer, random_calibration(own, (1.2, "positive"))):
        expected = own()
    with load_calibration(own, random_calibration(own, (1.2, "positive"))):
        assert torch.equal(own(), expected)
    for members in ([(0.5, "positive")] * 2, [(2.0, "positive"), (-1.0, "negative")]):
        with pytest.raises(RenderError, match="Renderer"):
            load_calibration(own, random_calibration(own, *members))
