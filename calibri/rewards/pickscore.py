"""`pickscore`: a CLIP-H tuned on 500,000 choices of people; Kirstain et al., arXiv 2305.01569.

Score: exp(logit scale) × cosine of picture and prompt, the scale on which papers report 22 to 24.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL.Image import Image

from calibri.rewards.clip import (
    clip_files,
    image_vectors,
    load_clip,
    load_tokenizer,
    text_vectors,
    token_ids,
)
from calibri.rewards.model import ModelReward
from calibri.rewards.weights import Files, find_files


class PickScore(ModelReward):
    """yuvalkirstain/PickScore_v1, in the hub's layout of a CLIPModel."""

    name = "pickscore"

    def _load(self, source: str | Path) -> Files:
        files = find_files(source, clip_files(), reward=self.name)
        self._tokenizer = load_tokenizer(files)
        self._model = load_clip(files, self.device, self.dtype, name=self.name)
        self._scale = self._model.logit_scale.float().exp()
        return files

    def _score(self, images: list[Image], prompts: list[str]) -> torch.Tensor:
        pictures = image_vectors(self._model, images, self.device, self.dtype)
        texts = text_vectors(self._model, token_ids(self._tokenizer, prompts), self.device)
        return self._scale * (pictures * texts).sum(-1)
