"""PixArt: sites of `PixArtTransformer2DModel` (alpha, Sigma).

Read from diffusers 0.42, models/attention.py, BasicTransformerBlock with `ada_norm_single`. As Sana: a gate
is the block's own table plus a vector that all blocks share, and cross-attention has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from calibri.backbones.pipeline_facts import PipelineFacts
from calibri.backbones.sites import Site, sites_of_outputs


def sites(config: Mapping[str, Any]) -> tuple[Site, ...]:
    """Self-attention and MLP of each block; its cross-attention is a further site in a block of its own."""
    found = []
    for b in range(config["num_layers"]):
        module = f"transformer_blocks.{b}"
        found += sites_of_outputs(
            f"block.{b}",
            "img",
            [
                ("attn", f"{module}.attn1", f"{module}.attn1.to_out.0"),
                ("mlp", f"{module}.ff", f"{module}.ff.net.2"),
            ],
        )
        cross = f"{module}.attn2"
        found += sites_of_outputs(f"cross.{b}", "img", [("attn2", cross, f"{cross}.to_out.0")], "cross")
    return tuple(found)


_SIGMA = PipelineFacts(
    encoded=("prompt_embeds", "prompt_attention_mask"),
    rows={"encoder_hidden_states": "prompt_embeds", "encoder_attention_mask": "prompt_attention_mask"},
    off={"guidance_scale": 1.0},
    encode={"do_classifier_free_guidance": False},
    call={"use_resolution_binning": False, "clean_caption": False},
    repeated=("hidden_states", "timestep", "added_cond_kwargs"),
    tokens=300,
    in_batch=True,
    size=2,
)
FACTS = {"PixArtSigmaPipeline": _SIGMA, "PixArtAlphaPipeline": replace(_SIGMA, tokens=120)}
PIPELINES = tuple(FACTS)
