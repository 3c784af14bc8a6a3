"""`clipscore`: how well picture and prompt agree for CLIP-L; Hessel et al., arXiv 2104.08718.

Score: 2.5 × max(cosine, 0), with "A photo depicts " before the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL.Image import Image

from calibri.rewards.clip import (
    clip_files,
    folder_of,
    image_vectors,
    load_clip,
    load_tokenizer,
    text_vectors,
    token_ids,
)
from calibri.rewards.model import ModelReward
from calibri.rewards.weights import Files, find_files

CLIP_L = "openai/clip-vit-large-patch14"
_PREFIX = "A photo depicts "
_FACTOR = 2.5


class ClipScore(ModelReward):
    """openai/clip-vit-large-patch14, or another CLIPModel in the hub's layout."""

    name = "clipscore"

    def _load(self, source: str | Path) -> Files:
        files = find_files(source, clip_files(folder_of(source)), reward=self.name)
        self._tokenizer = load_tokenizer(files)
        self._model = load_clip(files, self.device, self.dtype, name=self.name)
        return files

    def cosines(self, images: Sequence[Image], texts: Sequence[str]) -> torch.Tensor:
        """(n,) float32: the plain cosine of each RGB picture with its text."""
        pictures = image_vectors(self._model, images, self.device, self.dtype)
        return (pictures * text_vectors(self._model, token_ids(self._tokenizer, texts), self.device)).sum(-1)

    def _score(self, images: list[Image], prompts: list[str]) -> torch.Tensor:
        return _FACTOR * self.cosines(images, [_PREFIX + prompt for prompt in prompts]).clamp(min=0)
