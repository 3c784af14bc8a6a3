"""The strength of a LoRA in each block, as sites: what it adds there is multiplied, picture by picture.

A block is known by the first two parts of a module's path, taken whole: `transformer_blocks.1` is not
`transformer_blocks.10`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from calibri.backbones.sites import Branches, Site, every_site, unwrapped
from calibri.errors import BackboneError

if TYPE_CHECKING:
    import torch

PREFIX = "lora."
REST = "rest"  # layers outside of any block


def is_lora_scale(name: str) -> bool:
    """Whether a scale is a LoRA's strength in a block."""
    return name.startswith(PREFIX)


def adapters_of(names: Sequence[str]) -> tuple[str, ...]:
    """The LoRAs that these scales are of, in order."""
    return tuple(dict.fromkeys(name.split(".")[1] for name in names if is_lora_scale(name)))


def lora_is_missing(name: str) -> str:
    """That a calibration has the strength of a LoRA in a block that is not there, and what to do."""
    adapter = adapters_of([name])[0]
    return (
        f"this calibration sets the strength of the LoRA {adapter!r} in blocks ({name}): expected that LoRA "
        "with the strengths of its blocks (--lora FILE --lora-blocks; in plain diffusers as "
        f"adapter_name={adapter!r})"
    )


def lora_layers(transformer: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    """(path, layer) of every module that a LoRA has wrapped."""
    for path, module in unwrapped(transformer).named_modules():
        if hasattr(module, "base_layer") and hasattr(module, "scaling"):
            yield path, module


def block_names(class_name: str, config: Mapping[str, Any]) -> dict[str, str]:
    """Where a block lies → its name: `transformer_blocks.3` → `double.3`."""
    return {_home(site.module): site.block for site in every_site(class_name, config)}


def _home(path: str) -> str:
    return ".".join(path.split(".")[:2])


def lora_sites(transformer: torch.nn.Module, adapters: Sequence[str] | None = None) -> tuple[Site, ...]:
    """A site for each block that a LoRA touches, in order of depth; layers outside of blocks are one more.

    `adapters`: whose; None is all. Raises BackboneError for a kind of adapter whose parts are not added as
    they are: LoKr and DoRA.
    """
    inner = unwrapped(transformer)
    blocks = block_names(type(inner).__name__, getattr(inner, "config", {}))
    found: dict[str, dict[str, list[str]]] = {}
    for path, layer in lora_layers(inner):
        for adapter in layer.scaling:
            if adapters is not None and adapter not in adapters:
                continue
            if adapter not in getattr(layer, "lora_B", {}) or getattr(layer, "use_dora", {}).get(adapter):
                raise BackboneError(
                    f"LoRA {adapter}: expected one of matrices A and B, whose strength can differ in blocks, "
                    f"got {'a DoRA' if hasattr(layer, 'lora_B') else type(layer).__name__}"
                )
            home = found.setdefault(adapter, {})
            home.setdefault(blocks.get(_home(path), REST), []).append(f"{path}.lora_B.{adapter}")
    order = [*dict.fromkeys(blocks.values()), REST]
    loaded = list(getattr(inner, "peft_config", None) or found)
    return tuple(
        _site(adapter, block, found[adapter][block])
        for adapter in sorted(found, key=lambda name: loaded.index(name) if name in loaded else len(loaded))
        for block in order
        if block in found[adapter]
    )


def _site(adapter: str, block: str, modules: list[str]) -> Site:
    name = f"{PREFIX}{adapter}.{block}"
    return Site(name, modules[0], Branches(tuple(modules)), "joint", "lora", name, None, "lora")
