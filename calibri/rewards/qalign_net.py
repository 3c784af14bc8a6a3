"""mPLUG-Owl2 (arXiv 2311.04257), the model that Q-Align was trained on.

Written anew after the paper, the names and shapes of the published weights, and what its authors' code
(X-PLUG/mPLUG-Owl, MIT) computes. A vision transformer's states are drawn into 64 queries (the abstractor) and
an end; among a LLaMA's words they are normalised, and become keys and values, by weights of their own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import LlamaConfig
from transformers.activations import ACT2FN
from transformers.models.llama.modeling_llama import (
    LlamaMLP,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
    apply_rotary_pos_emb,
)


def _heads(x: torch.Tensor, count: int) -> torch.Tensor:
    """(n, length, heads · width) → (n, heads, length, width)."""
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def _joined(x: torch.Tensor) -> torch.Tensor:
    return x.transpose(1, 2).flatten(2)


class _VisionAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.dense = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # One head after the other, each with its query, key and value.
        parts = self.query_key_value(x).unflatten(-1, (self.heads, 3, -1))
        query, key, value = (part.transpose(1, 2) for part in parts.unbind(3))
        return self.dense(_joined(functional.scaled_dot_product_attention(query, key, value)))


class _VisionMLP(nn.Module):
    def __init__(self, width: int, inner: int, activation: str) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)
        self.activation = ACT2FN[activation]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.activation(self.fc1(x)))


class _VisionLayer(nn.Module):
    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__()
        width, epsilon = values["hidden_size"], values["layer_norm_eps"]
        self.input_layernorm = nn.LayerNorm(width, eps=epsilon)
        self.self_attn = _VisionAttention(width, values["num_attention_heads"])
        self.post_attention_layernorm = nn.LayerNorm(width, eps=epsilon)
        self.mlp = _VisionMLP(width, values["intermediate_size"], values["hidden_act"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class _VisionEmbeddings(nn.Module):
    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__()
        width, patch = values["hidden_size"], values["patch_size"]
        places = (values["image_size"] // patch) ** 2 + 1
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.patch_embed = nn.Conv2d(3, width, patch, patch, bias=False)
        self.position_embedding = nn.Parameter(torch.zeros(1, places, width))
        self.pre_layernorm = nn.LayerNorm(width, eps=values["layer_norm_eps"])

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        patches = self.patch_embed(pixels).flatten(2).transpose(1, 2)
        first = self.cls_token.expand(len(patches), -1, -1)
        return self.pre_layernorm(torch.cat([first, patches], 1) + self.position_embedding)


class _Layers(nn.Module):
    """What the published names call an encoder: layers, one after the other."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)


class _Vision(nn.Module):
    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__()
        self.embeddings = _VisionEmbeddings(values)
        self.encoder = _Layers([_VisionLayer(values) for _ in range(values["num_hidden_layers"])])
        self.post_layernorm = nn.LayerNorm(values["hidden_size"], eps=values["layer_norm_eps"])

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = self.embeddings(pixels)
        for layer in self.encoder.layers:
            x = layer(x)
        return self.post_layernorm(x)


class _QueryAttention(nn.Module):
    """Queries look at themselves and at the picture; places are added to what is compared, not to values."""

    def __init__(self, values: dict[str, Any], seen: int) -> None:
        super().__init__()
        width, inside = values["hidden_size"], values["encoder_hidden_size"]
        self.heads = values["num_attention_heads"]
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(inside, width)
        self.value = nn.Linear(inside, width)
        self.q_pos_embed = nn.Buffer(torch.zeros(values["num_learnable_queries"], width))
        self.k_pos_embed = nn.Buffer(torch.zeros(seen, width))

    def forward(self, queries: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
        all_states = torch.cat([queries, picture], 1)
        places = torch.cat([self.q_pos_embed, self.k_pos_embed])
        query = _heads(self.query(queries + self.q_pos_embed), self.heads)
        key = _heads(self.key(all_states + places), self.heads)
        value = _heads(self.value(all_states), self.heads)
        return _joined(functional.scaled_dot_product_attention(query, key, value))


class _QueryMLP(nn.Module):
    def __init__(self, width: int, inner: int, epsilon: float) -> None:
        super().__init__()
        self.w1 = nn.Linear(width, inner)
        self.w2 = nn.Linear(inner, width)
        self.w3 = nn.Linear(width, inner)
        self.ffn_ln = nn.LayerNorm(inner, eps=epsilon)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w2(self.ffn_ln(functional.silu(self.w1(x)) * self.w3(x)))


class _QueryOutput(nn.Module):
    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__()
        width = values["hidden_size"]
        self.out_proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = _QueryMLP(width, values["intermediate_size"], values["layer_norm_eps"])


class _CrossAttention(nn.Module):
    def __init__(self, values: dict[str, Any], seen: int) -> None:
        super().__init__()
        self.attention = _QueryAttention(values, seen)
        self.output = _QueryOutput(values)
        self.norm1 = nn.LayerNorm(values["encoder_hidden_size"])
        self.normk = nn.LayerNorm(values["encoder_hidden_size"])

    def forward(self, queries: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
        queries = self.norm1(queries)  # what is added to below is normalised too
        queries = queries + self.output.out_proj(self.attention(queries, self.normk(picture)))
        return queries + self.output.mlp(self.output.norm2(queries))


class _AbstractorLayer(nn.Module):
    def __init__(self, values: dict[str, Any], seen: int) -> None:
        super().__init__()
        self.crossattention = _CrossAttention(values, seen)

    def forward(self, queries: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
        return self.crossattention(queries, picture)


class _Abstractor(nn.Module):
    """(n, patches + 1, width) → (n, queries + 1, width of the words)."""

    def __init__(self, values: dict[str, Any], words: int) -> None:
        super().__init__()
        width, seen = values["hidden_size"], values["grid_size"] ** 2 + 1
        self.encoder = _Layers([_AbstractorLayer(values, seen) for _ in range(values["num_hidden_layers"])])
        self.query_embeds = nn.Parameter(torch.zeros(1, values["num_learnable_queries"], width))
        self.visual_fc = nn.Linear(width, words)
        self.vit_eos = nn.Parameter(torch.zeros(1, 1, words))

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        queries = self.query_embeds.expand(len(picture), -1, -1)
        for layer in self.encoder.layers:
            queries = layer(queries, picture)
        return torch.cat([self.visual_fc(queries), self.vit_eos.expand(len(picture), -1, -1)], 1)


class _Multiway(nn.Module):
    """One module for words (0) and one for the picture (1): each token goes through its own."""

    def __init__(self, words: nn.Module, picture: nn.Module) -> None:
        super().__init__()
        self.multiway = nn.ModuleList([words, picture])

    def forward(self, x: torch.Tensor, start: int, end: int) -> torch.Tensor:
        """x: (n, length, width), its picture at `start` … `end`."""
        ways = (self.multiway[0], self.multiway[1], self.multiway[0])
        parts = (x[:, :start], x[:, start:end], x[:, end:])
        return torch.cat([way(part) for way, part in zip(ways, parts, strict=True)], 1)


class _Attention(nn.Module):
    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads, self.key_heads = config.num_attention_heads, config.num_key_value_heads
        keys = width // self.heads * self.key_heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = _Multiway(nn.Linear(width, keys, bias=False), nn.Linear(width, keys, bias=False))
        self.v_proj = _Multiway(nn.Linear(width, keys, bias=False), nn.Linear(width, keys, bias=False))
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(
        self, x: torch.Tensor, turns: tuple[torch.Tensor, torch.Tensor], start: int, end: int
    ) -> torch.Tensor:
        query = _heads(self.q_proj(x), self.heads)
        key = _heads(self.k_proj(x, start, end), self.key_heads)
        value = _heads(self.v_proj(x, start, end), self.key_heads)
        query, key = apply_rotary_pos_emb(query, key, *turns)
        found = functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        return self.o_proj(_joined(found))


class _Layer(nn.Module):
    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        size = (config.hidden_size, config.rms_norm_eps)
        self.input_layernorm = _Multiway(LlamaRMSNorm(*size), LlamaRMSNorm(*size))
        self.self_attn = _Attention(config)
        self.post_attention_layernorm = _Multiway(LlamaRMSNorm(*size), LlamaRMSNorm(*size))
        self.mlp = LlamaMLP(config)

    def forward(
        self, x: torch.Tensor, turns: tuple[torch.Tensor, torch.Tensor], start: int, end: int
    ) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x, start, end), turns, start, end)
        return x + self.mlp(self.post_attention_layernorm(x, start, end))


class _Model(nn.Module):
    def __init__(self, config: LlamaConfig, vision: dict[str, Any], abstractor: dict[str, Any]) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary_emb = LlamaRotaryEmbedding(config)
        self.vision_model = _Vision(vision)
        self.visual_abstractor = _Abstractor(abstractor, config.hidden_size)


class QAlignNet(nn.Module):
    """Logits of the word that follows a question about a picture. Names as in the published weights."""

    def __init__(self, config: LlamaConfig, vision: dict[str, Any], abstractor: dict[str, Any]) -> None:
        super().__init__()
        self.model = _Model(config, vision, abstractor)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, pixels: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """(n, vocabulary) float32 of (n, 3, side, side) pixels and the ids (k,) around the picture."""
        model, count = self.model, len(pixels)
        picture = model.visual_abstractor(model.vision_model(pixels))
        parts = [model.embed_tokens(ids).expand(count, -1, -1) for ids in (before, after)]
        x = torch.cat([parts[0], picture, parts[1]], 1)
        start, end = len(before), len(before) + picture.shape[1]
        turns = model.rotary_emb(x, torch.arange(x.shape[1], device=x.device)[None])
        for layer in model.layers:
            x = layer(x, turns, start, end)
        return self.lm_head(model.norm(x[:, -1])).float()
