"""What the tabletop rewards say of themselves, from the files of their weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import PIL
import torch
from PIL.Image import Image

from calibri.errors import RewardError
from calibri.rewards.base import RewardInfo
from calibri.rewards.catalog import CATALOG
from calibri.rewards.pictures import as_rgb
from calibri.rewards.weights import weights_id
from calibri.tabletop.reward_nets import BATCH, FOLDER, load_net

_BYTES_OF_A_PICTURE = 2**21  # of activations, about


def load(name: str, device: str) -> tuple[torch.nn.Module, RewardInfo]:
    """The net of `tabletop-<name>` and what it says of itself. Raises RewardError."""
    net, version = load_net(name, device)
    return net, describe(f"tabletop-{name}", version, [FOLDER / f"{name}.safetensors"], net)


def describe(name: str, version: str, files: Sequence[Path], model: torch.nn.Module) -> RewardInfo:
    """What a tabletop reward says of itself, with the weights of these files."""
    spec, weights = CATALOG[name], weights_id(files)
    size = sum(path.stat().st_size for path in files)
    return RewardInfo(
        name=name,
        role=spec.role,
        version=version,
        description=spec.summary,
        range_hint=spec.range_hint,
        kind=spec.kind,
        temperature=spec.temperature,
        licence=spec.licence,
        source="calibri",
        weights=weights,
        revision=f"{weights}-p1-pillow{PIL.__version__}-float32",
        size=size,
        memory={"float32": 2 * size + BATCH * _BYTES_OF_A_PICTURE},
        parameters=sum(p.numel() for p in model.parameters()),
    )


def check_open(model: torch.nn.Module | None, name: str) -> Any:
    """The model of a reward. Raises RewardError where it was closed."""
    if model is None:
        raise RewardError(f"{name} was closed: load it again to score with it")
    return model


def as_rgbs(images: Sequence[Image]) -> list[Image]:
    """The pictures in RGB."""
    return [as_rgb(image) for image in images]
