"""CLIP models in open_clip's keys as transformers' CLIPModel, and prompts as open_clip reads them."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import CLIPConfig, CLIPModel

from calibri.errors import RewardError
from calibri.rewards.clip import TOKENS
from calibri.rewards.model import build

_WHOLE = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "logit_scale": "logit_scale",
}
_TURNED = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
_NORMS = {
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "ln_final": "text_model.final_layer_norm",
}
_INNER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)")
_FUSED = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)")
_HEADS = 16  # of CLIP-H in both towers; narrower models, for tests, have heads of 16


def rename(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """open_clip's keys → those of transformers' CLIPModel; projections are turned, q, k and v parted."""
    found: dict[str, torch.Tensor] = {}
    for key, tensor in tensors.items():
        stem, _, kind = key.rpartition(".")
        if key in _WHOLE:
            found[_WHOLE[key]] = tensor
        elif key in _TURNED:
            found[_TURNED[key]] = tensor.T.contiguous()
        elif stem in _NORMS:
            found[f"{_NORMS[stem]}.{kind}"] = tensor
        elif match := _FUSED.fullmatch(key):
            tower, number, kind = match.groups()
            for name, part in zip("qkv", tensor.chunk(3)):
                found[f"{_layer(tower, number)}.self_attn.{name}_proj.{kind}"] = part.clone()
        elif (match := _BLOCK.fullmatch(key)) and match[3] in _INNER:
            found[f"{_layer(match[1], match[2])}.{_INNER[match[3]]}.{match[4]}"] = tensor
        elif key != "attn_mask":  # what a causal mask looks like is known
            found[key] = tensor  # `build` says that it is unknown
    return found


def _layer(tower: str | None, number: str) -> str:
    return f"{'vision' if tower else 'text'}_model.encoder.layers.{number}"


def config_of(tensors: Mapping[str, torch.Tensor], name: str) -> CLIPConfig:
    """The configuration that renamed tensors have the shapes of. Raises RewardError for other tensors."""
    try:
        patches = tensors["vision_model.embeddings.patch_embedding.weight"]
        places = tensors["vision_model.embeddings.position_embedding.weight"].shape[0]
        words = tensors["text_model.embeddings.token_embedding.weight"]
        width = tensors["visual_projection.weight"].shape[0]
        inner = {
            t: tensors[f"{t}_model.encoder.layers.0.mlp.fc1.weight"].shape[0] for t in ("vision", "text")
        }
        tokens = tensors["text_model.embeddings.position_embedding.weight"].shape[0]
    except KeyError as error:
        raise RewardError(
            f"{name}: expected a CLIP model in open_clip's layout, got none of {error}"
        ) from error

    def tower(kind: str, hidden: int) -> dict[str, Any]:
        start = f"{kind}_model.encoder.layers."
        layers = {key[len(start) :].split(".")[0] for key in tensors if key.startswith(start)}
        return {
            "hidden_size": hidden,
            "intermediate_size": inner[kind],
            "num_hidden_layers": len(layers),
            "num_attention_heads": _HEADS if hidden >= 1024 else hidden // 16,
            "hidden_act": "gelu",
            "projection_dim": width,
        }

    side = patches.shape[-1] * round((places - 1) ** 0.5)
    vision = {**tower("vision", patches.shape[0]), "patch_size": patches.shape[-1], "image_size": side}
    text = {
        **tower("text", words.shape[1]),
        "vocab_size": words.shape[0],
        "max_position_embeddings": tokens,
        "bos_token_id": 0,
        "eos_token_id": 2,  # transformers then reads at the highest id, as open_clip does
    }
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=width)


def load_open_clip(tensors: Mapping[str, torch.Tensor], name: str) -> Any:
    """The CLIPModel with these weights of open_clip."""
    renamed = rename(tensors)
    config = config_of(renamed, name)
    return build(lambda: CLIPModel(config), renamed, name=name)


# ---- prompts

_QUOTES = str.maketrans({**dict.fromkeys("‘’‚‛ʼ", "'"), **dict.fromkeys("“”„‟", '"')})
_LIGATURES = str.maketrans(
    {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "ſt", "ﬆ": "st", "ĳ": "ij", "Ĳ": "IJ"}
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f\u200e\u200f\u206a-\u206f\ufeff\ufff9-\ufffc]")


def clean(prompt: str) -> str:
    """A prompt as open_clip reads it: HTML entities, curly quotes, ligatures, wide letters and control
    characters made plain, blanks joined, in lower case.

    open_clip leaves that to ftfy, of whose rules these are the ones that prompts meet; it also guesses at
    texts that were decoded wrongly.
    """
    text = _CONTROL.sub("", prompt.translate(_LIGATURES))
    text = "".join(unicodedata.normalize("NFKC", c) if "\uff01" <= c <= "\uffef" else c for c in text)
    text = unicodedata.normalize("NFC", text.translate(_QUOTES).replace("\u3000", " "))
    text = html.unescape(html.unescape(text))
    return " ".join(text.split()).lower()


def token_ids(tokenizer: Any, prompts: Sequence[str]) -> torch.Tensor:
    """(n, 77) ids of the cleaned prompts, cut, and padded with 0."""
    rows = torch.zeros(len(prompts), TOKENS, dtype=torch.long)
    cleaned = [clean(prompt) for prompt in prompts]
    found = tokenizer(cleaned, truncation=True, max_length=TOKENS, split_special_tokens=True).input_ids
    for row, ids in zip(rows, found, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    return rows
