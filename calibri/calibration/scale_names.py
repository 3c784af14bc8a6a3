"""The names of scales: block, layer and stream, in words too, and how far a scale may go. No torch."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from calibri.backbones.lora_sites import is_lora_scale

LOWEST, HIGHEST = -4.0, 4.0  # beyond this a picture is noise; a typing error is likelier than a wish


def group_of(name: str) -> str:
    """The block a scale belongs to: `double.3.img.attn` → `double.3`; all of a LoRA's scales are one group:
    `lora.ink.double.3` → `lora.ink`."""
    return ".".join(name.split(".")[:2])


def layer_of(name: str) -> str:
    """`attn`, `attn2`, `mlp`, `fused`, `block` where a scale drives a whole block, or `lora` where it is the
    strength of a LoRA in one."""
    if is_lora_scale(name):
        return "lora"
    parts = name.split(".")
    if len(parts) > 2:
        return parts[-1]
    return "fused" if parts[0] == "single" else "block"


def stream_of(name: str) -> str:
    """`img`, `txt`, or `joint` where one scale drives both streams."""
    parts = name.split(".")
    return parts[2] if len(parts) > 3 and not is_lora_scale(name) else "joint"


LAYER_WORDS = {
    "attn": "attention",
    "attn2": "second attention",
    "mlp": "MLP",
    "fused": "attention and MLP, fused",
    "block": "the whole block",
    "lora": "strength of a LoRA",
}
STREAM_WORDS = {"img": "image stream", "txt": "text stream", "joint": "both streams"}


def words_for(name: str) -> str:
    """A scale in words: `double.3.img.attn` → `double block 3: attention, image stream`."""
    parts = name.split(".")
    if is_lora_scale(name):
        where = f"{parts[2]} block {parts[3]}" if len(parts) > 3 else "layers outside of blocks"
        return f"LoRA {parts[1]}: its strength in {where}"
    block = f"{parts[0]} block {parts[1]}" if len(parts) > 1 else name
    return f"{block}: {LAYER_WORDS.get(layer_of(name), layer_of(name))}, {STREAM_WORDS[stream_of(name)]}"


class ScaleName(NamedTuple):
    """A scale's name and what it says: `words` as `words_for` writes them."""

    name: str
    group: str
    layer: str
    stream: str
    words: str


@lru_cache(maxsize=64)
def parse_names(names: tuple[str, ...]) -> tuple[ScaleName, ...]:
    """The names of a layout, read once for each layout."""
    return tuple(ScaleName(n, group_of(n), layer_of(n), stream_of(n), words_for(n)) for n in names)
