"""SD3 and Qwen-Image through the same renderer: what diffusers paints, guidance among it."""

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from calibri.backbones.catalog import BackboneSpec
from calibri.backbones.loading import Backbone
from calibri.calibration.artifact import Member
from calibri.sampling.renderer import Renderer, RenderRequest
from tests.tiny import TOKENS, _clip_tokenizer, fill


@pytest.fixture(scope="module")
def sd3():
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=3,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pooled_projection_dim=32,
        out_channels=4,
        pos_embed_max_size=16,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    tokenizer = _clip_tokenizer()
    clips = [
        CLIPTextModelWithProjection(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=TOKENS,
                projection_dim=16,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        for _ in range(2)
    ]
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        layers_per_block=1,
        scaling_factor=1.0,
        shift_factor=0.0,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    for number, part in enumerate((transformer, *clips, vae)):
        fill(part, number)
    pipeline = StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae,
        text_encoder=clips[0],
        tokenizer=tokenizer,
        text_encoder_2=clips[1],
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )
    pipeline.set_progress_bar_config(disable=True)
    spec = BackboneSpec(name="tiny-sd3", source="memory", steps=2, height=16, width=16, max_sequence_length=8)
    return Backbone(pipeline, spec)


@pytest.fixture(scope="module")
def qwen():
    """Without a text encoder: prompts are put into the cache by hand, of different lengths."""
    transformer = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=3,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 4, 8),
    )
    vae = AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    for number, part in enumerate((transformer, vae)):
        fill(part, number)
    pipeline = QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=vae,
        text_encoder=None,
        tokenizer=None,
        transformer=transformer,
    )
    pipeline.set_progress_bar_config(disable=True)
    spec = BackboneSpec(name="tiny-qwen", source="memory", steps=2, height=16, width=16)
    return Backbone(pipeline, spec)


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
    renderer._prompts._held.update(qwen_words)
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
