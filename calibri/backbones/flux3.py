"""FLUX.3: sites of `Flux3Transformer2DModel`.

Read from diffusers 0.42, models/transformers/transformer_flux3.py. Early blocks, of the image and of the
text, and late blocks of both have one gate for attention and MLP together, which a modulation of all blocks
makes. Late blocks share their weights between the streams. The text output of the last one is not used, so
its text gate is dead and no site; blocks of reference pictures are none either. Diffusers has a modular
pipeline for it alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calibri.backbones.sites import Argument, Site, Stream, Whole, make_site

PIPELINES: tuple[str, ...] = ()
_EARLY: tuple[tuple[str, Stream, str], ...] = (
    ("image", "img", "mode_blocks.image"),
    ("text", "txt", "txt_mode_blocks"),
)


def sites(config: Mapping[str, Any]) -> tuple[Site, ...]:
    """One site an early block, two a late one, one the last."""
    found = []
    for b in range(config["num_layers"]):
        for kind, stream, blocks in _EARLY:
            module = f"{blocks}.{b}"
            fold = Whole((f"{module}.attn.to_out.0", f"{module}.ff.linear_out"))
            op = Argument("temb_mod", 1, 3, 2)
            found.append(make_site(f"{kind}.{b}", stream, "fused", module, op, fold))
    last = config["num_single_layers"] - 1
    for b in range(last + 1):
        module = f"single_transformer_blocks.{b}"
        found.append(make_site(f"single.{b}", "img", "fused", module, Argument("temb_mod", 2, 3, 2)))
        if b != last:
            op = Argument("temb_mod_context", 3, 3, 2)
            found.append(make_site(f"single.{b}", "txt", "fused", module, op))
    return tuple(found)
