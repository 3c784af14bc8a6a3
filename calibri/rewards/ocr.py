"""`ocr`: how much of the text that a prompt asks for can be read in the picture.

PP-OCRv6 (PaddleOCR, Apache-2.0) as ONNX files in the wheel of rapidocr, run by onnxruntime on the CPU;
nothing is downloaded. The words: calibri/rewards/quoted.py.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from calibri.errors import RewardError
from calibri.rewards.base import RewardInfo, check_counts, need_packages
from calibri.rewards.catalog import CATALOG
from calibri.rewards.pictures import as_rgb
from calibri.rewards.quoted import quoted_phrases, share_read
from calibri.rewards.weights import weights_id

log = logging.getLogger(__name__)

UNASKED = 0.5  # a prompt that quotes no words asks for nothing: a constant, as of tabletop-keep
PREPROCESSING = "1"  # goes up when the same models would give other scores
LONGEST, THINNEST = 2000, 4  # pixels a side; and how many times the other it may be
MODELS = {
    "Det": "PP-OCRv6_det_small.onnx",
    "Cls": "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
    "Rec": "PP-OCRv6_rec_small.onnx",
}


class OCR:
    """Share of the quoted words that can be read; `UNASKED` for a prompt that quotes none.

    It runs on the CPU, in float32, whatever `device` says.
    """

    def __init__(self, device: str = "cpu") -> None:
        """Raises RewardError where its packages are missing, broken, or of a release without these models."""
        self._spec = CATALOG["ocr"]
        need_packages(self._spec)
        self._reader, files = _load_reader()
        self._told = False
        with_versions = [f"{name}{version(name)}" for name in self._spec.packages]
        self.info = RewardInfo(
            name=self._spec.name,
            role=self._spec.role,
            version=PREPROCESSING,
            description=self._spec.summary,
            range_hint=self._spec.range_hint,
            kind=self._spec.kind,
            licence=self._spec.licence,
            source=f"rapidocr {version('rapidocr')}",
            weights=weights_id(files),
            revision="-".join([weights_id(files), f"p{PREPROCESSING}", *with_versions]),
            size=sum(path.stat().st_size for path in files),
            memory=dict(self._spec.memory),
            parameters=self._spec.parameters,
        )

    def read(self, image: Image.Image) -> list[str]:
        """The lines of text in a picture of any size and mode, from top to bottom."""
        if self._reader is None:
            raise RewardError("ocr was closed: load it again to score with it")
        found = self._reader(_levels(as_rgb(image)))
        return [str(line) for line in getattr(found, "txts", None) or ()]

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        """(n,) float64 in [0, 1], higher is better. Pictures whose prompt quotes no words are not read."""
        check_counts(images, prompts, self._spec.name)
        return np.array([self._score(image, prompt) for image, prompt in zip(images, prompts)], np.float64)

    def _score(self, image: Image.Image, prompt: str) -> float:
        phrases = quoted_phrases(prompt)
        if phrases:
            return share_read(phrases, self.read(image))
        if not self._told:
            self._told = True
            log.warning(
                "ocr: prompts without words in quotes, such as %r, get %g whatever their pictures show",
                prompt[:60],
                UNASKED,
            )
        return UNASKED

    def close(self) -> None:
        """Frees the memory. Scoring afterwards is an error."""
        self._reader = None


def _load_reader() -> tuple[Any, list[Path]]:
    """What reads a picture, and the files of its models."""
    try:
        package = importlib.import_module("rapidocr")
    except Exception as error:  # OpenCV without its system libraries, say
        raise RewardError(f"ocr: rapidocr cannot be imported: {error}") from error
    folder = Path(str(package.__file__)).parent / "models"
    paths = {stage: folder / name for stage, name in MODELS.items()}
    missing = [path.name for path in paths.values() if not path.is_file()]
    if missing:
        raise RewardError(
            f"ocr: expected a rapidocr that brings {missing[0]}, got rapidocr {version('rapidocr')}: "
            "pip install 'calibri-studio[ocr]'"
        )
    # With paths of their own no stage looks for a download.
    settings = {f"{stage}.model_path": str(path) for stage, path in paths.items()}
    reader = package.RapidOCR(params={"Global.log_level": "error", **settings})
    return reader, list(paths.values())


def _levels(image: Image.Image) -> np.ndarray:
    """(h, w, 3) uint8, blue first, as OpenCV has them; large pictures smaller, thin ones padded."""
    if max(image.size) > LONGEST:
        ratio = LONGEST / max(image.size)
        size = (max(1, round(image.width * ratio)), max(1, round(image.height * ratio)))
        image = image.resize(size, Image.Resampling.BICUBIC)
    least = -(-max(image.size) // THINNEST)  # a thin one would be enlarged to many megapixels
    if min(image.size) < least:
        wide = Image.new("RGB", (max(image.width, least), max(image.height, least)))
        wide.paste(image)
        image = wide
    return np.ascontiguousarray(np.asarray(image)[:, :, ::-1])
