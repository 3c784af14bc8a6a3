"""The small convolutional nets of the world's rewards and judges."""

from __future__ import annotations

import torch
import torch.nn as nn

from calibri.tabletop.world import COLOURS, MAX_SOLIDS, SHAPES

KINDS = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)
GRID = 8  # places along each side of a facts map: one for each image token of the backbone


def _conv(i: int, o: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.SiLU())


def _trunk(width: int, layers: tuple[tuple[int, int], ...]) -> nn.Sequential:
    """Convolutions over RGB pictures; layers as (channels in units of `width`, stride)."""
    ends = [width * units for units, _ in layers]
    return nn.Sequential(
        *(_conv(i, o, stride) for i, o, (_, stride) in zip([3, *ends[:-1]], ends, layers, strict=True))
    )


def pairs_at(where: torch.Tensor) -> torch.Tensor:
    """Logits of each pair at each place, (B, kinds, h, w), from those of a solid, its colour and its shape,
    (B, 1 + colours + shapes, h, w): log P(pair here) = log P(solid) + log P(colour) + log P(shape).
    """
    solid, colour, shape = where.split([1, len(COLOURS), len(SHAPES)], 1)
    colour, shape = colour.log_softmax(1), shape.log_softmax(1)
    return (solid[:, :, None] + colour[:, :, None] + shape[:, None]).flatten(1, 2)


def new_places(width: int) -> nn.Conv2d:
    """(B, width, 8, 8) → logits of solid, colours and shapes at each place. It starts with few solids."""
    places = nn.Conv2d(width, 1 + len(COLOURS) + len(SHAPES), 1)
    assert places.bias is not None
    nn.init.constant_(places.bias[:1], -2.0)
    return places


class FactsNet(nn.Module):
    """Which (colour, shape) pairs a picture shows and where, and how many solids.

    Each of 8 x 8 places holds a solid or none, of some colour and some shape: log P(pair here) = log
    P(solid) +
    log P(colour) + log P(shape). A pair is present where the log-sum-exp over the places says so: one is
    enough.
    """

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        w = width
        self.trunk = _trunk(w, ((1, 2), (2, 2), (2, 1), (4, 2), (4, 1), (4, 2), (4, 1)))
        self.where = new_places(4 * w)
        self.count = nn.Sequential(nn.Linear(8 * w, 4 * w), nn.SiLU(), nn.Linear(4 * w, MAX_SOLIDS + 1))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, 128, 128) in [0, 1] → (B, 4·width, 8, 8)."""
        return self.trunk(x * 2 - 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits: presence (B, kinds), count 0 … 3 (B, 4), and the map (B, kinds, 8, 8)."""
        f = self.features(x)
        where = pairs_at(self.where(f))
        pooled = torch.cat([f.mean((2, 3)), f.amax((2, 3))], 1)
        return where.flatten(2).logsumexp(2), self.count(pooled), where


class QualityNet(nn.Module):
    """How good a picture looks: one number, a Bradley–Terry score. The mean and the maximum over 8 × 8 places
    judge the whole and its worst part.
    """

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        w = width
        self.trunk = _trunk(w, ((1, 2), (2, 2), (4, 2), (4, 1), (4, 2), (4, 1)))
        self.head = nn.Sequential(nn.Linear(8 * w, 2 * w), nn.SiLU(), nn.Linear(2 * w, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, 128, 128) in [0, 1] → (B,)."""
        f = self.trunk(x * 2 - 1)
        return self.head(torch.cat([f.mean((2, 3)), f.amax((2, 3))], 1)).squeeze(1)
