"""Writes one member into the weights: the same pictures without hooks, for export to other programs.

Exact in real numbers (SITES.md, exact fold); the products are rounded once to the weights' dtype. Everything
that would make it wrong is refused before any weight is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from calibri.backbones.lora_sites import adapters_of
from calibri.backbones.sites import Rows, Site, sites_of, unwrapped
from calibri.calibration.target import fit_calibration, transformer_of
from calibri.errors import ArtifactError, LayoutError

if TYPE_CHECKING:
    from calibri.backbones.layouts import Layout
    from calibri.calibration.artifact import Calibration

_PLAIN = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def fold_calibration(target: Any, calibration: Calibration) -> None:
    """Folds a calibration of one member of weight 1 into a transformer, for good.

    `target`: a Backbone, a diffusers pipeline or the transformer itself.

    Raises ArtifactError for an ensemble or another weight (they need several forwards), LayoutError where the
    scales do not fit, and ArtifactError where the weights cannot be folded exactly.
    """
    transformer = transformer_of(target)
    layout = check_foldable(transformer, calibration)
    fitted = calibration.on_layout(layout)
    fold(transformer, layout.expand(fitted.members[0].scales), layout.sites)


def check_foldable(target: Any, calibration: Calibration) -> Layout:
    """The calibration's layout on this transformer. Raises what `fold_calibration` raises for the calibration
    and for the family; says nothing of how the weights are stored, and reads none."""
    if calibration.is_ensemble:
        guided = ", and guidance needs a forward for each" if calibration.has_phases else ""
        raise ArtifactError(
            f"an ensemble of {len(calibration.members)} members cannot be folded: the weights hold one member"
            f"{guided}"
        )
    member = calibration.members[0]
    if member.has_phase:
        raise ArtifactError(
            "a member that counts in a part of the steps cannot be folded: weights always count"
        )
    if member.weight != 1 or member.condition != "positive":
        raise ArtifactError(
            f"a {member.condition} member of weight {member.weight:g} cannot be folded: "
            "expected a positive one of weight 1"
        )
    if adapters := adapters_of(calibration.names):
        raise ArtifactError(
            f"it sets the strength of the LoRA {adapters[0]!r} in blocks, which is not in the weights: fold "
            "with `calibri fold --lora FILE`, which fuses the LoRA first"
        )
    _, layout = fit_calibration(calibration, transformer_of(target))
    without = next((site for site in layout.sites if site.fold is None), None)
    if without is not None:
        raise ArtifactError(_no_weights(without))
    return layout


def fold(
    transformer: torch.nn.Module, values: np.ndarray | Sequence[float], sites: Sequence[Site] | None = None
) -> None:
    """Multiplies rows of the modulation Linears, or the branches' last modules, by `values`, (n_sites,), for
    good.

    Raises LayoutError for another length or a number that is not finite, and ArtifactError with the module's
    name for weights on meta (sequential offload), quantised weights, LoRA layers, shared Linears, and
    families whose gates have no weights of their own. Then no weight is changed.
    """
    inner = unwrapped(transformer)
    sites = sites_of(inner) if sites is None else tuple(sites)
    scales = np.asarray(values, dtype=np.float64)
    if scales.shape != (len(sites),):
        raise LayoutError(f"expected {len(sites)} scales, one for each site, got shape {scales.shape}")
    if not np.isfinite(scales).all():
        where = int(np.flatnonzero(~np.isfinite(scales))[0])
        raise LayoutError(f"{sites[where].name}: expected a finite number, got {scales[where]}")
    parts = [
        part
        for site, scale in zip(sites, scales.tolist(), strict=True)
        for part in _parts(inner, site, scale)
    ]
    _refuse_shared(inner, {id(module) for module, _, _ in parts})
    with torch.no_grad():
        for module, rows, scale in parts:
            for parameter in module.parameters(recurse=False):
                part = parameter.data if rows is None else parameter.data.chunk(rows.count)[rows.index]
                part.copy_((part.float() * scale).to(part.dtype))


def _parts(
    transformer: torch.nn.Module, site: Site, scale: float
) -> list[tuple[torch.nn.Module, Rows | None, float]]:
    """The site's modules, which of their rows (None: all), and its scale. Raises ArtifactError."""
    fold = site.fold
    if fold is None:
        raise ArtifactError(_no_weights(site))
    if isinstance(fold, Rows):
        module = _plain_module(transformer, fold.linear, (torch.nn.Linear,))
        rows = len(next(module.parameters()))
        if rows % fold.count:
            raise ArtifactError(f"{fold.linear} has {rows} rows, no multiple of {fold.count}")
        return [(module, fold, scale)]
    return [(_plain_module(transformer, path, _last_ones()), None, scale) for path in fold.modules]


def _no_weights(site: Site) -> str:
    return (
        f"{site.name}: this family has no weights that only this gate reads. Load the calibration beside "
        "the model instead"
    )


def _last_ones() -> tuple[type[torch.nn.Module], ...]:
    """Modules whose output is linear in their weight and bias together."""
    from diffusers.models.normalization import RMSNorm

    return torch.nn.Linear, torch.nn.Conv2d, torch.nn.RMSNorm, RMSNorm


def _plain_module(
    transformer: torch.nn.Module, path: str, kinds: tuple[type[torch.nn.Module], ...]
) -> torch.nn.Module:
    module = transformer.get_submodule(path)
    if hasattr(module, "base_layer"):
        raise ArtifactError(f"{path} has a LoRA, which folding would leave unscaled: fuse it first")
    if type(module) not in kinds:
        wanted = "Linear" if kinds == (torch.nn.Linear,) else "Linear, Conv2d or RMSNorm"
        raise ArtifactError(
            f"{path} is a {type(module).__name__}; only a plain {wanted} can be folded, no quantised one"
        )
    weight = next(module.parameters(recurse=False))
    if weight.device.type == "meta":
        raise ArtifactError(f"{path} has no weights here (sequential offload): load without offload to fold")
    if type(weight) not in (torch.Tensor, torch.nn.Parameter):
        raise ArtifactError(f"{path} is stored as {type(weight).__name__}: load it unquantised to fold")
    if weight.dtype not in _PLAIN:
        raise ArtifactError(f"{path} is stored as {weight.dtype}: load it unquantised to fold")
    return module


def _refuse_shared(transformer: torch.nn.Module, wanted: set[int]) -> None:
    """A module that is reached by two paths would be scaled for both."""
    seen: dict[int, str] = {}
    for path, module in transformer.named_modules(remove_duplicate=False):
        if id(module) in wanted:
            if id(module) in seen:
                raise ArtifactError(
                    f"{path} is the same {type(module).__name__} as {seen[id(module)]}: it cannot be folded"
                )
            seen[id(module)] = path
