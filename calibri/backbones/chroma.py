"""Chroma: sites of `ChromaTransformer2DModel`.

Read from diffusers 0.42, models/transformers/transformer_chroma.py. The gates of FLUX.1, but one network
makes the modulation of all blocks: no block has a Linear of its own for it, so only the branches' last
Linears can be folded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from calibri.backbones import flux
from calibri.backbones.pipeline_facts import PipelineFacts
from calibri.backbones.sites import Site, Whole

_LAST = {
    ("img", "attn"): "attn.to_out.0",
    ("txt", "attn"): "attn.to_add_out",
    ("img", "mlp"): "ff.net.2",
    ("txt", "mlp"): "ff_context.net.2",
    ("joint", "fused"): "proj_out",
}


def sites(config: Mapping[str, Any]) -> tuple[Site, ...]:
    """Those of FLUX.1, folded elsewhere."""
    return tuple(replace(site, fold=_fold(site)) for site in flux.sites(config))


def _fold(site: Site) -> Whole:
    block = site.module.rpartition(".")[0]
    return Whole((f"{block}.{_LAST[site.stream, site.layer]}",))


FACTS = {
    "ChromaPipeline": PipelineFacts(
        encoded=("prompt_embeds", "", "prompt_attention_mask"),
        rows={"encoder_hidden_states": "prompt_embeds", "attention_mask": "prompt_attention_mask"},
        off={"guidance_scale": 1.0},
        encode={"do_classifier_free_guidance": False},
        longer=("attention_mask",),
    )
}
PIPELINES = tuple(FACTS)
