"""`vqascore-xl`, `vqascore-xxl`: Lin et al., arXiv 2404.01291, with CLIP-FlanT5.

Score: the probability, geometric mean over its two tokens, that the model answers "Yes" to: Does this figure
show "{prompt}"? Please answer yes or no.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import CLIPVisionConfig, CLIPVisionModel, T5Config, T5ForConditionalGeneration

from calibri.errors import RewardError
from calibri.rewards.fill import build_empty, fill, read_tensors
from calibri.rewards.model import ModelReward, load_config
from calibri.rewards.pictures import normalise, pad_to_square
from calibri.rewards.weights import At, Files, find_files

TOWER = "openai/clip-vit-large-patch14-336"
BEFORE = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
    "detailed, and polite answers to the user's questions. USER: "
)
AFTER = '\nDoes this figure show "{}"? Please answer yes or no. ASSISTANT: '
ANSWER = "Yes"
TOKENS = 2048  # of a question, the picture counted once
_VISION = {  # of the two sizes: the same tower
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
}
_PREFIXES = (
    ("vision_tower.vision_tower.vision_model.", "vision."),
    ("mm_projector.", "projector."),
    ("shared.", "text.shared."),
    ("encoder.", "text.encoder."),
    ("decoder.", "text.decoder."),
    ("lm_head.", "text.lm_head."),
)
_SAME = ("encoder.embed_tokens.", "decoder.embed_tokens.", "embed_tokens.")  # copies of `shared`
_UNUSED = (
    *_SAME,
    "vision_tower.vision_tower.vision_model.embeddings.position_ids",
    "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.",  # in old checkpoints of T5
)


class ClipFlanT5(nn.Module):
    """CLIP's patches, projected into the words of an encoder-decoder."""

    def __init__(self, vision: CLIPVisionConfig, text: T5Config) -> None:
        super().__init__()
        self.vision = CLIPVisionModel(vision)
        self.projector = nn.Sequential(
            nn.Linear(vision.hidden_size, text.d_model), nn.GELU(), nn.Linear(text.d_model, text.d_model)
        )
        self.text = T5ForConditionalGeneration(text)
        # One embedding for both sides; the output layer has weights of its own, which `tie_weights` and
        # `load_state_dict` of transformers 5 would overwrite with the embedding's.
        self.text.encoder.embed_tokens = self.text.shared
        self.text.decoder.embed_tokens = self.text.shared
        self.text.lm_head.weight = nn.Parameter(torch.empty_like(self.text.lm_head.weight))

    def forward(
        self, pixels: torch.Tensor, questions: Sequence[tuple[list[int], list[int]]], answer: Sequence[int]
    ) -> torch.Tensor:
        """(n,) float32 probabilities in [0, 1]. `questions`: the ids before and after the picture."""
        seen = self.vision(pixel_values=pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
        pictures = self.projector(seen)
        rows = []
        for (before, after), picture in zip(questions, pictures, strict=True):
            words = self.text.shared(torch.tensor([*before, *after], device=pixels.device))
            rows.append(torch.cat([words[: len(before)], picture, words[len(before) :]]))
        inputs = pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([len(row) for row in rows], device=pixels.device)
        mask = (torch.arange(inputs.shape[1], device=pixels.device) < lengths[:, None]).long()
        labels = torch.tensor([answer], device=pixels.device).expand(len(rows), -1)
        begun = torch.cat([torch.zeros_like(labels[:, :1]), labels[:, :-1]], 1)  # after a pad, as T5 begins
        logits = self.text(
            inputs_embeds=inputs, attention_mask=mask, decoder_input_ids=begun, use_cache=False
        ).logits
        lost = functional.cross_entropy(logits.float().transpose(1, 2), labels, reduction="none")
        return (-lost.mean(1)).exp()


def rename(name: str) -> str | None:
    """The name here of a name in the published file; None for what no score needs."""
    if name.startswith(_UNUSED):
        return None
    for old, new in _PREFIXES:
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def vision_config(path: Path | None) -> CLIPVisionConfig:
    """Of that file (a CLIP's or a tower's), else the published tower's."""
    values: dict[str, Any] = _VISION if path is None else load_config(path)
    return CLIPVisionConfig(**values.get("vision_config", values))


def text_config(values: dict[str, Any]) -> T5Config:
    """Of the published configuration. Raises RewardError where its picture part is another."""
    for key, known in (("mm_projector_type", "mlp2x_gelu"), ("mm_vision_select_layer", -2)):
        if values.get(key, known) != known:
            raise RewardError(f"vqascore: expected {key} {known}, got {values[key]}")
    known = T5Config().to_dict().keys() - {"model_type", "architectures", "transformers_version"}
    kept = {key: value for key, value in values.items() if key in known}
    try:
        # Without it transformers would take the outputs for those of the first T5, and scale them.
        return T5Config(**(kept | {"tie_word_embeddings": False}))
    except Exception as error:  # transformers' own classes of errors, by field
        raise RewardError(f"vqascore: this is no configuration of CLIP-FlanT5: {error}") from error


class _VQAScore(ModelReward):
    """A folder or repository with weights and configuration; tokenizer and tower as CLIP-FlanT5 has them."""

    tokenizer: str
    batch = 8  # 576 picture tokens each

    def _load(self, source: str | Path) -> Files:
        names: dict[str, str | At | Sequence[str | At]] = {
            "weights": ("model*.safetensors", "pytorch_model*.bin"),
            "config": "config.json",
            "tokenizer": ("tokenizer.json", At(self.tokenizer, "tokenizer.json")),
        }
        if (Path(source).expanduser() / "clip/config.json").is_file():
            names["vision"] = "clip/config.json"
        files = find_files(source, names, reward=self.name)
        self._tokenizer, self._end = _tokenizer(files["tokenizer"])
        vision, text = vision_config(files.get("vision")), text_config(load_config(files["config"]))
        net = build_empty(lambda: ClipFlanT5(vision, text))
        tensors = read_tensors(files.all("weights"), rename)
        fill(net, tensors, label=self.name, device=self.device, dtype=self.dtype)
        self._net, self._side = net, int(vision.image_size)
        self._before, self._answer = self._ids(BEFORE), self._ids(ANSWER)
        return files

    def _ids(self, text: str) -> list[int]:
        """Ids of a text and the end of it: each part of a question has one."""
        return [*self._tokenizer.encode(text, add_special_tokens=False).ids, self._end]

    def _score(self, images: list[Image.Image], prompts: list[str]) -> torch.Tensor:
        side = (self._side, self._side)
        squares = [pad_to_square(image).resize(side, Image.Resampling.BICUBIC) for image in images]
        pixels = torch.from_numpy(normalise(squares)).to(self.device, self.dtype)
        room = TOKENS - len(self._before) - 1
        questions = [(self._before, self._ids(AFTER.format(prompt))[:room]) for prompt in prompts]
        return self._net(pixels, questions, self._answer)


def _tokenizer(path: Path) -> tuple[Any, int]:
    """T5's tokenizer, and the id that ends a text."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise RewardError(f"vqascore: {path} is no tokenizer: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    end = tokenizer.token_to_id("</s>")
    if end is None:
        raise RewardError(f"vqascore: expected the tokenizer of Flan-T5, got {path} without </s>")
    return tokenizer, end


class VQAScoreXL(_VQAScore):
    """zhiqiulin/clip-flant5-xl."""

    name = "vqascore-xl"
    tokenizer = "google/flan-t5-xl"


class VQAScoreXXL(_VQAScore):
    """zhiqiulin/clip-flant5-xxl, the one that its authors recommend."""

    name = "vqascore-xxl"
    tokenizer = "google/flan-t5-xxl"
    batch = 4
