"""How the renderer drives a pipeline of which a family declares the facts."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from calibri.backbones.adapter import BaseAdapter
from calibri.backbones.unread import find_unread, hush_truncation
from calibri.errors import RenderError

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from calibri.backbones.adapter import Embeddings
    from calibri.backbones.catalog import BackboneSpec
    from calibri.backbones.pipeline_facts import PipelineFacts


class FactsAdapter(BaseAdapter):
    """Prompts are encoded one by one; rows whose prompts differ in length run one after the other."""

    def __init__(self, pipeline: DiffusionPipeline, spec: BackboneSpec, facts: PipelineFacts) -> None:
        self.pipeline = pipeline
        self.facts = facts
        self.repeated = facts.repeated
        self.words = next(iter(facts.rows))
        self.off = ", ".join(f"{name}={value:g}" for name, value in facts.off.items())
        self.size_step = facts.size * int(pipeline.vae_scale_factor)
        self.tokens = min(spec.max_sequence_length, facts.tokens)
        self.tells_negatives = bool(facts.negatives)
        self.in_batch = facts.in_batch
        self.guidance = facts.guidance if spec.guidance is None else spec.guidance
        self._takes = set(inspect.signature(pipeline.__call__).parameters)

    def encode(self, prompt: str, negative: bool = False) -> Embeddings:
        facts, pipeline = self.facts, self.pipeline
        options: dict[str, Any] = dict(facts.encode)
        if "max_sequence_length" in inspect.signature(pipeline.encode_prompt).parameters:
            options["max_sequence_length"] = self.tokens
        told = inspect.signature(pipeline.__call__).parameters
        options |= {name: told[name].default for name in facts.same}
        text, first = prompt, 0
        if negative and facts.negatives:
            text, first = "", facts.negatives
            options |= {"negative_prompt": prompt, "do_classifier_free_guidance": True}
        with hush_truncation(type(pipeline).__module__):
            found = pipeline.encode_prompt(text, **options)
        found = found if isinstance(found, tuple) else (found,)
        parts = zip(facts.encoded, found[first:], strict=False)
        return {name: self._one(part) for name, part in parts if name and part is not None}

    def _one(self, part: Any) -> torch.Tensor:
        while isinstance(part, list):
            part = part[0][None] if isinstance(part[0], torch.Tensor) else part[0]
        return part

    def tokens_of(self, prompts: Any) -> int:
        return int(prompts.shape[1]) if self.facts.pads and isinstance(prompts, torch.Tensor) else self.tokens

    @property
    def reads(self) -> int:
        return self.tokens

    def unread(self, prompt: str) -> str:
        facts = self.facts
        if facts.unlimited:
            return ""
        found = getattr(self.pipeline, facts.tokenizer)
        text = prompt if facts.frame is None else facts.frame(self.pipeline, prompt)
        return find_unread(getattr(found, "tokenizer", found), text, self.tokens + facts.spare)

    def alike(self, prompt: Embeddings) -> object:
        return None if self.facts.as_list else tuple(tuple(part.shape) for part in prompt.values())

    def call(self, prompts: Sequence[Embeddings], guidance: float | None = None) -> dict[str, Any]:
        given = {name: self._join(name, prompts) for name in prompts[0] if name in self._takes}
        guided = {} if self.guidance is None else {"guidance_scale": self.guidance}
        return {**given, **self.facts.call, **self.facts.off, **guided}

    def rows(
        self, prompts: Sequence[Embeddings], guidance: Sequence[float | None], call: Mapping[str, Any]
    ) -> dict[str, Any]:
        if self._reads_pictures(call):
            raise RenderError("an ensemble reads text alone: leave pictures out of the prompt")
        found = {
            name: self._join(kept, prompts) for name, kept in self.facts.rows.items() if kept in prompts[0]
        }
        for name in self.facts.longer:
            more = call[name].shape[1] - call[self.words].shape[1]  # the picture's tokens
            mask = found[name]
            found[name] = torch.cat([mask, mask.new_ones(mask.shape[0], more)], dim=1)
        if self.guidance is not None and call.get("guidance") is not None:
            values = [self.guidance if g is None else g for g in guidance]
            found["guidance"] = torch.tensor(
                values, dtype=call["guidance"].dtype, device=call["guidance"].device
            )
        return found

    def _reads_pictures(self, call: Mapping[str, Any]) -> bool:
        """Whether the prompts of a call have pictures between their words."""
        if self.facts.nested:
            return any(len(each) != 1 for each in call[self.words])
        mask = call.get("img_mask")
        return mask is not None and bool(mask[:, : call[self.words].shape[1]].any())

    def _join(self, name: str, prompts: Sequence[Embeddings]) -> Any:
        parts = [each[name] for each in prompts]
        if self.facts.as_list:
            return [[part[0]] if self.facts.nested else part[0] for part in parts]
        return torch.cat(parts, dim=self.facts.dims.get(name, 0))

    def finish(self, combined: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
        if not self.facts.rescales:
            return combined
        norms = [torch.linalg.vector_norm(x, dim=-1, keepdim=True) for x in (positive, combined)]
        return combined * (norms[0] / norms[1])

    def picture(self, prediction: torch.Tensor, call: Mapping[str, Any]) -> torch.Tensor:
        return prediction[:, -call["hidden_states"].shape[1] :] if self.facts.trails else prediction

    def prepare(self, height: int, width: int) -> None:
        if self.facts.prepare is not None:
            self.facts.prepare(self.pipeline, height, width)
