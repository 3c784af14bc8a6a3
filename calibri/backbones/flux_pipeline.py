"""How the renderer drives a `FluxPipeline`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from calibri.backbones.adapter import BaseAdapter
from calibri.backbones.unread import find_unread, hush_truncation

if TYPE_CHECKING:
    from diffusers import FluxPipeline

    from calibri.backbones.adapter import Embeddings
    from calibri.backbones.catalog import BackboneSpec


class FluxAdapter(BaseAdapter):
    """FLUX.1: T5 tokens and a pooled CLIP vector; guidance, if any, is embedded."""

    def __init__(self, pipeline: FluxPipeline, spec: BackboneSpec) -> None:
        self.pipeline = pipeline
        self.size_step = 2 * pipeline.vae_scale_factor  # latents are packed 2×2
        # A tokenizer made for fewer tokens than the default says so itself.
        most = getattr(pipeline.tokenizer_2, "model_max_length", spec.max_sequence_length)
        self.tokens = min(spec.max_sequence_length, most)
        self.embeds_guidance = bool(pipeline.transformer.config.guidance_embeds)
        self.guidance = 3.5 if spec.guidance is None else spec.guidance  # FluxPipeline's own default

    def encode(self, prompt: str, negative: bool = False) -> Embeddings:
        with hush_truncation():
            tokens, pooled, _ = self.pipeline.encode_prompt(prompt, max_sequence_length=self.tokens)
        return {"prompt_embeds": tokens, "pooled_prompt_embeds": pooled}

    def tokens_of(self, prompts: torch.Tensor) -> int:
        return prompts.shape[1]  # padded by T5 alone

    @property
    def reads(self) -> int:
        return self.tokens

    def unread(self, prompt: str) -> str:
        return find_unread(self.pipeline.tokenizer_2, prompt, self.reads)  # CLIP gives the pooled vector only

    def call(self, prompts: Sequence[Embeddings], guidance: float | None = None) -> dict[str, Any]:
        joined = {
            name: torch.cat([each[name] for each in prompts])
            for name in ("prompt_embeds", "pooled_prompt_embeds")
        }
        return {**joined, "guidance_scale": self.guidance, "true_cfg_scale": 1.0}

    def rows(
        self, prompts: Sequence[Embeddings], guidance: Sequence[float | None], call: Mapping[str, Any]
    ) -> dict[str, Any]:
        tokens = torch.cat([each["prompt_embeds"] for each in prompts])
        found: dict[str, Any] = {
            "encoder_hidden_states": tokens,
            "pooled_projections": torch.cat([each["pooled_prompt_embeds"] for each in prompts]),
        }
        if self.embeds_guidance:
            values = [self.guidance if g is None else g for g in guidance]
            found["guidance"] = torch.tensor(values, dtype=torch.float32, device=tokens.device)
        return found
