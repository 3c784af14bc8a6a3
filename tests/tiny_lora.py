"""LoRA files of random numbers for tiny transformers, in the formats that people have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from calibri.backbones.catalog import BackboneSpec
from calibri.backbones.loading import Backbone
from tests.tiny_pipelines import STEPS, TINY


def every_linear(
    model: torch.nn.Module, wanted: Callable[[str], bool] = lambda path: True
) -> dict[str, torch.nn.Linear]:
    return {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and wanted(path)
    }


def write_lora(
    path: Path,
    model: torch.nn.Module,
    wanted: Callable[[str], bool] = lambda path: True,
    *,
    rank: int | Callable[[str], int] = 2,
    seed: int = 0,
    gain: float = 0.5,
    part: str = "transformer",
) -> Path:
    """A LoRA of every Linear of a model whose path is wanted, in diffusers' and peft's own names."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, linear in sorted(every_linear(model, wanted).items()):
        r = rank(name) if callable(rank) else rank
        down = torch.randn(r, linear.in_features, generator=generator) / linear.in_features**0.5
        up = torch.randn(linear.out_features, r, generator=generator) * gain / r**0.5
        tensors |= {f"{part}.{name}.lora_A.weight": down, f"{part}.{name}.lora_B.weight": up}
    save_file(tensors, path)
    return path


def write_kohya(path: Path, doubles: int, alpha: float, seed: int = 0, width: int = 32) -> Path:
    """As kohya's scripts name FLUX.1's layers: output of the image attention, and MLPs of double blocks."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "img_attn_proj": (width, width),
        "img_mlp_0": (width, 4 * width),
        "txt_mlp_2": (4 * width, width),
    }
    tensors = {}
    for block in range(doubles):
        for layer, (inside, outside) in shapes.items():
            name = f"lora_unet_double_blocks_{block}_{layer}"
            tensors[f"{name}.lora_down.weight"] = torch.randn(4, inside, generator=generator) / inside**0.5
            tensors[f"{name}.lora_up.weight"] = torch.randn(outside, 4, generator=generator) * 0.3
            tensors[f"{name}.alpha"] = torch.tensor(alpha)
    save_file(tensors, path)
    return path


def fresh(name: str, *loras: str, blocks: bool = False, make: Callable | None = None) -> Backbone:
    """A tiny backbone of its own, with LoRAs."""
    tiny = TINY[name]
    spec = BackboneSpec(
        name=name,
        source="memory",
        steps=STEPS,
        height=tiny.side,
        width=tiny.side,
        max_sequence_length=tiny.tokens,
    )
    backbone = Backbone((make or tiny.make)(), spec)
    backbone.add_loras(loras)
    if blocks:
        backbone.use_lora_blocks()
    return backbone
