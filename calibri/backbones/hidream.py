"""HiDream-I1: sites of `HiDreamImageTransformer2DModel`.

Read from diffusers 0.42, models/transformers/transformer_hidream_image.py. One modulation gives all gates of
a block, the image's before the text's. The pipeline paints one area whatever size it is asked for, unless it
is told another one before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calibri.backbones.pipeline_facts import PipelineFacts
from calibri.backbones.sites import Chunk, Layer, Rows, Site, Stream, make_site

_DOUBLE: tuple[tuple[Stream, Layer, int], ...] = (
    ("img", "attn", 2),
    ("img", "mlp", 5),
    ("txt", "attn", 8),
    ("txt", "mlp", 11),
)
_SINGLE: tuple[tuple[Stream, Layer, int], ...] = (("joint", "attn", 2), ("joint", "mlp", 5))


def sites(config: Mapping[str, Any]) -> tuple[Site, ...]:
    """Four sites a block of two streams, two a block of one."""
    found = []
    kinds = (
        ("double", "double_stream_blocks", config["num_layers"], 12, _DOUBLE),
        ("block", "single_stream_blocks", config["num_single_layers"], 6, _SINGLE),
    )
    for kind, blocks, count, chunks, gates in kinds:
        for b in range(count):
            module = f"{blocks}.{b}.block.adaLN_modulation"
            for stream, layer, chunk in gates:
                op, fold = Chunk(chunks, chunk), Rows(f"{module}.1", chunks, chunk)
                found.append(make_site(f"{kind}.{b}", stream, layer, module, op, fold))
    return tuple(found)


def _paint_this_area(pipeline: Any, height: int, width: int) -> None:
    # A little more than the root of the area, which rounding would make a little less.
    pipeline.default_sample_size = (height * width) ** 0.5 / pipeline.vae_scale_factor * (1 + 1e-9)


FACTS = {
    "HiDreamImagePipeline": PipelineFacts(
        encoded=("prompt_embeds_t5", "", "prompt_embeds_llama3", "", "pooled_prompt_embeds"),
        rows={
            "encoder_hidden_states_t5": "prompt_embeds_t5",
            "encoder_hidden_states_llama3": "prompt_embeds_llama3",
            "pooled_embeds": "pooled_prompt_embeds",
        },
        off={"guidance_scale": 1.0},
        encode={"do_classifier_free_guidance": False},
        repeated=("hidden_states", "timesteps"),
        tokens=128,
        dims={"prompt_embeds_llama3": 1},
        tokenizer="tokenizer_3",
        prepare=_paint_this_area,
    )
}
PIPELINES = tuple(FACTS)
