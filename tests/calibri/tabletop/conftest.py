"""A work folder for short runs of the backbone's stages."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from calibri.tabletop.train.common import Place

ASSETS = Path(__file__).resolve().parents[3] / "assets"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """The published backbone, and latents of noise: what is learnt does not matter here."""
    made = Place(tmp_path, ASSETS, "cpu", minutes=0.02, batch=4, published=True)
    draw = torch.Generator().manual_seed(0)
    noise = {"latents": torch.randn(16, 64, 32, generator=draw), "features": torch.zeros(16, 64, 8)}
    save_file({name: x.half() for name, x in noise.items()}, tmp_path / "latents.safetensors")
    return made
