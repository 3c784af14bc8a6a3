"""`tabletop-quality` and `tabletop-judge`: how good a picture looks, whatever it shows. One recipe, two
nets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL.Image import Image

from calibri.rewards.base import RewardInfo, Role, check_counts
from calibri.tabletop.reward_nets import in_batches, load_net


class QualityReward:
    """Bradley–Terry score of a net trained on pairs whose better side is known."""

    weights: str = "quality"
    role: Role = "reward"
    description = "how clear and whole a picture looks; trained on pairs whose better side is known"

    def __init__(self, device: str = "cpu") -> None:
        self._device = device
        self._net, version = load_net(self.weights, device)
        self.info = RewardInfo(
            name=f"tabletop-{self.weights}",
            role=self.role,
            version=version,
            description=self.description,
            range_hint=(-6.0, 6.0),
        )

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> np.ndarray:
        """(n,) float64; a difference of 1 means odds of e : 1 that the picture is preferred."""
        check_counts(images, prompts, self.info.name)
        return in_batches(images, self._device, self._net)


class QualityJudge(QualityReward):
    """The same recipe with other pictures, seed and width: nothing is optimised on it."""

    weights = "judge"
    role = "judge"
    description = "an independent net for the quality of a picture; for measuring, never optimised"
