"""What rewards on CLIP share: its files in the hub's layout, its tokenizer, and unit vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from calibri.rewards.model import build, load_config
from calibri.rewards.pictures import clip_pixels
from calibri.rewards.weights import At, Files, load_tensors

TOKENS = 77
TOKENIZER = ("vocab.json", "merges.txt")


def clip_files(folder: str = "", other: str = "", *, weights: bool = True) -> dict[str, tuple[str | At, ...]]:
    """role → places of a CLIP model in the hub's layout, in `folder` of the source or in `other`, a hub
    id.
    """
    names: dict[str, tuple[str, ...]] = {name: (name,) for name in ("config.json", *TOKENIZER)}
    if weights:
        names["weights"] = ("model*.safetensors", "pytorch_model*.bin")
    inside = f"{folder}/" if folder else ""
    return {
        role: (*(inside + name for name in choices), *(At(other, name) for name in choices if other))
        for role, choices in names.items()
    }


def load_tokenizer(files: Files) -> Any:
    """CLIP's tokenizer from its vocabulary and merges; it pads with the end of text, as OpenAI's do."""
    return CLIPTokenizer(
        vocab=str(files["vocab.json"]), merges=str(files["merges.txt"]), model_max_length=TOKENS
    )


def token_ids(tokenizer: Any, prompts: Sequence[str]) -> torch.Tensor:
    """(n, 77) ids, cut and padded."""
    return tokenizer(
        list(prompts), padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt"
    ).input_ids


def load_clip(
    files: Files,
    device: torch.device,
    dtype: torch.dtype,
    *,
    name: str,
    rename: Callable[[dict[str, torch.Tensor]], Mapping[str, torch.Tensor]] = dict,
) -> Any:
    """The CLIPModel of these files; `rename` maps the keys of its checkpoint to transformers'."""
    config = CLIPConfig(**load_config(files["config.json"]))
    tensors = rename(load_tensors(files.all("weights"), device, dtype))
    return build(lambda: CLIPModel(config), tensors, name=name)


def image_vectors(model: Any, images: Sequence[Image], device: torch.device, dtype: torch.dtype) -> Any:
    """(n, d) unit vectors, float32, of RGB pictures."""
    side = model.config.vision_config.image_size
    pixels = torch.from_numpy(clip_pixels(images, side)).to(device, dtype)
    return unit(model.get_image_features(pixel_values=pixels))


def text_vectors(model: Any, ids: torch.Tensor, device: torch.device) -> Any:
    """(n, d) unit vectors, float32, of token ids."""
    return unit(model.get_text_features(input_ids=ids.to(device)))


def unit(found: Any) -> torch.Tensor:
    """Rows of length 1, float32."""
    # transformers 5 returns an output object whose pooler_output is the projected vector
    rows = getattr(found, "pooler_output", found).float()
    return rows / rows.norm(dim=-1, keepdim=True)


def folder_of(source: str | Path) -> str:
    """Where a source keeps its CLIP: `clip` in a folder that has one."""
    return "clip" if (Path(source).expanduser() / "clip").is_dir() else ""
