"""How the renderer drives an `Ideogram4Pipeline`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from diffusers.models.transformers.transformer_ideogram4 import (
    LLM_TOKEN_INDICATOR,
    SEQUENCE_PADDING_INDICATOR,
)

from calibri.backbones.adapter import BaseAdapter
from calibri.errors import RenderError

if TYPE_CHECKING:
    from diffusers import Ideogram4Pipeline

    from calibri.backbones.adapter import Embeddings
    from calibri.backbones.catalog import BackboneSpec


class Ideogram4Adapter(BaseAdapter):
    """The pipeline takes words alone: it is given empty ones, and each row of the transformer its own
    embeddings.

    It guides by itself, with another transformer.
    """

    takes_embeddings = False
    guides_itself = True
    off = "guidance_scale=1, guidance_schedule=None"

    def __init__(self, pipeline: Ideogram4Pipeline, spec: BackboneSpec) -> None:
        self.pipeline = pipeline
        self.size_step = pipeline.vae_scale_factor * pipeline.patch_size
        self.tokens = min(spec.max_sequence_length, 2048)  # the pipeline's own default

    def encode(self, prompt: str, negative: bool = False) -> Embeddings:
        device = self.pipeline._execution_device
        try:
            words, places, _, _ = self.pipeline.encode_prompt(prompt, 1, 1, self.tokens, device)
        except ValueError as error:  # it is too long: nothing of a chat can be left out
            raise RenderError(f"{prompt[:40]!r}: {error}") from error
        count = int(places[0, self.tokens - 1, 0]) + 1  # text is padded in front
        return {"prompt_embeds": words[:, self.tokens - count : self.tokens]}

    def tokens_of(self, prompts: torch.Tensor) -> int:
        return self.tokens

    @property
    def reads(self) -> int:
        return self.tokens

    def unread(self, prompt: str) -> str:
        return ""  # longer prompts are refused

    def call(self, prompts: Sequence[Embeddings], guidance: float | None = None) -> dict[str, Any]:
        return {
            "prompt": [""] * len(prompts),
            "guidance_scale": 1.0 if guidance is None else float(guidance),
            "guidance_schedule": None,
            "max_sequence_length": self.tokens,
        }

    def rows(
        self, prompts: Sequence[Embeddings], guidance: Sequence[float | None], call: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The layout that the pipeline makes: padding, text, picture."""
        tokens, count = self.tokens, len(prompts)
        empty = call["encoder_hidden_states"]
        words = empty.new_zeros(count, *empty.shape[1:])
        places, segments, roles = (
            call[name][:1].repeat(count, *(1,) * (call[name].ndim - 1))
            for name in ("position_ids", "segment_ids", "indicator")
        )
        places[:, :tokens], segments[:, :tokens], roles[:, :tokens] = 0, SEQUENCE_PADDING_INDICATOR, 0
        for row, prompt in enumerate(prompts):
            text = prompt["prompt_embeds"][0]
            here = slice(tokens - len(text), tokens)
            words[row, here] = text.to(words)
            places[row, here] = torch.arange(len(text), device=places.device)[:, None]
            segments[row, here] = 1
            roles[row, here] = LLM_TOKEN_INDICATOR
        return {
            "encoder_hidden_states": words,
            "position_ids": places,
            "segment_ids": segments,
            "indicator": roles,
        }
