"""`tabletop-align`: a small CLIPModel of scenes and captions, scored as PickScore: logit scale × cosine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from calibri.errors import RewardError
from calibri.rewards.base import check_counts
from calibri.rewards.model import build, load_config
from calibri.rewards.tabletop_weights import as_rgbs, check_open, describe
from calibri.rewards.weights import load_tensors
from calibri.tabletop.reward_nets import BATCH, FOLDER, as_batch


class AlignReward:
    """Trained on clear and dull pictures alike, so that it is blind to quality. PickScore: arXiv
    2305.01569, eq. 1.
    """

    def __init__(self, device: str = "cpu") -> None:
        folder = FOLDER / "align"
        if not (folder / "config.json").exists():
            raise RewardError("the weights of tabletop-align are missing: expected assets/rewards/align/")
        self._device = device
        config = CLIPConfig(**load_config(folder / "config.json"))
        tensors = load_tensors(sorted(folder.glob("*.safetensors")), device, torch.float32)
        self._model: Any = None
        self._model = build(lambda: CLIPModel(config), tensors, name="tabletop-align")
        self._tokenizer = CLIPTokenizer.from_pretrained(folder)
        self._scale = float(self._model.logit_scale.exp())
        version = str(getattr(self._model.config, "calibri_samples", "1"))
        self.info = describe("tabletop-align", version, sorted(folder.iterdir()), self._model)

    def close(self) -> None:
        """Frees the memory."""
        self._model = None

    def features(self, images: Sequence[Image]) -> np.ndarray:
        """(n, d) float64 unit vectors of pictures."""
        model = check_open(self._model, self.info.name)
        with torch.inference_mode():
            out = [
                model.get_image_features(
                    pixel_values=as_batch(as_rgbs(images[i : i + BATCH])).to(self._device) * 2 - 1
                )
                for i in range(0, len(images), BATCH)
            ]
        return _unit(out)

    def text_features(self, prompts: Sequence[str]) -> np.ndarray:
        """(n, d) float64 unit vectors of prompts."""
        model = check_open(self._model, self.info.name)
        out = []
        with torch.inference_mode():
            for i in range(0, len(prompts), BATCH):
                tokens = self._tokenizer(
                    list(prompts[i : i + BATCH]), padding="max_length", truncation=True, return_tensors="pt"
                )
                out.append(model.get_text_features(input_ids=tokens.input_ids.to(self._device)))
        return _unit(out)

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> np.ndarray:
        """(n,) float64: logit scale × cosine of picture and prompt."""
        check_counts(images, prompts, self.info.name)
        if not images:
            return np.zeros(0)
        return self._scale * (self.features(images) * self.text_features(prompts)).sum(1)


def _unit(outputs: list) -> np.ndarray:
    # transformers 5 returns an output object whose pooler_output is the projected vector
    x = torch.cat([getattr(out, "pooler_output", out) for out in outputs]).double().cpu().numpy()
    return x / np.linalg.norm(x, axis=1, keepdims=True)
