"""Sites: the places in a transformer where a branch output can be multiplied, and the registry of families.

No torch here: a family's table reads only the transformer's configuration, so that sites can be counted
without weights.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from calibri.errors import BackboneError

if TYPE_CHECKING:
    import torch

Stream = Literal["img", "txt", "joint"]
Layer = Literal["attn", "attn2", "mlp", "fused", "lora"]
Extra = Literal["cross", "refiners"]  # sites that are part of a layout only where asked for
OfLora = Literal["lora"]  # further sites that a loaded LoRA brings, see calibri.backbones.lora_sites
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
class Output:
    """O(m): the module's output is what the branch adds; multiply all of it, a tensor (B, …)."""


@dataclass(frozen=True)
class Branches:
    """L(m, …): the outputs of several modules are what a LoRA adds in one block; multiply all of each."""

    modules: tuple[str, ...]


@dataclass(frozen=True)
class Argument:
    """A(kw,n,i): before the module runs, multiply chunk `index` of `count` of its argument `name`, (B, …,
    n·D).

    `place`: the argument's place where it is given without its name.
    """

    name: str
    place: int
    count: int
    index: int


@dataclass(frozen=True)
class Rows:
    """R(lin,n,i): multiply chunk `index` of `count` of the rows of this Linear's weight and bias."""

    linear: str
    count: int
    index: int


@dataclass(frozen=True)
class Whole:
    """W(m): multiply all of weight and bias of these modules: the last ones of the branch."""

    modules: tuple[str, ...]


Operation = TupleItem | Chunk | Output | Argument | Branches
Fold = Rows | Whole


@dataclass(frozen=True)
class Site:
    """One place where a branch output can be multiplied.

    `name`: `double.3.img.attn`, `single.5.fused`. `module`: path inside the transformer. `op`: what a forward
    hook there multiplies. `stream`: image, text or both. `block`: `double.3`. `fold`: the weights that do the
    same when they are multiplied, or None if there are none. `extra`: the group of a site that is no part of
    a layout unless that group is asked for: un-gated cross-attention, refiners, blocks of a LoRA.
    """

    name: str
    module: str
    op: Operation
    stream: Stream
    layer: Layer
    block: str
    fold: Fold | None = None
    extra: Extra | OfLora | None = None

    @property
    def layer_name(self) -> str:
        """The name of the layer this site belongs to: `double.3.attn`."""
        return self.block if self.layer == "lora" else f"{self.block}.{self.layer}"

    @property
    def modules(self) -> tuple[str, ...]:
        """Paths of all modules that are hooked for it."""
        return self.op.modules if isinstance(self.op, Branches) else (self.module,)


def make_site(
    block: str,
    stream: Stream,
    layer: Layer,
    module: str,
    op: Operation,
    fold: Fold | None = None,
    extra: Extra | None = None,
) -> Site:
    """A site with the name that follows from its block, stream and layer."""
    name = f"{block}.{layer}" if stream == "joint" else f"{block}.{stream}.{layer}"
    return Site(name, module, op, stream, layer, block, fold, extra)


def sites_of_outputs(
    block: str, stream: Stream, ends: Iterable[tuple[Layer, str, str]], extra: Extra | None = None
) -> list[Site]:
    """Sites of branches whose gate is made inside the block: (layer, module whose output the branch adds, the
    last module in it with weights, which are folded).
    """
    return [
        make_site(block, stream, layer, module, Output(), Whole((last,)), extra)
        for layer, module, last in ends
    ]


def site_of_norm(
    block: str, module: str, stream: Stream, gate: tuple[Layer, int, int], chunks: int = 6
) -> Site:
    """The site of a gate of an adaptive norm, which returns a tuple.

    `gate`: (layer, element of the norm's output, chunk of the rows of its `linear`, which has `chunks`).
    """
    layer, item, rows = gate
    return make_site(block, stream, layer, module, TupleItem(item), Rows(f"{module}.linear", chunks, rows))


# Transformer class → the module that holds its table. A new family is one line and one file.
FAMILIES: dict[str, str] = {
    class_name: f"calibri.backbones.{module}"
    for class_name, module in {
        "AuraFlowTransformer2DModel": "auraflow",
        "ChromaTransformer2DModel": "chroma",
        "CogView4Transformer2DModel": "cogview4",
        "Flux2Transformer2DModel": "flux2",
        "Flux3Transformer2DModel": "flux3",
        "FluxTransformer2DModel": "flux",
        "HiDreamImageTransformer2DModel": "hidream",
        "Ideogram4Transformer2DModel": "ideogram4",
        "Krea2Transformer2DModel": "krea2",
        "Lumina2Transformer2DModel": "lumina2",
        "PixArtTransformer2DModel": "pixart",
        "QwenImage21Transformer2DModel": "qwen21",
        "QwenImageTransformer2DModel": "qwen",
        "SD3Transformer2DModel": "sd3",
        "SanaTransformer2DModel": "sana",
        "ZImageTransformer2DModel": "zimage",
    }.items()
}


def register_family(class_name: str, module: str) -> None:
    """Makes a transformer class known to this process. `module`: full name of the module with its table, as
    docs/backbones.md shows one. Raises BackboneError for a class that is known already.
    """
    if FAMILIES.get(class_name, module) != module:
        raise BackboneError(f"{class_name} is known already: its table is {FAMILIES[class_name]}")
    FAMILIES[class_name] = module


def unwrapped(transformer: M) -> M:
    """The transformer itself where `torch.compile` has wrapped it."""
    return getattr(transformer, "_orig_mod", transformer)


def family_of(class_name: str) -> ModuleType:
    """The family's module. Raises BackboneError that names the class, the known ones, and how to add one."""
    if class_name not in FAMILIES:
        for found in entry_points(group="calibri.families", name=class_name):
            register_family(class_name, found.value)
    if class_name not in FAMILIES:
        raise BackboneError(
            f"{class_name} is not supported: expected a transformer of class {', '.join(sorted(FAMILIES))}. "
            "To add one, write a file with its sites and give it to calibri.register_family "
            "(docs/backbones.md, “A family of your own”)"
        )
    name = FAMILIES[class_name]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise BackboneError(f"{class_name}: expected its table in the module {name}, got {error}") from error


def every_site(class_name: str, config: Mapping[str, Any]) -> tuple[Site, ...]:
    """All sites of a transformer, extras too, in order of depth."""
    found: tuple[Site, ...] = family_of(class_name).sites(config)
    return found


def sites_of_config(
    class_name: str, config: Mapping[str, Any], extras: Collection[str] = ()
) -> tuple[Site, ...]:
    """Sites in order of depth, from a transformer's class and its configuration alone (no weights).

    `extras`: groups of further sites, such as `cross`. Raises BackboneError for a group that it lacks.
    """
    found = every_site(class_name, config)
    known = dict.fromkeys(site.extra for site in found if site.extra)
    for extra in extras:
        if extra not in known:
            there = ", ".join(known) or "none"
            raise BackboneError(f"{class_name} has no further sites {extra!r}: expected one of: {there}")
    return tuple(site for site in found if site.extra is None or site.extra in extras)


def sites_of(transformer: torch.nn.Module, extras: Collection[str] = ()) -> tuple[Site, ...]:
    """Sites of a transformer in order of depth; `extras` as `sites_of_config` takes them.

    Raises BackboneError for an unsupported class, or if a module that the family's table names is missing.
    """
    inner = unwrapped(transformer)
    found = sites_of_config(type(inner).__name__, getattr(inner, "config", {}), extras)
    modules = dict(inner.named_modules())
    for site in found:
        if site.module not in modules:
            raise BackboneError(
                f"{type(inner).__name__} has no module {site.module!r}, where {site.name} was expected"
            )
    return found
