"""Qwen-Image: sites of `QwenImageTransformer2DModel`.

Read from diffusers 0.42, models/transformers/transformer_qwenimage.py. `img_mod` and `txt_mod` give
(shift, scale, gate) of attention and of the MLP as one tensor (B, 6·D); with `zero_cond_t` img_mod's batch
is 2B. The text output of the last block is not used, so its text gates are dead and no sites.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from calibri.backbones.sites import Chunk, Layer, Rows, Site

if TYPE_CHECKING:
    from diffusers import QwenImagePipeline

    from calibri.backbones.adapter import Adapter
    from calibri.backbones.catalog import BackboneSpec

PIPELINES = ("QwenImagePipeline",)
_GATES: tuple[tuple[Layer, int], ...] = (("attn", 2), ("mlp", 5))  # layer, chunk of the modulation


def sites(config: Mapping[str, Any]) -> tuple[Site, ...]:
    """Image attn and mlp, then text attn and mlp, of each block."""
    last = config["num_layers"] - 1
    found = []
    for b in range(last + 1):
        for stream in ("img", "txt") if b != last else ("img",):
            module = f"transformer_blocks.{b}.{stream}_mod"
            for layer, chunk in _GATES:
                found.append(
                    Site(
                        name=f"block.{b}.{stream}.{layer}",
                        module=module,
                        op=Chunk(6, chunk),
                        stream=stream,
                        layer=layer,
                        block=f"block.{b}",
                        fold=Rows(f"{module}.1", 6, chunk),
                    )
                )
    return tuple(found)


def adapter(pipeline: QwenImagePipeline, spec: BackboneSpec) -> Adapter:
    """How the renderer drives the pipeline."""
    from calibri.backbones.qwen_pipeline import QwenAdapter

    return QwenAdapter(pipeline, spec)
