"""What the tabletop rewards share: where their weights lie, and pictures as tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open

from calibri.assets import ASSETS
from calibri.errors import RewardError
from calibri.tabletop.degrade import to_tensor
from calibri.tabletop.nets import FactsNet, QualityNet
from calibri.tabletop.raycast import SIDE

FOLDER = ASSETS / "rewards"
_NETS = {"FactsNet": FactsNet, "QualityNet": QualityNet}
BATCH = 64  # fixed: scores must not depend on how many pictures are scored at once


def as_batch(images: Sequence[Image.Image]) -> torch.Tensor:
    """(n, 3, 128, 128) float32 in [0, 1]; other sizes are resampled."""
    same = [im.convert("RGB") for im in images]
    same = [
        im if im.size == (SIDE, SIDE) else im.resize((SIDE, SIDE), Image.Resampling.LANCZOS) for im in same
    ]
    return to_tensor(np.stack([np.asarray(im) for im in same]))


def load_net(name: str, device: str) -> tuple[torch.nn.Module, str]:
    """The net of `assets/rewards/<name>.safetensors` in evaluation mode, and its version (steps it was
    trained on).
    """
    path = FOLDER / f"{name}.safetensors"
    if not path.exists():
        raise RewardError(f"the weights of tabletop-{name} are missing: expected assets/rewards/{path.name}")
    with safe_open(path, "pt") as f:
        meta = f.metadata()
        state = {k: f.get_tensor(k).float() for k in f.keys()}  # noqa: SIM118  (safe_open is no dict)
    net = _NETS[meta["net"]](int(meta["width"]))
    net.load_state_dict(state)
    return net.to(device).eval().requires_grad_(False), f"{meta['scenes_seed']}.{meta['samples']}"


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
