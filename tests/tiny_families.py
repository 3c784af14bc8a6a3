"""Tiny SD3 and Qwen-Image pipelines of real classes, 16×16 px, beside the FLUX of `tests.tiny`."""

from __future__ import annotations

from typing import Any

import numpy as np
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
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPTextModelWithProjection,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
)

from calibri.backbones.catalog import BackboneSpec
from calibri.backbones.layouts import Layout
from calibri.backbones.loading import Backbone
from calibri.backbones.sites import sites_of
from calibri.calibration.artifact import Calibration, Member
from calibri.calibration.target import transformer_of
from calibri.tabletop.backbone import pooled_config
from tests.tiny import TOKENS, _clip_tokenizer, fill


def sd3_transformer(blocks: int = 3, **settings: Any) -> SD3Transformer2DModel:
    """On 4 latent channels; its first block has a second image attention."""
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=blocks,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pooled_projection_dim=32,
        out_channels=4,
        pos_embed_max_size=16,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
        **settings,
    )
    fill(transformer, 0)
    return transformer


def tiny_sd3() -> StableDiffusion3Pipeline:
    """Without T5, whose tokens are zeros then."""
    tokenizer = _clip_tokenizer()
    clips = [CLIPTextModelWithProjection(pooled_config(tokenizer, 16, layers=2)) for _ in range(2)]
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
    for number, part in enumerate((*clips, vae), 1):
        fill(part, number)
    pipeline = StableDiffusion3Pipeline(
        transformer=sd3_transformer(),
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
    return pipeline


def tiny_qwen(*, text_encoder: bool = True) -> QwenImagePipeline:
    """With a text encoder over bytes, or without one: then prompts are given as embeddings of width 16."""
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
    encoder, tokenizer = _qwen_encoder() if text_encoder else (None, None)
    pipeline = QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=vae,
        text_encoder=encoder,
        tokenizer=tokenizer,
        transformer=transformer,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _qwen_encoder() -> tuple[Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer]:
    vocab = {piece: i for i, piece in enumerate(sorted(ByteLevel.alphabet()))}
    for special in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
        vocab[special] = len(vocab)
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=[])
    words = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": len(tokenizer),
        "bos_token_id": None,
        "eos_token_id": None,
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0},
    }
    sight = {"depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 16}
    encoder = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=words, vision_config=sight))
    fill(encoder, 7)
    return encoder, tokenizer


def backbone_of(pipeline: Any) -> Backbone:
    """A tiny pipeline as a loaded backbone, in 2 steps."""
    side = 32 if "Flux" in type(pipeline).__name__ else 16
    words = {"max_sequence_length": TOKENS} if "Diffusion3" in type(pipeline).__name__ else {}
    spec = BackboneSpec(name="tiny", source="memory", steps=2, height=side, width=side, **words)
    return Backbone(pipeline, spec)


def random_calibration(
    target: Any, *members: tuple[float, str], granularity: str = "layer", spread: float = 0.3
) -> Calibration:
    """Scales N(1, spread²) for a pipeline or transformer; members as (weight, condition)."""
    names = Layout.from_sites(sites_of(transformer_of(target)), granularity).names
    draw = np.random.default_rng(0)
    return Calibration(
        granularity=granularity,
        names=names,
        members=tuple(
            Member(scales=draw.normal(1, spread, len(names)).tolist(), weight=weight, condition=condition)
            for weight, condition in members or [(1.0, "positive")]
        ),
    )


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    """To 1e-5 in every number."""
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
