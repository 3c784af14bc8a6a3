"""Sites: the places in a transformer where a branch output can be multiplied, and the registry of families.

No torch here: a family's table reads only the transformer's configuration, so that sites can be counted
without weights.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from calibri.errors import BackboneError

if TYPE_CHECKING:
    import torch

Stream = Literal["img", "txt", "joint"]
Layer = Literal["attn", "attn2", "mlp", "fused"]
M = TypeVar("M", bound="torch.nn.Module")


@dataclass(frozen=True)
class TupleItem:
    """T(m,i): the module's output is a tuple; multiply its element `index`, a gate (B, D)."""

    index: int


@dataclass(frozen=True)
class Chunk:
    """C(m,n,i): the module's output is a tensor (B, n·D); multiply its chunk `index` of `count`."""

    count: int
    index: int


@dataclass(frozen=True)
class Rows:
    """R(lin,n,i): multiply chunk `index` of `count` of the rows of this Linear's weight and bias."""

    linear: str
    count: int
    index: int


Operation = TupleItem | Chunk


@dataclass(frozen=True)
class Site:
    """One place where a branch output can be multiplied.

    `name`: `double.3.img.attn`, `single.5.fused`. `module`: path inside the transformer. `op`: what a forward
    hook there multiplies. `stream`: image, text or both. `block`: `double.3`. `fold`: the weights that do the
    same when they are multiplied, or None if there are none.
    """

    name: str
    module: str
    op: Operation
    stream: Stream
    layer: Layer
    block: str
    fold: Rows | None = None

    @property
    def layer_name(self) -> str:
        """The name of the layer this site belongs to: `double.3.attn`."""
        return f"{self.block}.{self.layer}"


def site_of_norm(
    block: str, module: str, stream: Stream, gate: tuple[Layer, int, int], chunks: int = 6
) -> Site:
    """The site of a gate of an adaptive norm, which returns a tuple.

    `gate`: (layer, element of the norm's output, chunk of the rows of its `linear`, which has `chunks`).
    """
    layer, item, rows = gate
    return Site(
        name=f"{block}.{stream}.{layer}",
        module=module,
        op=TupleItem(item),
        stream=stream,
        layer=layer,
        block=block,
        fold=Rows(f"{module}.linear", chunks, rows),
    )


# Transformer class → the module of this package that holds its table. A new family is one line and one file.
FAMILIES: dict[str, str] = {
    "FluxTransformer2DModel": "flux",
    "QwenImageTransformer2DModel": "qwen",
    "SD3Transformer2DModel": "sd3",
}


def unwrapped(transformer: M) -> M:
    """The transformer itself where `torch.compile` has wrapped it."""
    return getattr(transformer, "_orig_mod", transformer)


def family_of(class_name: str) -> ModuleType:
    """The family's module. Raises BackboneError that names the class and the supported ones."""
    if class_name not in FAMILIES:
        raise BackboneError(
            f"{class_name} is not supported: expected a transformer of class {', '.join(sorted(FAMILIES))}"
        )
    return importlib.import_module(f"calibri.backbones.{FAMILIES[class_name]}")


def sites_of_config(class_name: str, config: Mapping[str, Any]) -> tuple[Site, ...]:
    """Sites in order of depth, from a transformer's class and its configuration alone (no weights)."""
    return family_of(class_name).sites(config)


def sites_of(transformer: torch.nn.Module) -> tuple[Site, ...]:
    """Sites of a transformer in order of depth.

    Raises BackboneError for an unsupported class, or if a module that the family's table names is missing.
    """
    inner = unwrapped(transformer)
    found = sites_of_config(type(inner).__name__, getattr(inner, "config", {}))
    modules = dict(inner.named_modules())
    for site in found:
        if site.module not in modules:
            raise BackboneError(
                f"{type(inner).__name__} has no module {site.module!r}, where {site.name} was expected"
            )
    return found
