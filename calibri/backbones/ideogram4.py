"""Ideogram 4: sites of `Ideogram4Transformer2DModel`.

Read from diffusers 0.42, models/transformers/transformer_ideogram4.py. As Z-Image: the gate is tanh of a
modulation chunk, times a norm of the branch. The pipeline guides with a second transformer that sees no
prompt; that one is not calibrated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from calibri.backbones.sites import Site, sites_of_outputs

if TYPE_CHECKING:
    from diffusers import Ideogram4Pipeline

    from calibri.backbones.adapter import Adapter
    from calibri.backbones.catalog import BackboneSpec

PIPELINES = ("Ideogram4Pipeline",)


def sites(config: Mapping[str, Any]) -> tuple[Site, ...]:
    """Two sites a block, on image and text tokens together."""
    found = []
    for b in range(config["num_layers"]):
        attn, mlp = f"layers.{b}.attention_norm2", f"layers.{b}.ffn_norm2"
        found += sites_of_outputs(f"block.{b}", "joint", [("attn", attn, attn), ("mlp", mlp, mlp)])
    return tuple(found)


def adapter(pipeline: Ideogram4Pipeline, spec: BackboneSpec) -> Adapter:
    """How the renderer drives the pipeline."""
    from calibri.backbones.ideogram4_pipeline import Ideogram4Adapter

    return Ideogram4Adapter(pipeline, spec)
