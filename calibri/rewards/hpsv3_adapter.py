"""The authors' own HPSv3, package hpsv3 1.0.0, as a class with `score`. Runs in a worker's environment alone.

Their inferencer first downloads the base, 16.6 GB, which the checkpoint then overwrites: here the model is
made from the configuration. All else is their code: picture, text, model, head.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import tempfile
from collections.abc import Sequence
from typing import Any

BASE = "Qwen/Qwen2-VL-7B-Instruct"
NAMES = (
    "config.json",
    "preprocessor_config.json",
    "chat_template.json",
    "tokenizer_config.json",
    "tokenizer.json",
)
WEIGHTS = "HPSv3.safetensors"


class HPSv3:
    """`source`: a hub id, or a folder with the checkpoint and the files of its base. `dtype`: of the model;
    its head stays float32.
    """

    def __init__(self, device: str = "cpu", source: str = "MizzenAI/HPSv3", dtype: str = "bfloat16") -> None:
        if dtype not in ("float32", "bfloat16"):
            raise ValueError(f"expected a dtype float32 or bfloat16, got {dtype!r}")
        # These are packages of the worker's environment.
        import hpsv3.inference  # type: ignore[import-not-found]
        import hpsv3.train  # type: ignore[import-not-found]
        import torch
        import yaml  # type: ignore[import-untyped]

        self._torch = torch
        checkpoint, base = _find_files(source)
        path = pathlib.Path(hpsv3.inference.__file__).parent / "config" / "HPSv3_7B.yaml"
        settings = yaml.safe_load(path.read_text())
        settings.update(
            model_name_or_path=str(base),
            torch_dtype=dtype,
            bf16=dtype == "bfloat16" and str(device).startswith("cuda"),
            disable_flash_attn2=True,
        )
        with tempfile.TemporaryDirectory() as folder:
            written = os.path.join(folder, "HPSv3_7B.yaml")
            pathlib.Path(written).write_text(yaml.safe_dump(settings))
            self._replace_download(hpsv3.train.Qwen2VLRewardModelBT, _count_rows(checkpoint))
            self._inferencer = hpsv3.inference.HPSv3RewardInferencer(
                config_path=written, checkpoint_path=str(checkpoint), device=str(device)
            )
        self.revision = f"{_sha256(checkpoint)[:16]}-{dtype}"

    @staticmethod
    def _replace_download(kind: Any, rows: int) -> None:
        """Their `from_pretrained` makes a model without weights: their next step loads all of them."""
        from transformers import AutoConfig
        from transformers.modeling_utils import no_init_weights

        def make(path: str, use_cache: bool = False, **options: Any) -> Any:
            for name in ("revision", "device_map", "quantization_config", "cache_dir"):
                options.pop(name, None)
            config = AutoConfig.from_pretrained(path)
            config.vocab_size, config.use_cache = rows, use_cache
            with no_init_weights():
                return kind._from_config(config, **options)

        kind.from_pretrained = staticmethod(make)

    def score(self, images: Sequence[Any], prompts: Sequence[str]) -> list[float]:
        with self._torch.inference_mode():
            found = self._inferencer.reward(list(images), list(prompts))
        return [float(mu) for mu in found[:, 0]]


def _find_files(source: str) -> tuple[pathlib.Path, pathlib.Path]:
    """(checkpoint, folder of the base's configuration and tokenizer)"""
    folder = pathlib.Path(source).expanduser()
    if folder.is_dir():
        return folder / WEIGHTS, folder
    from huggingface_hub import hf_hub_download

    name, _, revision = source.partition("@")
    checkpoint = pathlib.Path(hf_hub_download(name, WEIGHTS, revision=revision or None))
    files = [pathlib.Path(hf_hub_download(BASE, each)) for each in NAMES]
    return checkpoint, files[0].parent


def _count_rows(checkpoint: pathlib.Path) -> int:
    """Of the vocabulary, which the checkpoint has made smaller than the base's."""
    with open(checkpoint, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return int(header["model.embed_tokens.weight"]["shape"][0])


def _sha256(path: pathlib.Path) -> str:
    real = path.resolve()
    if re.fullmatch("[0-9a-f]{64}", real.name):  # in the hub's cache a file's name is its hash
        return real.name
    digest = hashlib.sha256()
    with open(real, "rb") as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()
