"""The golden cases: small random transformers, checkpoints of the paper's code, and what it computed."""

from __future__ import annotations

import json
from pathlib import Path

import diffusers
import torch
from safetensors.torch import load_file

FOLDER = Path(__file__).resolve().parent / "golden"


def transformer(family: str) -> torch.nn.Module:
    folder = FOLDER / family
    name = json.loads((folder / "config.json").read_text())["_class_name"]
    return getattr(diffusers, name).from_pretrained(folder).eval()


def inputs(family: str) -> dict:
    """Keyword arguments of the transformer."""
    folder = FOLDER / family
    rest = json.loads((folder / "inputs.json").read_text())
    return {**load_file(folder / "inputs.safetensors"), **rest}


def expected(family: str, case: str) -> dict[str, torch.Tensor]:
    return load_file(FOLDER / family / f"{case}.expected.safetensors")


def checkpoint(family: str, case: str) -> Path:
    return FOLDER / family / f"{case}.json"


def same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """To 1e-5 of the largest value, which is 10 to 90 here: rounding changes with the threads, and
    processors' libraries differ in the last place of the exponential that makes the timestep's frequencies.
    """
    return bool((found - expected).abs().max() <= 1e-5 * expected.abs().max())
