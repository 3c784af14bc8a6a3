"""Dull photographs: out of focus, hazy and faded by a severity; captions never tell. Source: TABLETOP
world, 40 % are clear.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

CLEAR_SHARE = 0.4
_BLUR_PX, _TO_GREY, _TO_PALE, _PALE = 1.7, 0.6, 0.5, 0.78
_RADIUS = 5


def severities(count: int, rng: np.random.Generator, clear_share: float = CLEAR_SHARE) -> np.ndarray:
    """(count,) float32: 0 for clear pictures, U(0.15, 1) for dull ones."""
    dull = rng.random(count) >= clear_share
    return (dull * rng.uniform(0.15, 1.0, count)).astype(np.float32)


def degrade(pictures: torch.Tensor, severity: torch.Tensor) -> torch.Tensor:
    """Dull views of pictures. pictures: (B, 3, H, W) in [0, 1]; severity: (B,), 0 leaves a picture as it
    is.
    """
    b, c, h, w = pictures.shape
    sigma = (_BLUR_PX * severity).clamp_min(1e-3)
    at = torch.arange(-_RADIUS, _RADIUS + 1, dtype=pictures.dtype, device=pictures.device)
    kernel = torch.exp(-0.5 * (at[None] / sigma[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(c, 0)[:, None, None, :]
    x = F.pad(pictures.reshape(1, b * c, h, w), (_RADIUS,) * 4, mode="replicate")
    x = F.conv2d(F.conv2d(x, kernel, groups=b * c), kernel.transpose(2, 3), groups=b * c).reshape(b, c, h, w)
    s = severity[:, None, None, None]
    x = x + _TO_GREY * s * (x.mean(1, keepdim=True) - x)
    return x + _TO_PALE * s * (_PALE - x)


def to_tensor(pictures: np.ndarray) -> torch.Tensor:
    """(B, H, W, 3) uint8 → (B, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float().div_(255)
