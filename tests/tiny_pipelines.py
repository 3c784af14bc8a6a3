"""A tiny random pipeline of each family's real class: every code path of the large ones, in milliseconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from calibri.backbones.catalog import BackboneSpec
from calibri.backbones.layouts import Layout
from calibri.backbones.loading import Backbone, load_backbone
from calibri.backbones.sites import sites_of
from tests import tiny_makers as makers
from tests import tiny_one_stream as one_stream
from tests.tiny import tiny_flux
from tests.tiny_families import tiny_qwen, tiny_sd3

STEPS = 2


@dataclass(frozen=True)
class Tiny:
    """A tiny pipeline, and what is to be true of it.

    `counts`: scales at block, layer and gate; `extras`: those with all further sites. `folds`: whether every
    site can be folded. `guided(g)`: arguments with which the stock pipeline guides with strength g, None
    where it cannot. `side`: pixels. `tokens`: of text. `saved`: whether its parts can be saved and loaded
    here. `negatives`: whether negative members can be rendered. `call(rows)`: of a transformer without a
    pipeline class, a call for so many pictures; `make` makes it alone.
    """

    make: Callable[[], Any]
    counts: tuple[int, int, int]
    guided: Callable[[float], dict[str, Any]] | None
    extras: tuple[int, int, int] | None = None
    folds: bool = True
    side: int = 32
    tokens: int = 64
    needs: str | None = None
    negatives: bool = True
    call: Callable[[int], dict[str, Any]] | None = None

    @property
    def saved(self) -> bool:
        """Whether it can be saved and loaded here."""
        return self.needs is None or find_spec(self.needs) is not None


def by_scale(strength: float) -> dict[str, Any]:
    return {"guidance_scale": strength}


def by_true_cfg(strength: float) -> dict[str, Any]:
    return {"true_cfg_scale": strength, "negative_prompt": ""}


def by_schedule(strength: float) -> dict[str, Any]:
    return {"guidance_scale": strength, "guidance_schedule": None}


def by_difference(strength: float) -> dict[str, Any]:
    """A pipeline that adds the difference to the prediction, instead of to the negative one."""
    return {"guidance_scale": strength - 1}


TINY: dict[str, Tiny] = {
    "flux": Tiny(tiny_flux, (5, 7, 11), by_true_cfg),
    "sd3": Tiny(tiny_sd3, (3, 7, 11), by_scale, side=16),
    "qwen": Tiny(tiny_qwen, (3, 6, 10), by_true_cfg, side=16, tokens=256),
    "flux2-dev": Tiny(makers.flux2_dev, (5, 7, 11), None, tokens=224),
    "flux2-klein": Tiny(makers.flux2_klein, (5, 7, 11), by_scale),
    "z-image": Tiny(one_stream.zimage, (2, 4, 4), by_difference, extras=(4, 8, 8)),
    "z-image-omni": Tiny(one_stream.zimage_omni, (2, 4, 4), by_difference, extras=(4, 8, 8)),
    "qwen-2.1": Tiny(one_stream.qwen21, (2, 4, 4), by_true_cfg, side=64, needs="torchvision"),
    "chroma": Tiny(makers.chroma, (5, 7, 11), by_scale),
    "sana": Tiny(one_stream.sana, (2, 4, 4), by_scale, extras=(4, 6, 6)),
    "lumina2": Tiny(one_stream.lumina2, (2, 4, 4), by_scale, extras=(4, 8, 8), tokens=192),
    "auraflow": Tiny(makers.auraflow, (4, 8, 12), by_scale),
    "pixart-alpha": Tiny(one_stream.pixart_alpha, (2, 4, 4), by_scale, extras=(4, 6, 6)),
    "pixart-sigma": Tiny(one_stream.pixart_sigma, (2, 4, 4), by_scale, extras=(4, 6, 6)),
    "cogview4": Tiny(makers.cogview4, (2, 4, 6), by_scale),
    "hidream": Tiny(makers.hidream, (4, 8, 12), by_scale, side=16, tokens=16),
    "ideogram4": Tiny(one_stream.ideogram4, (2, 4, 4), by_schedule, negatives=False),
    "flux3": Tiny(makers.flux3, (7, 7, 9), None, folds=False, call=makers.flux3_call),
    "krea2": Tiny(one_stream.krea2, (2, 4, 4), by_difference, extras=(3, 6, 6), tokens=192),
}


@cache
def opened(name: str) -> Backbone:
    """The tiny pipeline, saved and loaded."""
    words = {"max_sequence_length": TINY[name].tokens, "steps": STEPS}
    if TINY[name].call is not None:
        transformer = TINY[name].make()
        layout = partial(Layout.from_sites, sites_of(transformer))
        return SimpleNamespace(
            transformer=transformer, layout=layout, sites=sites_of(transformer), adapter=None
        )
    if not TINY[name].saved:
        return Backbone(TINY[name].make(), BackboneSpec(name=name, source="memory", **words))
    with TemporaryDirectory() as folder:
        TINY[name].make().save_pretrained(folder)
        (Path(folder) / "calibri.json").write_text(json.dumps({"name": name, **words}), encoding="utf-8")
        backbone = load_backbone(folder, device="cpu")
    return backbone
