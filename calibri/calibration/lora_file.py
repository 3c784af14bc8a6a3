"""LoRAs with the strengths that a calibration gives them in each block: as one file, or in the weights.

W' = W + Σ_l s_l · (α/r) · B_l A_l over LoRAs l; s_l is the strength of the LoRA times that of its block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from calibri.backbones.lora_sites import adapters_of, lora_layers, lora_sites
from calibri.backbones.sites import unwrapped
from calibri.errors import ArtifactError
from calibri.files import replacing

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone
    from calibri.calibration.artifact import Calibration

_PLAIN = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def save_lora(backbone: Backbone, calibration: Calibration, path: Path, member: int = 1) -> int:
    """Writes the backbone's LoRAs as one file, which at strength 1 does what they do under the calibration.

    `member`: of an ensemble, counted from 1. Several LoRAs become one of their ranks together. Factors are in
    float32, alpha is the rank, and all layers have one rank (zeros fill what a layer lacks), so that no
    program reads another strength into it. Returns the number of layers.

    Raises ArtifactError without a LoRA, for another member, and where the file cannot be written.
    """
    if path.suffix.lower() != ".safetensors":
        raise ArtifactError(f"{path.name}: expected a file that ends in .safetensors")
    if not 1 <= member <= len(calibration.members):
        raise ArtifactError(f"expected a member from 1 to {len(calibration.members)}, got {member}")
    tensors: dict[str, torch.Tensor] = {}
    layers = 0
    for part, strengths in _parts(backbone, calibration, member):
        module = unwrapped(getattr(backbone.pipeline, part))
        for name, layer in lora_layers(module):
            found = _joined(layer, name, strengths)
            if found:
                layers += 1
                tensors |= {f"{part}.{name}.{key}": value for key, value in found.items()}
    if not tensors:
        raise ArtifactError("expected a backbone with a LoRA (--lora FILE), got one without")
    _save(_of_one_rank(tensors), path)
    return layers


def fuse_loras(backbone: Backbone, calibration: Calibration | None = None, member: int = 1) -> None:
    """Adds the LoRAs of the transformer to its weights, for good, and takes their layers away.

    Raises ArtifactError, before any weight is changed, where a LoRA changes a text encoder, whose files are
    not written anew, and for weights that are quantised or not here.
    """
    if any(each.reads_text for each in backbone.loras.loaded):
        raise ArtifactError(
            "a LoRA that changes a text encoder cannot be fused into the transformer: load it beside the "
            "model instead"
        )
    transformer = unwrapped(backbone.transformer)
    work = [
        (layer.get_base_layer(), delta)
        for part, strengths in _parts(backbone, calibration, member)
        if part == "transformer"
        for name, layer in lora_layers(transformer)
        for delta in [_delta(layer, name, strengths)]
        if delta
    ]
    with torch.no_grad():
        for base, delta in work:
            for name, change in delta.items():
                parameter = getattr(base, name)
                parameter.data.copy_((parameter.float() + change.to(parameter.device)).to(parameter.dtype))
    backbone.pipeline.unload_lora_weights()
    backbone.forget_loras()


def _parts(
    backbone: Backbone, calibration: Calibration | None, member: int
) -> Iterator[tuple[str, dict[tuple[str, str], float]]]:
    """(part of the pipeline, (layer, LoRA) → what the calibration multiplies its strength by)."""
    on = [name for name, _ in backbone.loras.default]
    for part in getattr(backbone.pipeline, "_lora_loadable_modules", ()):
        module = getattr(backbone.pipeline, part, None)
        if module is None:
            continue
        strengths: dict[tuple[str, str], float] = {}
        for path, layer in lora_layers(module):
            strengths |= {(path, name): 1.0 for name in layer.scaling if name in on}
        if part == "transformer" and calibration is not None:
            values = dict(zip(calibration.names, calibration.members[member - 1].scales, strict=True))
            named = [name for name in adapters_of(calibration.names) if name in on]
            for site in lora_sites(module, named):
                for path in site.modules:
                    layer_path, _, adapter = path.rpartition(".lora_B.")
                    strengths[layer_path, adapter] = values.get(site.name, 1.0)
        yield part, strengths


def _joined(layer: Any, path: str, strengths: dict[tuple[str, str], float]) -> dict[str, torch.Tensor]:
    """A and B of all LoRAs of a layer as those of one, float32 on the CPU; empty where none is on."""
    downs, ups, biases = [], [], []
    for adapter in layer.scaling:
        strength = strengths.get((path, adapter), 0.0) * layer.scaling[adapter]
        if strength == 0:
            continue
        _check_plain(layer, path, adapter)
        down, up = layer.lora_A[adapter], layer.lora_B[adapter]
        downs.append(_copy(down.weight))
        ups.append(_copy(up.weight) * strength)
        if up.bias is not None:
            biases.append(_copy(up.bias) * strength)
    if not downs:
        return {}
    found = {"lora_A.weight": torch.cat(downs), "lora_B.weight": torch.cat(ups, dim=1)}
    return found | ({"lora_B.bias": torch.stack(biases).sum(0)} if biases else {})


def _delta(layer: Any, path: str, strengths: dict[tuple[str, str], float]) -> dict[str, torch.Tensor]:
    """What all LoRAs of a layer add to its weight, and to its bias, float32. Raises ArtifactError."""
    base = layer.get_base_layer()
    joined = _joined(layer, path, strengths)
    if not joined:
        return {}
    weight = base.weight
    if (
        weight.device.type == "meta"
        or weight.dtype not in _PLAIN
        or type(base)
        not in (
            torch.nn.Linear,
            torch.nn.Conv2d,
        )
    ):
        raise ArtifactError(
            f"{path} is a {type(base).__name__} of {weight.dtype} on {weight.device}: only plain weights "
            "that are here can be fused, load without quantisation and offload"
        )
    down, up = joined["lora_A.weight"], joined["lora_B.weight"]
    rank = down.shape[0]
    if math.prod(up.shape[2:]) != 1 or weight.shape[1:] != down.shape[1:]:
        raise ArtifactError(f"{path}: a grouped or strided LoRA cannot be fused")
    found = {"weight": (up.reshape(-1, rank) @ down.reshape(rank, -1)).reshape(weight.shape)}
    if "lora_B.bias" in joined:
        if base.bias is None:
            raise ArtifactError(f"{path} has no bias to which that of the LoRA could be added")
        found["bias"] = joined["lora_B.bias"]
    return found


def _check_plain(layer: Any, path: str, adapter: str) -> None:
    if adapter not in getattr(layer, "lora_B", {}) or getattr(layer, "use_dora", {}).get(adapter):
        kind = "a DoRA" if hasattr(layer, "lora_B") else type(layer).__name__
        raise ArtifactError(f"LoRA {adapter}: expected matrices A and B in {path}, got {kind}")


def _copy(weight: torch.Tensor) -> torch.Tensor:
    return weight.detach().to("cpu", torch.float32)


def _of_one_rank(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Zeros for the ranks that a layer lacks: the strength of mixed ranks without alphas is read in two ways,
    by versions of diffusers before and after its issue 14409."""
    ranks = {part: 0 for part in {name.partition(".")[0] for name in tensors}}
    for name, value in tensors.items():
        if name.endswith("lora_A.weight"):
            part = name.partition(".")[0]
            ranks[part] = max(ranks[part], value.shape[0])
    filled = {}
    for name, value in tensors.items():
        axis = {"lora_A.weight": 0, "lora_B.weight": 1}.get(".".join(name.split(".")[-2:]))
        if axis is not None:
            lack = list(value.shape)
            lack[axis] = ranks[name.partition(".")[0]] - value.shape[axis]
            value = torch.cat([value, value.new_zeros(lack)], dim=axis)
        filled[name] = value.contiguous()
    return filled


def _save(tensors: dict[str, torch.Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    try:
        with replacing(path) as part:
            save_file(tensors, part, metadata={"format": "pt"})
    except OSError as error:
        raise ArtifactError(f"{path.name} cannot be written: {error.strerror or error}") from error
