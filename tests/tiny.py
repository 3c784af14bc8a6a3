"""Tiny random pipelines of real classes: every code path of a large backbone, in milliseconds.

Weights are drawn from a generator of their own, scaled so that pictures are neither flat nor saturated and
depend visibly on prompt, seed and scales.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from diffusers import AutoencoderTiny, FluxPipeline, FluxTransformer2DModel
from transformers import CLIPTextModel, CLIPTokenizer, T5TokenizerFast

from calibri.tabletop.backbone import new_t5, pooled_config
from calibri.tabletop.backbone import pipeline as join_parts

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone

TOKENS = 16
LATENT_CHANNELS = 4
PIXELS = 32  # 4×4 latents, 2×2 packed tokens


def fill(module: torch.nn.Module, seed: int, gain: float = 1.0) -> None:
    """Random weights: matrices N(0, gain²/fan_in), norms near 1, other vectors N(0, 0.1²)."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(module.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        with torch.no_grad():
            if parameter.ndim > 1:
                parameter.copy_(noise * gain / parameter[0].numel() ** 0.5)
            elif name.endswith("weight"):
                parameter.copy_(1 + 0.1 * noise)
            else:
                parameter.copy_(0.1 * noise)
    module.eval()


def flux_transformer(
    doubles: int = 2,
    singles: int = 3,
    *,
    heads: int = 2,
    guidance_embeds: bool = False,
    seed: int = 0,
) -> FluxTransformer2DModel:
    """A FLUX transformer of width 16·heads on packed tokens of 16 channels."""
    transformer = FluxTransformer2DModel(
        in_channels=4 * LATENT_CHANNELS,
        num_layers=doubles,
        num_single_layers=singles,
        attention_head_dim=16,
        num_attention_heads=heads,
        joint_attention_dim=32,
        pooled_projection_dim=24,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(4, 4, 8),
    )
    fill(transformer, seed)
    return transformer


def _t5_tokenizer() -> T5TokenizerFast:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz0123456789,."]
    return T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=TOKENS)


def _clip_tokenizer() -> CLIPTokenizer:
    letters = [chr(c) for c in range(33, 127)]
    vocab = {piece: i for i, piece in enumerate([*letters, *(c + "</w>" for c in letters)])}
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocab[special] = len(vocab)
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=TOKENS)


def tiny_flux(
    path: str | Path | None = None,
    *,
    doubles: int = 2,
    singles: int = 3,
    guidance_embeds: bool = False,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> FluxPipeline:
    """A real FluxPipeline with random weights, 32×32 px. With `path` it is saved there too, with a
    `calibri.json` that gives its defaults, so that `load_backbone(path)` works.
    """
    t5, clip = _t5_tokenizer(), _clip_tokenizer()
    tokens = new_t5(t5, 32, layers=1, heads=2)
    pooled = CLIPTextModel(pooled_config(clip, 24))
    vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        latent_channels=LATENT_CHANNELS,
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
    )
    for number, module in enumerate((tokens, pooled, vae), 1):
        fill(module, seed + 1000 * number, gain=1.15 if module is vae else 1.0)
    with torch.no_grad():  # the decoder puts out 2·y − 1: centre y on a half
        vae.decoder.layers[-1].bias.fill_(0.5)
    transformer = flux_transformer(doubles, singles, guidance_embeds=guidance_embeds, seed=seed)
    pipeline = join_parts(vae, transformer, t5, clip, tokens, pooled).to(dtype)
    pipeline.set_progress_bar_config(disable=True)
    if path is not None:
        pipeline.save_pretrained(path)
        defaults = {"name": "tiny", "steps": 2, "height": PIXELS, "width": PIXELS}
        (Path(path) / "calibri.json").write_text(json.dumps(defaults), encoding="utf-8")
    return pipeline


def tiny_backbone(*, mixed: bool = False, **settings: object) -> Backbone:
    """`tiny_flux` as a loaded backbone; its picture is 32×32 px in 2 steps."""
    from calibri.backbones.catalog import BackboneSpec
    from calibri.backbones.loading import Backbone
    from calibri.backbones.options import LoadOptions

    spec = BackboneSpec(name="tiny", source="memory", steps=2, height=PIXELS, width=PIXELS)
    options = LoadOptions(dtype="mixed" if mixed else "auto")
    return Backbone(tiny_flux(**settings), spec, options=options)
