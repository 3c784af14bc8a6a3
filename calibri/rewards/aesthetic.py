"""`aesthetic`: LAION's improved aesthetic predictor, ratings of pictures from 1 to 10 on CLIP-L's embedding.

github.com/christophschuhmann/improved-aesthetic-predictor, sac+logos+ava1-l14-linearMSE. Its five linear
layers have no nonlinearity between them, so they are one: a weighted sum of the unit embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from PIL.Image import Image

from calibri.errors import RewardError
from calibri.rewards.clip import clip_files, image_vectors, load_clip
from calibri.rewards.clipscore import CLIP_L
from calibri.rewards.model import ModelReward
from calibri.rewards.weights import Files, find_files, load_tensors

HEAD = (
    "sac+logos+ava1-l14-linearMSE.safetensors",
    "sac+logos+ava1-l14-linearMSE.pth",
    "aesthetic-model.pth",
)
_LAYERS = (0, 2, 4, 6, 7)


class Aesthetic(ModelReward):
    """The head of `source` on CLIP-L, which lies in its folder `clip` or comes from the hub."""

    name = "aesthetic"

    def _load(self, source: str | Path) -> Files:
        clip = clip_files("clip", CLIP_L)
        names = {"head": HEAD, "config.json": clip["config.json"], "weights": clip["weights"]}
        files = find_files(source, names, reward=self.name)
        self._model = load_clip(files, self.device, self.dtype, name=self.name)
        self._line, self._offset = fold_head(load_tensors(files["head"], self.device), self.name)
        return files

    def _score(self, images: list[Image], prompts: list[str]) -> torch.Tensor:
        pictures = image_vectors(self._model, images, self.device, self.dtype)
        return (pictures @ self._line.float()) + self._offset.float()


def fold_head(tensors: Mapping[str, torch.Tensor], name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(d,) and () float64: the layers of the head as one line. Raises RewardError for other tensors."""
    line = torch.ones(1, 1, dtype=torch.float64)
    offset = torch.zeros(1, dtype=torch.float64)
    try:
        for number in reversed(_LAYERS):
            weight, bias = (tensors[f"layers.{number}.{kind}"].double().cpu() for kind in ("weight", "bias"))
            offset = offset + line @ bias
            line = line @ weight
    except (KeyError, RuntimeError) as error:
        raise RewardError(f"{name}: expected the five layers of the aesthetic head, got {error}") from error
    device = next(iter(tensors.values())).device
    if device.type == "mps":  # has no float64
        return line[0].float().to(device), offset[0].float().to(device)
    return line[0].to(device), offset[0].to(device)
