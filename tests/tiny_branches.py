"""Where each site's branch ends, read from diffusers and written down apart from the sites: for tests that
multiply what a branch adds by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from calibri.backbones.sites import Site


@dataclass(frozen=True)
class End:
    """A module's output: its `item` where it is a tuple, its `call`-th output where it runs several times in
    a forward, and of its tokens those `before` or `behind` so many.
    """

    module: str
    item: int | None = None
    call: int | None = None
    before: int | None = None
    behind: int | None = None


def flux2(site: Site) -> list[End]:
    kind, number = site.block.split(".")
    if kind == "single":
        return [End(f"single_transformer_blocks.{number}.attn")]
    block = f"transformer_blocks.{number}"
    if site.layer == "attn":
        return [End(f"{block}.attn", item=0 if site.stream == "img" else 1)]
    return [End(f"{block}.{'ff' if site.stream == 'img' else 'ff_context'}")]


def flux(site: Site) -> list[End]:
    kind, number = site.block.split(".")
    return [End(f"single_transformer_blocks.{number}.proj_out")] if kind == "single" else flux2(site)


def sd3(site: Site) -> list[End]:
    block = f"transformer_blocks.{site.block.split('.')[1]}"
    if site.layer == "attn2":
        return [End(f"{block}.attn2")]
    if site.layer == "attn":
        return [End(f"{block}.attn", item=0 if site.stream == "img" else 1)]
    return [End(f"{block}.{'ff' if site.stream == 'img' else 'ff_context'}")]


def qwen(site: Site) -> list[End]:
    block = f"transformer_blocks.{site.block.split('.')[1]}"
    if site.layer == "attn":
        return [End(f"{block}.attn", item=0 if site.stream == "img" else 1)]
    return [End(f"{block}.{site.stream}_mlp")]


def norms(attn: str, mlp: str) -> Callable[[Site], list[End]]:
    """Families that add a norm of the branch: its module's name of each layer."""
    lists = {"block": "layers", "noise": "noise_refiner", "context": "context_refiner"}

    def found(site: Site) -> list[End]:
        kind, number = site.block.split(".")
        return [End(f"{lists[kind]}.{number}.{attn if site.layer == 'attn' else mlp}")]

    return found


def qwen21(site: Site) -> list[End]:
    block = f"transformer_blocks.{site.block.split('.')[1]}"
    return [End(f"{block}.{'attn' if site.layer == 'attn' else 'img_mlp'}")]


def crossed(site: Site) -> list[End]:
    block = f"transformer_blocks.{site.block.split('.')[1]}"
    return [End(f"{block}.{ {'attn': 'attn1', 'attn2': 'attn2', 'mlp': 'ff'}[site.layer] }")]


def auraflow(site: Site) -> list[End]:
    kind, number = site.block.split(".")
    block = f"{'joint' if kind == 'double' else 'single'}_transformer_blocks.{number}"
    if site.layer == "attn":
        item = None if kind == "block" else 0 if site.stream == "img" else 1
        return [End(f"{block}.attn", item=item)]
    return [End(f"{block}.{'ff_context' if site.stream == 'txt' else 'ff'}")]


def cogview4(site: Site) -> list[End]:
    block = f"transformer_blocks.{site.block.split('.')[1]}"
    place = 0 if site.stream == "img" else 1
    return [End(f"{block}.attn1", item=place) if site.layer == "attn" else End(f"{block}.ff", call=place)]


def hidream(site: Site) -> list[End]:
    kind, number = site.block.split(".")
    block = f"{'double' if kind == 'double' else 'single'}_stream_blocks.{number}.block"
    if site.layer == "attn":
        item = None if kind == "block" else 0 if site.stream == "img" else 1
        return [End(f"{block}.attn1", item=item)]
    return [End(f"{block}.{'ff_t' if site.stream == 'txt' else 'ff_i'}")]


def krea2(site: Site) -> list[End]:
    kind, number = site.block.split(".")
    block = "transformer_blocks" if kind == "block" else "text_fusion.refiner_blocks"
    return [End(f"{block}.{number}.{'attn' if site.layer == 'attn' else 'ff'}")]


def flux3(site: Site) -> list[End]:
    """Attention and MLP are added to each other; in late blocks the 6 tokens of text come first."""
    kind, number = site.block.split(".")
    if kind != "single":
        block = f"{'mode_blocks.image' if kind == 'image' else 'txt_mode_blocks'}.{number}"
        return [End(f"{block}.attn"), End(f"{block}.ff")]
    block = f"single_transformer_blocks.{number}"
    tokens = {"behind": 6} if site.stream == "img" else {"before": 6}
    return [End(f"{block}.attn", **tokens), End(f"{block}.ff", **tokens)]


BRANCHES: dict[str, Callable[[Site], list[End]]] = {
    "auraflow": auraflow,
    "chroma": flux,
    "cogview4": cogview4,
    "flux": flux,
    "flux2-dev": flux2,
    "flux2-klein": flux2,
    "flux3": flux3,
    "hidream": hidream,
    "ideogram4": norms("attention_norm2", "ffn_norm2"),
    "krea2": krea2,
    "lumina2": norms("norm2", "ffn_norm2"),
    "pixart-alpha": crossed,
    "pixart-sigma": crossed,
    "qwen": qwen,
    "qwen-2.1": qwen21,
    "sana": crossed,
    "sd3": sd3,
    "z-image": norms("attention_norm2", "ffn_norm2"),
    "z-image-omni": norms("attention_norm2", "ffn_norm2"),
}


@contextmanager
def scaled_by_hand(
    model: torch.nn.Module, name: str, sites: Sequence[Site], values: Sequence[float]
) -> Iterator[None]:
    """Inside, what each site's branch adds is multiplied where the branch ends."""
    work: dict[str, list[tuple[End, float]]] = {}
    for site, value in zip(sites, values, strict=True):
        for end in BRANCHES[name](site):
            work.setdefault(end.module, []).append((end, float(value)))
    handles = [
        model.get_submodule(path).register_forward_hook(_multiply(todo)) for path, todo in work.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _multiply(todo: list[tuple[End, float]]) -> Callable[..., Any]:
    count = [0]

    def hook(module: torch.nn.Module, args: Any, output: Any) -> Any:
        parts = list(output) if isinstance(output, tuple) else [output]
        for end, value in todo:
            if end.call is None or end.call == count[0]:
                place = end.item or 0
                scale = torch.ones(parts[place].shape[1] if parts[place].ndim > 1 else 1)
                scale[slice(end.behind, end.before)] = value
                parts[place] = parts[place] * scale.view(1, -1, *(1,) * (parts[place].ndim - 2))
        count[0] += 1
        return tuple(parts) if isinstance(output, tuple) else parts[0]

    return hook
