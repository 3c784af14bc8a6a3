"""SD3 and Qwen-Image through the same renderer: what diffusers paints, guidance among it."""

import numpy as np
import pytest
import torch

from calibri.backbones.catalog import BackboneSpec
from calibri.backbones.loading import Backbone
from calibri.calibration.artifact import Member
from calibri.sampling.renderer import Renderer, RenderRequest
from tests.tiny_families import tiny_qwen, tiny_sd3


@pytest.fixture(scope="module")
def sd3():
    spec = BackboneSpec(name="tiny-sd3", source="memory", steps=2, height=16, width=16, max_sequence_length=8)
    return Backbone(tiny_sd3(), spec)


@pytest.fixture(scope="module")
def qwen():
    """Without a text encoder: prompts are put into the cache by hand, of different lengths."""
    spec = BackboneSpec(name="tiny-qwen", source="memory", steps=2, height=16, width=16)
    return Backbone(tiny_qwen(text_encoder=False), spec)


@pytest.fixture(scope="module")
def qwen_words():
    generator = torch.Generator().manual_seed(0)
    words = {"": 2, "a cube": 3, "a long prompt": 6}
    return {w: {"prompt_embeds": torch.randn(1, n, 16, generator=generator)} for w, n in words.items()}


def pixels(picture):
    return np.asarray(picture).astype(int)


def differ(a, b):
    return np.abs(pixels(a) - pixels(b)).max()


def stock_sd3(backbone, prompt, seed, **settings):
    return backbone.pipeline(
        prompt,
        num_inference_steps=2,
        height=16,
        width=16,
        max_sequence_length=8,
        generator=[torch.Generator().manual_seed(seed)],
        **settings,
    ).images[0]


def test_sd3_base_and_guidance_are_what_diffusers_paints(sd3):
    base, guided = Renderer(sd3).render(
        [RenderRequest("a red cube", 1, 2), RenderRequest("a red cube", 1, 2, guidance=5.0)]
    )
    assert differ(base.image, stock_sd3(sd3, "a red cube", 1, guidance_scale=1.0)) <= 1
    assert differ(guided.image, stock_sd3(sd3, "a red cube", 1, guidance_scale=5.0)) <= 1
    assert differ(base.image, guided.image) > 3
    assert (base.nfe, guided.nfe) == (2, 4)


def test_sd3_scales_reach_the_picture(sd3):
    layout = sd3.layout("layer")
    assert "block.0.attn2" in layout.names
    arms = [None]
    for i in range(len(layout.names)):
        scales = [1.0] * len(layout.names)
        scales[i] = 2.0
        arms.append((Member(scales=scales),))
    pictures = Renderer(sd3).render([RenderRequest("a cube", 0, 2, members=m, layout=layout) for m in arms])
    assert all(differ(pictures[0].image, other.image) > 0 for other in pictures[1:])


def test_qwen_base_and_guidance_are_what_diffusers_paints(qwen, qwen_words):
    renderer = Renderer(qwen)
    renderer._prompts._held.update({(word, False, ()): found for word, found in qwen_words.items()})
    base, guided, longer = renderer.render(
        [
            RenderRequest("a cube", 1, 2),
            RenderRequest("a cube", 1, 2, guidance=4.0),
            RenderRequest("a long prompt", 1, 2),
        ]
    )

    def stock(words, **settings):
        return qwen.pipeline(
            prompt_embeds=qwen_words[words]["prompt_embeds"],
            num_inference_steps=2,
            height=16,
            width=16,
            generator=[torch.Generator().manual_seed(1)],
            **settings,
        ).images[0]

    negative = qwen_words[""]["prompt_embeds"]
    assert differ(base.image, stock("a cube", true_cfg_scale=1.0)) <= 1
    assert differ(longer.image, stock("a long prompt", true_cfg_scale=1.0)) <= 1
    theirs = stock("a cube", true_cfg_scale=4.0, negative_prompt_embeds=negative)
    assert differ(guided.image, theirs) <= 1
    assert differ(base.image, guided.image) > 3
