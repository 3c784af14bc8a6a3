"""Qwen-Image 2.1: sites of `QwenImage21Transformer2DModel`.

Read from diffusers 0.42, models/transformers/transformer_qwenimage21.py. One stream of text and image tokens;
the gate is tanh of a chunk of one modulation that all blocks share, formed inside the block: the branches'
outputs are multiplied. The key-value cache of the prompt stays off, because members do not share what it
holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calibri.backbones.pipeline_facts import PipelineFacts
from calibri.backbones.sites import Site, sites_of_outputs


def sites(config: Mapping[str, Any]) -> tuple[Site, ...]:
    """Two sites a block."""
    found = []
    for b in range(config["num_layers"]):
        module = f"transformer_blocks.{b}"
        found += sites_of_outputs(
            f"block.{b}",
            "joint",
            [
                ("attn", f"{module}.attn", f"{module}.attn.to_out.0"),
                ("mlp", f"{module}.img_mlp", f"{module}.img_mlp.out"),
            ],
        )
    return tuple(found)


# Prompts have their own lengths, on which a picture's place behind them depends: unlike ones run in turn.
FACTS = {
    "QwenImage21Pipeline": PipelineFacts(
        encoded=("prompt_embeds", "prompt_embeds_mask", "image_pad_mask"),
        rows={"encoder_hidden_states": "prompt_embeds", "img_mask": "image_pad_mask"},
        off={"true_cfg_scale": 1.0},
        call={"use_kv_cache": False},
        repeated=("hidden_states", "timestep", "img_shapes"),
        longer=("img_mask",),
        pads=False,
        trails=True,
        size=2,
        unlimited=True,
    )
}
PIPELINES = tuple(FACTS)
