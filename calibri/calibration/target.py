"""What a calibration is put on: a diffusers pipeline, a Backbone, or a bare transformer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from calibri.backbones.layouts import Layout
from calibri.backbones.lora_sites import adapters_of, is_lora_scale, lora_is_missing, lora_sites
from calibri.backbones.sites import every_site, sites_of, unwrapped
from calibri.errors import BackboneError, LayoutError

if TYPE_CHECKING:
    import torch

    from calibri.calibration.artifact import Calibration


def transformer_of(target: Any) -> torch.nn.Module:
    """The transformer of a pipeline or a Backbone, or the transformer itself.

    Raises BackboneError for anything else. Whether its class is known is for `sites_of` to say.
    """
    import torch

    if isinstance(target, torch.nn.Module):
        return target
    found = getattr(target, "transformer", None)
    if isinstance(found, torch.nn.Module):
        return found
    if hasattr(target, "transformer") or hasattr(target, "components"):
        raise BackboneError(f"{type(target).__name__} has no transformer: expected a pipeline with one")
    raise BackboneError(f"expected a diffusers pipeline or a transformer, got {type(target).__name__}")


def pipeline_of(target: Any) -> Any | None:
    """The pipeline of a Backbone, or the pipeline itself; None for a bare transformer."""
    import torch

    return None if isinstance(target, torch.nn.Module) else getattr(target, "pipeline", target)


def fit_calibration(calibration: Calibration, transformer: torch.nn.Module) -> tuple[Calibration, Layout]:
    """The calibration with its scales in the order of this transformer's layout, and that layout.

    Raises BackboneError for a transformer of no known class, and LayoutError, with what was expected and what
    came, for a calibration of another backbone. Further sites (cross-attention, refiners, blocks of LoRAs)
    are part of the layout where the calibration names them.
    """
    extras = _extras_of(calibration, transformer)
    sites = sites_of(transformer, extras)
    if adapters := adapters_of(calibration.names):
        sites = (*sites, *lora_sites(transformer, adapters))
    layout = Layout.from_sites(sites, calibration.granularity)
    own, other = layout.names, calibration.names
    wrong = next(iter([*(n for n in other if n not in own), *(n for n in own if n not in other)]), None)
    if wrong is not None and is_lora_scale(wrong):
        raise LayoutError(lora_is_missing(wrong))
    if wrong is not None:
        raise LayoutError(
            f"expected a calibration of this {type(unwrapped(transformer)).__name__}, with {len(own)} scales "
            f"at {layout.granularity} granularity ({own[0]} to {own[-1]}), got one of "
            f"{calibration.backbone or 'another backbone'} with {len(other)} ({other[0]} to {other[-1]}): "
            f"{wrong!r} is {'unknown here' if wrong in other else 'missing'}"
        )
    return calibration.on_layout(layout), layout


def _extras_of(calibration: Calibration, transformer: torch.nn.Module) -> tuple[str, ...]:
    """The groups of further sites that a calibration names; their blocks have names of their own."""
    inner = unwrapped(transformer)
    further = [site for site in every_site(type(inner).__name__, getattr(inner, "config", {})) if site.extra]
    if not further:
        return ()
    layout = Layout.from_sites(further, calibration.granularity)
    groups = {name: further[group[0]].extra for name, group in zip(layout.names, layout.groups, strict=True)}
    named = dict.fromkeys(groups[name] for name in calibration.names if name in groups)
    return tuple(extra for extra in named if extra is not None)
