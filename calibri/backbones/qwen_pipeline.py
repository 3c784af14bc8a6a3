"""How the renderer drives a `QwenImagePipeline`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from calibri.backbones.adapter import BaseAdapter
from calibri.backbones.unread import find_behind

if TYPE_CHECKING:
    from diffusers import QwenImagePipeline

    from calibri.backbones.adapter import Embeddings
    from calibri.backbones.catalog import BackboneSpec


class QwenAdapter(BaseAdapter):
    """Text tokens of their own length, padded and masked in a batch; combined predictions are rescaled."""

    repeated: tuple[str, ...] = ("hidden_states", "timestep", "img_shapes")

    def __init__(self, pipeline: QwenImagePipeline, spec: BackboneSpec) -> None:
        self.pipeline = pipeline
        self.size_step = 2 * pipeline.vae_scale_factor  # latents are packed 2×2
        self.tokens = min(spec.max_sequence_length, 1024)  # the pipeline's own limit

    def encode(self, prompt: str, negative: bool = False) -> Embeddings:
        tokens, _ = self.pipeline.encode_prompt(prompt, max_sequence_length=self.tokens)
        return {"prompt_embeds": tokens}  # one prompt alone has no padding, so no mask

    def tokens_of(self, prompts: torch.Tensor) -> int:
        return self.tokens  # nothing is padded to it

    @property
    def reads(self) -> int:
        return self.tokens

    def unread(self, prompt: str) -> str:
        before, _, _ = self.pipeline.prompt_template_encode.partition("{}")
        kept = self.pipeline.prompt_template_encode_start_idx + self.reads
        return find_behind(self.pipeline.tokenizer, before + prompt, kept)

    def call(self, prompts: Sequence[Embeddings], guidance: float | None = None) -> dict[str, Any]:
        tokens, mask = _padded(prompts)
        return {"prompt_embeds": tokens, "prompt_embeds_mask": mask, "true_cfg_scale": 1.0}

    def rows(
        self, prompts: Sequence[Embeddings], guidance: Sequence[float | None], call: Mapping[str, Any]
    ) -> dict[str, Any]:
        tokens, mask = _padded(prompts)
        return {"encoder_hidden_states": tokens, "encoder_hidden_states_mask": mask}

    def finish(self, combined: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
        """Each token gets the norm it has in the positive prediction (QwenImagePipeline, true CFG)."""
        norms = [torch.linalg.vector_norm(x, dim=-1, keepdim=True) for x in (positive, combined)]
        return combined * (norms[0] / norms[1])


def _padded(prompts: Sequence[Embeddings]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(B, L, D) tokens padded with zeros, and the mask (B, L) of real ones, None where nothing is padded."""
    tokens = [each["prompt_embeds"][0] for each in prompts]
    lengths = [len(each) for each in tokens]
    joined = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)
    if len(set(lengths)) == 1:
        return joined, None
    places = torch.arange(max(lengths), device=joined.device)
    return joined, (places < torch.tensor(lengths, device=joined.device)[:, None]).long()
