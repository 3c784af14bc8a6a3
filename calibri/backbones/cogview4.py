"""CogView4: sites of `CogView4Transformer2DModel`.

Read from diffusers 0.42, models/transformers/transformer_cogview4.py. One norm gives the gates of both
streams; its Linear's rows alternate between image and text. Attention and MLP are shared by the streams. The
text output of the last block is not used, so its text gates are dead and no sites.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calibri.backbones.pipeline_facts import PipelineFacts
from calibri.backbones.sites import Layer, Site, Stream, site_of_norm

# (stream, layer, element of the norm's output, chunk of its Linear's twelve)
_GATES: tuple[tuple[Stream, Layer, int, int], ...] = (
    ("img", "attn", 1, 4),
    ("img", "mlp", 4, 10),
    ("txt", "attn", 6, 5),
    ("txt", "mlp", 9, 11),
)


def sites(config: Mapping[str, Any]) -> tuple[Site, ...]:
    """Four sites a block, two the last one."""
    last = config["num_layers"] - 1
    return tuple(
        site_of_norm(f"block.{b}", f"transformer_blocks.{b}.norm1", stream, (layer, item, rows), 12)
        for b in range(last + 1)
        for stream, layer, item, rows in _GATES
        if b != last or stream == "img"
    )


# Prompts are padded to multiples of 16 tokens that are read like others, so unlike ones run in turn.
FACTS = {
    "CogView4Pipeline": PipelineFacts(
        encoded=("prompt_embeds",),
        rows={"encoder_hidden_states": "prompt_embeds"},
        off={"guidance_scale": 1.0},
        encode={"do_classifier_free_guidance": False},
        repeated=("hidden_states", "timestep", "original_size", "target_size", "crop_coords"),
        tokens=1024,
        pads=False,
    )
}
PIPELINES = tuple(FACTS)
