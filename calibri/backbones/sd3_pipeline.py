"""How the renderer drives a `StableDiffusion3Pipeline`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from calibri.backbones.adapter import BaseAdapter
from calibri.backbones.unread import find_unread, hush_truncation

if TYPE_CHECKING:
    from diffusers import StableDiffusion3Pipeline

    from calibri.backbones.adapter import Embeddings
    from calibri.backbones.catalog import BackboneSpec

_NAMES = ("prompt_embeds", "pooled_prompt_embeds")


class SD3Adapter(BaseAdapter):
    """Tokens of two CLIPs and T5, and their pooled vectors; guidance is two members, not embedded."""

    off = "guidance_scale=1"

    def __init__(self, pipeline: StableDiffusion3Pipeline, spec: BackboneSpec) -> None:
        self.pipeline = pipeline
        self.size_step = pipeline.vae_scale_factor * pipeline.transformer.config.patch_size
        self.tokens = min(spec.max_sequence_length, 512)  # the pipeline's own limit

    def encode(self, prompt: str, negative: bool = False) -> Embeddings:
        with hush_truncation():
            tokens, _, pooled, _ = self.pipeline.encode_prompt(
                prompt, None, None, do_classifier_free_guidance=False, max_sequence_length=self.tokens
            )
        return {"prompt_embeds": tokens, "pooled_prompt_embeds": pooled}

    def tokens_of(self, prompts: torch.Tensor) -> int:
        of_clip = self.pipeline.tokenizer_max_length
        return max(1, prompts.shape[1] - of_clip)

    @property
    def reads(self) -> int:
        """As many as T5 reads; without T5, which is left out to save memory, as many as CLIP."""
        without = self.pipeline.text_encoder_3 is None
        return int(self.pipeline.tokenizer.model_max_length) if without else self.tokens

    def unread(self, prompt: str) -> str:
        without = self.pipeline.text_encoder_3 is None
        tokenizer = self.pipeline.tokenizer if without else self.pipeline.tokenizer_3
        return find_unread(tokenizer, prompt, self.reads)

    def call(self, prompts: Sequence[Embeddings], guidance: float | None = None) -> dict[str, Any]:
        joined = {name: torch.cat([each[name] for each in prompts]) for name in _NAMES}
        return {**joined, "guidance_scale": 1.0}

    def rows(
        self, prompts: Sequence[Embeddings], guidance: Sequence[float | None], call: Mapping[str, Any]
    ) -> dict[str, Any]:
        return {
            "encoder_hidden_states": torch.cat([each["prompt_embeds"] for each in prompts]),
            "pooled_projections": torch.cat([each["pooled_prompt_embeds"] for each in prompts]),
        }
