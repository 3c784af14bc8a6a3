"""Tiny random pipelines of the real classes of families whose blocks have one stream."""

from __future__ import annotations

from typing import Any

from diffusers import (
    DPMSolverMultistepScheduler,
    Ideogram4Pipeline,
    Ideogram4Transformer2DModel,
    Krea2Pipeline,
    Krea2Transformer2DModel,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    QwenImage21Pipeline,
    QwenImage21Transformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    ZImageOmniPipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import (
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLModel,
)

from calibri.tabletop.backbone import new_t5
from tests import tiny_parts as parts
from tests.tiny import _t5_tokenizer
from tests.tiny_makers import flow
from tests.tiny_parts import WIDTH, filled


def zimage_transformer() -> ZImageTransformer2DModel:
    return filled(
        ZImageTransformer2DModel(
            in_channels=4,
            dim=32,
            n_layers=2,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=WIDTH,
            axes_dims=[4, 6, 6],
            axes_lens=[256, 32, 32],
        ),
        0,
    )


def zimage() -> ZImagePipeline:
    tokenizer = parts.byte_tokenizer()
    return ZImagePipeline(
        scheduler=flow(),
        vae=parts.vae_kl(),
        text_encoder=parts.qwen3(tokenizer, 3),
        tokenizer=tokenizer,
        transformer=zimage_transformer(),
    )


def zimage_omni() -> ZImageOmniPipeline:
    """Without its encoder of pictures, which text alone does not need."""
    parts_of = zimage().components
    return ZImageOmniPipeline(**parts_of, siglip=None, siglip_processor=None)


def sana() -> SanaPipeline:
    tokenizer = parts.gemma_tokenizer()
    transformer = SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=2,
        num_cross_attention_heads=2,
        cross_attention_head_dim=16,
        cross_attention_dim=32,
        caption_channels=WIDTH,
        sample_size=8,
    )
    return SanaPipeline(
        tokenizer=tokenizer,
        text_encoder=parts.gemma2(tokenizer),
        vae=parts.vae_dc(),
        transformer=filled(transformer, 0),
        scheduler=DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    )


def lumina2() -> Lumina2Pipeline:
    tokenizer = parts.gemma_tokenizer()
    transformer = Lumina2Transformer2DModel(
        sample_size=8,
        in_channels=4,
        hidden_size=32,
        num_layers=2,
        num_refiner_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        axes_dim_rope=(4, 4, 8),
        axes_lens=(300, 32, 32),
        cap_feat_dim=WIDTH,
    )
    return Lumina2Pipeline(
        transformer=filled(transformer, 0),
        scheduler=flow(),
        vae=parts.vae_kl(),
        text_encoder=parts.gemma2(tokenizer),
        tokenizer=tokenizer,
    )


def pixart_parts() -> dict[str, Any]:
    tokenizer = _t5_tokenizer()
    transformer = PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=24,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        cross_attention_dim=48,
        sample_size=128,  # as that of the published ones: alpha tells it the size
        use_additional_conditions=None,
        caption_channels=WIDTH,
    )
    return {
        "tokenizer": tokenizer,
        "text_encoder": filled(new_t5(tokenizer, WIDTH, layers=1, heads=2), 7),
        "vae": parts.vae_kl(),
        "transformer": filled(transformer, 0),
        "scheduler": DPMSolverMultistepScheduler(),
    }


def pixart_alpha() -> PixArtAlphaPipeline:
    return PixArtAlphaPipeline(**pixart_parts())


def pixart_sigma() -> PixArtSigmaPipeline:
    found = pixart_parts()
    config = dict(found["transformer"].config) | {"use_additional_conditions": False}
    transformer = filled(PixArtTransformer2DModel.from_config(config), 0)
    return PixArtSigmaPipeline(**{**found, "transformer": transformer})


def qwen3_vl(tokenizer: Any, layers: int) -> Qwen3VLConfig:
    words = parts.decoder_config(tokenizer, layers)
    words["rope_parameters"] = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
    sight = {"depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": WIDTH}
    return Qwen3VLConfig(text_config=words, vision_config=sight | {"deepstack_visual_indexes": [0]})


def qwen21() -> QwenImage21Pipeline:
    tokenizer = parts.byte_tokenizer("<|image_pad|>", "<|vision_start|>", "<|vision_end|>", "<|video_pad|>")
    transformer = QwenImage21Transformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        context_in_dim=WIDTH,
        axes_dims_rope=(4, 6, 6),
    )
    return QwenImage21Pipeline(
        scheduler=flow(),
        vae=parts.vae_qwen21(),
        text_encoder=filled(Qwen3VLForConditionalGeneration(qwen3_vl(tokenizer, 2)), 7),
        processor=parts.vision_processor(tokenizer),
        transformer=filled(transformer, 0),
    )


def ideogram4() -> Ideogram4Pipeline:
    tokenizer = parts.byte_tokenizer()

    def transformer(seed: int) -> Ideogram4Transformer2DModel:
        made = Ideogram4Transformer2DModel(
            in_channels=16,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            intermediate_size=32,
            adaln_dim=16,
            llm_features_dim=13 * WIDTH,
            mrope_section=(4, 2, 2),
        )
        return filled(made, seed)

    return Ideogram4Pipeline(
        scheduler=flow(),
        vae=parts.vae_flux2(),
        text_encoder=filled(Qwen3VLModel(qwen3_vl(tokenizer, 36)), 7),
        tokenizer=tokenizer,
        transformer=transformer(0),
        unconditional_transformer=transformer(1),
    )


def krea2() -> Krea2Pipeline:
    tokenizer = parts.byte_tokenizer("assistant")  # five tokens behind a prompt
    transformer = Krea2Transformer2DModel(
        in_channels=16,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=32,
        timestep_embed_dim=16,
        text_hidden_dim=WIDTH,
        num_text_layers=2,
        text_num_attention_heads=2,
        text_num_key_value_heads=2,
        text_intermediate_size=32,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=1,
        axes_dims_rope=(4, 6, 6),
    )
    return Krea2Pipeline(
        scheduler=flow(),
        vae=parts.vae_qwen(),
        text_encoder=filled(Qwen3VLModel(qwen3_vl(tokenizer, 2)), 7),
        tokenizer=tokenizer,
        transformer=filled(transformer, 0),
        text_encoder_select_layers=(0, 2),
    )
