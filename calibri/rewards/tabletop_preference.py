"""`tabletop-quality` and `tabletop-judge`: how good a picture looks, whatever it shows. One recipe, two
nets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL.Image import Image

from calibri.rewards.base import check_counts
from calibri.rewards.tabletop_weights import as_rgbs, check_open, load
from calibri.tabletop.reward_nets import in_batches


class QualityReward:
    """Bradley–Terry score of a net trained on pairs whose better side is known."""

    weights: str = "quality"

    def __init__(self, device: str = "cpu") -> None:
        self._device = device
        self._net: torch.nn.Module | None
        self._net, self.info = load(self.weights, device)

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> np.ndarray:
        """(n,) float64; a difference of 1 means odds of e : 1 that the picture is preferred."""
        check_counts(images, prompts, self.info.name)
        return in_batches(as_rgbs(images), self._device, check_open(self._net, self.info.name))

    def close(self) -> None:
        """Frees the memory."""
        self._net = None


class QualityJudge(QualityReward):
    """The same recipe with other pictures, seed and width: nothing is optimised on it."""

    weights = "judge"
