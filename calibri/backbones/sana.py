"""Sana: sites of `SanaTransformer2DModel`.

Read from diffusers 0.42, models/transformers/sana_transformer.py. A gate is the block's own table plus a
vector that all blocks share, so the branches' outputs are multiplied. Cross-attention has no gate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calibri.backbones.pipeline_facts import PipelineFacts
from calibri.backbones.sites import Site, sites_of_outputs


def sites(config: Mapping[str, Any]) -> tuple[Site, ...]:
    """Self-attention and feed-forward of each block; its cross-attention is a further site in a block of its
    own.
    """
    found = []
    for b in range(config["num_layers"]):
        module = f"transformer_blocks.{b}"
        found += sites_of_outputs(
            f"block.{b}",
            "img",
            [
                ("attn", f"{module}.attn1", f"{module}.attn1.to_out.0"),
                ("mlp", f"{module}.ff", f"{module}.ff.conv_point"),
            ],
        )
        cross = f"{module}.attn2"
        found += sites_of_outputs(f"cross.{b}", "img", [("attn2", cross, f"{cross}.to_out.0")], "cross")
    return tuple(found)


# The pipeline puts an instruction before prompts, not before negative ones. Sizes are painted as asked for.
FACTS = {
    "SanaPipeline": PipelineFacts(
        encoded=("prompt_embeds", "prompt_attention_mask"),
        rows={"encoder_hidden_states": "prompt_embeds", "encoder_attention_mask": "prompt_attention_mask"},
        off={"guidance_scale": 1.0},
        encode={"do_classifier_free_guidance": False},
        call={"use_resolution_binning": False},
        same=("complex_human_instruction",),
        tokens=300,
        spare=-1,  # the instruction's own mark takes a place
        negatives=2,
        size=1,
    )
}
PIPELINES = tuple(FACTS)
