"""The tiny checkpoints with scores of the rewards' own code, in tests/golden/rewards."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "rewards"


@dataclass(frozen=True)
class Golden:
    """A folder in the published layout, and what the reward's own code says of it."""

    folder: Path
    cases: dict
    images: list[Image.Image]

    @property
    def prompts(self) -> list[str]:
        return self.cases["prompts"]

    def scores(self, key: str = "score") -> np.ndarray:
        return np.array(self.cases[key])


def golden_of(name: str) -> Golden:
    folder = GOLDEN / name
    cases = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    return Golden(folder, cases, [Image.open(folder / image) for image in cases["images"]])


@pytest.fixture(scope="session")
def golden():
    """name → Golden."""
    return golden_of
