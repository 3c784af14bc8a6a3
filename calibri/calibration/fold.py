"""Writes one member into the weights: the same pictures without hooks, for export to other programs.

Exact in real numbers (SITES.md, exact fold); the products are rounded once to the weights' dtype. Everything
that would make it wrong is refused before any weight is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from calibri.backbones.sites import Rows, Site, sites_of, unwrapped
from calibri.calibration.target import fit_calibration, transformer_of
from calibri.errors import ArtifactError, LayoutError

if TYPE_CHECKING:
    from calibri.calibration.artifact import Calibration

_PLAIN = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def fold_calibration(target: Any, calibration: Calibration) -> None:
    """Folds a calibration of one member of weight 1 into a transformer, for good.

    `target`: a Backbone, a diffusers pipeline or the transformer itself.

    Raises ArtifactError for an ensemble or another weight (they need several forwards), LayoutError where the
    scales do not fit, and ArtifactError where the weights cannot be folded exactly.
    """
    if calibration.is_ensemble:
        raise ArtifactError(
            f"an ensemble of {len(calibration.members)} members cannot be folded: the weights hold one member"
        )
    member = calibration.members[0]
    if member.weight != 1 or member.condition != "positive":
        raise ArtifactError(
            f"a {member.condition} member of weight {member.weight:g} cannot be folded: "
            "expected a positive one of weight 1"
        )
    transformer = transformer_of(target)
    fitted, layout = fit_calibration(calibration, transformer)
    fold(transformer, layout.expand(fitted.members[0].scales), layout.sites)


def fold(
    transformer: torch.nn.Module, values: np.ndarray | Sequence[float], sites: Sequence[Site] | None = None
) -> None:
    """Multiplies rows of the modulation Linears by `values`, (n_sites,), for good.

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
    parts = [_foldable(inner, site) for site in sites]
    _refuse_shared(inner, {id(linear) for linear, _ in parts})
    with torch.no_grad():
        for (linear, chunk), scale in zip(parts, scales.tolist(), strict=True):
            size = linear.weight.shape[0] // chunk.count
            rows = slice(chunk.index * size, (chunk.index + 1) * size)
            for parameter in (linear.weight, linear.bias):
                if parameter is not None:
                    part = parameter.data[rows]
                    part.copy_((part.float() * scale).to(part.dtype))


def _foldable(transformer: torch.nn.Module, site: Site) -> tuple[torch.nn.Linear, Rows]:
    """The site's Linear, and which of its rows. Raises ArtifactError."""
    if site.fold is None:
        raise ArtifactError(f"{site.name}: this family has no weights that only this gate reads")
    path = site.fold.linear
    module = transformer.get_submodule(path)
    if hasattr(module, "base_layer"):
        raise ArtifactError(f"{path} has a LoRA, which folding would leave unscaled: fuse it first")
    if type(module) is not torch.nn.Linear:
        raise ArtifactError(
            f"{path} is a {type(module).__name__}; only a plain Linear can be folded, no quantised one"
        )
    if module.weight.device.type == "meta":
        raise ArtifactError(f"{path} has no weights here (sequential offload): load without offload to fold")
    if module.weight.dtype not in _PLAIN:
        raise ArtifactError(f"{path} is stored as {module.weight.dtype}: load it unquantised to fold")
    if module.weight.shape[0] % site.fold.count:
        raise ArtifactError(f"{path} has {module.weight.shape[0]} rows, no multiple of {site.fold.count}")
    return module, site.fold


def _refuse_shared(transformer: torch.nn.Module, wanted: set[int]) -> None:
    """A Linear that is reached by two paths would be scaled for both."""
    seen: dict[int, str] = {}
    for path, module in transformer.named_modules(remove_duplicate=False):
        if id(module) in wanted:
            if id(module) in seen:
                raise ArtifactError(f"{path} is the same Linear as {seen[id(module)]}: it cannot be folded")
            seen[id(module)] = path
