"""`hpsv2`: Human Preference Score v2.1, a CLIP-H tuned on HPD v2; Wu et al., arXiv 2306.09341.

Score: the cosine of picture and prompt, without a scale, as the authors' `hpsv2.score` gives it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL.Image import Image

from calibri.rewards.clip import TOKENIZER, load_tokenizer, text_vectors, unit
from calibri.rewards.model import ModelReward
from calibri.rewards.open_clip import load_open_clip, token_ids
from calibri.rewards.pictures import CLIP_MEAN, CLIP_STD
from calibri.rewards.weights import At, Files, find_files, load_tensors

CLIP_H = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"  # has the tokenizer that xswu/HPSv2 leaves to open_clip
WEIGHTS = ("HPS_v2.1.safetensors", "HPS_v2.1_compressed.pt")


class HPSv2(ModelReward):
    """xswu/HPSv2, HPS_v2.1_compressed.pt: open_clip's keys."""

    name = "hpsv2"

    def _load(self, source: str | Path) -> Files:
        names: dict[str, tuple[str | At, ...]] = {name: (name, At(CLIP_H, name)) for name in TOKENIZER}
        files = find_files(source, {"weights": WEIGHTS, **names}, reward=self.name)
        self._tokenizer = load_tokenizer(files)
        self._model = load_open_clip(load_tensors(files["weights"], self.device, self.dtype), self.name)
        return files

    def _score(self, images: list[Image], prompts: list[str]) -> torch.Tensor:
        side = self._model.config.vision_config.image_size
        pixels = torch.cat([fit_into(image, side) for image in images]).to(self.device, self.dtype)
        pictures = unit(self._model.get_image_features(pixel_values=pixels))
        texts = text_vectors(self._model, token_ids(self._tokenizer, prompts), self.device)
        return (pictures * texts).sum(-1)


def fit_into(image: Image, side: int) -> torch.Tensor:
    """(1, 3, side, side) float32: the whole RGB picture, its longer side `side`, in the middle of black,
    then CLIP's mean and deviation.

    Resized as a tensor, bicubic with antialias and without rounding to levels, as the authors do.
    """
    pixels = torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1)[None] / 255
    height, width = pixels.shape[-2:]
    scale = side / max(height, width)
    if scale != 1:
        new = tuple(max(1, round(length * scale)) for length in (height, width))
        pixels = torch.nn.functional.interpolate(
            pixels, size=new, mode="bicubic", align_corners=False, antialias=True
        )
    down, across = side - pixels.shape[-2], side - pixels.shape[-1]
    around = (across // 2, across - across // 2, down // 2, down - down // 2)
    pixels = torch.nn.functional.pad(pixels, around)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return (pixels - mean) / std
