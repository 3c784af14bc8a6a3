"""Lumina Image 2.0: sites of `Lumina2Transformer2DModel`.

Read from diffusers 0.42, models/transformers/transformer_lumina2.py. As Z-Image: the gate is tanh of a
modulation chunk, times a norm of the branch; the refiners are further sites, those of the text without gates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calibri.backbones.pipeline_facts import PipelineFacts
from calibri.backbones.sites import Layer, Site, sites_of_outputs


def _ends(module: str) -> list[tuple[Layer, str, str]]:
    norms: tuple[tuple[Layer, str], ...] = (("attn", "norm2"), ("mlp", "ffn_norm2"))
    return [(layer, f"{module}.{norm}", f"{module}.{norm}") for layer, norm in norms]


def sites(config: Mapping[str, Any]) -> tuple[Site, ...]:
    """Two sites a block, on image and text tokens together; before them those of the refiners."""
    found = []
    for b in range(config.get("num_refiner_layers", 0)):
        found += sites_of_outputs(f"context.{b}", "txt", _ends(f"context_refiner.{b}"), "refiners")
    for b in range(config.get("num_refiner_layers", 0)):
        found += sites_of_outputs(f"noise.{b}", "img", _ends(f"noise_refiner.{b}"), "refiners")
    for b in range(config["num_layers"]):
        found += sites_of_outputs(f"block.{b}", "joint", _ends(f"layers.{b}"))
    return tuple(found)


def _frame(pipeline: Any, prompt: str) -> str:
    return f"{pipeline.system_prompt} <Prompt Start> {prompt}"


# The pipeline puts its system prompt before prompts, not before negative ones.
FACTS = {
    "Lumina2Pipeline": PipelineFacts(
        encoded=("prompt_embeds", "prompt_attention_mask"),
        rows={"encoder_hidden_states": "prompt_embeds", "encoder_attention_mask": "prompt_attention_mask"},
        off={"guidance_scale": 1.0},
        encode={"do_classifier_free_guidance": False},
        tokens=256,
        negatives=2,
        rescales=True,
        frame=_frame,
    )
}
PIPELINES = tuple(FACTS)
