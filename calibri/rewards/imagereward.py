"""`imagereward`: BLIP tuned on experts' rankings; Xu et al., arXiv 2304.05977.

Score: a linear head on the text's first state, which attends to the picture; standardised, so that the
authors' pictures have mean 0 and spread 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import nn
from transformers import BlipTextConfig, BlipVisionConfig, BlipVisionModel
from transformers.models.blip.modeling_blip_text import BlipTextModel

from calibri.errors import RewardError
from calibri.rewards.catalog import IMAGEREWARD_SPREAD
from calibri.rewards.fill import build_empty, fill, read_tensors
from calibri.rewards.model import ModelReward, load_config
from calibri.rewards.pictures import normalise, resize_and_crop
from calibri.rewards.weights import At, Files, find_files

MEAN, SPREAD = 0.16717362830052426, IMAGEREWARD_SPREAD
TOKENS = 35
SIDE = 224
_HEAD = (1024, 128, 64, 16, 1)
_HEAD_PLACES = (0, 2, 4, 6, 7)  # of its linear layers among those of dropout
_VISION = (
    ("blip.visual_encoder.cls_token", "embeddings.class_embedding"),
    ("blip.visual_encoder.pos_embed", "embeddings.position_embedding"),
    ("blip.visual_encoder.patch_embed.proj.", "embeddings.patch_embedding."),
    ("blip.visual_encoder.norm.", "post_layernorm."),
    ("blip.visual_encoder.blocks.", "encoder.layers."),
)
_BLOCK = (
    (".attn.qkv.", ".self_attn.qkv."),
    (".attn.proj.", ".self_attn.projection."),
    (".norm1.", ".layer_norm1."),
    (".norm2.", ".layer_norm2."),
)
# Of the pretraining: the contrastive projections, and positions that are counted anyway.
_UNUSED = ("blip.vision_proj.", "blip.text_proj.", "blip.text_encoder.embeddings.position_ids")


class ImageRewardNet(nn.Module):
    """A BLIP vision tower, BLIP's text encoder with cross-attention, and a head without nonlinearities."""

    def __init__(self, vision: BlipVisionConfig, text: BlipTextConfig) -> None:
        super().__init__()
        self.vision = BlipVisionModel(vision)
        self.text = BlipTextModel(text, add_pooling_layer=False)
        widths = (text.hidden_size, *_HEAD)
        self.head = nn.Sequential(*(nn.Linear(a, b) for a, b in itertools.pairwise(widths)))

    def forward(self, pixels: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(n,) float32 of (n, 3, 224, 224) pixels, (n, 35) ids and their mask."""
        seen = self.vision(pixel_values=pixels).last_hidden_state
        # An encoder in use (every token sees every token), though the configuration says decoder: without
        # that transformers builds no cross-attention.
        states = self.text(
            input_ids=ids,
            attention_mask=mask,
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:2], dtype=torch.long, device=seen.device),
            is_decoder=False,
        ).last_hidden_state
        return (self.head(states[:, 0].float()).squeeze(-1) - MEAN) / SPREAD


def rename(name: str) -> str | None:
    """The name here of a name in the published file; None for what no score needs."""
    if name.startswith(_UNUSED):
        return None
    if name.startswith("blip.text_encoder."):
        return "text." + name.removeprefix("blip.text_encoder.")
    if name.startswith("mlp.layers."):
        place, _, leaf = name.removeprefix("mlp.layers.").partition(".")
        known = place.isdigit() and int(place) in _HEAD_PLACES
        return f"head.{_HEAD_PLACES.index(int(place))}.{leaf}" if known else name
    for old, new in _VISION:
        if name.startswith(old):
            name = "vision." + new + name.removeprefix(old)
            for before, after in _BLOCK:
                name = name.replace(before, after)
    return name


def vision_config(width: int = 1024, depth: int = 24) -> BlipVisionConfig:
    """BLIP's own tower, by default ViT-L: heads of 64, another epsilon than transformers' default."""
    return BlipVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=depth,
        num_attention_heads=max(width // 64, 2),
        image_size=SIDE,
        patch_size=16,
        layer_norm_eps=1e-6,
    )


def text_config(values: dict[str, Any], vision: BlipVisionConfig) -> BlipTextConfig:
    """Of the published `med_config.json`."""
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    missing = [name for name in names if name not in values]
    if missing:
        raise RewardError(f"imagereward: med_config.json lacks {missing[0]}")
    more = ("max_position_embeddings", "hidden_act", "layer_norm_eps", "pad_token_id")
    known = {name: values[name] for name in (*names, *more) if name in values}
    return BlipTextConfig(
        **known,
        encoder_hidden_size=vision.hidden_size,
        is_decoder=True,
        **dict.fromkeys(("bos_token_id", "eos_token_id", "sep_token_id")),  # for generation alone
    )


class ImageReward(ModelReward):
    """THUDM/ImageReward: ImageReward.pt and med_config.json; the vocabulary is bert-base-uncased's."""

    name = "imagereward"

    def _load(self, source: str | Path) -> Files:
        names: dict[str, str | At | Sequence[str | At]] = {
            "weights": ("ImageReward.safetensors", "ImageReward.pt"),
            "config": "med_config.json",
            "vocabulary": ("vocab.txt", At("google-bert/bert-base-uncased", "vocab.txt")),
        }
        files = find_files(source, names, reward=self.name)
        self._tokenizer = _tokenizer(files["vocabulary"])
        tensors = dict(read_tensors(files.all("weights"), rename))
        vision = vision_config(*_tower(tensors))
        text = text_config(load_config(files["config"]), vision)
        net = build_empty(lambda: ImageRewardNet(vision, text))
        fill(net, tensors.items(), label=self.name, device=self.device, dtype=self.dtype, exact=("head.",))
        self._net = net
        return files

    def _score(self, images: list[Image], prompts: list[str]) -> torch.Tensor:
        # Half a pixel goes to the even side, as torchvision crops.
        squares = [resize_and_crop(image, SIDE, lambda rest: round(rest / 2)) for image in images]
        pixels = torch.from_numpy(normalise(squares))
        texts = self._tokenizer.encode_batch(prompts)
        ids = torch.from_numpy(np.array([text.ids for text in texts], dtype=np.int64))
        mask = torch.from_numpy(np.array([text.attention_mask for text in texts], dtype=np.int64))
        return self._net(pixels.to(self.device, self.dtype), ids.to(self.device), mask.to(self.device))


def _tower(tensors: dict[str, torch.Tensor]) -> tuple[int, int]:
    """Width and depth of the vision tower, which no published file tells."""
    token = tensors.get("vision.embeddings.class_embedding")
    if token is None:
        raise RewardError("imagereward: expected the weights of ImageReward, got none of a vision tower")
    blocks = {name.split(".")[3] for name in tensors if name.startswith("vision.encoder.layers.")}
    return token.shape[-1], len(blocks)


def _tokenizer(vocabulary: Path) -> Any:
    """BERT's, lower case, with the two tokens that BLIP adds; always 35 long."""
    from tokenizers.implementations import BertWordPieceTokenizer

    try:
        tokenizer = BertWordPieceTokenizer(str(vocabulary), lowercase=True)
    except Exception as error:  # the library raises bare Exception
        raise RewardError(f"imagereward: {vocabulary} is no vocabulary of BERT: {error}") from error
    tokenizer.add_special_tokens(["[DEC]", "[ENC]"])
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(length=TOKENS)
    return tokenizer
