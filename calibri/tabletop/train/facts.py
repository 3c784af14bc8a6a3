"""Stages `keep` and `facts`: detectors of solids. `keep` guides the backbone's training and is a reward;
`facts` is a judge.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from calibri.tabletop.data import scene_at
from calibri.tabletop.degrade import degrade, severities, to_tensor
from calibri.tabletop.nets import KINDS, FactsNet
from calibri.tabletop.train.common import BACKBONE_SEED, JUDGE_SEED, Place, new_net, save_net, train_net

WIDTHS = {"keep": 20, "facts": 28}
_BATCH, _RATE = 64, 3e-3


def targets(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of scenes 0 … count−1: presence (count, kinds) in {0, 1}, and the number of solids (count,) int64."""
    presence = torch.zeros(count, len(KINDS))
    numbers = torch.zeros(count, dtype=torch.long)
    for i in range(count):
        solids = scene_at(i, seed).solids
        numbers[i] = len(solids)
        for solid in solids:
            presence[i, KINDS.index(solid.kind)] = 1
    return presence, numbers


def train_facts(place: Place, name: str) -> None:
    """Leaves `assets/rewards/<name>.safetensors`."""
    seed = JUDGE_SEED if name == "facts" else BACKBONE_SEED
    pictures = place.pictures(seed)[:12_000]
    presence, numbers = targets(len(pictures), seed)
    rng = np.random.default_rng([seed, 21])
    net = new_net(lambda: FactsNet(WIDTHS[name]), 31 + seed, place.device)
    held = 512

    def lose() -> tuple[torch.Tensor, int]:
        rows = np.sort(rng.integers(held, len(pictures), size=_BATCH))
        x = degrade(
            to_tensor(pictures[rows]).to(place.device),
            torch.from_numpy(severities(_BATCH, rng)).to(place.device),
        )
        with place.autocast():
            seen, count, _ = net(x.to(memory_format=torch.channels_last))
        y, n = presence[rows].to(place.device), numbers[rows].to(place.device)
        loss = F.binary_cross_entropy_with_logits(seen.float(), y) * 8 + F.cross_entropy(count.float(), n)
        return loss, _BATCH

    clock = train_net(place, name, net, _RATE, 0.02, lose)
    net.eval()
    with torch.inference_mode():
        x = degrade(to_tensor(pictures[:held]), torch.from_numpy(severities(held, rng))).to(place.device)
        seen, count, _ = net(x)
    right = ((seen > 0).float().cpu() == presence[:held]).all(1).float().mean()
    counted = (count.argmax(1).cpu() == numbers[:held]).float().mean()
    print(
        f"{name}: every pair right {right:.3f}, count right {counted:.3f} of {held} unseen mixed pictures",
        flush=True,
    )
    save_net(place, name, net, WIDTHS[name], seed, clock)
