"""`hpsv3`: HPSv3 (arXiv 2508.03789), the reward that Calibri's paper optimises."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import nn
from transformers import Qwen2VLConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import (
    Qwen2VisionTransformerPretrainedModel,
    Qwen2VLTextModel,
)

from calibri.errors import RewardError
from calibri.rewards.fill import build_empty, fill, quantise, read_tensors
from calibri.rewards.hpsv3_input import Question, Tokens, cut_patches
from calibri.rewards.model import BITS, ModelReward, load_config
from calibri.rewards.weights import At, Files, find_files

BASE = "Qwen/Qwen2-VL-7B-Instruct"
# The published folder holds weights alone: this is the base's configuration.
_CONFIG = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    "vision_config": {"depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16, "hidden_size": 3584},
}
VOCABULARY = 151658  # of the base, and one
WHOLE = ("rm_head", "visual")  # what 8 and 4 bits leave as it is: a tenth of the weights


class HPSv3Net(nn.Module):
    """Qwen2-VL without its output layer, and the head that reads mu and log sigma."""

    def __init__(self, config: Qwen2VLConfig) -> None:
        super().__init__()
        self.visual = Qwen2VisionTransformerPretrainedModel(config.vision_config)
        self.language_model = Qwen2VLTextModel(config.text_config)
        self.rm_head = nn.Sequential(
            *(nn.Linear(config.text_config.hidden_size, 1024), nn.ReLU(), nn.Dropout(0.05)),
            *(nn.Linear(1024, 16), nn.ReLU(), nn.Linear(16, 2)),
        )

    def forward(
        self, patches: torch.Tensor, grid: torch.Tensor, questions: Sequence[Question], pad: int
    ) -> torch.Tensor:
        """(n, 2) float32: mu and log sigma. `patches`, `grid`: of `cut_patches`. `pad`: an id to fill up."""
        embed = self.language_model.embed_tokens
        seen = self.visual(patches, grid_thw=grid).pooler_output
        parts = seen.split((grid.prod(1) // self.visual.spatial_merge_size**2).tolist())
        rows, at = [], []
        for question, part in zip(questions, parts, strict=True):
            ids = torch.tensor(question.ids, device=patches.device)
            text = embed(ids)
            rows.append(torch.cat([text[: question.image], part.to(text), text[question.image + 1 :]]))
            at.append(question.reward - 1 + len(part))
        length = max(len(row) for row in rows)
        filler = embed(torch.tensor([pad], device=patches.device))
        inputs = torch.stack([torch.cat([row, filler.expand(length - len(row), -1)]) for row in rows])
        lengths = torch.tensor([len(row) for row in rows], device=patches.device)
        mask = (torch.arange(length, device=patches.device) < lengths[:, None]).long()
        # Plain 0, 1, 2 … in all three sections: the weights were trained so, though Qwen2-VL itself counts
        # rows and columns of the picture.
        positions = torch.arange(length, device=patches.device).expand(3, len(rows), length)
        states = self.language_model(
            inputs_embeds=inputs, attention_mask=mask, position_ids=positions, use_cache=False
        ).last_hidden_state
        read = states[torch.arange(len(rows), device=patches.device), torch.tensor(at, device=patches.device)]
        return self.rm_head(read.float())


class _CoarseVisionRotary(nn.Module):
    """The vision tower's rotary angles in bfloat16, frequencies, products, cosines and all."""

    def __init__(self, inv_freq: torch.Tensor) -> None:
        super().__init__()
        self.inv_freq = nn.Buffer(inv_freq.bfloat16(), persistent=False)

    def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        angles = position_ids[..., None].to(self.inv_freq) * self.inv_freq
        angles = angles.flatten(1).repeat(1, 2)
        return angles.cos(), angles.sin()


def round_frequencies(net: HPSv3Net) -> None:
    """Rotary frequencies rounded to bfloat16, as they were in training and are in the authors' own inference.

    Their `model.to(torch.bfloat16)` rounds these buffers too; late positions turn by up to a radian.
    """
    text = net.language_model.rotary_emb
    text.inv_freq = text.inv_freq.bfloat16().float()
    net.visual.rotary_pos_emb = _CoarseVisionRotary(net.visual.rotary_pos_emb.inv_freq)


def read_config(path: Path | None, vocabulary: int = VOCABULARY) -> Qwen2VLConfig:
    """The configuration in that file, else the published one, with as many tokens as the tokenizer has."""
    values: dict[str, Any] = _CONFIG if path is None else load_config(path)
    try:
        return Qwen2VLConfig(**(values | {"vocab_size": vocabulary}))
    except Exception as error:  # transformers' own classes of errors, by field
        raise RewardError(f"hpsv3: {path} is no configuration of Qwen2-VL: {error}") from error


def rename(name: str) -> str | None:
    """The name here of a name in the published file; None for the output layer, which no score needs."""
    if name == "lm_head.weight":
        return None
    return "language_model." + name.removeprefix("model.") if name.startswith("model.") else name


class HPSv3(ModelReward):
    """MizzenAI/HPSv3: the weights alone, or a folder that also has the tokenizer (and a configuration)."""

    name = "hpsv3"
    batch = 8  # 256 picture tokens and about 540 of text each

    def _load(self, source: str | Path) -> Files:
        names: dict[str, str | At | Sequence[str | At]] = {
            "weights": ("HPSv3.safetensors", "model*.safetensors"),
            "tokenizer": ("tokenizer.json", At(BASE, "tokenizer.json")),
        }
        if (Path(source).expanduser() / "config.json").is_file():
            names["config"] = "config.json"
        files = find_files(source, names, reward=self.name)
        self._tokens = Tokens(files["tokenizer"])
        config = read_config(files.get("config"), self._tokens.count)
        net = build_empty(lambda: HPSv3Net(config))
        if self.dtype_name in BITS:
            quantise(net, 4 if self.dtype_name == "4bit" else 8, self.dtype, label=self.name, keep=WHOLE)
        tensors = read_tensors(files.all("weights"), rename)
        fill(net, tensors, label=self.name, device=self.device, dtype=self.dtype, exact=("rm_head.",))
        if self.dtype != torch.float32:
            round_frequencies(net)
        self._net = net
        return files

    def _score(self, images: list[Image], prompts: list[str]) -> torch.Tensor:
        return self.measure(images, prompts)[:, 0]

    def measure(self, images: Sequence[Image], prompts: Sequence[str]) -> torch.Tensor:
        """(n, 2) float32: mu, the score, and log sigma, how unsure the model is, of RGB pictures."""
        patches, grid = cut_patches(images)
        questions = [self._tokens.ask(prompt) for prompt in prompts]
        with torch.inference_mode():
            return self._net(
                torch.from_numpy(patches).to(self.device),
                torch.from_numpy(grid).to(self.device),
                questions,
                self._tokens.image,
            )
