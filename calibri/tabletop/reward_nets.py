"""What the tabletop rewards share: where their weights lie, and pictures as tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image
from safetensors import safe_open

from calibri.assets import ASSETS
from calibri.errors import RewardError
from calibri.rewards.base import RewardInfo
from calibri.rewards.catalog import CATALOG
from calibri.rewards.pictures import as_rgb
from calibri.rewards.weights import weights_id
from calibri.tabletop.degrade import to_tensor
from calibri.tabletop.nets import FactsNet, QualityNet
from calibri.tabletop.raycast import SIDE

FOLDER = ASSETS / "rewards"
_NETS = {"FactsNet": FactsNet, "QualityNet": QualityNet}
BATCH = 64  # fixed: scores must not depend on how many pictures are scored at once


def as_batch(images: Sequence[Image.Image]) -> torch.Tensor:
    """(n, 3, 128, 128) float32 in [0, 1]; other sizes are resampled."""
    same = [as_rgb(image) for image in images]
    same = [
        im if im.size == (SIDE, SIDE) else im.resize((SIDE, SIDE), Image.Resampling.LANCZOS) for im in same
    ]
    return to_tensor(np.stack([np.asarray(im) for im in same]))


def load_net(name: str, device: str) -> tuple[torch.nn.Module, RewardInfo]:
    """The net of `assets/rewards/<name>.safetensors` in evaluation mode, and what its reward says of itself;
    the version tells the steps that it was trained on.
    """
    path = FOLDER / f"{name}.safetensors"
    if not path.exists():
        raise RewardError(f"the weights of tabletop-{name} are missing: expected assets/rewards/{path.name}")
    with safe_open(path, "pt") as f:
        meta = f.metadata()
        state = {k: f.get_tensor(k).float() for k in f.keys()}  # noqa: SIM118  (safe_open is no dict)
    net = _NETS[meta["net"]](int(meta["width"]))
    net.load_state_dict(state)
    net = net.to(device).eval().requires_grad_(False)
    return net, describe(f"tabletop-{name}", f"{meta['scenes_seed']}.{meta['samples']}", [path], net)


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
        licence=spec.licence,
        source="calibri",
        weights=weights,
        revision=f"{weights}-p1-pillow{PIL.__version__}-float32",
        size=size,
        memory={"float32": 2 * size + BATCH * 2**21},
        parameters=sum(p.numel() for p in model.parameters()),
    )


def still_open(model: torch.nn.Module | None, name: str) -> Any:
    """The model of a reward; RewardError where it was closed."""
    if model is None:
        raise RewardError(f"{name} was closed: load it again to score with it")
    return model


def in_batches(
    images: Sequence[Image.Image], device: str, f: Callable[[torch.Tensor], torch.Tensor]
) -> np.ndarray:
    """f over batches of pictures, as one float64 array."""
    if not images:
        return np.zeros(0)
    with torch.inference_mode():
        out = [
            f(as_batch(images[i : i + BATCH]).to(device)).double().cpu() for i in range(0, len(images), BATCH)
        ]
    return torch.cat(out).numpy()
