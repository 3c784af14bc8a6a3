"""`qalign`, `qalign-aesthetics`: Q-Align (arXiv 2312.17090), a rating from 1 to 5 of a picture alone.

Score: of the model's next word, the softmax over excellent, good, fair, poor and bad; the mean of 5, 4, 3, 2
and 1 under it. A port of its own, from the formula and the layout of the public weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from transformers import LlamaConfig

from calibri.errors import RewardError
from calibri.rewards.fill import build_empty, fill, read_tensors
from calibri.rewards.model import ModelReward, load_config
from calibri.rewards.pictures import normalise, pad_to_square
from calibri.rewards.qalign_net import QAlignNet
from calibri.rewards.weights import At, Files, find_files

# The end has its words in this order: so does the published code, and so the published scores.
BEFORE = "USER: How would you rate the {} of this image?\n"
AFTER = "\nASSISTANT: The image of the {} is"
WORDS = ("excellent", "good", "fair", "poor", "bad")
WEIGHTS = (5.0, 4.0, 3.0, 2.0, 1.0)
_VISION: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
    "image_size": 448,
    "layer_norm_eps": 1e-6,
    "hidden_act": "quick_gelu",
}
_ABSTRACTOR: dict[str, Any] = {
    "hidden_size": 1024,
    "num_learnable_queries": 64,
    "num_hidden_layers": 6,
    "num_attention_heads": 16,
    "intermediate_size": 2816,
    "layer_norm_eps": 1e-6,
    "encoder_hidden_size": 1024,
    "grid_size": 32,
}
_LANGUAGE: dict[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 4096,
    "rope_theta": 10000.0,
}


def build_net(values: dict[str, Any]) -> tuple[QAlignNet, int]:
    """An empty model of a published configuration, and its pictures' side in pixels. What the configuration
    leaves out is as in q-future/one-align.
    """
    picture = values.get("visual_config", {})
    vision = _VISION | _known(picture.get("visual_model", {}), _VISION)
    abstractor = _ABSTRACTOR | _known(picture.get("visual_abstractor", {}), _ABSTRACTOR)
    config = LlamaConfig(**(_LANGUAGE | _known(values, _LANGUAGE)))
    return build_empty(lambda: QAlignNet(config, vision, abstractor)), vision["image_size"]


def _known(values: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in names if values.get(name) is not None}


def rename(name: str) -> str | None:
    """None for frequencies that old checkpoints hold and that are computed."""
    return None if name.endswith("rotary_emb.inv_freq") else name


def rate(logits: torch.Tensor, words: Sequence[int], weights: Sequence[float] = WEIGHTS) -> torch.Tensor:
    """(n,) mean of `weights` under the softmax over the ids `words` of (n, vocabulary) logits."""
    return logits[:, list(words)].softmax(-1) @ torch.tensor(
        weights, device=logits.device, dtype=logits.dtype
    )


class QAlign(ModelReward):
    """q-future/one-align: weights, configuration and LLaMA's tokenizer. The prompt is not looked at."""

    name = "qalign"
    task: ClassVar[str] = "quality"
    batch = 8

    def _load(self, source: str | Path) -> Files:
        names: dict[str, str | At | Sequence[str | At]] = {
            "weights": ("model*.safetensors", "pytorch_model*.bin"),
            "config": "config.json",
            "tokenizer": ("tokenizer.model", "tokenizer.json"),
        }
        files = find_files(source, names, reward=self.name)
        encode, begin = _encoder(files["tokenizer"])
        before, after = encode(BEFORE.format(self.task)), encode(AFTER.format(self.task))
        self._before = torch.tensor([begin, *before], device=self.device)
        self._after = torch.tensor(after, device=self.device)
        self._words = [encode(word)[0] for word in WORDS]
        net, side = build_net(load_config(files["config"]))
        tensors = read_tensors(files.all("weights"), rename)
        fill(net, tensors, label=self.name, device=self.device, dtype=self.dtype)
        self._net, self._side = net, side
        return files

    def _score(self, images: list[Image.Image], prompts: list[str]) -> torch.Tensor:
        side = (self._side, self._side)
        squares = [pad_to_square(image).resize(side, Image.Resampling.BICUBIC) for image in images]
        pixels = torch.from_numpy(normalise(squares)).to(self.device, self.dtype)
        return rate(self._net(pixels, self._before, self._after), self._words)


class QAlignAesthetics(QAlign):
    """The same weights, asked about aesthetics."""

    name = "qalign-aesthetics"
    task = "aesthetics"


def _encoder(path: Path) -> tuple[Callable[[str], list[int]], int]:
    """A text's ids without begin and end, and the id that begins. Sentencepiece's model or tokenizer.json."""
    if path.suffix == ".model":
        from sentencepiece import SentencePieceProcessor

        try:
            pieces = SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise RewardError(f"qalign: {path} is no sentencepiece model: {error}") from error
        return pieces.encode, pieces.bos_id()
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise RewardError(f"qalign: {path} is no tokenizer: {error}") from error
    begin = tokenizer.token_to_id("<s>")
    if begin is None:
        raise RewardError(f"qalign: expected the tokenizer of LLaMA, got {path} without <s>")
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids, begin
