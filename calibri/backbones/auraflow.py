"""AuraFlow: sites of `AuraFlowTransformer2DModel`.

Read from diffusers 0.42, models/transformers/auraflow_transformer_2d.py. Attention is never added to the
stream: its gate changes what the MLP of the block reads, and that alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calibri.backbones.pipeline_facts import PipelineFacts
from calibri.backbones.sites import Layer, Site, Stream, site_of_norm

_GATES: tuple[tuple[Layer, int, int], ...] = (("attn", 1, 2), ("mlp", 4, 5))  # as AdaLayerNormZero of FLUX.1
_STREAMS: tuple[tuple[Stream, str], ...] = (("img", "norm1"), ("txt", "norm1_context"))


def sites(config: Mapping[str, Any]) -> tuple[Site, ...]:
    """Four sites a block of two streams, two a block of one."""
    found = []
    for b in range(config["num_mmdit_layers"]):
        for stream, norm in _STREAMS:
            module = f"joint_transformer_blocks.{b}.{norm}"
            found += [site_of_norm(f"double.{b}", module, stream, gate) for gate in _GATES]
    for b in range(config["num_single_dit_layers"]):
        module = f"single_transformer_blocks.{b}.norm1"
        found += [site_of_norm(f"block.{b}", module, "joint", gate) for gate in _GATES]
    return tuple(found)


FACTS = {
    "AuraFlowPipeline": PipelineFacts(
        encoded=("prompt_embeds", "prompt_attention_mask"),
        rows={"encoder_hidden_states": "prompt_embeds"},
        off={"guidance_scale": 1.0},
        encode={"do_classifier_free_guidance": False},
        tokens=256,
        in_batch=True,
    )
}
PIPELINES = tuple(FACTS)
