"""Krea 2: sites of `Krea2Transformer2DModel`.

Read from diffusers 0.42, models/transformers/transformer_krea2.py. A gate is the block's own table plus a
vector that all blocks share, so the branches' outputs are multiplied. The blocks that refine the text have no
gates: they are further sites.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calibri.backbones.pipeline_facts import PipelineFacts
from calibri.backbones.sites import Layer, Site, sites_of_outputs


def _ends(module: str) -> list[tuple[Layer, str, str]]:
    return [
        ("attn", f"{module}.attn", f"{module}.attn.to_out.0"),
        ("mlp", f"{module}.ff", f"{module}.ff.down"),
    ]


def sites(config: Mapping[str, Any]) -> tuple[Site, ...]:
    """Two sites a block, on image and text tokens together; before them those of the text's refiners."""
    found = []
    for b in range(config.get("num_refiner_text_blocks", 0)):
        found += sites_of_outputs(f"context.{b}", "txt", _ends(f"text_fusion.refiner_blocks.{b}"), "refiners")
    for b in range(config["num_layers"]):
        found += sites_of_outputs(f"block.{b}", "joint", _ends(f"transformer_blocks.{b}"))
    return tuple(found)


def _frame(pipeline: Any, prompt: str) -> str:
    return f"{pipeline.prompt_template_encode_prefix}{prompt}"


# The pipeline's guidance g adds g times the difference: ours is g + 1.
FACTS = {
    "Krea2Pipeline": PipelineFacts(
        encoded=("prompt_embeds", "prompt_embeds_mask"),
        rows={"encoder_hidden_states": "prompt_embeds", "encoder_attention_mask": "prompt_embeds_mask"},
        off={"guidance_scale": 0.0},
        frame=_frame,
        spare=29,  # 34 tokens of the instruction, less 5 that follow the prompt
    )
}
PIPELINES = tuple(FACTS)
