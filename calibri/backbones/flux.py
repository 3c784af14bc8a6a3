"""FLUX.1: sites of `FluxTransformer2DModel` (dev, schnell, tabletop and what is built like them).

Read from diffusers 0.42, models/transformers/transformer_flux.py. A double block has a gate for each of two
streams and two layers; a single block has one gate for attention and MLP together and for both streams.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from calibri.backbones.sites import Layer, Rows, Site, Stream, TupleItem, site_of_norm

if TYPE_CHECKING:
    from diffusers import FluxPipeline

    from calibri.backbones.adapter import Adapter
    from calibri.backbones.catalog import BackboneSpec

PIPELINES = ("FluxPipeline",)

# AdaLayerNormZero returns (x, gate_msa, shift_mlp, scale_mlp, gate_mlp); its Linear's rows are
# (shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp).
_GATES: tuple[tuple[Layer, int, int], ...] = (("attn", 1, 2), ("mlp", 4, 5))
_STREAMS: tuple[tuple[Stream, str], ...] = (("img", "norm1"), ("txt", "norm1_context"))


def sites(config: Mapping[str, Any]) -> tuple[Site, ...]:
    """Four sites a double block, one a single block."""
    found = []
    for b in range(config["num_layers"]):
        block = f"double.{b}"
        for stream, norm in _STREAMS:
            module = f"transformer_blocks.{b}.{norm}"
            found += [site_of_norm(block, module, stream, gate) for gate in _GATES]
    for b in range(config["num_single_layers"]):
        module = f"single_transformer_blocks.{b}.norm"
        found.append(
            Site(
                name=f"single.{b}.fused",
                module=module,
                op=TupleItem(1),  # AdaLayerNormZeroSingle returns (x, gate)
                stream="joint",
                layer="fused",
                block=f"single.{b}",
                fold=Rows(f"{module}.linear", 3, 2),
            )
        )
    return tuple(found)


def adapter(pipeline: FluxPipeline, spec: BackboneSpec) -> Adapter:
    """How the renderer drives the pipeline."""
    from calibri.backbones.flux_pipeline import FluxAdapter

    return FluxAdapter(pipeline, spec)
