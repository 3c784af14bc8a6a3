"""Tiny random pipelines of the real classes of families that have blocks of two streams."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AuraFlowPipeline,
    AuraFlowTransformer2DModel,
    ChromaPipeline,
    ChromaTransformer2DModel,
    CogView4Pipeline,
    CogView4Transformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    Flux3Transformer2DModel,
    HiDreamImagePipeline,
    HiDreamImageTransformer2DModel,
)
from transformers import (
    CLIPTextModelWithProjection,
    GlmConfig,
    GlmModel,
    LlamaConfig,
    LlamaForCausalLM,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    UMT5Config,
    UMT5EncoderModel,
)

from calibri.tabletop.backbone import new_t5, pooled_config
from tests import tiny_parts as parts
from tests.tiny import _clip_tokenizer, _t5_tokenizer
from tests.tiny_parts import WIDTH, filled


def flow(shift: float = 1.0, **settings: Any) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=shift, **settings)


def flux2_transformer(joint: int, guidance_embeds: bool) -> Flux2Transformer2DModel:
    return filled(
        Flux2Transformer2DModel(
            in_channels=16,
            num_layers=2,
            num_single_layers=3,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=joint,
            timestep_guidance_channels=32,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=guidance_embeds,
        ),
        0,
    )


def flux2_dev() -> Flux2Pipeline:
    """With the tokenizer alone where torchvision is not installed, which PixtralProcessor needs."""
    tokenizer = parts.byte_tokenizer("[IMG]", "[IMG_BREAK]", "[IMG_END]")
    words = parts.decoder_config(tokenizer, 30) | {"model_type": "mistral"}
    sight = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Mistral3Config(text_config=words, vision_config=sight | {"model_type": "pixtral"})
    return Flux2Pipeline(
        scheduler=flow(),
        vae=parts.vae_flux2(),
        text_encoder=filled(Mistral3ForConditionalGeneration(config), 7),
        tokenizer=parts.pixtral_processor(tokenizer),
        transformer=flux2_transformer(3 * WIDTH, guidance_embeds=True),
    )


def flux2_klein() -> Flux2KleinPipeline:
    tokenizer = parts.byte_tokenizer()
    return Flux2KleinPipeline(
        scheduler=flow(),
        vae=parts.vae_flux2(),
        text_encoder=parts.qwen3(tokenizer, 28),
        tokenizer=tokenizer,
        transformer=flux2_transformer(3 * WIDTH, guidance_embeds=False),
    )


def chroma() -> ChromaPipeline:
    tokenizer = _t5_tokenizer()
    transformer = ChromaTransformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=3,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(4, 4, 8),
        approximator_num_channels=16,
        approximator_hidden_dim=16,
        approximator_layers=1,
    )
    return ChromaPipeline(
        scheduler=flow(),
        vae=parts.vae_kl(),
        text_encoder=filled(new_t5(tokenizer, WIDTH, layers=1, heads=2), 7),
        tokenizer=tokenizer,
        transformer=filled(transformer, 0),
    )


def auraflow() -> AuraFlowPipeline:
    tokenizer = _t5_tokenizer()
    transformer = AuraFlowTransformer2DModel(
        sample_size=8,
        in_channels=4,
        num_mmdit_layers=2,
        num_single_dit_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        caption_projection_dim=32,
        pos_embed_max_size=256,
    )
    config = UMT5Config(vocab_size=len(tokenizer), d_model=WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    return AuraFlowPipeline(
        tokenizer=tokenizer,
        text_encoder=filled(UMT5EncoderModel(config), 7),
        vae=parts.vae_kl(),
        transformer=filled(transformer, 0),
        scheduler=flow(),
    )


def cogview4() -> CogView4Pipeline:
    tokenizer = parts.glm_tokenizer()
    transformer = CogView4Transformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        text_embed_dim=WIDTH,
        time_embed_dim=16,
        condition_dim=8,
        sample_size=8,
        rope_axes_dim=(8, 8),
    )
    config = GlmConfig(**parts.decoder_config(tokenizer, 2))
    return CogView4Pipeline(
        tokenizer=tokenizer,
        text_encoder=filled(GlmModel(config), 7),
        vae=parts.vae_kl(),
        transformer=filled(transformer, 0),
        scheduler=flow(use_dynamic_shifting=True, base_shift=0.25, max_shift=0.75),
    )


def hidream() -> HiDreamImagePipeline:
    clip, t5, llama = _clip_tokenizer(), _t5_tokenizer(), parts.byte_tokenizer()
    transformer = HiDreamImageTransformer2DModel(
        patch_size=2,
        in_channels=4,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        caption_channels=[WIDTH, WIDTH],
        text_emb_dim=2 * WIDTH,
        num_routed_experts=2,
        num_activated_experts=1,
        axes_dims_rope=(4, 6, 6),
        max_resolution=(16, 16),
        llama_layers=[0, 1, 1, 1],
    )
    clips = [filled(CLIPTextModelWithProjection(pooled_config(clip, WIDTH, layers=1)), n) for n in (5, 6)]
    return HiDreamImagePipeline(
        scheduler=flow(),
        vae=parts.vae_kl(),
        text_encoder=clips[0],
        tokenizer=clip,
        text_encoder_2=clips[1],
        tokenizer_2=clip,
        text_encoder_3=filled(new_t5(t5, WIDTH, layers=1, heads=2), 7),
        tokenizer_3=t5,
        text_encoder_4=filled(LlamaForCausalLM(LlamaConfig(**parts.decoder_config(llama, 2))), 9),
        tokenizer_4=llama,
        transformer=filled(transformer, 0),
    )


def flux3() -> Flux3Transformer2DModel:
    made = Flux3Transformer2DModel(
        in_channels=8,
        cond_in_channels=8,
        num_layers=2,
        num_single_layers=3,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        timestep_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
    )
    return filled(made, 0)


def flux3_call(rows: int) -> dict[str, Any]:
    """6 tokens of text, 4×4 of a picture."""
    generator = torch.Generator().manual_seed(0)
    grid = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij"), dim=-1).view(16, 2)
    return {
        "hidden_states": torch.randn(rows, 16, 8, generator=generator),
        "encoder_hidden_states": torch.randn(rows, 6, WIDTH, generator=generator),
        "timestep": torch.full((rows,), 0.7),
        "img_ids": torch.nn.functional.pad(grid, (1, 1)),
        "txt_ids": torch.nn.functional.pad(torch.arange(6)[:, None], (3, 0)),
    }
