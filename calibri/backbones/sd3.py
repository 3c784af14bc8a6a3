"""Stable Diffusion 3 and 3.5: sites of `SD3Transformer2DModel`.

Read from diffusers 0.42, models/attention.py, JointTransformerBlock. A block has a gate for each of two
streams and two layers, dual-attention blocks (3.5-medium) one more for their second image attention. The
last block has no text gates: its `norm1_context` only modulates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from calibri.backbones.sites import Layer, Site, Stream, site_of_norm

if TYPE_CHECKING:
    from diffusers import StableDiffusion3Pipeline

    from calibri.backbones.adapter import Adapter
    from calibri.backbones.catalog import BackboneSpec

PIPELINES = ("StableDiffusion3Pipeline",)

# (layer, element of the norm's output, chunk of its Linear's rows)
Gate = tuple[Layer, int, int]
_GATES: tuple[Gate, ...] = (("attn", 1, 2), ("mlp", 4, 5))
_SECOND: Gate = ("attn2", 6, 8)  # SD35AdaLayerNormZeroX: (…, norm_hidden_states2, gate_msa2), nine chunks


def sites(config: Mapping[str, Any]) -> tuple[Site, ...]:
    """Image attn, mlp (and attn2), then text attn and mlp, of each block."""
    dual = set(config.get("dual_attention_layers") or ())
    last = config["num_layers"] - 1
    found = []
    for b in range(last + 1):
        block = f"block.{b}"
        image = (*_GATES, _SECOND) if b in dual else _GATES
        gates: list[tuple[Stream, str, Gate]] = [("img", "norm1", gate) for gate in image]
        if b != last:
            gates += [("txt", "norm1_context", gate) for gate in _GATES]
        for stream, norm, gate in gates:
            chunks = 9 if stream == "img" and b in dual else 6
            found.append(site_of_norm(block, f"transformer_blocks.{b}.{norm}", stream, gate, chunks))
    return tuple(found)


def adapter(pipeline: StableDiffusion3Pipeline, spec: BackboneSpec) -> Adapter:
    """How the renderer drives the pipeline."""
    from calibri.backbones.sd3_pipeline import SD3Adapter

    return SD3Adapter(pipeline, spec)
