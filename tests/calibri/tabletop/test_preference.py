"""The pairs that preference nets learn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from calibri.backbones.loading import load_backbone
from calibri.tabletop.train.common import Place
from calibri.tabletop.train.preference import _pairs, _renders, _shaken

ASSETS = Path(__file__).resolve().parents[3] / "assets"


def test_renders_of_earlier_bases_stay_in_use(tmp_path: Path) -> None:
    now = load_backbone(str(ASSETS / "tabletop"), device="cpu").fingerprint[:8]
    for number, (fingerprint, count) in enumerate({now: 2, "0" * 8: 3}.items(), 1):
        pictures = torch.full((count, 128, 128, 3), number, dtype=torch.uint8)
        kept = {"render": pictures, "spoilt": pictures + 10}
        save_file(kept, tmp_path / f"renders-quality-{fingerprint}.safetensors")
    found = _renders(Place(tmp_path, ASSETS, "cpu", minutes=1), "quality")
    levels = {kind: pictures[:, 0, 0, 0].tolist() for kind, pictures in found.items()}
    assert {kind: sorted(each) for kind, each in levels.items()} == {
        "render": [1, 1, 2, 2, 2],
        "spoilt": [11, 11, 12, 12, 12],
    }
    assert [level + 10 for level in levels["render"]] == levels["spoilt"]  # pairs stay pairs


def test_both_sides_of_a_pair_are_shaken_alike() -> None:
    rng = np.random.default_rng(0)
    x = torch.rand(6, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    better, worse = _shaken(x, x.clone(), rng)
    assert better.shape[-1] < 128 and torch.equal(better, worse)


def test_a_perturbed_render_loses_against_its_own_twin() -> None:
    true = torch.rand(6, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    good, bad = torch.full((4, 3, 128, 128), 0.7), torch.full((4, 3, 128, 128), 0.3)
    better, worse = _pairs(true, good, bad, np.random.default_rng(0))
    assert better.shape == worse.shape == (3 * 2 + 4, 3, 128, 128)
    assert torch.equal(better[4:8], good) and torch.equal(worse[4:8], bad)
    assert not torch.equal(better[:4], worse[:4])
