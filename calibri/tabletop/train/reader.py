"""A reader of latents: which solids they show. It tells the flow stage what its predictions lack.

After ReFL (arXiv 2304.05977): the clean picture that a noisy step predicts is read by a net, and the asked
facts that it does not find become part of the loss. Here the net reads latents, which costs a twentieth of
decoding them, and through noise, so that what it cannot see by itself pleases it no more. It is trained on
the backbone's pictures in a minute or two and thrown away; the judges never come near.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from calibri.tabletop.nets import GRID, new_places, pairs_at
from calibri.tabletop.train.common import BACKBONE_SEED, Clock, Place, cosine, set_rates
from calibri.tabletop.train.facts import targets
from calibri.tabletop.world import MAX_SOLIDS

NOISE = 0.3  # up to this spread; latents have spread 1
_CHANNELS, _WIDTH, _BATCH, _RATE, _MINUTES, _HELD = 32, 128, 128, 2e-3, 3.0, 1000


class LatentReader(nn.Module):
    """Presence of each (colour, shape) pair and the number of solids, from packed latents."""

    def __init__(self) -> None:
        super().__init__()
        w = _WIDTH
        self.trunk = nn.Sequential(
            nn.Conv2d(_CHANNELS, w, 3, 1, 1),
            nn.SiLU(),
            nn.Conv2d(w, w, 3, 1, 1),
            nn.SiLU(),
            nn.Conv2d(w, w, 3, 1, 1),
            nn.SiLU(),
        )
        self.where = new_places(w)
        self.count = nn.Sequential(nn.Linear(2 * w, w), nn.SiLU(), nn.Linear(w, MAX_SOLIDS + 1))

    def forward(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 64, 32) → logits of presence (B, kinds) and of the count 0 … 3 (B, 4). As FactsNet reads
        pictures.
        """
        f = self.trunk(latents.transpose(1, 2).unflatten(2, (GRID, GRID)))
        where = pairs_at(self.where(f))
        return where.flatten(2).logsumexp(2), self.count(torch.cat([f.mean((2, 3)), f.amax((2, 3))], 1))


def missed(
    reader: LatentReader, latents: torch.Tensor, presence: torch.Tensor, numbers: torch.Tensor
) -> torch.Tensor:
    """How much of the facts is not read, (B,): 0 where all are there for certain. presence (B, kinds),
    numbers (B,).
    """
    seen, count = reader(latents)
    pairs = F.binary_cross_entropy_with_logits(seen, presence, reduction="none").mean(1)
    return 8 * pairs + F.cross_entropy(count, numbers, reduction="none")


def blurred(latents: torch.Tensor, noise: torch.Generator) -> torch.Tensor:
    """Latents under noise of a spread of 0 … `NOISE`, another one for each picture."""
    spread = NOISE * torch.rand(len(latents), 1, 1, generator=noise, device=latents.device)
    return latents + spread * torch.randn(latents.shape, generator=noise, device=latents.device)


def trained_reader(place: Place, latents: torch.Tensor) -> LatentReader:
    """The reader of this work folder, trained where it is missing. latents: (n, 64, 32) of the data set."""
    path = place.work / "reader.safetensors"
    with torch.random.fork_rng():
        torch.random.manual_seed(57)
        reader = LatentReader().to(place.device)
    if path.exists():
        reader.load_state_dict(load_file(path))
        return reader.eval().requires_grad_(False)
    presence, numbers = targets(len(latents), BACKBONE_SEED)
    optimizer = torch.optim.AdamW(reader.parameters(), lr=_RATE, weight_decay=0.02)
    rng = np.random.default_rng([BACKBONE_SEED, 67])
    noise = torch.Generator(place.device).manual_seed(77)
    clock = Clock("reader", min(_MINUTES, place.minutes))
    held = min(_HELD, len(latents) // 4)
    while True:
        set_rates([optimizer], [_RATE], cosine(clock.progress))
        rows = rng.integers(held, len(latents), size=_BATCH)
        z = blurred(latents[rows].to(place.device).float(), noise)
        loss = missed(reader, z, presence[rows].to(place.device), numbers[rows].to(place.device)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if not clock.step(loss.item(), _BATCH):
            break
    reader.eval().requires_grad_(False)
    seen, count = reader(latents[:held].to(place.device).float())
    right = ((seen.cpu() > 0).float() == presence[:held]).all(1).float().mean()
    counted = (count.argmax(1).cpu() == numbers[:held]).float().mean()
    print(f"reader: every pair right {right:.3f}, count right {counted:.3f} of {held} unseen", flush=True)
    save_file({k: v.contiguous() for k, v in reader.state_dict().items()}, path)
    return reader
