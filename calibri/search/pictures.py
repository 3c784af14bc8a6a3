"""How a preset makes its pictures: steps, size and guidance, where the backbone makes such pictures.

The paper's: github.com/v-gen-ai/Calibri at fd44332, configs/base.py (15 steps, 512 pixels; FLUX.1-dev and
Qwen-Image with the guidance that this catalogue has for them) and configs/calibri.py (SD3.5: guidance 7).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calibri.backbones.catalog import BackboneSpec, resolve
from calibri.errors import BackboneError

#: How the pictures of a preset are made, on backbones that make such: see `preset_pictures`.
PICTURES: dict[str, dict[str, int]] = {"paper": {"steps": 15, "height": 512, "width": 512}}
#: Guidance of the preset's base by class of transformer, where it is not the one that the authors recommend.
GUIDANCE: dict[str, dict[str, float]] = {"paper": {"SD3Transformer2DModel": 7.0}}


def preset_pictures(preset: str, spec: BackboneSpec) -> dict[str, Any]:
    """Steps, height, width and guidance that a preset asks for, as fields of SearchConfig.

    A backbone that needs no more steps than that, or makes no larger pictures, keeps its own: nothing is
    asked for. So tabletop (8 steps, 128 pixels) and FLUX.1-schnell (4 steps) stay what they are.
    """
    wanted, asked = PICTURES.get(preset), dict[str, Any]()
    if wanted is None:
        return asked
    if spec.steps > wanted["steps"]:
        asked["steps"] = wanted["steps"]
    if spec.height * spec.width > wanted["height"] * wanted["width"]:
        asked |= {"height": wanted["height"], "width": wanted["width"]}
    guidance = GUIDANCE.get(preset, {}).get(spec.transformer[0] if spec.transformer else "")
    return asked if guidance is None else {**asked, "guidance": guidance}


def picture_words(preset: str) -> str:
    """`15 steps, 512×512`, or whose they are where a preset does not say."""
    wanted = PICTURES.get(preset)
    return "the backbone's" if wanted is None else "{steps} steps, {width}×{height}".format(**wanted)


def preset_note(preset: str, spec: BackboneSpec) -> str:
    """In words, what of a preset's pictures a backbone does not take over; empty if nothing."""
    asked, wanted = preset_pictures(preset, spec), PICTURES.get(preset)
    if wanted is None or {"steps", "height"} <= set(asked):
        return ""
    kept = [] if "steps" in asked else [f"{spec.steps} steps (the preset: {wanted['steps']})"]
    if "height" not in asked:
        kept.append(f"{spec.width}×{spec.height} pixels (the preset: {wanted['width']}×{wanted['height']})")
    return f"preset {preset}: {spec.name} keeps its own {' and '.join(kept)}"


def add_pictures(values: Mapping[str, Any], pictures: Mapping[str, Any]) -> dict[str, Any]:
    """`values` and those of `pictures` that are not among them; a size is one value."""
    size = {"height", "width"}
    left = {name: value for name, value in pictures.items() if not (name in size and size & set(values))}
    return {**left, **values}


def named_pictures(preset: str, backbone: str) -> dict[str, Any]:
    """`preset_pictures` of a backbone as a config names it; nothing for one that is not known."""
    if preset not in PICTURES:
        return {}
    try:
        return preset_pictures(preset, resolve(backbone))
    except BackboneError:
        return {}
