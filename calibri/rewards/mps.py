"""`mps`: Multi-dimensional Preference Score, overall; Zhang et al., CVPR 2024, arXiv 2405.14705.

A CLIP-H whose picture tokens look, in four cross layers, at those words of the prompt that a list of
conditions names. Score: exp(logit scale) × cosine. The threshold for the words is that of the authors'
evaluation, 0.3; the example in their README has 0.01.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import nn
from torch.nn.functional import scaled_dot_product_attention, silu
from transformers import CLIPModel

from calibri.errors import RewardError
from calibri.rewards.clip import TOKENIZER, load_tokenizer, token_ids, unit
from calibri.rewards.hpsv2 import CLIP_H
from calibri.rewards.model import ModelReward, build
from calibri.rewards.open_clip import config_of
from calibri.rewards.pictures import clip_pixels
from calibri.rewards.weights import At, Files, find_files, load_tensors

CONDITION = (
    "light, color, clarity, tone, style, ambiance, artistry, shape, face, hair, hands, limbs, structure, "
    "instance, texture, quantity, attributes, position, number, location, word, things."
)
WEIGHTS = ("mps.safetensors", "model.safetensors")
THRESHOLD = 0.3


class MPS(ModelReward):
    """A mirror with safetensors; the authors' own file is a pickle of the whole model, which is refused."""

    name = "mps"
    threshold = THRESHOLD

    def _load(self, source: str | Path) -> Files:
        tokenizer = {name: (name, f"clip/{name}", At(CLIP_H, name)) for name in TOKENIZER}
        files = find_files(source, {"weights": WEIGHTS, **tokenizer}, reward=self.name)
        self._tokenizer = load_tokenizer(files)
        clip, cross = parts(load_tensors(files["weights"], self.device, self.dtype))
        config = config_of(clip, self.name)
        self._model: Any = build(lambda: CLIPModel(config), clip, name=self.name)
        heads, width = shape_of(cross, self.name)
        self._cross = build(
            lambda: CrossModel(config.projection_dim, layers_of(cross), heads, width), cross, name=self.name
        )
        with torch.inference_mode():
            self._condition = self._texts([CONDITION])[0]
        return files

    def _texts(self, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, 77, d) of all tokens and (n, d) of the prompts."""
        ids = token_ids(self._tokenizer, prompts).to(self.device)
        found = self._model.text_model(input_ids=ids)
        project = self._model.text_projection
        return project(found.last_hidden_state), project(found.pooler_output)

    def _score(self, images: list[Image], prompts: list[str]) -> torch.Tensor:
        pixels = torch.from_numpy(clip_pixels(images, self._model.config.vision_config.image_size))
        seen = self._model.vision_model(pixel_values=pixels.to(self.device, self.dtype)).last_hidden_state
        words, texts = self._texts(prompts)
        likeness = (words @ self._condition.transpose(1, 2)).amax(-1)  # (n, 77)
        # The authors divide by the largest of the batch and score one picture at a time: by its own, then.
        meant = likeness / likeness.amax(-1, keepdim=True) > self.threshold
        found = self._cross(self._model.visual_projection(seen), words, meant)[:, 0]
        return self._model.logit_scale.float().exp() * (unit(found) * unit(texts)).sum(-1)


def parts(tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The tensors of the CLIP model and of the cross layers, by the names that they have here."""
    clip: dict[str, torch.Tensor] = {}
    cross: dict[str, torch.Tensor] = {}
    for key, tensor in tensors.items():
        key = key.removeprefix("mps.")  # of the mirror
        if key.startswith("cross_model."):
            cross[key.removeprefix("cross_model.").replace(".fn.", ".")] = tensor
        else:
            clip[key.removeprefix("model.")] = tensor
    return clip, cross


def layers_of(cross: Mapping[str, torch.Tensor]) -> int:
    """How many pairs of layers there are."""
    return len({key.split(".")[1] for key in cross})


def shape_of(cross: Mapping[str, torch.Tensor], name: str) -> tuple[int, int]:
    """Heads, and the width of one. Raises RewardError for other tensors."""
    try:
        width = cross["layers.0.0.to_kv.weight"].shape[0] // 2
        return cross["layers.0.0.to_q.weight"].shape[0] // width, width
    except KeyError as error:
        raise RewardError(f"{name}: expected cross layers, got none of {error}") from error


class CrossModel(nn.Module):
    """Picture tokens look at words, then at each other, in parallel layers with one key and value for all
    heads (as PaLM, arXiv 2204.02311).
    """

    def __init__(self, dim: int, layers: int, heads: int, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList([_Across(dim, heads, width), _Among(dim, heads, width)]) for _ in range(layers)
        )

    def forward(self, seen: torch.Tensor, words: torch.Tensor, meant: torch.Tensor) -> torch.Tensor:
        """(n, p, d) picture tokens, (n, w, d) words, (n, w) bool: those that may be looked at."""
        for pair in self.layers.children():
            across, among = pair.children()
            seen = seen + across(seen, words, meant)
            seen = seen + among(seen)
        return seen


class _Across(nn.Module):
    def __init__(self, dim: int, heads: int, width: int, growth: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, heads * width, bias=False)
        self.to_kv = nn.Linear(dim, 2 * width, bias=False)
        self.to_out = nn.Linear(heads * width, dim, bias=False)
        self.ff = nn.ModuleDict(
            {
                "0": nn.Linear(dim, 2 * growth * dim, bias=False),
                "2": nn.Linear(growth * dim, dim, bias=False),
            }
        )

    def forward(self, seen: torch.Tensor, words: torch.Tensor, meant: torch.Tensor) -> torch.Tensor:
        x = self.norm(seen)
        key, value = self.to_kv(words).chunk(2, -1)
        found = _attend(self.to_q(x), key, value, self.heads, meant[:, None, None])
        return self.to_out(found) + self.ff["2"](_gate(self.ff["0"](x)))


class _Among(nn.Module):
    def __init__(self, dim: int, heads: int, width: int, growth: int = 4) -> None:
        super().__init__()
        self.heads, self.widths = heads, (heads * width, width, width, 2 * growth * dim)
        self.norm = nn.LayerNorm(dim)
        self.fused_attn_ff_proj = nn.Linear(dim, sum(self.widths), bias=False)
        self.attn_out = nn.Linear(heads * width, dim, bias=False)
        self.ff_out = nn.ModuleDict({"1": nn.Linear(growth * dim, dim, bias=False)})
        self.rotary_emb = nn.Module()
        self.rotary_emb.register_buffer("inv_freq", torch.zeros(width // 2))

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        query, key, value, inner = self.fused_attn_ff_proj(self.norm(seen)).split(self.widths, -1)
        turn = self._turns(seen)
        query = _rotate(query.unflatten(-1, (self.heads, -1)), turn[:, None]).flatten(-2)
        found = _attend(query, _rotate(key, turn), value, self.heads)
        return self.attn_out(found) + self.ff_out["1"](_gate(inner))

    def _turns(self, seen: torch.Tensor) -> torch.Tensor:
        """(p, width): the angle of each place and channel."""
        frequencies = self.rotary_emb.get_buffer("inv_freq")
        places = torch.arange(seen.shape[1], device=seen.device, dtype=frequencies.dtype)
        return (places[:, None] * frequencies).repeat(1, 2)


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    heads: int,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attention of (n, p, heads · width) to (n, w, width), the same for all heads."""
    keys, values = (x[:, None].expand(-1, heads, -1, -1) for x in (key, value))
    split = query.unflatten(-1, (heads, -1)).transpose(1, 2)
    return scaled_dot_product_attention(split, keys, values, attn_mask=mask).transpose(1, 2).flatten(-2)


def _rotate(x: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, -1)
    return x * turn.cos() + torch.cat([-second, first], -1) * turn.sin()


def _gate(x: torch.Tensor) -> torch.Tensor:
    value, gate = x.chunk(2, -1)
    return silu(gate) * value
